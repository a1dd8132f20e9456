"""Tells whether two pictures certainly differ, in any light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Mean difference, in levels of 0..255, above which two planes are certainly not the same.
MOVED: Final = 1.0
# In dim light whoever leaves changes less than that. Means of blocks hardly feel noise: they may
# differ by no more than noise leaves of itself, a part of the plane's contrast, and rounding.
BLOCK: Final = 8  # pixels
NOISE: Final = 2 / BLOCK  # of the mean difference of pixels; noise alone comes to half of that
PART: Final = 0.02
ROUNDING: Final = 0.03


def moved(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Say whether the picture certainly changed, in luma or in chroma.

    Shapes:
        before, now: (3, h, w) uint8, Y, U and V
    """
    for old, new in zip(before, now, strict=True):
        change = new.astype(np.float32) - old
        differ = float(np.abs(change).mean())
        if differ > MOVED:
            return True
        contrast = min(float(_blocks(p).std()) for p in (old, new))
        if np.abs(_blocks(change)).mean() > NOISE * differ + PART * contrast + ROUNDING:
            return True
    return False


def _blocks(plane: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of each whole block."""
    h, w = plane.shape
    across, down = min(BLOCK, w), min(BLOCK, h)
    whole = plane[: h // down * down, : w // across * across]
    return np.asarray(
        whole.reshape(h // down, down, w // across, across).mean(axis=(1, 3)), np.float32
    )
