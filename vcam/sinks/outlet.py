"""Everything that is shown goes through here: all sinks, and a watchdog that shows the card.

The pipeline writes each frame; if it is late, for whatever reason, the watchdog's thread writes
the card instead, so that a hanging model or camera never freezes a picture of you on air.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vcam.errors import SinkEnded, log_quietly
from vcam.frame import SafeFrame
from vcam.sinks.base import Keeping, Rated
from vcam.system.reopener import BackOff, Reopener

if TYPE_CHECKING:
    from vcam.compose.card import Card
    from vcam.sinks.base import Sink, Wanted
    from vcam.stats import Stats

log = logging.getLogger(__name__)

BACK_OFF = BackOff(0.25, 1.0)  # between tries to open a sink that failed
AT_REST = 0.15  # seconds the watchdog sleeps while the card is on; a person comes later than that
CLOSE_WITHIN = 5.0  # seconds all sinks together may take to close in the end


class Place:
    """One sink that is wanted: open, or being opened on a thread of its own.

    `sink` and `take` belong to the one who writes; the name and opener may be `wanted` anew by any
    thread.
    """

    def __init__(self, wanted: Wanted, sink: Sink | None = None, problem: str = "") -> None:
        self.wanted = wanted  # replaced as a whole
        self.sink = sink
        self._was_open = sink is not None  # once; written by the thread that opens it
        self._told: tuple[Card, float, float] | None = None  # to the sink, last
        self.reopener: Reopener[Sink] = Reopener(
            "sink",
            self._open,
            lambda sink: sink.__exit__(None, None, None),
            back_off=BACK_OFF,
            retry=self._is_worth_a_try,
        )
        self.reopener.problem = problem

    @property
    def missing(self) -> bool:
        """True if it was looked for, never was there, and is not looked for again."""
        return bool(self.reopener.problem) and not (self.wanted.lasting or self._was_open)

    @property
    def absent(self) -> bool:
        """True if it was hoped for and never was there: no fault, unless there is no other."""
        return self.wanted.hoped and self.sink is None and not self._was_open

    def start(self) -> Place:
        """Open the sink in a moment, unless it is open or missing."""
        if not self.missing:
            if self.sink is None:
                self.reopener.now()
            self.reopener.__enter__()
        return self

    def take(self) -> Sink | None:
        """The sink, if it was opened just now."""
        self.sink, self._told = self.reopener.take(), None
        return self.sink

    def tell(self, card: Card, deadline: float, fps: float) -> None:
        """Leave the sink the card for when frames stop, and the rate, where it can use them."""
        if (told := (card, deadline, fps)) != self._told:
            if isinstance(self.sink, Keeping):
                self.sink.hold(card.frame(time.monotonic(), -1), deadline)
            if isinstance(self.sink, Rated):
                self.sink.announce(fps)
            self._told = told

    def lose(self, error: Exception) -> None:
        """Have the sink, which failed, closed and opened again, unless it is over for good."""
        if (lost := self._given_up()) is not None:
            self.reopener.give_back(lost)
        self.reopener.again(error)

    def leave(self) -> None:
        """Have the sink closed, and no other opened."""
        if (left := self._given_up()) is not None:
            self.reopener.give_back(left)
        self.reopener.end()

    def _given_up(self) -> Sink | None:
        sink, self.sink = self.sink, None
        return sink

    def _open(self) -> Sink:
        sink = self.wanted.open()
        self._was_open = True
        log.info("virtual camera: %s", sink.name)
        return sink

    def _is_worth_a_try(self, error: Exception) -> bool:
        return not isinstance(error, SinkEnded) and (self.wanted.lasting or self._was_open)


class Outlet:
    """Writes to every sink under one lock. Opened on entry; sinks are closed on exit.

    No sink is opened or closed here: each has a thread for that, so that one which takes its time
    costs the others no frame. `choose` may be called from any thread, one at a time.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        card: Card,
        stats: Stats,
        *,
        fps: float,
        opened: Sequence[Sink | None] = (),
        problems: Sequence[str] = (),
    ) -> None:
        self.card = card  # the loop's to replace
        self.width, self.height = card.width, card.height
        self.interval = 1 / fps
        self.deadline = 0.5  # seconds a composite may be old when it is shown; the loop's to set
        self.patience = 0.25  # seconds without a write before the watchdog shows the card
        self.relaxed = False  # idle: the card comes a few times a second, which is not late
        none = [None] * len(wanted)
        self.places = tuple(
            map(Place, wanted, opened or none, problems or [""] * len(wanted))
        )  # replaced as a whole, under the lock
        self._chosen = self.places  # what the settings ask for; whoever chooses
        self._coming: deque[tuple[Place, ...]] = deque()  # chosen, until the next write
        self._leaving: list[Place] = []  # still closing what they had open; under the lock
        self.stats = stats
        self._lock = threading.Lock()
        self._last_write = time.monotonic()
        self._last: SafeFrame | None = None
        self._stop = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.late_reason = "one moment"

    def __enter__(self) -> Outlet:
        for place in self.places:
            place.start()
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watchdog.join(2)
        with self._lock:
            self._settle()
            self._part(self.places)
            self.places = ()
        until = time.monotonic() + CLOSE_WITHIN
        for place in self._leaving:
            place.reopener.close(max(0.0, until - time.monotonic()))

    @property
    def sinks(self) -> list[Sink]:
        """The sinks that are open now."""
        return [sink for place in self.places if (sink := place.sink) is not None]

    @property
    def problems(self) -> list[str]:
        """Reasons that sinks are not open; "" for one that is, and `missing` ones among them."""
        return [place.reopener.problem for place in self.places]

    @property
    def missing(self) -> dict[str, str]:
        """Sinks that were hoped for and are not there, each with the reason."""
        return {
            place.wanted.name: place.reopener.problem
            for place in self.places
            if place.absent and place.reopener.problem
        }

    def choose(self, wanted: Sequence[Wanted]) -> None:
        """Show frames on these sinks: others are closed, new ones opened, the rest goes on.

        A sink that stays is opened as `wanted` says the next time, and one that is missing is
        looked for once more. Nothing waits here.
        """
        known = {place.wanted.name: place for place in self._chosen}
        chosen = []
        for each in wanted:
            place = known.get(each.name)
            if place is None or place.missing:
                place = Place(each).start()
            place.wanted = each
            chosen.append(place)
        self._chosen = tuple(chosen)
        self._coming.append(self._chosen)

    def watchers(self) -> list[str] | None:
        """Names of the programs that stream from any sink; None if one sink cannot know."""
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
        if self._coming:
            self._settle()
        for place in self.places:
            sink, shown = place.sink, frame
            if sink is None:
                if (sink := place.take()) is None:
                    continue
                if not frame.is_card:  # the first picture on a sink is the card, whatever is on
                    shown = self.card.frame(now, -1)
            try:
                place.tell(self.card, self.deadline, 1 / self.interval)
                sink.write(shown)
            except Exception as error:  # out of memory too: the other sinks still need the frame
                log.warning("%s: %s", sink.name, error or type(error).__name__)
                place.lose(error)
        self._last = frame
        self._last_write = now
        self.stats.wrote(card=frame.is_card, revealed=frame.revealed)

    def _settle(self) -> None:
        """Go over to the sinks that were chosen; one that leaves shows the card last."""
        while self._coming:
            before, self.places = self.places, self._coming.popleft()
            gone = [place for place in before if place not in self.places]
            for place in gone:
                if place.sink is not None:
                    with contextlib.suppress(Exception):
                        place.sink.write(self.card.frame(time.monotonic(), -1))
            self._part(gone)

    def _part(self, places: Iterable[Place]) -> None:
        self._leaving = [place for place in self._leaving if not place.reopener.over]
        for place in places:
            place.leave()
            self._leaving.append(place)

    def _watch(self) -> None:
        pause = self.interval
        while not self._stop.wait(pause):
            patience = 1.5 if self.relaxed else self.patience
            left = self._last_write + patience - time.monotonic()
            most = max(self.interval, AT_REST) if self.relaxed else self.interval
            pause = min(max(left, self.interval / 8), most)
            if left > 0:
                continue
            if not self._lock.acquire(timeout=self.interval):
                continue  # a sink is blocking; nobody else may write to it meanwhile
            try:
                now = time.monotonic()
                if now - self._last_write >= patience:
                    self._write(self.card.frame(now, -1, self.late_reason))
            except Exception:  # it is the last to stand: nothing may end it
                log_quietly(log, "the card could not be shown")
            finally:
                self._lock.release()
