"""Pictures that travel through the program: a `Frame` out of a source, a `SafeFrame` into a sink.

A `Frame` shows the room; a `SafeFrame` does not. No sink takes a `Frame`, and only the compositor
and the privacy card can make a `SafeFrame`: see `vcam/guard.py`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcam.system.memory import blank, mapped_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.planes import Planes


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured picture, even in width and height, and when it was taken.

    Its pixels are adjacent unless packed pictures were asked for
    (`vcam.sources.capture.Capture.packed`).
    """

    planes: Planes  # nobody writes to them afterwards
    pts: float  # capture time, seconds on the monotonic clock
    seq: int  # source counter; a gap means frames were dropped

    @property
    def width(self) -> int:
        return self.planes.width

    @property
    def height(self) -> int:
        return self.planes.height


MOST: Final = 12  # pieces on their way at once, at most, before memory is taken afresh


class FramePool:
    """Pieces of memory that go round: fresh ones for each frame cost as much as filling them.

    Owned by one thread. Each is a mapping of its own: the system clears what is let go.
    """

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes that nobody else holds, of any content."""
        for i in range(len(self._pieces)):
            piece = self._pieces[i]
            # The pool, this name and the call itself: nobody else.
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


_MAKERS: Final = frozenset({"vcam.compose.compositor", "vcam.compose.card"})


class SafeFrame:
    """A picture that may be shown to others: a composite, the privacy card, or the revealed room.

    It carries how it was made: `is_card`, or `revealed` where the user asked to show the room;
    neither means a composite with a matte. Only that may be kept for a freeze.

    Shapes:
        data: (H * 3 // 2, W) uint8 I420, BT.601 limited range, C-contiguous; valid until the maker
            draws its next frame, so a sink copies or writes it before it returns

    Raises:
        TypeError: when made anywhere but in `vcam.compose.compositor` or `vcam.compose.card`.
    """

    __slots__ = ("data", "is_card", "pts", "revealed", "seq")

    def __init__(
        self,
        data: NDArray[np.uint8],
        pts: float,
        seq: int,
        *,
        is_card: bool,
        maker: str,
        revealed: bool = False,
    ) -> None:
        if maker not in _MAKERS:
            raise TypeError(f"{maker!r} may not make a SafeFrame, expected {sorted(_MAKERS)}")
        self.data = data
        self.pts = pts
        self.seq = seq
        self.is_card = is_card
        self.revealed = revealed

    @property
    def matted(self) -> bool:
        """True for a composite whose room is hidden by a matte."""
        return not self.is_card and not self.revealed

    def again(self, pts: float) -> SafeFrame:
        """The same picture, shown once more at `pts`."""
        return self._like(self.data, pts, revealed=self.revealed)

    def as_revealed(self) -> SafeFrame:
        """The same picture, marked as one that shows the room."""
        return self._like(self.data, self.pts, revealed=True)

    def copy(self) -> SafeFrame:
        """The same picture in a mapping of its own, valid for as long as it is kept."""
        data = mapped_array(*self.data.shape)
        data[:] = self.data
        return self._like(data, self.pts, revealed=self.revealed)

    def _like(self, data: NDArray[np.uint8], pts: float, *, revealed: bool) -> SafeFrame:
        maker = "vcam.compose.card" if self.is_card else "vcam.compose.compositor"
        return SafeFrame(data, pts, self.seq, is_card=self.is_card, maker=maker, revealed=revealed)

    def __init_subclass__(cls) -> None:
        raise TypeError("SafeFrame cannot be subclassed: its makers are fixed")

    @property
    def width(self) -> int:
        return int(self.data.shape[1])

    @property
    def height(self) -> int:
        return int(self.data.shape[0] * 2 // 3)
