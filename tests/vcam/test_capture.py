"""The camera thread: what it tells the loop, and when."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest

import vcam.sources.capture
import vcam.system.reopener
from segmentation.planes import Planes
from vcam.errors import SourceError, log_quietly
from vcam.frame import Frame
from vcam.guard import Fault
from vcam.sources.capture import Capture


class SlowToClose:
    """A camera that is pulled out, and whose closing waits for the test."""

    name, fps, live = "slow", 30.0, True

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __enter__(self) -> SlowToClose:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.wait(5)

    def read(self, timeout: float) -> None:
        raise SourceError("the camera went away")


def test_a_camera_that_went_away_is_told_before_it_is_closed():
    camera = SlowToClose()
    with Capture(lambda: camera) as capture:
        capture.want(True)
        try:
            told = capture.read(2)
        finally:
            camera.closed.set()

    assert told == Fault("camera unplugged")


def test_what_failed_is_no_problem_of_another_camera():
    def gone() -> SlowToClose:
        raise SourceError("'gone.png' does not exist")

    with Capture(gone) as capture:
        capture.want(True)
        assert capture.read(2) == Fault("picture cannot be read")
        capture.want(False)
        assert "gone.png" in capture.problem

        capture.switch(SlowToClose)

        assert capture.problem == ""


class Endless:
    """A camera that always has the next picture."""

    name, fps, live = "endless", 30.0, True

    def __init__(self) -> None:
        self.given = 0
        self.asked = threading.Event()  # a read that goes on until it is `answered`
        self.answered = threading.Event()

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, timeout: float) -> Frame:
        self.asked.set()
        self.answered.wait(5)
        self.given += 1
        plane = np.full((4, 4), self.given, np.uint8)
        return Frame(Planes(plane, plane[::2, ::2], plane[::2, ::2]), 0.0, self.given)


@pytest.mark.parametrize("deed", ["unwanted", "switched"])
def test_a_picture_that_comes_when_nobody_wants_it_is_not_kept(deed):
    camera = Endless()
    with Capture(lambda: camera) as capture:
        capture.want(True)
        camera.asked.wait(5)
        if deed == "unwanted":
            capture.want(False)
        else:
            capture.switch(lambda: SlowToClose())
        camera.answered.set()
        end = time.monotonic() + 5
        while capture.closed == 0:
            assert time.monotonic() < end
            time.sleep(0.001)

        assert camera.given == 1
        assert not isinstance(capture._slot, Frame)


def test_to_want_never_waits_for_the_camera():
    camera, took = Endless(), []
    camera.answered.set()
    with Capture(lambda: camera) as capture:
        for i in range(40):
            started = time.perf_counter()
            capture.want(i % 2 == 0)
            took.append(time.perf_counter() - started)
            time.sleep(0.005)

    # It slept a quarter of a second under the lock, nearly each time.
    assert sum(each > 0.2 for each in took) <= 2


class Forgetful(logging.Handler):
    """A log that has no memory left."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise MemoryError


def test_the_camera_comes_back_although_not_even_the_failure_could_be_told(monkeypatch):
    def tell(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(vcam.system.reopener, "log_quietly", tell)
    opened = 0

    class Camera(SlowToClose):
        def __exit__(self, *_: object) -> None: ...

        def read(self, timeout: float) -> Frame:
            if opened == 1:
                raise MemoryError
            time.sleep(0.01)
            return frame()

    def opener() -> Camera:
        nonlocal opened
        opened += 1
        return Camera()

    with Capture(opener) as capture:
        capture.want(True)
        until = time.monotonic() + 5
        while not isinstance(capture.read(0.5), Frame):
            assert time.monotonic() < until, "the camera's thread ended"
    assert opened == 2


def test_telling_a_failure_fails_in_silence():
    log = logging.Logger("forgetful")
    log.addHandler(Forgetful())
    try:
        raise ValueError
    except ValueError:
        log_quietly(log, "it failed")


def frame() -> Frame:
    y, half = np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8)
    return Frame(Planes(y, half, half), time.monotonic(), 1)
