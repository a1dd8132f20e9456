"""Clips and pictures as cameras, and the thread that reads them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.fakes import ListSource, room
from tests.vcam.clips import make_clip
from vcam.errors import SourceError
from vcam.guard import Fault
from vcam.media.clip import ClipSource
from vcam.settings import config
from vcam.sources import source_opener
from vcam.sources.capture import Capture
from vcam.sources.still import StillSource


def read_all(path):
    frames = []
    with ClipSource(path, live=False) as clip:
        while True:
            try:
                frames.append(clip.read(0))
            except EOFError:
                return clip, frames


def test_a_clip_gives_every_frame_at_its_own_time(tmp_path):
    clip, frames = read_all(make_clip(tmp_path / "c.mp4", 30, fps=15))

    assert len(frames) == 30
    assert clip.fps == pytest.approx(15)
    assert np.allclose(np.diff([f.pts for f in frames]), 1 / 15, atol=1e-3)
    assert frames[10].planes.y.mean() > frames[0].planes.y.mean()


def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path):
    path = make_clip(tmp_path / "odd.mkv", 3, (101, 75), codec="ffv1", pixels="yuv444p")

    _, frames = read_all(path)

    assert frames[0].planes.y.shape == (76, 102)
    assert frames[0].planes.u.shape == (38, 51)
    assert np.array_equal(frames[0].planes.y[:, 101], frames[0].planes.y[:, 100])


def test_a_live_clip_loops_and_keeps_its_pace(tmp_path):
    path = make_clip(tmp_path / "c.mp4", 10, fps=50)

    with ClipSource(path) as clip:
        started = time.monotonic()
        frames = [clip.read(1) for _ in range(25)]
        took = time.monotonic() - started

    assert [f.seq for f in frames] == list(range(25))
    assert took > 0.4
    assert all(f.pts >= started for f in frames)


@pytest.mark.parametrize("content", [b"", b"not a clip at all" * 50, None])
def test_what_is_not_a_clip_is_explained(tmp_path, content):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SourceError) as caught, ClipSource(path) as clip:
        clip.read(1)

    assert caught.value.exit_code == 4
    assert caught.value.hint


def test_a_clip_cut_short_gives_what_it_has(tmp_path):
    whole = make_clip(tmp_path / "c.mkv", 60).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) * 2 // 3])

    _, frames = read_all(cut)

    assert 0 < len(frames) < 60


def test_the_demo_moves_and_is_even_and_limited():
    with StillSource(width=320, height=180, fps=1000) as demo:
        first, second = demo.read(1), demo.read(1)

    assert first.planes.y.shape == (180, 320)
    assert first.planes.u.shape == (90, 160)
    assert not first.planes.full_range
    assert not np.array_equal(first.planes.y, second.planes.y)


def test_auto_without_a_camera_is_the_demo(monkeypatch):
    from vcam import sources

    defaults = config.load(config.default_path(), environ={})
    monkeypatch.setattr(sources, "resolve", lambda camera: "demo")

    source = source_opener(defaults.camera, defaults.output)()

    assert source.name == "demo picture"


def wait_for(capture, kind, seconds=3.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = capture.read(0.1)
        if isinstance(found, kind):
            return found
    raise AssertionError(f"no {kind.__name__} within {seconds} s")


def test_the_newest_frame_wins_and_lost_ones_are_counted():
    frames = [room(i) for i in range(20)]

    with Capture(lambda: ListSource([*frames, None])) as capture:
        capture.want(True)
        time.sleep(0.2)
        capture.want(True)

        assert capture.dropped >= 18


def test_a_camera_that_goes_away_is_a_fault_and_is_opened_again():
    from vcam.frame import Frame

    opened = []

    def opener():
        opened.append(1)
        if len(opened) == 1:
            return ListSource([SourceError("the camera went away")])
        return ListSource([room(i) for i in range(3)] + [None] * 100)

    with Capture(opener, wait_for_change=lambda seconds: time.sleep(0.3)) as capture:
        capture.want(True)

        assert wait_for(capture, Fault).reason == "camera unplugged"
        assert wait_for(capture, Frame)
    assert len(opened) >= 2


def test_nothing_is_kept_once_the_camera_is_not_wanted():
    with Capture(lambda: ListSource([room(i) for i in range(9)])) as capture:
        capture.want(True)
        wait_for(capture, object)
        capture.want(False)

        assert capture.read(0.05) is None
