"""Arrays that the composite's loops take: planes at model size, and taps among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.planes import Bytes, Luma

    Floats = NDArray[np.float32]
    Ints = NDArray[np.uint32]
    Taps = tuple[Ints, Ints, Floats]  # see `taps`
    Wishes = tuple[bool, bool, bool]  # full range, clean edges (PERSON, ROOM), spill (WRAP, LIGHT)
    Grid = tuple[Taps, Taps, Taps, Taps]  # rows and columns of luma, rows and columns of chroma
    Layers = tuple[Floats, Floats]  # `low` and `rim`
    Grids = tuple[Grid, Grid]  # among the one and among the other
    Lumas = tuple[Luma, Luma]  # as alpha was made for, and as it is shown
    Pictures = tuple[Bytes, Bytes]  # backdrop and output, I420
    Place = tuple[int, int, int, int]  # of the frame in them: their width, height; left, top

# Planes of `low`, the arrays at model size that `compose` enlarges as it goes.
A, B = 0, 1  # alpha = clip(A * Y + B), Y = luma as stored, 0..255
PERSON, ROOM = 2, 5  # Y, U, V of the person and of the room near each pixel, limited range
PLANES: Final = 8
# Planes of `rim`, arrays at half that size, enlarged in the same way.
WRAP, LIGHT = 0, 1  # how much of the backdrop's light spills, and what: Y, U, V times WRAP
RIM: Final = 4
WHOLE: Final = (0.0, 1.0)  # all of an array, from its beginning


def taps(size: int, small: int, part: tuple[float, float] = WHOLE) -> Taps:
    """Return, for each of `size` pixels, its two neighbours among `small` and the second's weight.

    Pixel centres are aligned, as `cv2.resize` does. `part` is where the pixels begin and how far
    they go, as shares of `small`.
    """
    start, share = part
    at = (np.arange(size) + 0.5) * (small * share / size) + (start * small - 0.5)
    at = at.astype(np.float32)
    first = np.floor(at)
    weight = at - first
    low = np.clip(first, 0, small - 1).astype(np.uint32)
    high = np.clip(first + 1, 0, small - 1).astype(np.uint32)
    return low, high, weight.astype(np.float32)


def grid(
    size: tuple[int, int],
    small: tuple[int, int],
    rows: tuple[float, float] = WHOLE,
    columns: tuple[float, float] = WHOLE,
) -> Grid:
    """Return the taps of a frame of `size`, rows and columns, among those parts of `small`."""
    (height, width), (h, w) = size, small
    return (
        taps(height, h, rows),
        taps(width, w, columns),
        taps(height // 2, h, rows),
        taps(width // 2, w, columns),
    )
