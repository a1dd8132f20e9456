"""Parts of the picture that stand still while the person moves: the room, whatever they are called.

Nobody keeps as still as a bed. What has looked the same to the noise for most of a minute, in which
the person moved again and again, and hangs together with what is no person, is the room; the
network may call it a person now and then, but not most of the time: an arm that rests on a desk is
as still. The outline of a body parts what is still in it, plain cloth, from the room. So it does
with a microphone, whose arm is too thin to hang together by.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

STILL: Final = 40.0  # seconds that a part looks the same
GAP: Final = 1.0  # seconds from lesson to lesson that count at most: a camera may have slept
CALLED: Final = 0.5  # part of them in which it may be called a person
MOVES: Final = 30  # lessons among them in which the person moved
MOVED: Final = (3, 0.02)  # parts, and share of the person's, that change where somebody moves
AROUND: Final = 9  # pixels of the mean that is subtracted, so that light does not count
SAME: Final = (0.8, 1.3)  # levels, and times what the quiet parts change by, that a part may change
LOUDEST: Final = 4.0  # levels that quiet parts may change by; more is a camera that moves
QUIET: Final = 25  # percentile of all parts' changes that is the noise
BRIDGE: Final = np.ones((3, 3), np.uint8)  # parts; by fewer across nothing hangs together
FEWEST: Final = 12  # parts of a piece that are no person


class Furniture:
    """Finds what stands still while somebody moves. Owned by one thread.

    `cell` is the side of the parts that are looked at, in pixels.
    """

    def __init__(self, cell: int) -> None:
        self._cell = cell
        self._size = (0, 0)
        self._last = 0.0  # time of the last lesson

    def forget(self) -> None:
        """Overwrite all that is kept of what was seen."""
        if self._size != (0, 0):
            for kept in (self._detail, self._seconds, self._lessons, self._moves, self._called):
                kept.fill(0)

    def see(
        self, luma: NDArray[np.uint8], alpha: NDArray[np.float32], pts: float
    ) -> NDArray[np.bool_] | None:
        """Where the room is, as far as it stands still; None where nothing does.

        Shapes:
            luma: (h, w), levels; alpha: (h, w), 0..1; returns: (h, w)
        """
        if luma.shape != self._size:
            self._allocate(*luma.shape)
        cells = self._seconds.shape[::-1]
        sharp = luma.astype(np.float32)
        sharp -= cv2.blur(sharp, (AROUND, AROUND))
        change = cv2.resize(cv2.absdiff(sharp, self._detail), cells, interpolation=cv2.INTER_AREA)
        limit = SAME[0] + SAME[1] * min(float(np.percentile(change, QUIET)), LOUDEST)
        person = cv2.resize(alpha, cells, interpolation=cv2.INTER_AREA) > 0.5
        changed = (change > limit) | (self._lessons == 0)
        others = np.count_nonzero(changed & person)
        moves = others >= max(MOVED[0], MOVED[1] * np.count_nonzero(person))
        for counted, more in (
            (self._seconds, min(max(pts - self._last, 0.0), GAP)),
            (self._moves, moves),
            (self._lessons, 1),
            (self._called, person),
        ):
            counted += more
            counted[changed] = 0
        self._lessons[changed] = 1
        self._last = pts
        self._begin(changed, sharp)
        still = (self._seconds >= STILL) & (self._moves >= MOVES)
        still &= self._called <= CALLED * self._lessons
        found = hanging_together(still.view(np.uint8), person)
        if not found.any():
            return None
        whole = cv2.resize(found, self._size[::-1], interpolation=cv2.INTER_NEAREST)
        return np.asarray(whole > 0, np.bool_)

    def _begin(self, anew: NDArray[np.bool_], sharp: NDArray[np.float32]) -> None:
        """Compare these parts with what they look like now, from now on."""
        where = cv2.resize(anew.view(np.uint8), self._size[::-1], interpolation=cv2.INTER_NEAREST)
        np.copyto(self._detail, sharp, where=where > 0)

    def _allocate(self, h: int, w: int) -> None:
        self.forget()
        self._size = (h, w)
        cells = max(1, h // self._cell), max(1, w // self._cell)
        self._detail = np.zeros((h, w), np.float32)
        self._seconds = np.zeros(cells, np.float32)  # that a part looked the same
        # Lessons in them from one on, those in which somebody moved, and it was called a person.
        self._lessons, self._moves, self._called = np.zeros((3, *cells), np.int32)


def hanging_together(still: NDArray[np.uint8], person: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The pieces of `still` that are no person for the larger part; 1 there."""
    found = np.zeros_like(still)
    # Beyond the picture it goes on as it is, so that a strip along its edge is wide enough.
    framed = cv2.copyMakeBorder(still, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(framed, cv2.MORPH_OPEN, BRIDGE)[1:-1, 1:-1]
    count, labels = cv2.connectedComponents(np.ascontiguousarray(wide), connectivity=4)
    for label in range(1, count):
        piece = labels == label
        called = int(np.count_nonzero(piece & person))
        if int(np.count_nonzero(piece)) - called >= max(FEWEST, called):
            found |= piece
    return np.asarray(cv2.dilate(found, BRIDGE) & still, np.uint8)
