"""Sizes of the network's input, and planes shrunk to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


AREAS: Final = {"low": 272 * 160, "balanced": 368 * 224, "high": 384 * 224}
STEP: Final = 32  # both sides of the network's input are multiples of this


def input_size(
    height: int, width: int, area: int, fixed: tuple[int, int] | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the network's input size and the part of it that the frame fills, both as (h, w).

    The frame keeps its shape: what it does not fill is padding, at the right and the bottom.
    """
    if fixed is not None:
        full_h, full_w = fixed
    else:
        full_h, full_w = STEP, STEP
        best = 0.0
        for rows in range(STEP, area // STEP + 1, STEP):
            columns = max(STEP, min(-(-round(rows * width / height) // STEP), area // STEP) * STEP)
            for across in (columns, columns - STEP):
                scale = min(rows / height, across / width)
                if across > 0 and rows * across <= 1.12 * area and scale > best * 1.001:
                    full_h, full_w, best = rows, across, scale
    scale = min(full_h / height, full_w / width)
    return (full_h, full_w), (
        min(full_h, max(1, round(height * scale))),
        min(full_w, max(1, round(width * scale))),
    )


class Shrink:
    """Scales planes of one shape down to another: by halves first, then linearly.

    Halving is a tenth of the cost of any other exact area average.
    """

    def __init__(self, shape: tuple[int, ...], small: tuple[int, int]) -> None:
        self.shape = shape
        self._small = small
        self._halves: list[NDArray[np.uint8]] = []
        height, width = shape[:2]
        h, w = small
        while height % 2 == 0 and width % 2 == 0 and height >= 2 * h and width >= 2 * w:
            height, width = height // 2, width // 2
            self._halves.append(np.zeros((height, width), np.uint8))
        # Linear weights look at two pixels only: beyond twice the size they would skip some.
        far = height > 2.5 * h or width > 2.5 * w
        self._last = cv2.INTER_AREA if far else cv2.INTER_LINEAR

    def wipe(self) -> None:
        """Overwrite the halves of the last plane."""
        for half in self._halves:
            half.fill(0)

    def __call__(self, plane: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Fill `out` with the plane at the smaller size."""
        for half in self._halves:
            cv2.resize(plane, half.shape[::-1], half, interpolation=cv2.INTER_AREA)
            plane = half
        cv2.resize(plane, out.shape[::-1], out, interpolation=self._last)
