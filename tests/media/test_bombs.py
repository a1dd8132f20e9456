"""Hostile files: refused before they are decoded, one at a time, and nothing else is started."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media import made
from tests.vcam.clips import make_clip
from vcam.compose import backdrops
from vcam.errors import BackgroundError, SourceError, VcamError
from vcam.media import pictures, stream, thumbnails
from vcam.media.clip import ClipSource

MOST = 1.0e9  # bytes of memory, the program's own included
# Those that cost most of what is read, and one of each way to be refused.
WORST = (
    "11000x11000-2-8.png", "11000x11000-0-16.png", "13000x13000-3-8.png", "60000x2000-CMYK.jpg",
    "5000x5000-progressive.jpg", "13000x13000-6-8.png", "13000x13000.webp", "11000x11000.gif",
    "rgb.tif", "tiled.tif", "lies.heic", "text.png",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")


def read_apart(folder: Path, threads: int, names: tuple[str, ...] | None) -> dict:
    for name, data in made.bombs():
        if names is None or name in names:
            (folder / name).write_bytes(data)
    files = sorted(str(file) for file in folder.iterdir())
    command = [sys.executable, "-m", "tests.media.reader", str(threads), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 6])
def test_the_worst_pictures_take_less_than_a_gigabyte(tmp_path, threads, record_property):
    found = read_apart(tmp_path, threads, WORST)

    record_property("peak_mb", found["peak"] / 1e6)
    assert found["peak"] < MOST
    assert len(found["said"]) == len(WORST)
    refused = {n for n, said in found["said"].items() if not said.startswith("read")}
    assert refused >= set(WORST[5:])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 6])
def test_a_hundred_hostile_pictures_take_less_than_a_gigabyte(tmp_path, threads):
    found = read_apart(tmp_path, threads, None)

    assert len(found["said"]) >= 100
    assert found["peak"] < MOST


def test_an_honest_photograph_of_100_megapixels_opens(tmp_path):
    photo = Image.new("L", (12000, 9000), 90)
    photo.save(tmp_path / "photo.jpg", quality=60)

    image = pictures.read_image(tmp_path / "photo.jpg", bound=2560)

    assert max(image.shape[:2]) == 2560
    assert abs(int(image[900, 1200, 0]) - 90) <= 1


def test_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    Image.new("RGB", (64, 36)).save(tmp_path / "a.png")
    inside, most = 0, 0
    whole = pictures._read

    def slow(*arguments):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        try:
            return whole(*arguments)
        finally:
            inside -= 1

    monkeypatch.setattr(pictures, "_read", slow)
    threads = [
        threading.Thread(target=pictures.read_image, args=(tmp_path / "a.png",)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_a_picture_whose_turn_does_not_come_is_told_of(tmp_path, monkeypatch):
    Image.new("RGB", (64, 36)).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "PATIENCE", 0.05)

    with (
        pictures.alone(tmp_path / "other.png"),
        pytest.raises(BackgroundError, match="has to wait") as caught,
    ):
        pictures.read_image(tmp_path / "a.png")

    assert caught.value.hint


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(marker) (w) file closefile\n%%EOF\n"


def test_what_holds_postscript_starts_no_interpreter(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    fake = tmp_path / "bin" / "gs"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {ran}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    (tmp_path / "nice.png").write_bytes(EPS)

    with pytest.raises(BackgroundError, match="EPS"):
        pictures.read_image(tmp_path / "nice.png")

    assert not ran.exists()


def test_a_line_of_pixels_covers_the_frame_without_being_made_large():
    for shape in ((60000, 1, 3), (1, 60000, 3)):
        image = np.full(shape, 77, np.uint8)

        assert (pictures.cover(image, 1280, 720) == 77).all()


def test_a_thumbnail_is_drawn_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "cache_dir", lambda: tmp_path / "cache")
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 36), (200, 30, 30)).save(path)
    drawn = []
    whole = thumbnails.first_picture
    monkeypatch.setattr(thumbnails, "first_picture", lambda *a: (drawn.append(a), whole(*a))[1])

    first, second = thumbnails.thumbnail(path), thumbnails.thumbnail(path)
    kept = list((tmp_path / "cache" / "thumbnails").iterdir())
    Image.new("RGB", (64, 36), (30, 30, 200)).save(path)
    os.utime(path, ns=(1, 1))
    third = thumbnails.thumbnail(path)

    assert first == second != third
    assert len(drawn) == 2
    assert [file.stat().st_mode & 0o777 for file in kept] == [0o600]
    assert kept[0].parent.stat().st_mode & 0o777 == 0o700


def test_a_damaged_thumbnail_is_drawn_anew_and_old_ones_go(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(thumbnails, "KEPT", 3)
    folder = tmp_path / "cache" / "thumbnails"
    for i in range(6):
        Image.new("RGB", (64, 36), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        good = thumbnails.thumbnail(tmp_path / f"{i}.png")
    for file in folder.iterdir():
        file.write_bytes(b"\xff\xd8 cut")

    assert len(list(folder.iterdir())) == 3
    assert thumbnails.thumbnail(tmp_path / "5.png") == good


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "spaced hls": "\n #EXTM3U\n#EXTINF:9,\n{}\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "bare concat": "file '{}'\n",
    "pls": "[playlist]\nFile1={}\n",
    "dash": "<?xml version='1.0'?>\n<MPD><BaseURL>{}</BaseURL></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n# {}\n",
    "svg": "<svg xmlns='http://www.w3.org/2000/svg'><image href='{}'/></svg>",
}


@pytest.mark.parametrize("ending", ["mp4", "png", "ts"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_what_names_other_files_is_not_followed(tmp_path, kind, ending):
    secret = make_clip(tmp_path / "secret.mp4", 5)
    path = tmp_path / f"list.{ending}"
    path.write_text(PLAYLISTS[kind].format(secret))

    with pytest.raises(BackgroundError) as caught:
        backdrops.open_backdrop(str(path), 64, 36)
    with pytest.raises(SourceError), ClipSource(path, live=False) as clip:
        clip.read(0)

    assert caught.value.hint
    assert "a text file" not in str(caught.value)


def test_a_name_is_never_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "a.mp4", 5)
    (tmp_path / "concat:a.mp4|a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    (tmp_path / "frame%03d.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())

    for name in ("concat:a.mp4|a.mp4", "frame%03d.mp4"):
        with ClipSource(Path(name), live=False) as clip:
            count = 0
            while True:
                try:
                    clip.read(0)
                except EOFError:
                    break
                count += 1
        assert count == 5

    with pytest.raises(SourceError, match="does not exist"), ClipSource("http://127.0.0.1:9/a.mp4"):
        pass


def test_only_decoders_of_the_list_are_used(tmp_path):
    path = make_clip(tmp_path / "a.avi", 3, codec="zmbv", pixels="bgr0")

    with pytest.raises(SourceError, match="Zip Motion Blocks") as caught, ClipSource(path):
        pass

    assert "ffmpeg" in caught.value.hint


@pytest.mark.parametrize("where", ["mp4", "mkv", "ts"])
def test_a_clip_that_says_it_is_huge_is_refused(tmp_path, monkeypatch, where):
    path = make_clip(tmp_path / f"a.{where}", 5, (320, 180))
    monkeypatch.setattr(stream, "MAX_PIXELS", 320 * 179)

    with pytest.raises(SourceError, match="320x180"), ClipSource(path) as clip:
        clip.read(0)


def test_a_clip_that_grows_in_the_middle_is_not_decoded_further(tmp_path, monkeypatch):
    small = make_clip(tmp_path / "small.h264", 5, (160, 90)).read_bytes()
    large = make_clip(tmp_path / "large.h264", 5, (640, 360)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    monkeypatch.setattr(stream, "MAX_PIXELS", 320 * 180)

    seen = []
    with ClipSource(tmp_path / "both.h264", live=False) as clip, contextlib.suppress(EOFError):
        while True:
            seen.append(clip.read(0).width)

    assert set(seen) == {160}


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_never_ends_is_no_file(tmp_path, kind):
    path = {"device": Path("/dev/zero"), "folder": tmp_path, "fifo": tmp_path / "pipe"}[kind]
    if kind == "fifo":
        os.mkfifo(path)

    started = time.monotonic()
    for read in (pictures.read_image, lambda p: ClipSource(p).__enter__()):
        with pytest.raises(VcamError) as caught:
            read(path)
        assert caught.value.hint

    assert time.monotonic() - started < 5


def test_a_jump_in_time_keeps_nobody_waiting(tmp_path):
    import av

    path = tmp_path / "jump.mkv"
    with av.open(str(path), "w") as container:
        made_stream = container.add_stream("ffv1", rate=25)
        made_stream.width, made_stream.height, made_stream.pix_fmt = 64, 36, "yuv420p"
        for pts in (0, 1, 2, 90_000_000, 90_000_001):
            frame = av.VideoFrame(64, 36, "yuv420p")
            frame.pts = pts
            container.mux(made_stream.encode(frame))
        container.mux(made_stream.encode(None))

    with ClipSource(path, live=False) as clip:
        times = [clip.read(0).pts for _ in range(5)]

    assert np.allclose(np.diff(times), 0.04, atol=0.002)
