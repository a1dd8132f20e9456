"""A v4l2loopback device that is held open for the daemon, and shows the card while there is none.

The daemon writes to it directly: a device without any writer drops out of lists and calls.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

from vcam.keeper.node import PAUSED

LOOK_EVERY = 1.0  # seconds between looks at who has it open


class Standby:
    """The device behind descriptor `fd`, whose owner this is; a picture has `length` bytes."""

    state, id, starved = PAUSED, 0, False

    def __init__(self, fd: int, length: int) -> None:
        self.fd = fd
        self.fps = 0.0
        self.lost = False
        self._picture = ctypes.create_string_buffer(length)
        self._path = os.readlink(f"/proc/self/fd/{fd}")
        self._looked_at = float("-inf")
        self._watched = False

    @property
    def watched(self) -> bool:
        """True while a program of this user has the device open, as of a moment ago."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY:
            self._looked_at, self._watched = now, _is_open_elsewhere(self._path)
        return self._watched

    def announce(self, fps: float) -> None:
        """Do nothing: the daemon tells the device."""
        self.fps = fps

    def send(self, fill: Callable[[int], object]) -> None:
        """Write a picture, if the device is still there."""
        fill(ctypes.addressof(self._picture))
        try:
            os.write(self.fd, self._picture)
        except OSError:
            self.lost = True

    def close(self) -> None:
        """Let go of the device."""
        os.close(self.fd)


def _is_open_elsewhere(path: str) -> bool:
    for pid in os.listdir("/proc"):
        if not pid.isdecimal() or int(pid) == os.getpid():
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == path:
                    return True
        except OSError:  # ended meanwhile, or not ours to look into
            continue
    return False
