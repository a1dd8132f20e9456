"""A camera's driver in a hundred lines: `vcam.system.v4l2`'s ioctls on an ordinary file."""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vcam.system import v4l2

PAGE = mmap.PAGESIZE


class Driver:
    """Behaves like a webcam whose modes are `modes`: {(format, w, h): rates}."""

    def __init__(self, path: Path, modes: dict[tuple[str, int, int], list[float]]) -> None:
        self.path, self.modes = path, modes
        self.name, self.card, self.flags = "uvcvideo", "Test Camera", v4l2.CAPTURE | 0x04000000
        self.knobs = {
            0x980900: ["Brightness", 1, 0, 255, 128],
            0x9A0901: ["Auto Exposure", 3, 0, 3, 3],
        }
        self.choices = {1: "Manual Mode", 3: "Aperture Priority Mode"}  # of a knob that is a menu
        self.inactive: set[int] = set()  # knobs that the camera turns itself
        self.pictures: list[bytes] = []  # what comes next
        self.flags_of_next = v4l2.TIMESTAMP_MONOTONIC
        self.refuse: dict[int, int] = {}  # request: errno
        self.format: tuple[str, int, int] | None = None
        self.rate = 0.0
        self.padding = 0  # bytes after each line
        self.queued: list[int] = []
        self.streaming = False
        self.seq = 0
        self.slot = PAGE * 64
        path.write_bytes(bytes(self.slot * 4))

    @property
    def formats(self) -> list[str]:
        return list(dict.fromkeys(name for name, _, _ in self.modes))

    def ioctl(self, fd: int, request: int, data: Any) -> int:
        if number := self.refuse.get(request):
            raise OSError(number, os.strerror(number))
        answer = {
            v4l2.QUERYCAP: self._capabilities, v4l2.ENUM_FMT: self._formats,
            v4l2.ENUM_FRAMESIZES: self._sizes, v4l2.ENUM_FRAMEINTERVALS: self._rates,
            v4l2.S_FMT: self._set_format, v4l2.S_PARM: self._set_rate,
            v4l2.REQBUFS: self._buffers, v4l2.QUERYBUF: self._where, v4l2.QBUF: self._queue,
            v4l2.DQBUF: self._take, v4l2.STREAMON: self._on, v4l2.STREAMOFF: self._off,
            v4l2.QUERYCTRL: self._knob, v4l2.G_CTRL: self._get, v4l2.S_CTRL: self._set,
            v4l2.QUERYMENU: self._choice,
        }.get(request)  # fmt: skip
        if answer is None:
            raise OSError(errno.ENOTTY, "not a typewriter")
        answer(data)
        return 0

    def _capabilities(self, data: bytearray) -> None:
        data[: len(self.name)] = self.name.encode()
        data[16 : 16 + len(self.card)] = self.card.encode()
        struct.pack_into("<II", data, 84, self.flags | 0x80000000, self.flags)

    def _formats(self, data: bytearray) -> None:
        (index,) = struct.unpack_from("<I", data)
        struct.pack_into("<I", data, 44, v4l2.fourcc(_pick(self.formats, index)))

    def _sizes(self, data: bytearray) -> None:
        index, number = struct.unpack_from("<II", data)
        sizes = [(w, h) for name, w, h in self.modes if v4l2.fourcc(name) == number]
        struct.pack_into("<III", data, 8, 1, *_pick(sizes, index))

    def _rates(self, data: bytearray) -> None:
        index, number, w, h = struct.unpack_from("<IIII", data)
        rate = _pick(self.modes[v4l2.fourcc_name(number), w, h], index)
        struct.pack_into("<III", data, 16, 1, 1000, round(rate * 1000))

    def _set_format(self, data: bytearray) -> None:
        w, h, number = struct.unpack_from("<III", data, 8)
        self.format = v4l2.fourcc_name(number), w, h
        line = {"YUYV": 2, "UYVY": 2, "RGB3": 3, "BGR3": 3}.get(
            self.format[0], 1
        ) * w + self.padding
        struct.pack_into("<II", data, 24, line, line * h)

    def _set_rate(self, data: bytearray) -> None:
        assert self.format is not None
        seconds, parts = struct.unpack_from("<II", data, 12)
        rates = self.modes[self.format] or [parts / seconds]
        self.rate = min(rates, key=lambda rate: abs(rate - parts / seconds))
        struct.pack_into("<II", data, 12, 1000, round(self.rate * 1000))

    def _buffers(self, data: bytearray) -> None:
        struct.pack_into("<I", data, 0, 4)

    def _where(self, data: bytearray) -> None:
        (index,) = struct.unpack_from("<I", data)
        struct.pack_into("<I", data, 64, index * self.slot)
        struct.pack_into("<I", data, 72, self.slot)

    def _queue(self, data: bytearray) -> None:
        (index,) = struct.unpack_from("<I", data)
        assert index not in self.queued
        self.queued.append(index)

    def _take(self, data: bytearray) -> None:
        if not self.pictures or not self.queued:
            raise BlockingIOError(errno.EAGAIN, "later")
        index, picture = self.queued.pop(0), self.pictures.pop(0)
        with self.path.open("r+b") as file:
            file.seek(index * self.slot)
            file.write(picture)
        self.seq += 1
        now = time.monotonic()
        struct.pack_into("<IIII", data, 0, index, v4l2.CAPTURE, len(picture), self.flags_of_next)
        struct.pack_into("<qq", data, 24, int(now), int(now % 1 * 1e6))
        struct.pack_into("<I", data, 56, self.seq)

    def _on(self, _: bytes) -> None:
        self.streaming = True

    def _off(self, _: bytes) -> None:
        self.streaming = False
        self.queued = []

    def _knob(self, data: bytearray) -> None:
        after = struct.unpack_from("<I", data)[0] & 0x7FFFFFFF
        number = _pick([n for n in sorted(self.knobs) if n > after], 0)
        name, kind, low, high, value = self.knobs[number]
        struct.pack_into("<II", data, 0, number, kind)
        data[8 : 8 + len(name)] = name.encode()
        struct.pack_into("<iiii", data, 40, low, high, 1, value)
        struct.pack_into("<I", data, 56, 0x10 * (number in self.inactive))

    def _choice(self, data: bytearray) -> None:
        number, value = struct.unpack_from("<II", data)
        if value not in self.choices:
            raise OSError(errno.EINVAL, "a hole in the menu")
        if self.knobs[number][1] == 9:
            struct.pack_into("<q", data, 8, int(self.choices[value]))
        else:
            data[8 : 8 + len(self.choices[value])] = self.choices[value].encode()

    def _get(self, data: bytearray) -> None:
        struct.pack_into("<i", data, 4, self.knobs[struct.unpack_from("<I", data)[0]][4])

    def _set(self, data: bytearray) -> None:
        number, value = struct.unpack("<Ii", data)
        self.knobs[number][4] = value


def _pick(values: list[Any], index: int) -> Any:
    if index >= len(values):
        raise OSError(errno.EINVAL, "no more")
    return values[index]


class Poll:
    """`select.poll` for a driver: ready when there is a picture."""

    driver: Driver
    broken = False

    def register(self, *_: object) -> None:
        pass

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        if self.broken:
            return [(0, select.POLLERR)]
        if self.driver.pictures:
            return [(0, select.POLLIN)]
        time.sleep(timeout / 1000)
        return []


@contextmanager
def plugged_in(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Poll]]:
    """Let `vcam.system.v4l2` talk to the driver instead of a kernel."""
    poll = type("Poll", (Poll,), {"driver": driver})
    with monkeypatch.context() as patch:
        patch.setattr(v4l2.fcntl, "ioctl", driver.ioctl)
        patch.setattr("vcam.sources.webcam.select.poll", poll)
        yield poll
