"""Ways a picture lies: the eight turns and mirrors that files state, and arrays put upright."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Turn(NamedTuple):
    """Rows and columns exchanged first, then mirrored left to right, then upside down."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def then(self, after: Turn) -> Turn:
        """Both, one after the other."""
        if not after.transpose:
            mirror, flip = self.mirror ^ after.mirror, self.flip ^ after.flip
            return Turn(self.transpose, mirror, flip)
        mirror, flip = self.flip ^ after.mirror, self.mirror ^ after.flip
        return Turn(not self.transpose, mirror, flip)

    def __call__(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put `array` (H, W) or (H, W, C) upright; a view of it."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        return array[:: -1 if self.flip else 1, :: -1 if self.mirror else 1]


UPRIGHT: Final = Turn()
# EXIF's orientation, tag 274.
EXIF: Final = {
    1: UPRIGHT,
    2: Turn(mirror=True),
    3: Turn(mirror=True, flip=True),
    4: Turn(flip=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, mirror=True),
    7: Turn(transpose=True, mirror=True, flip=True),
    8: Turn(transpose=True, flip=True),
}


def of_matrix(data: bytes) -> Turn:
    """The turn nearest to a display matrix: nine 32-bit numbers in the machine's byte order."""
    if len(data) < 36:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)
