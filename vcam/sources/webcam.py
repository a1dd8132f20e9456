"""A webcam as a source: V4L2 streaming of our own on Linux, OpenCV elsewhere."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from segmentation.planes import Planes, i420
from vcam.errors import SourceError
from vcam.foreign_text import plain
from vcam.frame import Frame
from vcam.sources.decode import MjpegDecoder, Unpacker
from vcam.system import v4l2
from vcam.system.cameras import find_camera
from vcam.system.controls import controls_for, manual_last_key
from vcam.system.devices import READABLE, CameraInfo, Mode, held_by, holders, modes_of
from vcam.system.v4l2 import wait_for_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vcam.sources.base import Source
    from vcam.system.controls import Controls
    from vcam.system.v4l2 import Buffer, Mapped, PixelFormat

log = logging.getLogger(__name__)

Format = Literal["auto", "mjpg", "yuyv"]

BUFFERS: Final = 4
TORN: Final = 15  # damaged pictures in a row before the camera counts as broken
MAX_AGE: Final = 1.0  # seconds; a driver's timestamp further away than this is not believed
_LAST: Final = 8.0  # what a picture without colours costs against one that has them
_GONE: Final = (errno.ENODEV, errno.EIO, errno.ENXIO, errno.EBADF, errno.EPROTO, errno.ENOENT)


def open_webcam(
    selector: str,
    width: int,
    height: int,
    fps: float,
    *,
    format: Format = "auto",
    controls: Controls | None = None,
) -> Source:
    """Make the webcam that `selector` names; it is found and opened on entry.

    `selector` is a path, a link under /dev/v4l, a label or a part of one; `controls` are set by
    the names that `vcam devices` lists, a table being for the camera of that name alone.
    """
    if sys.platform.startswith("linux"):
        return Webcam(selector, width, height, fps, format=format, controls=controls or {})
    return CvWebcam(selector, width, height, fps)


def wait_for_change(timeout: float) -> bool:
    """Sleep until a video device comes or goes, at most `timeout` seconds; True if one did."""
    return wait_for_nodes(timeout)


def choose(modes: Iterable[Mode], width: int, height: int, fps: float, format: Format) -> Mode:
    """The mode nearest to what is asked for; MJPG before YUYV where both give size and rate.

    A smaller picture is better than a jerky one: half the rate weighs as much as a quarter of
    the pixels.

    Raises:
        SourceError: no mode has the format that was asked for.
    """
    allowed = {"auto": READABLE, "mjpg": ("MJPG", "JPEG"), "yuyv": ("YUYV",)}[format]
    modes = list(modes)
    fitting = [mode for mode in modes if mode.format in allowed]
    if not fitting:
        there = ", ".join(dict.fromkeys(mode.format for mode in modes))
        raise SourceError(
            f"the camera does not send {' or '.join(allowed)}, but {there or 'nothing of use'}",
            hint='Set camera.format = "auto".' if there else "Choose another camera.",
            card="camera sends an unknown format",
        )

    def cost(mode: Mode) -> float:
        short = 0.0
        if mode.rates and mode.fps < 0.9 * fps:
            short = 2 * math.log2(fps / mode.fps)
        area = math.log2(mode.width * mode.height / (width * height))
        shape = abs(math.log2(mode.width * height / (mode.height * width)))
        kind = _LAST if mode.format == "GREY" else 0.01 * READABLE.index(mode.format)
        return short + (area / 2 if area > 0 else -area) + shape + kind

    return min(fitting, key=cost)


class Webcam:
    """A V4L2 camera, streamed through memory shared with its driver. Owned by one thread.

    `width`, `height`, `fps` and `format` are what the driver granted, known once it is open.
    """

    live = True

    def __init__(
        self,
        selector: str,
        width: int,
        height: int,
        fps: float,
        *,
        format: Format = "auto",
        controls: Controls | None = None,
    ) -> None:
        self.selector = selector
        self.name = plain(selector)
        self.path = ""
        self.width, self.height, self.fps = width, height, float(fps)
        self.format = ""
        self._asked = (width, height, float(fps), format)
        self._wanted = controls or {}
        self._controls: dict[str, int] = {}
        self._fd = -1
        self._mapped: Mapped | None = None
        self._fed = False  # by another program
        self._jpeg: MjpegDecoder | None = None
        self._unpack: Unpacker | None = None
        self._torn = 0
        self.packed = False  # whoever reads takes packed pictures apart; see `Unpacker`

    def __enter__(self) -> Self:
        info = find_camera(self.selector)
        self.name, self.path = info.name, info.path
        self._fed = info.virtual
        if info.virtual and held_by("self", info.path):
            raise SourceError(
                f"{info.name} ({info.path}) is where the picture goes, expected a webcam",
                hint='Set camera.source = "auto", or another output.sink.',
                card="the camera chosen is this one",
            )
        self._controls = controls_for(info, self._wanted)
        try:
            self._fd = v4l2.open_node(info.path)
            self._configure(v4l2.CAPTURE)
            self._mapped = v4l2.Mapped(self._fd, v4l2.CAPTURE, BUFFERS)
            v4l2.stream_on(self._fd, v4l2.CAPTURE)
        except OSError as error:
            self._close()
            raise self._explained(error, info) from error
        except SourceError:
            self._close()
            raise
        log.info(
            "%s (%s): %s %dx%d at %g fps",
            self.name, self.path, self.format, self.width, self.height, self.fps,
        )  # fmt: skip
        return self

    def _configure(self, kind: int) -> None:
        width, height, fps, wanted = self._asked
        mode = choose(modes_of(self._fd), width, height, fps, wanted)
        granted = v4l2.set_format(self._fd, kind, mode.width, mode.height, mode.format)
        if granted.fourcc != mode.format:
            raise SourceError(
                f"{self.name} sends {granted.fourcc!r}, expected {mode.format!r}",
                hint='Set camera.format = "auto", or choose another size.',
            )
        # On a virtual camera a reader's rate stays for everybody after it.
        rate = 0.0 if self._fed else v4l2.set_rate(self._fd, kind, fps)
        self.fps = rate or mode.fps or fps
        self.width, self.height, self.format = granted.width, granted.height, granted.fourcc
        self._layout: PixelFormat = granted
        self._jpeg = MjpegDecoder() if granted.fourcc in ("MJPG", "JPEG") else None
        self._unpack = None if self._jpeg else Unpacker(granted.width, granted.height)
        self._set_controls()

    def _set_controls(self) -> None:
        """Set controls; one that fails is logged and left, since not every camera has it."""
        if not self._controls:
            return
        known = {control.name: control for control in v4l2.controls(self._fd)}
        for name in sorted(self._controls, key=manual_last_key):
            control = known.get(name)
            if control is None:
                log.warning("%s has no control %r; it has %s", self.name, name, ", ".join(known))
                continue
            value = min(max(self._controls[name], control.minimum), control.maximum)
            try:
                v4l2.set_control(self._fd, control.id, value)
            except OSError as error:
                log.warning("%s: control %s = %d: %s", self.name, name, value, error.strerror)

    def read(self, timeout: float) -> Frame | None:
        """Return the newest picture, or None if none came within `timeout` seconds.

        Raises:
            SourceError: the camera went away, or sends nothing but damaged pictures.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                buffer = self._newest(left)
                if buffer is None:
                    return None
                frame = self._decoded(buffer)
            except OSError as error:
                raise self._lost(error) from error
            if frame is not None:
                self._torn = 0
                return frame
        return None

    def _newest(self, timeout: float) -> Buffer | None:
        """Wait for a filled buffer; those that were filled before the newest go back at once."""
        assert self._mapped is not None
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        answers = poll.poll(timeout * 1000)
        if not answers:
            return None
        newest = self._mapped.take()
        if newest is None and answers[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        while newest is not None and (newer := self._mapped.take()) is not None:
            self._mapped.queue(newest.index)
            newest = newer
        return newest

    def _decoded(self, buffer: Buffer) -> Frame | None:
        """The picture in `buffer`, which goes back to the driver; None if it is damaged."""
        assert self._mapped is not None
        taken = time.monotonic()
        damage: SourceError | None = None
        planes: Planes | None = None
        memory = memoryview(self._mapped.memory[buffer.index])
        try:
            if buffer.flags & v4l2.BUFFER_ERROR or not buffer.used:
                damage = SourceError(f"{self.name} reports a damaged picture")
            else:
                planes = self._planes(memory[: buffer.used])
        except SourceError as error:
            damage = error
        finally:
            memory.release()
            self._mapped.queue(buffer.index)
        if planes is not None and (planes.width, planes.height) != (self.width, self.height):
            w, h = planes.width, planes.height
            damage = SourceError(
                f"{self.name} sends {w}x{h}, expected {self.width}x{self.height}",
                hint="Choose another camera.width and camera.height.",
            )
        if damage is not None or planes is None:
            self._torn += 1
            if self._torn >= TORN and damage is not None:
                raise damage
            return None
        monotonic = buffer.flags & v4l2.TIMESTAMP_MASK == v4l2.TIMESTAMP_MONOTONIC
        believed = monotonic and 0 <= taken - buffer.timestamp <= MAX_AGE
        return Frame(planes, buffer.timestamp if believed else taken, buffer.seq)

    def _planes(self, data: memoryview) -> Planes:
        if self._jpeg is not None:
            return self._jpeg.decode(data)
        assert self._unpack is not None
        self._unpack.packed = self.packed
        packed = _unpadded(np.frombuffer(data, np.uint8), self._layout)
        return self._unpack.take(self.format, packed)

    def _lost(self, error: OSError) -> SourceError:
        if error.errno in _GONE:
            return SourceError(
                f"{self.name} went away: {error.strerror}",
                hint="Check the cable and the hub.",
                card="camera unplugged",
            )
        return SourceError(f"{self.name} cannot be read: {error.strerror}")

    def _explained(self, error: OSError, info: CameraInfo) -> SourceError:
        mine = os.getpid()
        if error.errno == errno.EBUSY:
            others = ", ".join(h.name for h in holders(info.path) if h.pid != mine)
            return SourceError(
                f"{info.name} is in use by {others or 'another program'}",
                hint="A webcam serves one program at a time: close it, or choose VBG Camera there.",
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return SourceError(
                f"no permission to open {info.name} ({info.path})",
                hint="Run `vcam doctor`; your user has to be in the group video.",
            )
        if error.errno == errno.ENOSPC:
            return SourceError(
                f"{info.name} gets no room on its USB bus",
                hint="Plug it into another port, or choose a smaller size.",
            )
        return SourceError(
            f"{info.name} ({info.path}) cannot be opened: {error.strerror}",
            hint="Unplug the camera and plug it in again.",
        )

    def _close(self) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            v4l2.stream_off(self._fd, v4l2.CAPTURE)
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        os.close(self._fd)
        self._fd = -1
        for decoder in (self._jpeg, self._unpack):
            if decoder is not None:
                decoder.wipe()
        self._jpeg = self._unpack = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()


def _unpadded(data: NDArray[np.uint8], layout: PixelFormat) -> NDArray[np.uint8]:
    """The picture's bytes without what the driver adds to each line.

    Shapes:
        data: at least bytes_per_line for each line, and the chroma of 4:2:0 after them, uint8
    """
    packed = {"YUYV": 2, "UYVY": 2, "RGB3": 3, "BGR3": 3}
    line, padded = layout.width * packed.get(layout.fourcc, 1), layout.bytes_per_line
    if padded <= line:
        return data
    h = layout.height
    parts = [(h, padded, line)]  # rows, bytes of each, and how many of them are picture
    if layout.fourcc in ("NV12", "NV21"):
        parts.append((h // 2, padded, line))
    elif layout.fourcc in ("YU12", "YV12"):
        parts.append((h, padded // 2, line // 2))
    if data.size < sum(rows * length for rows, length, _ in parts):
        return data[:0]
    found, at = [], 0
    for rows, length, kept in parts:
        found.append(data[at : at + rows * length].reshape(rows, length)[:, :kept].reshape(-1))
        at += rows * length
    return np.concatenate(found) if len(found) > 1 else found[0]


class CvWebcam:
    """A camera through OpenCV, where there is no V4L2. Owned by one thread."""

    live = True

    def __init__(self, selector: str, width: int, height: int, fps: float) -> None:
        self.selector = selector
        self.name = plain(selector)
        self.width, self.height, self.fps = width, height, float(fps)
        self._capture: Any = None
        self._seq = 0

    def __enter__(self) -> Self:
        import cv2

        info = find_camera(self.selector) if not self.selector.isdigit() else None
        self.name = info.name if info else f"Camera {self.selector}"
        backend = {"win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}.get(
            sys.platform, cv2.CAP_ANY
        )
        capture = cv2.VideoCapture(int(info.path if info else self.selector), backend)
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self.name} cannot be opened, or is in use by another program",
                hint="Allow camera access in the system's privacy settings, close other programs.",
            )
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.height)
        capture.set(cv2.CAP_PROP_FPS, self.fps)
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) & ~1
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) & ~1
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or self.fps
        self._capture = capture
        return self

    def read(self, timeout: float) -> Frame | None:
        """Return the next picture; blocks as long as OpenCV does.

        Raises:
            SourceError: the camera went away.
        """
        import cv2

        fine, image = self._capture.read()
        pts = time.monotonic()
        if not fine or image is None:
            raise SourceError(f"{self.name} went away", hint="Check the cable and the hub.")
        h, w = image.shape[0] & ~1, image.shape[1] & ~1
        planes = cv2.cvtColor(np.ascontiguousarray(image[:h, :w]), cv2.COLOR_BGR2YUV_I420)
        self._seq += 1
        return Frame(i420(np.asarray(planes, np.uint8)), pts, self._seq)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
