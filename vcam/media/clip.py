"""A clip as a camera: decoded to planes; looped and paced, or read as fast as possible."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from vcam.errors import SourceError
from vcam.foreign_text import plain
from vcam.frame import Frame
from vcam.media import formats
from vcam.media.animation import Animation
from vcam.media.stream import Stream

if TYPE_CHECKING:
    from typing_extensions import Self

    from segmentation.planes import Planes

log = logging.getLogger(__name__)

GAP_MOST: Final = 10.0  # seconds between two pictures; more is a damaged time


class ClipSource:
    """Frames of a video file or an animated picture, owned by one thread; `live` paces and loops.

    `fps`, `width`, `height`, `frames` (an estimate, 0 if unknown) are known once it is open; `size`
    is the picture as it is shown, once the first was read, before an odd edge is repeated to make
    it even. `cover` is a size below which nothing is gained by more pixels.

    Raises:
        SourceError: not a clip, or nothing in it can be decoded.
    """

    def __init__(
        self, path: Path | str, *, live: bool = True, cover: tuple[int, int] | None = None
    ) -> None:
        self.path = Path(path)
        self.name = f"clip {plain(self.path.name)}"
        self.live = live
        self.fps = 30.0
        self.frames = 0
        self._cover = cover

    def __enter__(self) -> Self:
        found = formats.readable(self.path, SourceError)
        if found.kind == "picture":
            raise SourceError(f"{str(self.path)!r} is {found.noun}", hint="Give a clip.")
        self._reader: Animation | Stream = (
            Animation(self.path, found)
            if found.kind == "animation"
            else Stream(self.path, found, self._cover)
        )
        self.fps, self.frames = self._reader.fps, self._reader.frames
        self._seq = 0
        self._begin()
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown."""
        return self._reader.size

    def _begin(self) -> None:
        self._loop_started = time.monotonic()
        self._last_at: float | None = None  # as the file states it
        self._offset = 0.0
        self._decoded_in_loop = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame: when it is due if `live`, else at once. `timeout` is not needed.

        Raises:
            EOFError: the last frame was read and the clip does not loop.
            SourceError: nothing in it can be decoded.
        """
        planes, at = self._next()
        offset = self._since_first(at)
        self._decoded_in_loop += 1
        self._seq += 1
        if not self.live:
            return Frame(planes, offset, self._seq - 1)
        due = self._loop_started + offset
        delay = due - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        elif delay < -1.0:  # the machine slept or the reader was away: go on from here
            self._loop_started -= delay
        return Frame(planes, time.monotonic(), self._seq - 1)

    def _since_first(self, at: float | None) -> float:
        """Seconds since the loop's first picture; steps that no clip has become usual ones."""
        if self._decoded_in_loop:
            step = at - self._last_at if at is not None and self._last_at is not None else -1.0
            self._offset += step if 0 <= step <= GAP_MOST else 1 / self.fps
        self._last_at = at
        return self._offset

    def _next(self) -> tuple[Planes, float | None]:
        for rewound in (False, True):
            try:
                return self._reader.next()
            except EOFError:
                if self._decoded_in_loop == 0:
                    raise SourceError(
                        f"{str(self.path)!r} holds no picture that can be decoded",
                        hint="Give a video file that plays in a media player.",
                    ) from None
                if not self.live:
                    raise
            except SourceError:
                if not rewound and self._decoded_in_loop and self.live:
                    log.warning("%s: damaged after %d frames", self.name, self._decoded_in_loop)
                elif self._decoded_in_loop and not self.live:
                    log.warning("%s: damaged, stops after %d frames", self.name, self._seq)
                    raise EOFError(str(self.path)) from None
                else:
                    raise
            self._reader.rewind()
            self._begin()
        raise SourceError(f"{str(self.path)!r} cannot be rewound", hint="Convert it to MP4.")
