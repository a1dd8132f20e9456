"""Receipts of calls: who watched, how long, and what they were shown."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from vcam.foreign_text import plain
from vcam.words import mark

log = logging.getLogger(__name__)

OURS: Final = "settings page"  # a look at oneself is no call
PAUSE: Final = 3.0  # seconds without a watcher after which a call has ended
SHORTEST: Final = 2.0  # seconds; less is a program that lists cameras
KEPT: Final = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """Frames so far, by what they showed."""

    written: int
    cards: int
    revealed: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """One call, once it is over."""

    who: tuple[str, ...]
    begun: float  # seconds since the epoch
    seconds: float
    frames: int
    cards: int
    room_seconds: float  # in which the room was shown, by the user's word

    @property
    def text(self) -> str:
        """The receipt in one line."""
        minutes, seconds = divmod(round(self.seconds), 60)
        long = mark(f"{minutes} min {seconds} s") if minutes else f"{seconds} s"
        return mark(
            f"{plain(', '.join(self.who))} watched for {long}: {self.frames} pictures, "
            f"{self.cards} of them the privacy card; your room was shown for "
            f"{self.room_seconds:.0f} s"
        )

    def told(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        return {
            "who": list(self.who),
            "begun": self.begun,
            "seconds": round(self.seconds, 1),
            "frames": self.frames,
            "cards": self.cards,
            "room_seconds": round(self.room_seconds, 1),
            "text": self.text,
        }


@dataclass(slots=True)
class _Call:
    """A call that goes on."""

    began: float  # on the monotonic clock
    begun: float  # since the epoch
    first: Shown
    last: Shown
    seen: float  # when somebody watched last
    who: dict[str, None] = field(default_factory=dict)  # in the order they came
    room_seconds: float = 0.0


class Receipts:
    """Follows who watches, and writes a receipt when the last one has left. One thread's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._call: _Call | None = None
        self.kept: deque[Receipt] = deque(maxlen=KEPT)  # the newest last; any thread may read it

    def follow(self, watchers: Iterable[str], shown: Shown) -> None:
        """Look once; call it a few times a second."""
        now, who = self._clock(), [name for name in watchers if name != OURS]
        call = self._call
        if call is None:
            if who:
                self._call = _Call(now, time.time(), shown, shown, now, dict.fromkeys(who))
            return
        if who:
            if shown.revealed > call.last.revealed:
                call.room_seconds += now - call.seen
            call.who |= dict.fromkeys(who)
            call.seen, call.last = now, shown
        elif now - call.seen >= PAUSE:
            self._end(call)

    def close(self) -> None:
        """Write the receipt of a call that goes on while the daemon ends."""
        if self._call is not None:
            self._end(self._call)

    def _end(self, call: _Call) -> None:
        self._call = None
        if call.seen - call.began < SHORTEST:
            return
        receipt = Receipt(
            tuple(call.who),
            call.begun,
            call.seen - call.began,
            call.last.written - call.first.written,
            call.last.cards - call.first.cards,
            call.room_seconds,
        )
        self.kept.append(receipt)
        log.info("after the call: %s", receipt.text)
