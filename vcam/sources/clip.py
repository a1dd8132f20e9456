"""A clip as a camera: decoded to planes; looped and paced, or read as fast as possible."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import numpy as np

from vcam.errors import SourceError
from vcam.frame import Frame
from vcam.stock import Stock

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray
    from typing_extensions import Self

log = logging.getLogger(__name__)

_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_AS_IS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"}
_BT601 = {1: False, 5: True, 6: True, 2: True}  # colour matrix codes; 1 is BT.709, 2 unspecified
# Sizes above this are more likely a damaged header than a clip.
MAX_PIXELS = 8192 * 4320


class ClipSource:
    """Frames of a video file. Owned by one thread; `live` paces and loops it like a webcam.

    `fps`, `width`, `height`, `frames` (an estimate, 0 if unknown) are known once it is open;
    `size` is the picture as stored, before an odd edge is repeated to make it even.

    Raises:
        SourceError: not a clip, or nothing in it can be decoded.
    """

    def __init__(self, path: Path | str, *, live: bool = True) -> None:
        self.path = Path(path)
        self.name = f"clip {self.path.name}"
        self.live = live
        self.fps = 30.0
        self.frames = 0
        self.size = (0, 0)

    def __enter__(self) -> Self:
        try:
            self._container = av.open(str(self.path))
            self._stream = self._container.streams.video[0]
        except (OSError, IndexError, ValueError, av.FFmpegError) as error:
            raise SourceError(
                f"{str(self.path)!r} cannot be read as a clip: {_reason(error)}",
                hint="Give a video file that plays in a media player.",
            ) from error
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else 30.0
        if not 0.5 <= self.fps <= 1000:
            self.fps = 30.0
        self.size = (self._stream.width, self._stream.height)
        if not 0 < self.size[0] * self.size[1] <= MAX_PIXELS:
            self._container.close()
            raise SourceError(
                f"{str(self.path)!r} is {self.size[0]}x{self.size[1]}, expected at most 8192x4320",
                hint="Scale the clip down first.",
            )
        duration = self._stream.duration
        base = self._stream.time_base
        self.frames = self._stream.frames or (
            round(float(duration * base) * self.fps) if duration and base else 0
        )
        self._iterator = self._container.decode(self._stream)
        self._stock = Stock()
        self._seq = 0
        self._loop_started = time.monotonic()
        self._first_pts: float | None = None
        self._decoded_in_loop = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()
        self._stock.wipe()

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame: when it is due if `live`, else at once. `timeout` is not needed.

        Raises:
            EOFError: the last frame was read and the clip does not loop.
            SourceError: nothing in it can be decoded.
        """
        picture = self._next()
        at = picture.time if picture.time is not None else self._decoded_in_loop / self.fps
        if self._first_pts is None:
            self._first_pts = at
        offset = max(0.0, at - self._first_pts)
        y, u, v, full_range = planes(picture, self._stock)
        self._decoded_in_loop += 1
        self._seq += 1
        if not self.live:
            return Frame(y, u, v, full_range, offset, self._seq - 1)
        due = self._loop_started + offset
        delay = due - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        elif delay < -1.0:  # the machine slept or the reader was away: go on from here
            self._loop_started -= delay
        return Frame(y, u, v, full_range, time.monotonic(), self._seq - 1)

    def _next(self) -> VideoFrame:
        for rewound in (False, True):
            try:
                return next(self._iterator)
            except StopIteration:
                if self._decoded_in_loop == 0:
                    raise SourceError(
                        f"{str(self.path)!r} holds no picture that can be decoded",
                        hint="Give a video file that plays in a media player.",
                    ) from None
                if not self.live:
                    raise EOFError(str(self.path)) from None
            except av.FFmpegError as error:
                if not rewound and self._decoded_in_loop and self.live:
                    log.warning("%s: damaged after %d frames", self.name, self._decoded_in_loop)
                elif self._decoded_in_loop and not self.live:
                    log.warning("%s: damaged, stops after %d frames", self.name, self._seq)
                    raise EOFError(str(self.path)) from None
                else:
                    raise SourceError(
                        f"{str(self.path)!r} cannot be decoded: {_reason(error)}",
                        hint="Give a video file that plays in a media player.",
                    ) from error
            self._rewind()
        raise SourceError(f"{str(self.path)!r} cannot be rewound", hint="Convert it to MP4.")

    def _rewind(self) -> None:
        self._container.close()
        self._container = av.open(str(self.path))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._iterator = self._container.decode(self._stream)
        self._loop_started = time.monotonic()
        self._first_pts = None
        self._decoded_in_loop = 0


def planes(
    picture: VideoFrame,
    stock: Stock | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], bool]:
    """Copy a decoded picture out as upright, even-sized BT.601 planes, as `Frame` wants them.

    They are laid into pieces of `stock` where they can be as they come.
    """
    bt601 = _BT601.get(int(picture.colorspace), False)
    if picture.format.name not in _AS_IS or not bt601:
        picture = picture.reformat(
            format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG"
        )
    full_range = picture.format.name.startswith("yuvj") or int(picture.color_range) == _FULL_RANGE
    turns = round(getattr(picture, "rotation", 0) / 90) % 4
    y, u, v = (_plane(picture, i, stock or Stock()) for i in range(3))
    if turns:
        if u.shape[0] == y.shape[0]:  # 4:2:2 lies wrong once turned
            u, v = u[::2], v[::2]
        y, u, v = (np.rot90(p, turns) for p in (y, u, v))
    return (*_even(y, u, v), full_range)


def _plane(picture: VideoFrame, index: int, stock: Stock) -> NDArray[np.uint8]:
    plane = picture.planes[index]
    flat: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    out = stock.take(plane.height * plane.width).reshape(plane.height, plane.width)
    np.copyto(out, flat.reshape(plane.height, plane.line_size)[:, : plane.width])
    return out


def _even(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Repeat the last row or column of odd planes so that chroma covers luma exactly."""
    h, w = y.shape
    full_rows = u.shape[0] == h
    if h % 2 or w % 2:
        y = np.pad(y, ((0, h % 2), (0, w % 2)), mode="edge")
        if full_rows and h % 2:
            u, v = (np.pad(p, ((0, 1), (0, 0)), mode="edge") for p in (u, v))
    return np.ascontiguousarray(y), np.ascontiguousarray(u), np.ascontiguousarray(v)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
