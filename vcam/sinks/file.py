"""A video file as a sink: H.264 in MP4 with each frame at its own time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import numpy as np

from vcam.errors import SinkError
from vcam.foreign import plain
from vcam.frame import SafeFrame

if TYPE_CHECKING:
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray
    from typing_extensions import Self

_CLOCK = 90_000  # ticks a second


class FileSink:
    """Writes what a virtual camera would show into a file that plays even if it was cut short.

    Raises:
        SinkError: the file cannot be written, or its name has no known suffix.
    """

    kind = "file"

    def __init__(
        self, path: Path | str, width: int, height: int, fps: float, *, offline: bool = False
    ) -> None:
        self.path = Path(path)
        self.name = f"file {plain(self.path.name)}"
        self.width, self.height, self.fps = width, height, fps
        self._offline = offline

    def __enter__(self) -> Self:
        try:
            # Fragments: what was written so far plays although the program was killed.
            options = {} if self._offline else {"movflags": "frag_keyframe+default_base_moof"}
            self._container = av.open(str(self.path), "w", options=options)
            self._stream = self._container.add_stream(
                "libx264", rate=Fraction(self.fps).limit_denominator(1001)
            )
        except (OSError, ValueError, av.FFmpegError) as error:
            raise SinkError(
                f"{str(self.path)!r} cannot be written as a video: {error}",
                hint="Give a file name that ends in .mp4 in a folder you may write to.",
            ) from error
        stream = self._stream
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, _CLOCK)
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.codec_context.thread_count = 0 if self._offline else 1
        stream.options = (
            {"preset": "fast", "crf": "18"}
            if self._offline
            else {"preset": "ultrafast", "crf": "23", "tune": "zerolatency"}
        )
        stream.codec_context.color_range = 1  # limited
        stream.codec_context.colorspace = 6  # BT.601
        self._first: float | None = None
        self._last_ticks = -1
        return self

    def write(self, frame: SafeFrame) -> None:
        """Append `frame` at its own time; a frame that is not later than the last is moved up."""
        check(frame, self.width, self.height)
        picture = av.VideoFrame(self.width, self.height, "yuv420p")
        h, w = self.height, self.width
        flat = frame.data.reshape(-1)
        _fill(picture.planes[0], flat[: h * w], h, w)
        _fill(picture.planes[1], flat[h * w : h * w * 5 // 4], h // 2, w // 2)
        _fill(picture.planes[2], flat[h * w * 5 // 4 :], h // 2, w // 2)
        if self._first is None:
            self._first = frame.pts
        ticks = max(round((frame.pts - self._first) * _CLOCK), self._last_ticks + 1)
        self._last_ticks = ticks
        picture.pts, picture.time_base = ticks, Fraction(1, _CLOCK)
        try:
            self._container.mux(self._stream.encode(picture))
        except (OSError, av.FFmpegError) as error:
            raise SinkError(
                f"{str(self.path)!r} cannot be written: {error}", hint="Free some disk space."
            ) from error

    def watchers(self) -> list[str] | None:
        """A file is always watched."""
        return [self.name]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._last_ticks >= 0:
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (OSError, av.FFmpegError) as fault:
            raise SinkError(
                f"{str(self.path)!r} cannot be finished: {fault}", hint="Free some disk space."
            ) from fault


def check(frame: object, width: int, height: int) -> None:
    """Refuse everything that is not a SafeFrame of the sink's own size.

    Raises:
        TypeError: `frame` is anything else.
    """
    if type(frame) is not SafeFrame:
        raise TypeError(f"a sink was given {type(frame).__name__}, expected SafeFrame")
    if frame.data.shape != (height * 3 // 2, width):
        raise TypeError(f"a sink of {width}x{height} was given {frame.width}x{frame.height}")


def _fill(plane: VideoPlane, data: NDArray[np.uint8], h: int, w: int) -> None:
    view: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    view.reshape(-1, plane.line_size)[:h, :w] = data.reshape(h, w)
