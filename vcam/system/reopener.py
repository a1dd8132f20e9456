"""Opening of what may fail and may be lost: a camera, a model, a sink; never in the frame loop."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from vcam.errors import log_quietly

log = logging.getLogger(__name__)

T = TypeVar("T")


class BackOff(NamedTuple):
    """Seconds from one failed try to the next; they double from the `first` to the `last`."""

    first: float
    last: float


class Reopener(Generic[T]):
    """Opens a thing on a thread of its own whenever one is wanted, until that works.

    What was opened waits in a slot, and belongs to this thread until somebody `take`s it; with
    `use` it stays on this thread and is closed when `use` is done with it. After a failure, to open
    or in use, there is a pause, which doubles as `back_off` says and starts over after a thing that
    lasted. Any thread may call any method; only `close` waits for what is open.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], T],
        closer: Callable[[T], object],
        *,
        back_off: BackOff,
        retry: Callable[[Exception], bool] = lambda error: True,
        failed: Callable[[Exception], object] = lambda error: None,
        use: Callable[[T], object] | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._name, self._opener, self._closer = name, opener, closer
        self._pauses = back_off
        self._retry = retry  # True if another try makes sense after this error
        self._failed = failed  # called on this thread once `problem` says why
        self._use = use
        self._pause = pause  # sleeps through a back-off, or less where a try is worth it already
        self._changed = threading.Condition()  # held for an instant, never while a thing is opened
        self._asked = self._opening = self._ended = False
        self._slot: T | None = None
        self._returned: deque[T] = deque()
        self._delay, self._due = back_off.first, 0.0
        self._opened_at = float("inf")  # "inf" from the next failure on
        self.problem = ""  # of the last try; "" once a thing is open
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Reopener[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> None:
        """Open another at once, even while one is being opened: another one is wanted."""
        with self._changed:
            self._asked, self._delay, self._due = True, self._pauses.first, 0.0
            self._changed.notify_all()

    def soon(self) -> None:
        """Open one, unless one is open, being opened, or due."""
        with self._changed:
            if not (self._asked or self._opening or self._slot is not None):
                self._asked, self._delay, self._due = True, self._pauses.first, 0.0
                self._changed.notify_all()

    def again(self, error: Exception | None = None) -> None:
        """Open another after a pause: the one in use fails. Nothing if one is coming already."""
        with self._changed:
            if error is not None:
                self.problem = _text(error)
            if not (self._asked or self._opening or self._slot is not None):
                self._back_off(error)
                self._changed.notify_all()

    def rest(self) -> None:
        """Open no other until one is wanted."""
        with self._changed:
            self._asked = False

    def forget(self) -> None:
        """Forget why the last try failed: it was for something that nobody wants any more."""
        with self._changed:
            self.problem = ""

    def take(self) -> T | None:
        """The thing that was opened last, for the caller to own; None if there is none."""
        if self._slot is None:
            return None
        with self._changed:
            taken, self._slot = self._slot, None
        return taken

    def give_back(self, thing: T) -> None:
        """Have a thing that was taken closed on this thread."""
        with self._changed:
            self._returned.append(thing)
            self._changed.notify_all()

    def end(self) -> None:
        """Open nothing more; the thread closes what nobody took, and ends."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self, within: float = 5.0) -> None:
        """End the thread; one that hangs longer than `within` seconds is left alone."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join(within)
        if not self._thread.is_alive():
            self._close_left()

    @property
    def over(self) -> bool:
        """True once the thread has ended, and closed what was left."""
        return self._ended and not self._thread.is_alive()

    @property
    def waiting(self) -> bool:
        """True while a thing is open and nobody took it."""
        return self._slot is not None

    def turn(self) -> None:
        """Close what was given back, then open another if one is due: one turn of the thread."""
        while self._returned:
            self._close(self._returned.popleft())
        with self._changed:
            if self._ended or not self._asked or time.monotonic() < self._due:
                return
            self._asked, self._opening = False, True
        try:
            opened = self._opener()
        except Exception as error:
            self._fail(error)
            return
        with self._changed:
            self.problem, self._opening = "", False
            self._opened_at = time.monotonic()
            done, self._slot = (self._slot, opened) if self._use is None else (opened, None)
        try:
            if self._use is not None:
                self._use(opened)
        except Exception as error:
            self._fail(error)  # first: closing a device that went away may take its time
        finally:
            if done is not None:
                self._close(done)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            told, self.problem, self._opening = self.problem, _text(error), False
            if not self._asked:  # else another one is wanted, which may well open
                self._back_off(error)
        self._failed(error)
        if not hasattr(error, "hint"):
            log_quietly(log, f"{self._name}: failed")
        elif self.problem != told:  # what stays away is told once, not with every try
            log.warning("%s: %s %s", self._name, error, error.hint)

    def _back_off(self, error: Exception | None) -> None:
        now = time.monotonic()
        if now - self._opened_at > self._pauses.last:
            self._delay = self._pauses.first
        self._due, self._opened_at = now + self._delay, float("inf")
        self._delay = min(2 * self._delay, self._pauses.last)
        self._asked = error is None or self._retry(error)

    def _run(self) -> None:
        while not self._ended:
            try:
                self._wait()
                self.turn()
            except Exception:  # where memory is short even telling of a failure may fail
                time.sleep(self._pauses.first)
        self._close_left()

    def _wait(self) -> None:
        """Sleep until there is something to do."""
        with self._changed:
            left = None
            while not (self._ended or self._returned):
                left = self._due - time.monotonic() if self._asked else None
                if left is not None and (left <= 0 or self._pause is not None):
                    break
                self._changed.wait(left)
        if self._pause is not None and left is not None and left > 0:
            self._pause(left)
            self._due = 0.0

    def _close_left(self) -> None:
        while self._returned:
            self._close(self._returned.popleft())
        if (left := self.take()) is not None:
            self._close(left)

    def _close(self, thing: T) -> None:
        try:
            self._closer(thing)
        except Exception:
            log_quietly(log, f"{self._name}: could not be closed")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
