"""A recording as a sink: an H.264 clip that plays however it ends."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import av

from vcam.errors import SinkEnded, SinkError, UsageError, log_quietly
from vcam.files.encode import ClipFile, container_of, picture_of
from vcam.files.whole import numbered, printable, reason
from vcam.foreign_text import plain
from vcam.frame import SafeFrame
from vcam.system.paths import expanded

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

WAITING: Final = 16  # pictures that wait for a slow disk; what comes after them is left out
FINISH_WITHIN: Final = 1.5  # seconds for the end of a recording, or it stays without one


class FileSink:
    """Records what a virtual camera would show. The file is new, private, and never written over.

    A recording that had to stop, for a full disk say, is over: what there is of it is kept, and
    `write` says once why. Encoding and the disk have a thread of their own.

    Raises:
        SinkError: no file can be made there, or its name has no known ending.
    """

    kind = "file"

    def __init__(self, path: Path | str, width: int, height: int, fps: float) -> None:
        self.path = expanded(path)
        self.name = f"file {plain(self.path.name)}"
        self.width, self.height, self.fps = width, height, fps
        self._ended: str | None = None  # a word of the recording thread's: why there is no more
        self._told = False
        self._pictures: queue.Queue[tuple[av.VideoFrame, float] | None] = queue.Queue(WAITING)
        self._first: float | None = None
        self._left_out = 0

    def __enter__(self) -> Self:
        try:
            container_of(self.path)
            clip = ClipFile(self.path, self.width, self.height, self.fps, live=True, mode=0o600)
        except UsageError as error:
            raise SinkError(error.message, hint=error.hint) from error
        except (OSError, ValueError, av.FFmpegError) as error:
            raise SinkError(
                f"{printable(self.path)} cannot be recorded to: {reason(error)}",
                hint="Give a file name in a folder that exists and that you may write to.",
            ) from error
        free = next(name for name in numbered(self.path) if not name.exists())
        self.name = f"file {free.name}"
        self._thread = threading.Thread(
            target=self._record, args=(clip,), name="recording", daemon=True
        )
        self._thread.start()
        return self

    def write(self, frame: SafeFrame) -> None:
        """Append a copy of `frame`, at its own time.

        Raises:
            SinkEnded: the recording had to stop; says why.
        """
        check(frame, self.width, self.height)
        if self._ended is not None:
            self._told = True
            raise SinkEnded(self._ended, hint="Start the camera again for a new recording.")
        if self._first is None:
            self._first = frame.pts
        if self._pictures.full():
            if self._left_out == 0:
                log.warning("%s: the disk or processor is too slow, pictures are left out", self)
            self._left_out += 1
            return
        self._pictures.put_nowait((picture_of(frame), frame.pts - self._first))

    def watchers(self) -> list[str] | None:
        """A file is always watched."""
        return [self.name]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._told:
            return
        until = time.monotonic() + FINISH_WITHIN
        if self._ended is None:
            with contextlib.suppress(queue.Full):
                self._pictures.put(None, timeout=FINISH_WITHIN)
            self._thread.join(max(0.0, until - time.monotonic()))
        if self._ended is not None:
            log.warning("%s", self._ended)
        elif self._thread.is_alive():
            log.warning("%s: the disk does not answer, the recording stays without an end", self)

    def __str__(self) -> str:
        return self.name

    def _record(self, clip: ClipFile) -> None:
        with clip:
            try:
                while (item := self._pictures.get()) is not None:
                    clip.write(*item)
                    if clip.path is not None:
                        self.name = f"file {clip.path.name}"
                    if clip.deleted:
                        self._end(clip, "it was deleted; nothing more is written")
                        return
                clip.finish()
            except (OSError, ValueError, av.FFmpegError) as error:
                self._end(clip, f"{reason(error)}; {_kept(clip)}")
            except Exception as error:  # out of memory, say: the camera goes on without
                log_quietly(log, "recording failed")
                self._end(clip, f"{type(error).__name__}; {_kept(clip)}")

    def _end(self, clip: ClipFile, why: str) -> None:
        path = printable(clip.path or self.path)
        self._ended = f"the recording {path} stopped after {clip.seconds:.0f} s: {why}"


def _kept(clip: ClipFile) -> str:
    return "there is nothing of it" if clip.path is None else "what was recorded is kept"


def check(frame: object, width: int, height: int) -> None:
    """Refuse everything that is not a SafeFrame of the sink's own size.

    Raises:
        TypeError: `frame` is anything else.
    """
    if type(frame) is not SafeFrame:
        raise TypeError(f"a sink was given {type(frame).__name__}, expected SafeFrame")
    if frame.data.shape != (height * 3 // 2, width):
        raise TypeError(f"a sink of {width}x{height} was given {frame.width}x{frame.height}")
