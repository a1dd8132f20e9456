"""Choosing how a webcam sends, reading it, and what becomes of damage."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vcam.driver import Driver, Poll, plugged_in
from vcam.errors import SourceError
from vcam.sources.webcam import TORN, Webcam, _unpadded, choose, open_webcam
from vcam.system import v4l2
from vcam.system.devices import Mode

W, H = 320, 240
USB2 = [
    Mode("YUYV", 1280, 720, (10.0, 5.0)),
    Mode("YUYV", 640, 480, (30.0,)),
    Mode("MJPG", 1280, 720, (30.0, 15.0)),
    Mode("MJPG", 640, 480, (60.0, 30.0)),
]


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path / "video7", {("YUYV", W, H): [30.0, 15.0], ("MJPG", W, H): [30.0]})


@pytest.fixture
def poll(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Poll]]:
    with plugged_in(driver, monkeypatch) as made:
        yield made


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (W, H), (value, value, value)).save(buffer, "JPEG")
    return buffer.getvalue()


def yuyv(value: int) -> bytes:
    return bytes([value, 128]) * (W * H)


def test_mjpg_is_taken_where_it_gives_size_and_rate():
    assert choose(USB2, 1280, 720, 30, "auto") == USB2[2]


def test_a_smaller_picture_is_better_than_a_jerky_one():
    assert choose(USB2[:2], 1280, 720, 30, "auto") == USB2[1]


def test_the_format_that_was_asked_for_is_kept_to():
    assert choose(USB2, 1280, 720, 10, "yuyv") == USB2[0]
    assert choose(USB2, 640, 480, 30, "mjpg") == USB2[3]


def test_a_size_that_is_not_offered_gets_the_nearest_one():
    assert choose(USB2, 1920, 1080, 30, "auto") == USB2[2]
    assert choose(USB2, 600, 450, 30, "auto") == USB2[3]


def test_a_camera_that_does_not_tell_its_rates_is_taken_at_its_word():
    modes = [Mode("YUYV", 1280, 720), Mode("YUYV", 640, 480)]

    assert choose(modes, 1280, 720, 30, "auto") == modes[0]


def test_a_format_that_the_camera_lacks_is_an_error_with_a_hint():
    with pytest.raises(SourceError, match="does not send MJPG") as told:
        choose(USB2[:2], 640, 480, 30, "mjpg")

    assert "auto" in told.value.hint


@pytest.mark.usefixtures("poll")
def test_pictures_come_as_planes_with_the_drivers_time_and_number(driver):
    with Webcam(str(driver.path), W, H, 30, format="yuyv") as source:
        driver.pictures = [yuyv(90)]
        before = time.monotonic()
        frame = source.read(1)

    assert frame is not None
    assert (source.name, source.format, source.fps) == ("Test Camera", "YUYV", 30)
    assert frame.planes.y.shape == (H, W)
    assert set(np.unique(frame.planes.y)) == {90}
    assert not frame.planes.full_range
    assert before - 0.01 <= frame.pts <= time.monotonic()
    assert frame.seq == 1


@pytest.mark.usefixtures("poll")
def test_jpegs_are_decoded_at_full_range(driver):
    with open_webcam(str(driver.path), W, H, 30) as source:
        driver.pictures = [jpeg(200)]
        frame = source.read(1)

    assert frame is not None
    assert frame.planes.full_range
    assert abs(int(frame.planes.y[100, 100]) - 200) <= 1


@pytest.mark.usefixtures("poll")
def test_the_newest_picture_wins_and_older_buffers_go_back(driver):
    with Webcam(str(driver.path), W, H, 30, format="yuyv") as source:
        driver.pictures = [yuyv(10), yuyv(20), yuyv(30)]
        frame = source.read(1)

        assert frame is not None
        assert frame.planes.y[0, 0] == 30
        assert sorted(driver.queued) == [0, 1, 2, 3]


@pytest.mark.usefixtures("poll")
def test_no_picture_in_time_is_none_and_no_error(driver):
    with Webcam(str(driver.path), W, H, 30) as source:
        assert source.read(0.01) is None


@pytest.mark.usefixtures("poll")
def test_one_torn_picture_is_skipped_and_many_are_an_error(driver):
    with Webcam(str(driver.path), W, H, 30) as source:
        driver.pictures = [jpeg(9)[:200]]
        assert source.read(0.05) is None
        driver.pictures = [jpeg(99)]
        assert source.read(1) is not None

        def torn() -> None:
            for _ in range(TORN):
                driver.pictures = [jpeg(9)[:200]]
                source.read(0.01)

        with pytest.raises(SourceError, match="JPEG"):
            torn()


@pytest.mark.usefixtures("poll")
def test_a_buffer_that_the_driver_calls_damaged_is_not_shown(driver):
    with Webcam(str(driver.path), W, H, 30, format="yuyv") as source:
        driver.flags_of_next = v4l2.BUFFER_ERROR
        driver.pictures = [yuyv(10)]

        assert source.read(0.05) is None
        assert len(driver.queued) == 4


@pytest.mark.usefixtures("poll")
def test_a_short_picture_is_not_shown(driver):
    with Webcam(str(driver.path), W, H, 30, format="yuyv") as source:
        driver.pictures = [yuyv(10)[:-100]]

        assert source.read(0.05) is None


def test_a_camera_that_is_pulled_out_is_gone_at_once(driver, poll):
    with Webcam(str(driver.path), W, H, 30) as source:
        poll.broken = True
        with pytest.raises(SourceError, match="went away"):
            source.read(5)


@pytest.mark.usefixtures("poll")
@pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO])
def test_a_driver_that_fails_is_gone_at_once(driver, number):
    with Webcam(str(driver.path), W, H, 30) as source:
        driver.pictures = [jpeg(9)]
        driver.refuse[v4l2.DQBUF] = number
        with pytest.raises(SourceError, match="went away") as told:
            source.read(5)

    assert told.value.hint


@pytest.mark.usefixtures("poll")
@pytest.mark.parametrize(
    ("request_", "number", "words"),
    [
        (v4l2.S_FMT, errno.EBUSY, "is in use by another program"),
        (v4l2.STREAMON, errno.ENOSPC, "no room on its USB bus"),
        (v4l2.REQBUFS, errno.EIO, "cannot be opened"),
    ],
)
def test_a_camera_that_cannot_be_opened_says_why_and_leaves_nothing_open(
    driver, request_, number, words
):
    driver.refuse[request_] = number
    gc.collect()  # what other tests left lying about is closed now, not in between
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(SourceError, match=words) as told, Webcam(str(driver.path), W, H, 30):
        pass
    assert told.value.hint
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.usefixtures("poll")
def test_controls_are_set_by_name_within_their_range(driver, caplog):
    wanted = {"brightness": 999, "auto_exposure": 1, "zoom": 3}
    with caplog.at_level(logging.WARNING), Webcam(str(driver.path), W, H, 30, controls=wanted):
        pass

    assert driver.knobs[0x980900][4] == 255
    assert driver.knobs[0x9A0901][4] == 1
    assert "no control 'zoom'" in caplog.text


def test_a_camera_that_is_not_there_says_so():
    with pytest.raises(SourceError, match="not connected"), Webcam("/dev/video99", W, H, 30):
        pass


def test_padding_at_the_end_of_lines_is_left_out():
    layout = v4l2.PixelFormat(4, 2, "YUYV", 12, 24)
    rows = np.arange(24, dtype=np.uint8)

    assert _unpadded(rows, layout).tolist() == [*range(8), *range(12, 20)]
    assert _unpadded(rows[:20], layout).size == 0
