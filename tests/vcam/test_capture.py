"""The camera thread: what it tells the loop, and when."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

import vcam.capture
from vcam.capture import Capture
from vcam.errors import SourceError, tell
from vcam.frame import Frame
from vcam.guard import Fault


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


class Forgetful(logging.Handler):
    """A log that has no memory left."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise MemoryError


def test_the_camera_comes_back_although_not_even_the_failure_could_be_told(monkeypatch):
    def tell(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(vcam.capture, "tell", tell)
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
        tell(log, "it failed")


def frame() -> Frame:
    y, half = np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8)
    return Frame(y, half, half, False, time.monotonic(), 1)
