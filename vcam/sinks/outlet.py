"""Everything that is shown goes through here: all sinks, and a watchdog that shows the card.

The pipeline writes each frame; if it is late, for whatever reason, the watchdog's thread writes
the card instead, so that a hanging model or camera never freezes a picture of you on air.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vcam.errors import SinkEnded, tell
from vcam.frame import SafeFrame

if TYPE_CHECKING:
    from vcam.compose.card import Card
    from vcam.sinks.base import Sink
    from vcam.stats import Stats

log = logging.getLogger(__name__)

REOPEN_AFTER = 1.0  # seconds between tries to open a sink that failed


class Outlet:
    """Writes to every sink under one lock. Opened on entry; sinks are closed on exit.

    `openers` make sinks that are not open yet; one that fails is closed and tried again while
    the others go on, unless it says that it is over for good.
    """

    def __init__(
        self,
        openers: Sequence[Callable[[], Sink]],
        card: Card,
        stats: Stats,
        *,
        fps: float,
        opened: Sequence[Sink | None] = (),
    ) -> None:
        self.card = card
        self.width, self.height = card.width, card.height
        self.interval = 1 / fps
        self.patience = 0.25  # seconds without a write before the watchdog shows the card
        self.relaxed = False  # idle: the card comes a few times a second, which is not late
        self._openers = list(openers)
        self._sinks: list[Sink | None] = list(opened) or [None] * len(self._openers)
        self._retry_at = [0.0] * len(self._openers)
        self.problems: list[str] = [""] * len(self._openers)
        self._stats = stats
        self._lock = threading.Lock()
        self._last_write = time.monotonic()
        self._last: SafeFrame | None = None
        self._stop = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.late_reason = "one moment"

    def __enter__(self) -> Outlet:
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watchdog.join(2)
        with self._lock:
            for sink in self._sinks:
                if sink is not None:
                    _close(sink)
            self._sinks = [None] * len(self._openers)

    @property
    def sinks(self) -> list[Sink]:
        """The sinks that are open now."""
        return [s for s in self._sinks if s is not None]

    def watchers(self) -> list[str] | None:
        """Who streams from any sink; None if at least one cannot know."""
        names: list[str] = []
        for sink in self.sinks:
            found = sink.watchers()
            if found is None:
                return None
            names += found
        return names

    def write(self, frame: SafeFrame) -> None:
        """Show `frame` on every sink that works."""
        with self._lock:
            self._write(frame)

    def latest(self) -> SafeFrame | None:
        """A copy of the last frame that was shown; None if there is none, or a sink is blocking."""
        if not self._lock.acquire(timeout=1):
            return None
        try:
            return None if self._last is None else self._last.copy()
        finally:
            self._lock.release()

    def _write(self, frame: SafeFrame) -> None:
        now = time.monotonic()
        for i, sink in enumerate(self._sinks):
            if sink is None:
                if now < self._retry_at[i]:
                    continue
                sink = self._open(i, now)
                if sink is None:
                    continue
            try:
                sink.write(frame)
            except Exception as error:  # out of memory too: the other sinks still need the frame
                log.warning("%s: %s", sink.name, error or type(error).__name__)
                again = float("inf") if isinstance(error, SinkEnded) else now + REOPEN_AFTER
                self._drop(i, str(error) or type(error).__name__, again)
        self._last = frame
        self._last_write = now
        self._stats.wrote(card=frame.is_card, revealed=frame.revealed)

    def _open(self, i: int, now: float) -> Sink | None:
        try:
            sink = self._openers[i]()
            sink.__enter__()
        except Exception as error:
            problem = str(error) or type(error).__name__
            if self.problems[i] != problem:
                log.warning("%s", problem)
            self.problems[i] = problem
            self._retry_at[i] = now + REOPEN_AFTER
            return None
        self._sinks[i] = sink
        self.problems[i] = ""
        log.info("virtual camera: %s", sink.name)
        return sink

    def _drop(self, i: int, problem: str, again: float) -> None:
        """Close a sink that failed; it is tried again at `again`."""
        sink, self._sinks[i] = self._sinks[i], None
        self.problems[i] = problem
        self._retry_at[i] = again
        if sink is not None:
            _close(sink)

    def _watch(self) -> None:
        pause = self.interval
        while not self._stop.wait(pause):
            patience = 1.5 if self.relaxed else self.patience
            left = self._last_write + patience - time.monotonic()
            pause = min(max(left, self.interval / 8), self.interval)
            if left > 0:
                continue
            if not self._lock.acquire(timeout=self.interval):
                continue  # a sink is blocking; nobody else may write to it meanwhile
            try:
                now = time.monotonic()
                if now - self._last_write >= patience:
                    self._write(self.card.frame(now, -1, self.late_reason))
            except Exception:  # it is the last to stand: nothing may end it
                tell(log, "the card could not be shown")
            finally:
                self._lock.release()


def _close(sink: Sink) -> None:
    with contextlib.suppress(Exception):
        sink.__exit__(None, None, None)
