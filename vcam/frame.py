"""What travels through the program: `Frame` comes out of a source, `SafeFrame` goes into a sink.

A `Frame` shows the room; a `SafeFrame` does not. No sink takes a `Frame`, and only the compositor
and the privacy card can make a `SafeFrame`: see `vcam/guard.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured picture as planes, and when it was taken. Nobody writes to them afterwards.

    Shapes:
        y: (H, W) uint8 luma; H and W even; rows may be padded, pixels in a row are adjacent unless
            packed pictures were asked for (`vcam.capture.Capture.packed`)
        u, v: (H, W/2) for 4:2:2 or (H/2, W/2) for 4:2:0, uint8, centred on 128
    BT.601; luma and chroma span 16..235/240 (limited) or 0..255 when `full_range`.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    full_range: bool
    pts: float  # capture time, seconds on the monotonic clock
    seq: int  # source counter; a gap means frames were dropped

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])


_MAKERS: Final = frozenset({"vcam.compositor", "vcam.card"})


class SafeFrame:
    """A picture that may be shown to others: a composite, or the privacy card.

    Shapes:
        data: (H * 3 // 2, W) uint8 I420, BT.601 limited range, C-contiguous; valid until the maker
            draws its next frame, so a sink copies or writes it before it returns

    Raises:
        TypeError: when made anywhere but in `vcam.compositor` or `vcam.card`.
    """

    __slots__ = ("data", "is_card", "pts", "seq")

    def __init__(
        self, data: NDArray[np.uint8], pts: float, seq: int, *, is_card: bool, maker: str
    ) -> None:
        if maker not in _MAKERS:
            raise TypeError(f"{maker!r} may not make a SafeFrame, expected {sorted(_MAKERS)}")
        self.data = data
        self.pts = pts
        self.seq = seq
        self.is_card = is_card

    def again(self, pts: float) -> SafeFrame:
        """The same picture, shown once more at `pts`."""
        maker = "vcam.card" if self.is_card else "vcam.compositor"
        return SafeFrame(self.data, pts, self.seq, is_card=self.is_card, maker=maker)

    def copy(self) -> SafeFrame:
        """The same picture in memory of its own, valid for as long as it is kept."""
        return SafeFrame(
            self.data.copy(),
            self.pts,
            self.seq,
            is_card=self.is_card,
            maker="vcam.card" if self.is_card else "vcam.compositor",
        )

    def __init_subclass__(cls) -> None:
        raise TypeError("SafeFrame cannot be subclassed: its makers are fixed")

    @property
    def width(self) -> int:
        return int(self.data.shape[1])

    @property
    def height(self) -> int:
        return int(self.data.shape[0] * 2 // 3)
