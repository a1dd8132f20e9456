"""The camera thread: reads a source into a one-slot mailbox, the newest frame wins."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from vcam.errors import SourceError, VcamError
from vcam.guard import Fault
from vcam.system.memory import scrub_own
from vcam.system.reopener import BackOff, Reopener

if TYPE_CHECKING:
    from vcam.frame import Frame
    from vcam.sources.base import Source

log = logging.getLogger(__name__)

READ_TIMEOUT = 0.5  # seconds without a frame before the source counts as silent
HUNG_AFTER = 3.0  # seconds in one call of a source after which its thread is not counted on
CLOSED_WITHIN = 1.5  # seconds that the end of the program waits for the source to be closed
BACK_OFF = BackOff(0.25, 5.0)  # between tries to open it again
LOOK_EVERY = 1.0  # seconds between them at most, where it is noticed that devices come and go
SILENT, ENDED = "no picture from the camera", "the clip ended"


class Capture:
    """Keeps a source open while it is wanted, and opens it again when it went away.

    Started on entry, joined on exit. `opener` makes a source that is not open yet; it is asked
    anew after every failure, so that a camera may come back under another number. `wait_for_change`
    sleeps for so many seconds, or until a device comes or goes.
    """

    def __init__(
        self,
        opener: Callable[[], Source],
        *,
        wait_for_change: Callable[[float], object] | None = None,
    ) -> None:
        self._opener = opener
        self._condition = threading.Condition()
        self._slot: Frame | Fault | None = None
        self._wanted = False
        self._stop = False
        self._generation = 0  # grows when another source is chosen
        self._wait_for_change = wait_for_change
        self._reader = _Reader()
        self._camera = self._opening(self._reader)
        self.packed = False  # planes may have gaps between pixels: nothing is taken apart here
        self.dropped = 0
        self.closed = 0  # sources so far
        self.source: Source | None = None  # while open

    def __enter__(self) -> Capture:
        self._camera.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._stop, self._wanted, self._slot = True, False, None
            self._condition.notify_all()
        if self._reader.hangs:
            self._camera.end()
        else:
            self._camera.close(CLOSED_WITHIN)

    def _opening(self, reader: _Reader) -> Reopener[Source]:
        """A thread that opens sources, reads them by `_pump` and closes them."""
        wait = self._wait_for_change
        return Reopener(
            "camera",
            partial(self._open, reader),
            partial(self._close, reader),
            back_off=BACK_OFF,
            retry=lambda error: self._wanted,
            failed=lambda error: self._put(Fault(_short(error)), reader),
            use=partial(self._pump, reader),
            pause=wait and (lambda seconds: wait(min(seconds, LOOK_EVERY))),
        )

    def want(self, wanted: bool) -> None:
        """Open the source, or close it and forget its last frame."""
        with self._condition:
            if wanted == self._wanted:
                return
            self._wanted = wanted
            self._slot = None
            self._condition.notify_all()
        if wanted:
            self._camera.now()
        else:
            self._camera.rest()

    def switch(self, opener: Callable[[], Source]) -> None:
        """Close the source and go on with another."""
        with self._condition:
            self._opener = opener
            self._generation += 1
            self._slot = None
            self._condition.notify_all()
            wanted = self._wanted
            left = self._camera if self._reader.hangs else None
            if left is not None:
                self.source, self._reader = None, _Reader()
                self._camera = self._opening(self._reader)
        if left is not None:  # its thread closes what it has when the disk answers, and ends
            log.warning("camera: the source before does not answer and is left alone")
            left.end()
            self._camera.__enter__()
        self._camera.forget()
        if wanted:
            self._camera.now()

    def next_time(self, opener: Callable[[], Source]) -> None:
        """Go on with the source that is open, and open this one instead of it the next time."""
        with self._condition:
            self._opener = opener

    def read(self, timeout: float) -> Frame | Fault | None:
        """Take the newest frame; a fault if there is no camera, None if nothing came in time."""
        deadline = time.monotonic() + timeout
        with self._condition:
            while self._slot is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._stop:
                    return None
                self._condition.wait(left)
            taken = self._slot
            self._slot = None
            return taken

    @property
    def problem(self) -> str:
        """Reason that no source is open, in the words of what failed last; "" while one is."""
        return self._camera.problem if self.source is None else ""

    def _open(self, reader: _Reader) -> Source:
        with self._condition:
            opener, reader.generation = self._opener, self._generation
        try:
            with reader.asking():
                source = opener()
                source.__enter__()
        except Exception:
            self._cleared(reader)
            raise
        if reader is self._reader:
            self.source = source
            log.info("camera: %s, %g fps", source.name, source.fps)
        return source

    def _close(self, reader: _Reader, source: Source) -> None:
        try:
            with reader.asking():
                source.__exit__(None, None, None)
        finally:
            self._cleared(reader)

    def _cleared(self, reader: _Reader) -> None:
        if reader is self._reader:
            self.source = None
        self.closed += 1
        scrub_own()

    def _is_read(self, reader: _Reader) -> bool:
        """True while what this thread reads is wanted, and no other source is."""
        newest = reader is self._reader and reader.generation == self._generation
        return self._wanted and not self._stop and newest

    def _pump(self, reader: _Reader, source: Source) -> None:
        """Read until the source fails, is not wanted, or another one is."""
        silent = 0
        while self._is_read(reader):
            if hasattr(source, "packed"):
                source.packed = self.packed
            try:
                with reader.asking():
                    frame = source.read(READ_TIMEOUT)
            except EOFError:
                raise SourceError(ENDED, card=ENDED) from None
            if frame is None:
                silent += 1
                self._put(Fault(SILENT), reader)
                if silent >= 4:
                    raise SourceError(f"{source.name} is silent", card=SILENT)
                continue
            silent = 0
            self._put(frame, reader)

    def _put(self, item: Frame | Fault, reader: _Reader) -> None:
        with self._condition:
            if not self._is_read(reader):
                return  # it is let go here, so that no picture waits while nobody wants one
            if self._slot is not None and not isinstance(self._slot, Fault):
                self.dropped += 1
            self._slot = item
            self._condition.notify_all()


class _Reader:
    """The calls that one camera thread makes of its sources, any of which may never return."""

    def __init__(self) -> None:
        self.generation = 0  # of the source that it reads
        self._asked_at = float("inf")  # since when a call is under way

    @property
    def hangs(self) -> bool:
        """True once a call has taken longer than any that returns."""
        return time.monotonic() - self._asked_at > HUNG_AFTER

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around a call of a source."""
        self._asked_at = time.monotonic()
        try:
            yield
        finally:
            self._asked_at = float("inf")


def _short(error: Exception) -> str:
    """An error in the few words a card has room for."""
    if not isinstance(error, VcamError):
        return "camera failed"  # out of memory, say: it is opened again once there is some
    if error.card:
        return error.card
    text = str(error).lower()
    if "busy" in text or "in use" in text:
        return "camera is used by another program"
    if "permission" in text:
        return "no permission for the camera"
    if "damaged" in text or "jpeg" in text or "bytes" in text:
        return "camera sends damaged pictures"
    if "usb bus" in text:
        return "no room on the camera's USB bus"
    if text.startswith(("'", '"')) or not isinstance(error, SourceError):
        return "picture cannot be read"  # of a file, by its name
    return "camera unplugged"
