"""Video4Linux through the standard library alone: structs, plain functions, thin objects.

Numbers and layouts are those of 64-bit kernels (x86-64, arm64, riscv64), which agree here.
https://docs.kernel.org/userspace-api/media/v4l/v4l2.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import re
import select
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcam.foreign_text import plain

if sys.platform != "win32":  # its constants are of use there, too
    import fcntl

QUERYCAP: Final = 0x80685600
ENUM_FMT: Final = 0xC0405602
G_FMT, S_FMT = 0xC0D05604, 0xC0D05605
REQBUFS, QUERYBUF, QBUF, DQBUF = 0xC0145608, 0xC0585609, 0xC058560F, 0xC0585611
STREAMON, STREAMOFF = 0x40045612, 0x40045613
G_PARM, S_PARM = 0xC0CC5615, 0xC0CC5616
G_CTRL, S_CTRL, QUERYCTRL, QUERYMENU = 0xC008561B, 0xC008561C, 0xC0445624, 0xC02C5625
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0xC02C564A, 0xC034564B
DQEVENT, SUBSCRIBE_EVENT, UNSUBSCRIBE_EVENT = 0x80885659, 0x4020565A, 0x4020565B

CAPTURE, OUTPUT = 1, 2  # V4L2_BUF_TYPE_VIDEO_*, and the same bits of a node's capabilities
CAP_M2M: Final = 0x8000
CAP_IO_MC: Final = 0x20000000  # no picture before a media graph is set up
CAP_STREAMING: Final = 0x04000000
FIELD_NONE: Final = 1
MEMORY_MMAP: Final = 1
BUFFER_ERROR: Final = 0x40
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000
CLIENT_USAGE: Final = 0x08000000 + 0x08E00000 + 1  # v4l2loopback's event, since 0.13
SEND_INITIAL: Final = 1
MOST_FPS: Final = 1000
COLORSPACE_SMPTE170M, YCBCR_ENC_601, QUANTIZATION_LIMITED = 1, 1, 2

_CONTROL_DISABLED, _CONTROL_READ_ONLY, _CONTROL_INACTIVE = 0x1, 0x4, 0x10
_NEXT_CONTROL: Final = 0x80000000
_INTEGER_MENU: Final = 9
_NUMERIC = {1: "integer", 2: "boolean", 3: "menu", _INTEGER_MENU: "menu"}


def fourcc(name: str) -> int:
    """The number of a four-letter pixel format."""
    return int.from_bytes(name.encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The four letters of a pixel format's number."""
    return plain((number & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Driver, name and abilities of a node."""

    driver: str
    card: str
    bus: str
    flags: int  # of this node, not of the whole device

    @property
    def captures(self) -> bool:
        return bool(self.flags & CAPTURE)

    @property
    def outputs(self) -> bool:
        return bool(self.flags & OUTPUT)

    @property
    def loopback(self) -> bool:
        return self.driver == "v4l2 loopback"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A size and layout as the driver granted it."""

    width: int
    height: int
    fourcc: str
    bytes_per_line: int
    size: int  # bytes of one picture


@dataclass(frozen=True, slots=True)
class Control:
    """A knob of the camera, named as `v4l2-ctl -l` names it."""

    id: int
    name: str
    kind: str
    minimum: int
    maximum: int
    step: int
    default: int
    inactive: bool
    value: int | None = None
    choices: tuple[tuple[int, str], ...] = ()  # of a menu: the values there are, and their words


@dataclass(frozen=True, slots=True)
class Buffer:
    """A filled buffer taken from the driver."""

    index: int
    used: int
    flags: int
    timestamp: float
    seq: int


def open_node(path: str | Path, *, blocking: bool = False) -> int:
    """Open a video node; the descriptor is not inherited by other programs."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if blocking else os.O_NONBLOCK))


def capabilities(fd: int) -> Capabilities:
    """Ask a node what it is."""
    answer = bytearray(104)
    fcntl.ioctl(fd, QUERYCAP, answer)
    whole, node = struct.unpack_from("<II", answer, 84)
    return Capabilities(
        _text(answer[:16]),
        _text(answer[16:48]),
        _text(answer[48:80]),
        node if whole & 0x80000000 else whole,
    )


def get_format(fd: int, kind: int) -> PixelFormat:
    """The format set now."""
    data = bytearray(208)
    struct.pack_into("<I", data, 0, kind)
    fcntl.ioctl(fd, G_FMT, data)
    return _format(data)


def set_format(
    fd: int, kind: int, width: int, height: int, name: str, *, size: int = 0
) -> PixelFormat:
    """Ask for a format; what is returned may differ from what was asked."""
    data = bytearray(208)
    struct.pack_into("<I", data, 0, kind)
    struct.pack_into("<IIIIII", data, 8, width, height, fourcc(name), FIELD_NONE, 0, size)
    if kind == OUTPUT:
        struct.pack_into("<I", data, 32, COLORSPACE_SMPTE170M)
        struct.pack_into("<II", data, 44, YCBCR_ENC_601, QUANTIZATION_LIMITED)
    fcntl.ioctl(fd, S_FMT, data)
    return _format(data)


def _format(data: bytearray) -> PixelFormat:
    width, height, number = struct.unpack_from("<III", data, 8)
    line, size = struct.unpack_from("<II", data, 24)
    return PixelFormat(width, height, fourcc_name(number), line, size)


def set_rate(fd: int, kind: int, fps: float) -> float:
    """Ask for a frame rate; return the one that was granted, 0 where the driver has no say."""
    data = bytearray(204)
    struct.pack_into("<I", data, 0, kind)
    struct.pack_into("<II", data, 12, 1000, round(fps * 1000))
    try:
        fcntl.ioctl(fd, S_PARM, data)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return 0.0
    seconds, parts = struct.unpack_from("<II", data, 12)
    return parts / seconds if seconds else 0.0


def pixel_formats(fd: int, kind: int = CAPTURE) -> Iterator[str]:
    """The pixel formats a node offers."""
    for index in range(64):
        data = bytearray(64)
        struct.pack_into("<II", data, 0, index, kind)
        if not _asked(fd, ENUM_FMT, data):
            return
        yield fourcc_name(struct.unpack_from("<I", data, 44)[0])


def frame_sizes(fd: int, name: str) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Sizes of a format as (least width, most, step, least height, most, step)."""
    for index in range(256):
        data = bytearray(44)
        struct.pack_into("<II", data, 0, index, fourcc(name))
        if not _asked(fd, ENUM_FRAMESIZES, data):
            return
        if struct.unpack_from("<I", data, 8)[0] == 1:
            w, h = struct.unpack_from("<II", data, 12)
            yield w, w, 1, h, h, 1
        else:
            yield struct.unpack_from("<6I", data, 12)
            return


def frame_rates(fd: int, name: str, width: int, height: int) -> list[float]:
    """Frames per second a format offers at a size, fastest first; empty where it does not say."""
    rates = []
    for index in range(64):
        data = bytearray(52)
        struct.pack_into("<IIII", data, 0, index, fourcc(name), width, height)
        if not _asked(fd, ENUM_FRAMEINTERVALS, data):
            break
        seconds, parts = struct.unpack_from("<II", data, 20)  # the shortest, if it is a range
        if seconds and 0 < parts / seconds <= MOST_FPS:  # some drivers list an interval of 0
            rates.append(parts / seconds)
        if struct.unpack_from("<I", data, 16)[0] != 1:
            break
    return sorted(set(rates), reverse=True)


def controls(fd: int) -> Iterator[Control]:
    """The knobs of a camera with their values."""
    number = 0
    while True:
        data = bytearray(68)
        struct.pack_into("<I", data, 0, number | _NEXT_CONTROL)
        if not _asked(fd, QUERYCTRL, data):
            return
        number, kind = struct.unpack_from("<II", data, 0)
        low, high, step, default = struct.unpack_from("<iiii", data, 40)
        (flags,) = struct.unpack_from("<I", data, 56)
        if kind in _NUMERIC and not flags & (_CONTROL_DISABLED | _CONTROL_READ_ONLY):
            name = re.sub(r"[^a-z0-9]+", "_", _text(data[8:40]).lower()).strip("_")
            with contextlib.suppress(OSError):
                value = get_control(fd, number)
                yield Control(
                    number,
                    name,
                    _NUMERIC[kind],
                    low,
                    high,
                    step,
                    default,
                    bool(flags & _CONTROL_INACTIVE),
                    value,
                    tuple(_choices(fd, number, kind, low, high)),
                )


def _choices(fd: int, number: int, kind: int, low: int, high: int) -> Iterator[tuple[int, str]]:
    """The values of a menu that the driver knows; there may be holes between them."""
    if _NUMERIC[kind] != "menu":
        return
    for value in range(low, min(high, low + 63) + 1):
        data = bytearray(44)
        struct.pack_into("<II", data, 0, number, value)
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, QUERYMENU, data)
            whole = kind == _INTEGER_MENU
            yield value, str(struct.unpack_from("<q", data, 8)[0]) if whole else _text(data[8:40])


def get_control(fd: int, number: int) -> int:
    """A control's value."""
    data = bytearray(struct.pack("<Ii", number, 0))
    fcntl.ioctl(fd, G_CTRL, data)
    return int(struct.unpack("<Ii", data)[1])


def set_control(fd: int, number: int, value: int) -> int:
    """Set a control; return the value it has now."""
    data = bytearray(struct.pack("<Ii", number, value))
    fcntl.ioctl(fd, S_CTRL, data)
    return int(struct.unpack("<Ii", data)[1])


def stream_on(fd: int, kind: int) -> None:
    """Start to stream."""
    fcntl.ioctl(fd, STREAMON, struct.pack("<i", kind))


def stream_off(fd: int, kind: int) -> None:
    """Stop to stream; the driver forgets every queued buffer."""
    fcntl.ioctl(fd, STREAMOFF, struct.pack("<i", kind))


class Mapped:
    """Buffers shared with the driver. Owned by one thread, which closes them."""

    def __init__(self, fd: int, kind: int, count: int) -> None:
        self._fd, self._kind = fd, kind
        data = bytearray(20)
        struct.pack_into("<III", data, 0, count, kind, MEMORY_MMAP)
        fcntl.ioctl(fd, REQBUFS, data)
        self.memory: list[mmap.mmap] = []
        try:
            for index in range(struct.unpack_from("<I", data)[0]):
                asked = self._buffer(index)
                fcntl.ioctl(fd, QUERYBUF, asked)
                (offset,) = struct.unpack_from("<I", asked, 64)
                (length,) = struct.unpack_from("<I", asked, 72)
                self.memory.append(mmap.mmap(fd, length, offset=offset))
                self.queue(index)
        except BaseException:
            self.close()
            raise

    def queue(self, index: int) -> None:
        """Give a buffer back to the driver."""
        fcntl.ioctl(self._fd, QBUF, self._buffer(index))

    def take(self) -> Buffer | None:
        """Take the oldest filled buffer; None if there is none yet."""
        data = self._buffer(0)
        try:
            fcntl.ioctl(self._fd, DQBUF, data)
        except BlockingIOError:
            return None
        index, _, used, flags = struct.unpack_from("<IIII", data)
        seconds, micros = struct.unpack_from("<qq", data, 24)
        (seq,) = struct.unpack_from("<I", data, 56)
        return Buffer(index, used, flags, seconds + micros / 1e6, seq)

    def close(self) -> None:
        """Unmap; the descriptor stays open."""
        for memory in self.memory:
            with contextlib.suppress(BufferError):
                memory.close()
        self.memory = []

    def _buffer(self, index: int) -> bytearray:
        data = bytearray(88)
        struct.pack_into("<II", data, 0, index, self._kind)
        struct.pack_into("<I", data, 60, MEMORY_MMAP)
        return data


def subscribe(fd: int, event: int) -> bool:
    """Ask for an event and its present state; False where the driver does not know it."""
    data = bytearray(32)
    struct.pack_into("<III", data, 0, event, 0, SEND_INITIAL)
    # A descriptor that was subscribed before, by a daemon that is gone, would be told nothing now.
    _asked(fd, UNSUBSCRIBE_EVENT, bytearray(data))
    return _asked(fd, SUBSCRIBE_EVENT, data)


def events(fd: int) -> Iterator[tuple[int, int]]:
    """Pending events as (type, first 32 bits of payload); never waits."""
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    while any(flags & select.POLLPRI for _, flags in poll.poll(0)):
        data = bytearray(136)
        if not _asked(fd, DQEVENT, data):
            return
        yield struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, 8)[0]


def _asked(fd: int, request: int, data: bytearray) -> bool:
    """An ioctl whose refusal means "no more" or "not here"."""
    try:
        fcntl.ioctl(fd, request, data)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EIO, errno.EBADF):
            raise
        return False
    return True


def _text(data: bytearray) -> str:
    """Text of a driver; whoever builds a gadget chooses them."""
    return plain(data.split(b"\0")[0].decode("utf-8", "replace").strip())


IN_CREATE, IN_DELETE, IN_ATTRIB = 0x100, 0x200, 0x4
IN_OPEN, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE = 0x20, 0x8, 0x10


class Inotify:
    """Hears what happens to a file or directory. Owned by one thread, which closes it."""

    def __init__(self, path: str | Path, mask: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), str(path))

    def heard(self, timeout: float = 0.0) -> list[tuple[int, str]]:
        """Events as (mask, file name); empty if none came within `timeout` seconds."""
        if self.fd < 0:
            return []
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return []
        found: list[tuple[int, str]] = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.fd, 65536)
            at = 0
            while at < len(data):
                _, mask, _, length = struct.unpack_from("<iIII", data, at)
                name = data[at + 16 : at + 16 + length].split(b"\0")[0]
                found.append((mask, os.fsdecode(name)))
                at += 16 + length
        return found

    def close(self) -> None:
        """Stop listening."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def wait_for_nodes(timeout: float, directory: str | Path = "/dev") -> bool:
    """Sleep until a video node appears or goes, at most `timeout` seconds; True if one did."""
    deadline = time.monotonic() + timeout
    try:
        ears = Inotify(directory, IN_CREATE | IN_DELETE | IN_ATTRIB)
    except OSError:
        time.sleep(timeout)
        return False
    try:
        while (left := deadline - time.monotonic()) > 0:
            if any(name.startswith("video") for _, name in ears.heard(left)):
                return True
        return False
    finally:
        ears.close()
