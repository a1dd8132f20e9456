"""Pictures of one virtual camera, whoever feeds it: composites in time, and else the card.

The last door: a picture is shown if it is whole, newer than the one before and young enough by its
own stamp. Whatever else happens, and when nothing happens, the card is.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from vcam.keeper.messages import Message
from vcam.keeper.pictures import CARD, Pictures

TYPE_CHECKING = False
if TYPE_CHECKING:  # to import typing costs a megabyte
    from typing import Protocol

    class Target(Protocol):
        """Shows pictures to programs."""

        def send(self, fill: Callable[[int], object]) -> None:
            """Show what `fill` puts where a picture's memory begins, if anybody looks."""


SILENCE = 0.6  # seconds a composite stays without a successor; the daemon's own watchdog is faster
CALM = 1.5  # the same for a card, which comes seldom while nobody watches
CARD_EVERY = 0.2  # seconds between cards of the keeper's own
FUTURE = 0.5  # seconds that a stamp may lie ahead


class Output:
    """One camera's pictures. Owned by the keeper's only thread."""

    def __init__(
        self, size: int, clock: Callable[[], float] = time.monotonic, *, at_once: bool = True
    ) -> None:
        self.target: Target | None = None
        self.size = size
        self._at_once = at_once  # False: a daemon that is there shows everything by itself
        self._clock = clock
        self._pictures: Pictures | None = None
        self._card: ctypes.Array[ctypes.c_char] | None = None
        self._most = 0.0
        self._last = 0  # number of the newest picture that was taken
        self._due = float("inf")
        self.refused = 0  # pictures that were torn, old or out of turn

    def attach(self, pictures: Pictures) -> None:
        """Take pictures from this memory from now on."""
        self.detach()
        self._pictures, self._last = pictures, 0
        if not self._at_once:
            self._due = float("inf")

    def detach(self) -> None:
        """Show the card at once: whoever drew is gone."""
        pictures, self._pictures = self._pictures, None
        if pictures is not None:
            pictures.close()
            self._show_card()

    def hold(self, message: Message) -> None:
        """Keep a copy of the card to show when pictures stop."""
        pictures = self._pictures
        if pictures is None or pictures.number(CARD) != message.seq:
            return  # another one is on its way
        card = ctypes.create_string_buffer(self.size)
        ctypes.memmove(card, pictures.address(CARD), self.size)
        if pictures.number(CARD) == message.seq:
            self._card, self._most = card, message.most

    def show(self, message: Message) -> None:
        """Show a picture if it may be shown; the card if not."""
        pictures, now = self._pictures, self._clock()
        if pictures is None:
            return
        new = message.seq > self._last
        self._last = max(self._last, message.seq)
        in_time = message.card or -FUTURE <= now - message.pts <= self._most
        if not (new and in_time and pictures.number(message.slot) == message.seq):
            self.refused += 1
            self._show_card()
            return
        self._send(lambda at: self._copy(at, pictures, message))
        self._due = now + (CALM if message.card else SILENCE)

    def _copy(self, at: int, pictures: Pictures, message: Message) -> None:
        """Copy a picture out of its slot; the card over it if it was drawn over meanwhile."""
        ctypes.memmove(at, pictures.address(message.slot), self.size)
        if pictures.number(message.slot) != message.seq:
            self.refused += 1
            self._copy_card(at)

    def _copy_card(self, at: int) -> None:
        assert self._card is not None
        ctypes.memmove(at, self._card, self.size)

    def tend(self) -> float:
        """Show the card if nothing else came; seconds until it is due again."""
        if self._clock() >= self._due:
            self._show_card()
        return max(self._due - self._clock(), 0.0)

    def _show_card(self) -> None:
        self._send(self._copy_card)
        self._due = self._clock() + CARD_EVERY

    def _send(self, fill: Callable[[int], object]) -> None:
        # Before there is a card there is nothing to fall back upon, and nothing is shown.
        if self.target is not None and self._card is not None:
            self.target.send(fill)
