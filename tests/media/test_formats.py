"""Every kind of file in the table: read in every place, or refused in the table's words."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from segmentation.planes import i420
from tests.media import made, samples
from vcam import manual
from vcam.commands.render import render
from vcam.compose import backdrops
from vcam.errors import BackgroundError, SourceError, UsageError
from vcam.media import formats, pictures
from vcam.media.clip import ClipSource
from vcam.settings import config
from vcam.sources import source_opener

ROOT = Path(__file__).resolve().parent.parent.parent
READ = samples.read()
REFUSED = samples.refused()
EXPECTED = pictures.i420_from_image(np.full((36, 64, 3), samples.COLOUR, np.uint8))


def settings(source: Path) -> config.Config:
    base = config.load(config.default_path(), environ={})
    return base.with_changes(
        {"camera": {"source": str(source)}, "output": {"width": 160, "height": 90}}
    )


def first_planes(data: np.ndarray) -> list[int]:
    """Y, U and V in the middle of an I420 picture."""
    return [int(plane[plane.shape[0] // 2, plane.shape[1] // 2]) for plane in i420(data).each]


def refusal(path: Path) -> BackgroundError | None:
    """In which words a background is refused; None if it is shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backdrops.open_backdrop(str(path), 64, 36).close()
    except BackgroundError as error:
        return error
    return None


def test_every_kind_in_the_table_has_a_sample():
    assert set(READ) | set(REFUSED) == set(formats.NAMED)
    assert not set(READ) & set(REFUSED)


@pytest.mark.parametrize("ending", ["jpg", "mp4", "txt", ""])
@pytest.mark.parametrize("name", READ)
def test_a_file_is_judged_by_its_content(tmp_path, name, ending):
    path = tmp_path / f"file.{ending}"
    path.write_bytes(READ[name])

    assert formats.look(path).name == name


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_shown_as_background_and_as_source(tmp_path, name):
    path = tmp_path / "misnamed.png"
    path.write_bytes(READ[name])

    backdrop = backdrops.open_backdrop(str(path), 64, 36)
    shown = backdrop.at(0)
    backdrop.close()
    now = settings(path)
    with source_opener(now.camera, now.output)() as source:
        frame = source.read(1)

    assert np.abs(np.subtract(first_planes(shown), first_planes(EXPECTED))).max() <= 4
    y, u, v = (int(p[p.shape[0] // 2, p.shape[1] // 2]) for p in frame.planes.each)
    assert np.abs(np.subtract((y, u, v), first_planes(EXPECTED))).max() <= 4


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_the_same_words_everywhere(tmp_path, name):
    now = config.load(config.default_path(), environ={})
    for i, data in enumerate(REFUSED[name]):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(data)
        told = f"'{path}' is {formats.NAMED[name].noun}"
        places = {
            BackgroundError: lambda p=path: backdrops.open_backdrop(str(p), 64, 36),
            SourceError: lambda p=path: source_opener(settings(p).camera, settings(p).output)(),
        }

        for kind, read in places.items():
            with pytest.raises(kind) as caught:
                read()
            assert str(caught.value) == told
            assert caught.value.hint == formats.NAMED[name].hint
        with pytest.raises(SourceError) as caught:
            render(path, tmp_path / "out.png", now, alpha=None, report=lambda *_: None)
        assert str(caught.value) == told


def test_uploads_are_judged_by_content_and_named_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(backdrops, "backgrounds_dir", lambda: tmp_path / "mine")

    added = [backdrops.add_file(READ[n], f"{n}.exe") for n in ("HEIC", "AVIF", "animated WebP")]

    assert [a.path.suffix for a in added] == [".heic", ".avif", ".webp"]
    assert [a.kind for a in added] == ["picture", "picture", "clip"]
    with pytest.raises(BackgroundError, match="PDF"):
        backdrops.add_file(REFUSED["PDF"][0], "page.png")
    assert {p.name for p in backdrops.presets()} >= {"HEIC", "AVIF", "animated WebP"}


@pytest.mark.parametrize("name", [n for n in READ if formats.NAMED[n].kind != "clip"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_picture_cut_short_is_told_of_or_shown_in_part(tmp_path, name, share):
    path = tmp_path / "cut.bin"
    path.write_bytes(READ[name][: int(len(READ[name]) * share)])

    told = refusal(path)

    assert told is None or ("cut.bin" in str(told) and told.hint)


@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_flipped_bytes_end_in_a_sentence(tmp_path, name):
    whole = READ[name] if name in READ else REFUSED[name][0]
    rng = np.random.default_rng(len(name))
    for turn in range(12):
        data = bytearray(whole)
        for at in rng.integers(0, max(1, len(data)), 1 + turn) if data else ():
            data[at] = rng.integers(256)
        path = tmp_path / f"{turn}.bin"
        path.write_bytes(data)

        told = refusal(path)

        assert told is None or told.hint


def odd_codec(path: Path) -> Path:
    """A clip whose codec nobody knows: the four letters that name it are overwritten."""
    path.write_bytes(READ["MP4"].replace(b"avc1", b"zzz9"))
    return path


def test_a_clip_without_a_decoder_is_told_of_by_its_codec(tmp_path):
    with pytest.raises(SourceError, match="cannot be decoded") as caught:
        ClipSource(odd_codec(tmp_path / "a.mp4")).__enter__()

    assert "zzz9" in str(caught.value)
    assert "ffmpeg" in caught.value.hint


def test_a_clip_with_sound_alone_says_so(tmp_path):
    (tmp_path / "a.mp4").write_bytes(samples.sound("mp4", "aac"))

    with pytest.raises(SourceError, match="holds sound alone") as caught:
        ClipSource(tmp_path / "a.mp4").__enter__()

    assert caught.value.hint


def test_a_songs_cover_is_no_clip(tmp_path):
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=44100)
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 36, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame(64, 36, "rgb24")
        packets = cover.encode(frame) + cover.encode(None)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        for packet in [*packets, *audio.encode(sound), *audio.encode(None)]:
            container.mux(packet)

    with pytest.raises(SourceError, match="cover"):
        ClipSource(path).__enter__()


def test_a_heic_of_tiles_is_put_together_at_every_size(tmp_path):
    colours = [
        (200, 60, 30),
        (30, 160, 60),
        (40, 60, 180),
        (220, 220, 40),
        (90, 90, 90),
        (10, 200, 200),
    ]
    tiles = [np.full((128, 128, 3), colour, np.uint8) for colour in colours]
    path = tmp_path / "grid.heic"
    path.write_bytes(made.heic(tiles, 3, (350, 240)))  # the last column and row hang over

    for bound in (None, 170, 80, 40):
        image = pictures.read_image(path, bound=bound)

        h, w = image.shape[:2]
        if bound is None:
            assert (w, h) == (350, 240)
        else:
            assert max(w, h) <= bound
        for i, colour in enumerate(colours):
            x, y = int((i % 3 + 0.5) * 128 / 350 * w), int((i // 3 + 0.45) * 128 / 240 * h)
            x = min(x, w - 2)
            assert np.abs(image[y, x].astype(int) - colour).max() <= 3, (bound, i)


def test_an_animation_plays_at_its_own_speed(tmp_path):
    for name in ("animated GIF", "animated PNG", "animated WebP", "animated AVIF"):
        path = tmp_path / "a.bin"
        path.write_bytes(READ[name])
        with ClipSource(path, live=False) as clip:
            first, second = clip.read(0), clip.read(0)
            with pytest.raises(EOFError):
                clip.read(0)

        assert second.pts - first.pts == pytest.approx(0.2, abs=0.01), name
        assert clip.fps == pytest.approx(5)
        assert int(second.planes.v[9, 16]) < 128 < int(first.planes.v[9, 16]), name


@pytest.mark.parametrize(
    ("output", "kind", "told"),
    [
        ("hh.png", "clip", "ends in .png (PNG), but what is rendered is a clip"),
        ("a.webm", "clip", "ends in .webm (WebM), but what is rendered is a clip"),
        ("a.mp4", "picture", "ends in .mp4 (MP4), but what is rendered is a picture"),
        ("a.heic", "picture", "ends in .heic (HEIC), but what is rendered is a picture"),
        ("a", "picture", "ends in '', but what is rendered is a picture"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path, output, kind, told
):
    source = tmp_path / "in.bin"
    source.write_bytes(READ["MP4" if kind == "clip" else "PNG"])
    now = config.load(config.default_path(), environ={})

    with pytest.raises(UsageError) as caught:
        render(source, tmp_path / output, now, alpha=None, report=lambda *_: None)

    assert told in str(caught.value)
    assert ".mp4" in caught.value.hint if kind == "clip" else ".png" in caught.value.hint
    assert not (tmp_path / output).exists()


def test_phones_pictures_and_animations_are_rendered(tmp_path):
    now = config.load(config.default_path(), environ={})
    now = now.with_changes({"background": {"use": "#00ff00"}})
    (tmp_path / "photo.jpg").write_bytes(READ["HEIC"])
    (tmp_path / "moving.png").write_bytes(READ["animated WebP"])

    for source, output in (("photo.jpg", "out.png"), ("moving.png", "out.mp4")):
        failures = render(
            tmp_path / source, tmp_path / output, now, alpha=None, report=lambda *_: None
        )
        assert failures == 0

    with Image.open(tmp_path / "out.png") as image:
        assert image.size == samples.SIZE
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2


def test_the_page_is_what_the_command_makes():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")

    assert page == manual.formats()
    for name in formats.NAMED:
        assert f"| {name} |" in page


def test_the_table_costs_neither_pillow_nor_ffmpeg():
    code = (
        "import sys, vcam.media.formats; print(*{'PIL', 'av', 'cv2', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
