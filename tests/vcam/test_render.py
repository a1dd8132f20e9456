"""`vcam render`: what the user had stays, what is named is whole, and sound is kept."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.vcam.clips import make_sounding_clip, playable
from vcam.commands.render import render
from vcam.errors import SourceError, UsageError, VcamError
from vcam.files.tracks import Tracks
from vcam.settings import config as configuration


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with clips that nobody writes to."""
    folder = tmp_path_factory.mktemp("clips")
    make_sounding_clip(folder / "mine.mp4", 1.0)
    make_sounding_clip(folder / "long.mp4", 6.0, options={"movflags": "faststart"})
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, clips):
    """Where a user works: a clip, a folder of pictures, a background, and links to them."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    place = tmp_path / "place"
    (place / "in").mkdir(parents=True)
    shutil.copy(clips / "mine.mp4", place / "mine.mp4")
    for name, shade in (("a.png", 90), ("b.jpg", 120)):
        Image.new("RGB", (64, 48), (shade, 100, 80)).save(place / "in" / name)
    (place / "photographs").mkdir()
    shutil.copy(place / "in" / "b.jpg", place / "photographs")
    shutil.copy(place / "mine.mp4", place / "behind.mp4")
    Image.new("RGB", (64, 48), (9, 9, 9)).save(place / "behind.png")
    (place / "link.mp4").symlink_to("mine.mp4")
    (place / "second.mp4").hardlink_to(place / "mine.mp4")
    (place / "linked").symlink_to("in")
    (place / "out").mkdir()
    (place / "out" / "a.png").hardlink_to(place / "in" / "a.png")
    os.mkfifo(place / "pipe.mp4")
    monkeypatch.chdir(place)
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def run(source, output=None, *, alpha=None, force=False, background="loft", report=None):
    config = configuration.load(
        environ={}, flags={"background": {"use": background}, "matte": {"quality": "low"}}
    )
    return render(
        Path(source),
        None if output is None else Path(output),
        config,
        alpha=None if alpha is None else Path(alpha),
        report=report or (lambda what, done, total: None),
        force=force,
    )


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("source", "output", "alpha", "background"),
    [
        ("mine.mp4", "mine.mp4", None, "loft"),
        ("mine.mp4", "./in/../mine.mp4", None, "loft"),
        ("mine.mp4", "link.mp4", None, "loft"),
        ("link.mp4", "mine.mp4", None, "loft"),
        ("mine.mp4", "second.mp4", None, "loft"),
        ("mine.mp4", "behind.mp4", None, "{place}/behind.mp4"),
        ("in/a.png", "behind.png", None, "{place}/behind.png"),
        ("in/a.png", "in/a.png", None, "loft"),
        ("in/a.png", None, "in", "loft"),
        ("in/a.png", "new/a.png", "new", "loft"),
        ("in/b.jpg", "out/b.png", "out", "loft"),
        ("in", "in", None, "loft"),
        ("in", "linked", None, "loft"),
        ("linked", "in/.", None, "loft"),
        ("in", None, "in", "loft"),
        ("photographs", "photographs", None, "loft"),  # b.png would stand beside b.jpg
        ("photographs", "new", "photographs", "loft"),
        ("in", "new", "linked", "loft"),
        ("in", "new", "new", "loft"),
        ("in", "out", None, "loft"),  # holds a second name of one of the pictures
        ("mine.mp4", "-", None, "loft"),
        ("mine.mp4", ".", None, "loft"),
        ("mine.mp4", "pipe.mp4", None, "loft"),
        ("mine.mp4", "/dev/null", None, "loft"),
        ("mine.mp4", "nowhere/out.mp4", None, "loft"),
        ("mine.mp4", "new", None, "loft"),
        ("mine.mp4", "new.webm", None, "loft"),
        ("in/a.png", "new.mp4", None, "loft"),
        ("pipe.mp4", "new.mp4", None, "loft"),
        ("in", "mine.mp4", None, "loft"),
    ],
)
def test_what_would_destroy_or_lead_nowhere_is_refused_and_nothing_changes(
    place, source, output, alpha, background, force
):
    before = contents(place)

    with pytest.raises(UsageError) as refused:
        run(source, output, alpha=alpha, background=background.format(place=place), force=force)

    assert refused.value.hint
    assert contents(place) == before
    assert not (place / "new").exists()


def test_a_background_that_is_kept_is_not_written_over(place):
    kept = place.parent / "data" / "vcam" / "backgrounds"
    kept.mkdir(parents=True)
    shutil.copy("behind.png", kept / "Garden.png")

    with pytest.raises(UsageError, match="what is read"):
        run("in/a.png", kept / "Garden.png", force=True)


def test_a_background_among_the_mattes_is_not_written_over(place):
    (place / "mattes").mkdir()
    shutil.copy("behind.png", "mattes/000000.png")
    before = contents(place)

    with pytest.raises(UsageError, match="what is read"):
        run("mine.mp4", alpha="mattes", background=str(place / "mattes/000000.png"), force=True)

    assert contents(place) == before


@pytest.mark.parametrize(
    ("source", "output", "alpha", "there"),
    [
        ("mine.mp4", "there.mp4", None, "there.mp4"),
        ("in/b.jpg", "there.png", None, "there.png"),
        ("in", "there", None, "there/b.png"),
        ("in", None, "there", "there/a.png"),
        ("in/b.jpg", None, "there", "there/b.png"),
        ("mine.mp4", None, "there", "there/000003.png"),
    ],
)
def test_what_is_there_already_is_replaced_by_force_alone(place, source, output, alpha, there):
    (place / "there").mkdir()
    (place / there).write_bytes(b"old")
    (place / there).chmod(0o604)

    with pytest.raises(UsageError, match="exists already"):
        run(source, output, alpha=alpha)

    assert (place / there).read_bytes() == b"old"
    run(source, output, alpha=alpha, force=True)
    assert len((place / there).read_bytes()) > 3
    assert stat.S_IMODE((place / there).stat().st_mode) == 0o604


def test_a_read_only_file_is_not_replaced_by_force_either(place):
    (place / "there.mp4").write_bytes(b"old")
    (place / "there.mp4").chmod(0o444)

    with pytest.raises(UsageError, match="read-only"):
        run("mine.mp4", "there.mp4", force=True)

    assert (place / "there.mp4").read_bytes() == b"old"


def test_a_folder_inside_the_folder_that_is_read_is_fine(place):
    assert run("in", "in/out") == 0

    assert sorted(path.name for path in Path("in").iterdir()) == ["a.png", "b.jpg", "out"]
    assert sorted(path.name for path in Path("in/out").iterdir()) == ["a.png", "b.png"]


def test_pictures_whose_names_differ_in_the_ending_alone_do_not_replace_one_another(place):
    shutil.copy("behind.png", "in/B.png")

    run("in", "new", alpha="mattes")

    assert sorted(os.listdir("new")) == ["B.png.png", "a.png", "b.jpg.png"]
    assert sorted(os.listdir("mattes")) == ["B.png.png", "a.png", "b.jpg.png"]


def test_a_link_that_leads_nowhere_yet_is_followed(place):
    (place / "later.mp4").symlink_to(place.parent / "elsewhere.mp4")

    run("mine.mp4", "later.mp4")

    assert (place / "later.mp4").is_symlink()
    assert playable(place.parent / "elsewhere.mp4") == 30


def test_a_clip_has_a_parts_name_until_it_is_whole_and_its_own_then(clips, place):
    seen = []

    def look(what, done, total):
        names = [name for name in os.listdir() if name.startswith((".", "new"))]
        if names and not seen:
            assert playable(place / names[0]) >= 30
        seen.extend(names)

    os.umask(umask := os.umask(0o027))
    run(clips / "long.mp4", "new.mp4", report=look)

    assert set(seen) == {"new.part.mp4"}
    assert playable(place / "new.mp4") == 180
    assert not Path("new.part.mp4").exists()
    assert stat.S_IMODE(os.stat("new.mp4").st_mode) == 0o666 & ~umask
    with av.open("new.mp4") as container:  # an ordinary MP4, whose length is known
        assert container.streams.video[0].frames == 180


def test_a_clip_that_breaks_off_leaves_a_part_that_plays(clips, place, caplog):
    whole = (clips / "long.mp4").read_bytes()
    (place / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])

    with pytest.raises(SourceError, match="breaks off after"):
        run("cut.mp4", "new.mp4")

    assert not Path("new.mp4").exists()
    assert 60 < playable(place / "new.part.mp4") < 180
    assert "new.part.mp4" in caplog.text


def test_a_full_disk_leaves_a_part_that_plays_and_the_old_file(clips, small_disk, caplog):
    noise = small_disk.parent / "noise.mp4"
    with av.open(str(noise), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        rng = np.random.default_rng(0)
        small = rng.integers(0, 255, (150, 270, 320), np.uint8)
        for data in small:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(data, "yuv420p")))
        container.mux(stream.encode(None))
    (small_disk / "new.mp4").write_bytes(b"old")

    with pytest.raises(VcamError, match="the disk is full"):
        run(noise, small_disk / "new.mp4", force=True, background="none")

    assert (small_disk / "new.mp4").read_bytes() == b"old"
    assert sorted(os.listdir(small_disk)) == ["new.mp4", "new.part.mp4"]
    assert playable(small_disk / "new.part.mp4") >= 30
    assert "new.part.mp4" in caplog.text


@pytest.mark.parametrize(
    ("number", "ignored", "status"),
    [("INT", False, 130), ("TERM", False, 143), ("HUP", False, 129), ("HUP", True, 0)],
)
def test_a_signal_ends_between_two_frames_unless_it_is_ignored(
    clips, place, number, ignored, status
):
    words = [sys.executable, "-m", "vcam", "render", str(clips / "long.mp4"), "-o", "new.mp4"]
    trap = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"] if ignored else []
    environ = {**os.environ, "LD_BIND_NOW": "1", "VCAM_MATTE_QUALITY": "low"}
    heard = getattr(signal, f"SIG{number}")
    child = subprocess.Popen(
        [*trap, *words],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has them ignore an interrupt.
        preexec_fn=lambda: signal.signal(heard, signal.SIG_DFL),
    )

    until = time.monotonic() + 120
    while not Path("new.part.mp4").exists() and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(heard)
    told = child.communicate(timeout=120)[1]

    assert child.returncode == status, told
    assert Path("new.mp4").exists() == (status == 0)
    if status:
        assert "are kept in " in told
        assert "stopped after" in told
        with av.open("new.part.mp4") as container:  # an end was written
            assert 30 < container.streams.video[0].frames < 180
            assert container.streams.audio[0].frames > 30


def test_a_clip_that_another_program_made_meanwhile_stays(place):
    def meddle(what, done, total):
        Path("new.mp4").write_bytes(b"another")

    with pytest.raises(VcamError, match="by another program meanwhile") as told:
        run("mine.mp4", "new.mp4", report=meddle)

    assert Path("new.mp4").read_bytes() == b"another"
    assert "new 2.mp4" in told.value.hint
    assert playable(place / "new 2.mp4") == 30


def test_a_source_that_is_named_as_a_part_stays(place):
    shutil.copy("mine.mp4", "new.part.mp4")
    before = Path("new.part.mp4").read_bytes()

    run("new.part.mp4", "new.mp4")

    assert Path("new.part.mp4").read_bytes() == before
    assert playable(place / "new.mp4") == 30


def test_a_name_that_is_not_utf8_can_be_written(place):
    for source, name in (("mine.mp4", b"r\xe9.mp4"), ("in/a.png", b"r\xe9.png")):
        run(source, os.fsdecode(name))

        assert Path(os.fsdecode(name)).stat().st_size > 300


def packets(path: Path, kind: str = "audio") -> list[list[tuple[float, bytes]]]:
    """Each stream's packets, with their times from the first picture that is shown."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    found: dict[int, list[tuple[float, bytes]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux([s for s in container.streams if s.type == kind]):
            if packet.size:
                at = float(packet.pts * packet.time_base) - first
                found.setdefault(packet.stream.index, []).append((at, bytes(packet)))
    return list(found.values())


@pytest.mark.parametrize(
    ("source", "output", "options"),
    [
        ("a.mp4", "b.mp4", {}),
        ("a.mp4", "b.mkv", {}),
        ("a.mp4", "b.mov", {}),
        ("a.mp4", "b.mp4", {"picture_at": 0.5}),
        ("a.mp4", "b.mkv", {"picture_at": 0.5}),
        ("a.mp4", "b.mp4", {"sound_at": 0.7}),
        ("a.mp4", "b.mp4", {"sound_seconds": 4}),
        ("a.mkv", "b.mp4", {"codec": "libopus", "tracks": 2}),
        ("a.mkv", "b.mkv", {"codec": "flac", "tracks": 2}),
        ("a.mov", "b.mov", {"codec": "pcm_s16le"}),
        ("a.avi", "b.mp4", {"codec": "libmp3lame"}),
    ],
)
def test_sound_is_copied_packet_by_packet_and_stays_in_step(place, source, output, options):
    made = make_sounding_clip(place / source, 2.0, **options)

    run(made, place / output)

    before, after = packets(made), packets(place / output)
    assert len(after) == len(before) == options.get("tracks", 1)
    for old, new in zip(before, after, strict=True):
        if options.get("codec") == "pcm_s16le":  # packets are wherever the reader cuts them
            assert b"".join(data for _, data in new) == b"".join(data for _, data in old)
            continue
        assert [data for _, data in new] == [data for _, data in old]
        assert max(abs(a - b) for (a, _), (b, _) in zip(old, new, strict=True)) < 0.0011
    assert playable(place / output) == 60


def test_tags_go_along_but_where_it_was_taken_does_not(place):
    made = make_sounding_clip(place / "a.mkv", 1.0, codec="libopus", tracks=2)

    run(made, "b.mkv")

    with av.open("b.mkv") as container:
        assert container.metadata["title"] == "hello"
        assert container.metadata["creation_time"].startswith("2020-01-02T03:04:05")
        assert not {key for key in container.metadata if "location" in key.lower()}
        languages = [stream.metadata["language"] for stream in container.streams.audio]
    assert languages == ["deu", "eng"]


@pytest.mark.parametrize(
    ("source", "output"),
    [("a.ts", "b.mp4"), ("a.ts", "b.mov"), ("a.ts", "b.mkv"), ("a.ts", "b.ts"), ("a.mp4", "b.ts")],
)
def test_broadcast_sound_keeps_every_packet_less_its_header(place, source, output):
    made = make_sounding_clip(place / source, 2.0)

    run(made, output)

    (old,), (new,) = packets(made), packets(place / output)
    bare = [[d[7:] if d.startswith(b"\xff\xf1") else d for _, d in side] for side in (old, new)]
    assert bare[0] == bare[1]
    assert max(abs(a - b) for (a, _), (b, _) in zip(old, new, strict=True)) < 0.0011


def test_sound_that_mp4_has_no_place_for_is_made_aac_and_stays_in_step(place):
    made = make_sounding_clip(place / "a.mov", 2.0, codec="pcm_s16le", sound_at=0.5)

    run(made, "b.mp4")

    with av.open("b.mp4") as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        samples = [f.to_ndarray() for f in container.decode(audio=0)]
        begin = container.streams.audio[0].start_time * container.streams.audio[0].time_base
    assert float(begin) == pytest.approx(0.5, abs=0.03)
    assert 96_000 <= sum(s.shape[1] for s in samples) <= 96_000 + 2 * 1024
    assert np.abs(np.concatenate(samples, 1)[0, 4800:-4800]).mean() == pytest.approx(
        8000 / 32768 * 2 / np.pi, rel=0.1
    )


def test_a_clip_that_only_others_can_read_has_no_sound_and_says_so(place, caplog):
    (place / "strange.clip").write_bytes(b"strange")

    with Tracks(place / "strange.clip") as tracks:
        assert (tracks.until(1.0), tracks.rest(), tracks.lead, tracks.cut_off) == ([], [], 0, False)

    assert "no sound can be read from" in caplog.text


def test_subtitles_that_cannot_be_kept_are_told_of(place, caplog):
    (place / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,500\nhello\n")
    with (
        av.open("s.srt") as words,
        av.open("mine.mp4") as clip,
        av.open("a.mkv", "w") as container,
    ):
        streams = {
            s: container.add_stream_from_template(s) for s in (*clip.streams, *words.streams)
        }
        for packet in [p for c in (words, clip) for p in c.demux() if p.size]:
            packet.stream = streams[packet.stream]
            container.mux(packet)

    run("a.mkv", "b.mkv")
    assert [data for _, data in packets(Path("b.mkv"), "subtitle")[0]] == [b"hello"]
    assert "left out" not in caplog.text

    run("a.mkv", "b.mp4")
    assert "the subtitles (srt) of 'a.mkv' are left out" in caplog.text
