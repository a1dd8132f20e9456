"""The camera thread: reads a source into a one-slot mailbox, the newest frame wins."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vcam.errors import SourceError, VcamError, tell
from vcam.guard import Fault
from vcam.system.memory import scrub_own

if TYPE_CHECKING:
    from vcam.frame import Frame
    from vcam.sources.base import Source

log = logging.getLogger(__name__)

READ_TIMEOUT = 0.5  # seconds without a frame before the source counts as silent
HUNG_AFTER = 3.0  # seconds in one call of a source after which its thread is not counted on
CLOSED_WITHIN = 1.5  # seconds that the end of the program waits for the source to be closed
FIRST_BACK_OFF, LAST_BACK_OFF = 0.25, 5.0  # seconds between tries to open it again


class Capture:
    """Keeps a source open while it is wanted, and opens it again when it went away.

    Started on entry, joined on exit. `opener` makes a source that is not open yet; it is asked
    anew after every failure, so that a camera may come back under another number.
    """

    def __init__(
        self,
        opener: Callable[[], Source],
        *,
        wait_for_change: Callable[[float], object] | None = None,
    ) -> None:
        self._opener = opener
        self._wait_for_change = wait_for_change
        self._condition = threading.Condition()
        self._slot: Frame | Fault | None = None
        self._wanted = False
        self._stop = False
        self._generation = 0  # grows when another source is chosen
        self._asked_at = float("inf")  # since when a call of the source is under way
        self._thread = self._another()
        self.packed = False  # planes may have gaps between pixels: nothing is taken apart here
        self.dropped = 0
        self.closed = 0  # sources so far
        self._told = ""  # the last complaint
        self.source: Source | None = None  # while open

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._stop, self._wanted, self._slot = True, False, None
            self._condition.notify_all()
        if not self._hangs():
            self._thread.join(CLOSED_WITHIN)

    def want(self, wanted: bool) -> None:
        """Open the source, or close it and forget its last frame."""
        with self._condition:
            if wanted != self._wanted:
                self._wanted = wanted
                self._slot = None
                self._condition.notify_all()

    def switch(self, opener: Callable[[], Source]) -> None:
        """Close the source and go on with another."""
        with self._condition:
            self._opener = opener
            self._generation += 1
            self._slot = None
            self._condition.notify_all()
            hangs = self._hangs()
            if hangs:  # its thread closes what it has when the disk answers, and ends
                self.source, self._asked_at = None, float("inf")
                self._thread = self._another()
        if hangs:
            log.warning("camera: the source before does not answer and is left alone")
            self._thread.start()

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
        return self._told if self.source is None else ""

    def _another(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="capture", daemon=True)

    def _hangs(self) -> bool:
        return time.monotonic() - self._asked_at > HUNG_AFTER

    def _mine(self) -> bool:
        return threading.current_thread() is self._thread

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """A call of the source, which may never return."""
        self._asked_at = time.monotonic()
        try:
            yield
        finally:
            if self._mine():
                self._asked_at = float("inf")

    def _run(self) -> None:
        back_off = FIRST_BACK_OFF
        while not self._stop and self._mine():
            try:
                if not self._wait_until_wanted():
                    return
                if self._session():
                    back_off = FIRST_BACK_OFF
                    continue
                self._pause(back_off)
                back_off = min(back_off * 2, LAST_BACK_OFF)
            except Exception:  # where memory is short even dealing with that may fail
                time.sleep(FIRST_BACK_OFF)

    def _wait_until_wanted(self) -> bool:
        with self._condition:
            while not self._wanted and not self._stop:
                self._condition.wait()
            return not self._stop

    def _session(self) -> bool:
        """Read one source until it fails or is not wanted; True unless it failed early."""
        generation = self._generation
        try:
            with contextlib.ExitStack() as opened:
                with self._asking():
                    source = self._opener()
                    opened.enter_context(source)
                if not self._mine():
                    return True
                self.source = source
                log.info("camera: %s, %g fps", source.name, source.fps)
                self._told = ""
                try:
                    return self._pump(source, generation)
                except VcamError as error:  # closing a camera that went away may take its time
                    self._put(Fault(_short(error)), generation)
                    raise
        except VcamError as error:
            # A camera that stays away is told once, not with every try.
            log.log(logging.DEBUG if str(error) == self._told else logging.WARNING,
                    "camera: %s", error)  # fmt: skip
            if self._mine():
                self._told = str(error)
            self._put(Fault(_short(error)), generation)
            return False
        except EOFError:
            self._put(Fault("the clip ended"), generation)
            return False
        except Exception:  # out of memory, say: the camera is opened again once there is some
            tell(log, "camera: failed")
            self._put(Fault("camera failed"), generation)
            return False
        finally:
            if self._mine():
                self.source = None
            self.closed += 1
            scrub_own()

    def _pump(self, source: Source, generation: int) -> bool:
        silent = 0
        while self._wanted and not self._stop and generation == self._generation:
            if hasattr(source, "packed"):
                source.packed = self.packed
            with self._asking():
                frame = source.read(READ_TIMEOUT)
            if frame is None:
                silent += 1
                self._put(Fault("no picture from the camera"), generation)
                if silent >= 4:
                    log.warning("camera: %s is silent, opening it again", source.name)
                    return False
                continue
            silent = 0
            self._put(frame, generation)
        return True

    def _put(self, item: Frame | Fault, generation: int) -> None:
        with self._condition:
            if not self._wanted or generation != self._generation:
                return  # it is let go here, so that no picture waits while nobody wants one
            if self._slot is not None and not isinstance(self._slot, Fault):
                self.dropped += 1
            self._slot = item
            self._condition.notify_all()

    def _pause(self, seconds: float) -> None:
        """Wait until another try is worth it: a device appeared or the time is up."""
        if self._wait_for_change is not None:
            self._wait_for_change(min(seconds, 1.0))
            return
        with self._condition:
            if not self._stop:
                self._condition.wait(seconds)


def _short(error: VcamError) -> str:
    """An error in the few words a card has room for."""
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
