"""Memory for frames that are on their way, taken again once nobody holds it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from vcam.system.memory import blank, mapped_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST: Final = 12  # pieces on their way at once, at most, before memory is taken afresh


class Stock:
    """Pieces of memory that go round: fresh ones for each frame cost as much as filling them.

    Owned by one thread. Each is a mapping of its own: the system clears what is let go.
    """

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes that nobody else holds, of any content."""
        for i in range(len(self._pieces)):
            piece = self._pieces[i]
            # The stock, this name and the call itself: nobody else.
            if piece.size == size and sys.getrefcount(piece) <= 3:
                return piece
        piece = mapped_array(size)
        if len(self._pieces) >= MOST:
            self._pieces.pop(0)
        self._pieces.append(piece)
        return piece

    def wipe(self) -> None:
        """Overwrite what nobody holds, and let go of the rest, which goes with its holder."""
        pieces, self._pieces = self._pieces, []
        while pieces:
            piece = pieces.pop()
            if sys.getrefcount(piece) <= 2:
                blank([piece])
