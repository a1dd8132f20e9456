"""H.264 clips on disk that play whenever and however their writing ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from segmentation.planes import i420
from vcam.errors import UsageError
from vcam.files.whole import Draft, numbered, printable
from vcam.frame import SafeFrame

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray
    from typing_extensions import Self

# What a name's ending says, and what libav calls it. All of them play although they were cut short.
CONTAINERS: Final = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".ts": "mpegts",
}
ENDINGS: Final = ", ".join(list(CONTAINERS)[:-1]) + f" or {list(CONTAINERS)[-1]}"
CLOCK: Final = 90_000  # ticks a second
PIECE: Final = 1.0  # seconds of a clip that are written in one piece, the most a kill can cost
SYNC_EVERY: Final = 5.0  # seconds of work after which what was written is brought to the disk

# MP4 in fragments that becomes an ordinary one, whose end is known, at its regular end.
_OPTIONS: Final = {
    "mp4": {
        "movflags": "hybrid_fragmented+delay_moov",
        "frag_duration": str(round(PIECE * 1e6)),
    },
    "matroska": {"cluster_time_limit": str(round(PIECE * 1000))},
    "mpegts": {},
}
_OPTIONS["mov"] = _OPTIONS["mp4"]


def container_of(path: Path) -> str:
    """The container a clip at `path` is written in.

    Raises:
        UsageError: nothing is known that its name would end in.
    """
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{printable(path)} cannot be written as a clip, "
            f"expected a name that ends in {ENDINGS}",
            hint=f"Give a name such as {path.stem or 'out'}.mp4.",
        ) from None


def picture_of(frame: SafeFrame) -> av.VideoFrame:
    """Copy `frame` into a picture for the encoder; its time is set by `ClipFile.write`.

    Raises:
        TypeError: `frame` is anything but a SafeFrame.
    """
    if type(frame) is not SafeFrame:
        raise TypeError(f"a clip was given {type(frame).__name__}, expected SafeFrame")
    w, h = frame.width, frame.height
    picture = av.VideoFrame(w, h, "yuv420p")
    for plane, pixels in zip(picture.planes, i420(frame.data).each, strict=True):
        _fill(plane, pixels)
    return picture


class ClipFile:
    """A clip that is being written. Owned by one thread, closed on exit.

    The file gets the first free name of `path`, `path 2` and so on once there is something in it
    that plays, and nothing is left behind before. What a write that failed left half is cut off.

    Raises:
        UsageError: the name has an ending that is not known.
        OSError: no file can be made in that folder.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, *, live: bool, mode: int = 0o666
    ) -> None:
        container = container_of(path)
        self._names: Callable[[], Iterable[Path]] = lambda: numbered(path)
        self._draft = Draft(path.parent, mode=mode)
        options = {**_OPTIONS[container], "flush_packets": "1"}
        try:
            self.container: OutputContainer = av.open(
                self._draft, "w", format=container, container_options=options
            )
            self._stream = self.container.add_stream(
                "libx264", rate=Fraction(fps).limit_denominator(1001)
            )
        except BaseException:
            self._draft.close()
            raise
        stream = self._stream
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, CLOCK)
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.thread_count = 1 if live else 0
        stream.options = (
            {"preset": "ultrafast", "crf": "23", "tune": "zerolatency", "g": str(round(2 * fps))}
            if live
            else {"preset": "fast", "crf": "18"}
        )
        stream.codec_context.color_range = 1  # limited
        stream.codec_context.colorspace = 6  # BT.601
        self.seconds = 0.0  # of picture taken so far
        self._last_ticks = -1
        self._header = -1  # bytes before the first picture
        self._good = 0  # bytes that are whole
        self._synced = time.monotonic()
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path | None:
        """The name it has, once it has one."""
        return self._draft.path

    @property
    def deleted(self) -> bool:
        """True once somebody has deleted it."""
        return self._draft.deleted

    @property
    def failed(self) -> bool:
        """True once the file could not be written; there is no going on."""
        return self._draft.fault is not None

    def write(self, picture: av.VideoFrame, at: float) -> None:
        """Append `picture`, shown `at` seconds; one not later than the last is moved up.

        Raises:
            OSError, av.FFmpegError: it cannot be written.
        """
        ticks = max(round(at * CLOCK), self._last_ticks + 1)
        self._last_ticks = ticks
        picture.pts, picture.time_base = ticks, Fraction(1, CLOCK)
        self.seconds = ticks / CLOCK
        self._put(self._stream.encode(picture))

    def add(self, packets: Iterable[Packet[Stream]]) -> None:
        """Append `packets` of another stream, such as sound.

        Raises:
            OSError, av.FFmpegError: they cannot be written.
        """
        self._put(packets)

    def finish(self) -> None:
        """Write what is left and the end, and bring all of it to the disk.

        Raises:
            OSError, av.FFmpegError: it cannot be written.
        """
        if self._last_ticks < 0 or self._finished:
            return
        self._put(self._stream.encode(None))
        try:
            self.container.close()
            self._finished = True
            self._good = self._draft.size
            if self._draft.path is None:
                self._draft.appear(self._names())
            self._draft.sync()
        except BaseException:
            self._cut()
            raise

    def become(self, target: Path, *, replace: bool) -> Path:
        """Give the finished file its name; where that was taken meanwhile, one with a number.

        Raises:
            OSError: it cannot have that name.
        """
        if replace:
            self._draft.replace(target)
            return target
        return self._draft.appear(numbered(target))

    def close(self) -> None:
        """Close it as it is."""
        with contextlib.suppress(OSError, av.FFmpegError):
            # libav writes an end while it closes, which fits nothing that was cut off.
            self._draft.fault = self._draft.fault or OSError("closed")
            if not self._finished:
                self.container.close()
        self._draft.close()

    def _put(self, packets: Iterable[Packet[Any]]) -> None:
        try:
            if self._header < 0:
                self.container.start_encoding()
                self._header = self._draft.size
            for packet in packets:
                self.container.mux(packet)
                self._good = self._draft.size
            if self._good <= self._header:
                return
            if self._draft.path is None:
                self._draft.appear(self._names())
            elif time.monotonic() - self._synced > SYNC_EVERY:
                self._draft.sync()
                self._synced = time.monotonic()
        except BaseException:
            self._cut()
            raise

    def _cut(self) -> None:
        if self.failed:
            self._draft.cut(self._good)


def _fill(plane: VideoPlane, pixels: NDArray[np.uint8]) -> None:
    h, w = pixels.shape
    view: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    view.reshape(-1, plane.line_size)[:h, :w] = pixels
