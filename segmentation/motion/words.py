"""Words to a learned room: left by any thread, taken by the room's own at its next look."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from segmentation.motion.room import Room, RoomCopy, RoomWord

STALE: Final = 2.0  # seconds after which a word to learn the room, said in a pause, say, is void


class Words:
    """Holds what is wished of a room until its owner looks again."""

    def __init__(self) -> None:
        self._told: deque[tuple[RoomWord, float]] = deque()
        self._recalls: deque[RoomCopy] = deque(maxlen=1)
        self._copy_asked = False
        self._copies: deque[RoomCopy | None] = deque(maxlen=1)  # for who asked

    @property
    def waiting(self) -> bool:
        """True if a word waits for a look."""
        return bool(self._told)

    def tell(self, word: RoomWord) -> None:
        """Learn the room alone from the next look on, or forget it; any thread."""
        self._told.append((word, time.monotonic()))

    def recall(self, kept: RoomCopy) -> None:
        """Know this room from the next look on; any thread."""
        self._recalls.append(kept)

    def copy(self) -> RoomCopy | None:
        """Return the copy that was asked for last, and ask for another; one thread."""
        kept = self._copies.popleft() if self._copies else None
        self._copy_asked = True
        return kept

    def take(self, room: Room, pts: float, size: tuple[int, ...]) -> None:
        """Do what was wished, to `room` at a look; its owner's thread.

        Shapes:
            size: (h, w) of the pictures it looks at
        """
        while self._recalls:
            kept = self._recalls.popleft()
            room.recall(kept, (size[0], size[1]), pts)
            kept.fill(0)
        if self._copy_asked:
            self._copy_asked = False
            self._copies.append(room.copy())
        while self._told:
            word, said = self._told.popleft()
            if word == "forget":
                room.forget("by your word")
            elif time.monotonic() - said < STALE:  # later somebody may be back
                room.learn_all(pts)

    def wipe(self) -> None:
        """Overwrite the copies that wait."""
        while self._recalls:
            self._recalls.popleft().fill(0)
        while self._copies:
            if (copied := self._copies.popleft()) is not None:
                copied.fill(0)
