"""Loops over pixels of small planes: colours near each, and light that spills over the rim.

They come twice, as those in `vcam.compose.kernels` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import BLACK
from segmentation.jit import compiled, made
from vcam.compose import kernels_plain
from vcam.compose.arrays import LIGHT, WRAP
from vcam.compose.constants import (
    NEAR,
    RIM_LEAST,
    SPILL_FALL,
    SPILL_GAIN,
    SPILL_LIGHT,
    SPILL_OUT,
    SPILL_SHIFT,
)

if TYPE_CHECKING:
    from vcam.compose.arrays import Floats

SHARE: Final = 1 / (NEAR | 1) ** 2  # of one pixel in the window of `near`
assert NEAR | 1 == 7, "the loops below sum seven neighbours"

_PLANE = "Array(f4, 2, 'C', readonly=True)"
_PLANES = "Array(f4, 3, 'C', readonly=True)"


@compiled("i8(i8, i8)", inline=True)
def _mirrored(i: int, n: int) -> int:
    while i < 0 or i >= n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


@compiled("void(f4[:, ::1], i8, i8, f4[:, :, ::1], i8)", inline=True)
def _across(rows: Floats, n: int, w: int, sums: Floats, i: int) -> None:
    """Sum seven neighbours in a row that starts three later; beyond its ends it is mirrored."""
    for k in range(1, 4):
        rows[n, 3 - k] = rows[n, 3 + _mirrored(-k, w)]
        rows[n, 2 + w + k] = rows[n, 3 + _mirrored(w - 1 + k, w)]
    for j in range(w):
        total = ((rows[n, j] + rows[n, j + 1]) + rows[n, j + 2]) + rows[n, j + 3]
        sums[n, i, j] = ((total + rows[n, j + 4]) + rows[n, j + 5]) + rows[n, j + 6]


@compiled("void(f4[:, :, ::1], i8, i8, f4[:, ::1])", inline=True)
def _down(sums: Floats, n: int, i: int, rows: Floats) -> None:
    h, w = sums.shape[1], sums.shape[2]
    y0, y1, y2 = _mirrored(i - 3, h), _mirrored(i - 2, h), _mirrored(i - 1, h)
    y4, y5, y6 = _mirrored(i + 1, h), _mirrored(i + 2, h), _mirrored(i + 3, h)
    for j in range(w):
        total = ((sums[n, y0, j] + sums[n, y1, j]) + sums[n, y2, j]) + sums[n, i, j]
        total = ((total + sums[n, y4, j]) + sums[n, y5, j]) + sums[n, y6, j]
        rows[n, j] = total * np.float32(SHARE)


@compiled(
    f"void({_PLANES}, {_PLANE}, UniTuple(f4, 2), f4, f4[:, :, ::1], "
    "Tuple((f4[:, :, ::1], f4[:, ::1])))"
)
def _near(
    planes: Floats,
    alpha: Floats,
    ramp: tuple[float, float],
    trust: float,
    out: Floats,
    scratch: tuple[Floats, Floats],
) -> None:
    """Average colours where alpha is far enough up a ramp, given by its start and steepness."""
    zero, one = np.float32(0), np.float32(1)
    h, w = alpha.shape
    start, gain = ramp
    sums, rows = scratch
    for i in range(h):
        for j in range(w):
            rows[3, 3 + j] = min(max((alpha[i, j] - start) * gain, zero), one)
        for c in range(3):
            for j in range(w):
                rows[c, 3 + j] = planes[c, i, j] * rows[3, 3 + j]
        for n in range(4):
            _across(rows, n, w, sums, i)
    for i in range(h):
        for n in range(4):
            _down(sums, n, i, rows)
        for j in range(w):
            rows[3, j] += trust
        for c in range(3):
            for j in range(w):
                rows[c, j] += planes[c, i, j] * trust
            for j in range(w):
                out[c, i, j] = rows[c, j] / rows[3, j]


near = _near if made(_near) else kernels_plain.near


def near_scratch(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return what `near` needs to work in, for planes of `shape`."""
    h, w = shape
    return np.zeros((4, h, w), np.float32), np.zeros((4, w + 6), np.float32)


@compiled(f"void({_PLANE}, {_PLANES}, f4, f4[:, :, ::1])")
def _spilt(around: Floats, lights: Floats, most: float, rim: Floats) -> None:
    """Fill `rim` with how much light spills, `most` at most, and what light that is.

    Shapes:
        around: (h, w), how much of what lies around a pixel is backdrop, 0..1
        lights: (3, h, w), the backdrop's Y, U and V; rim: (4, h, w); all float32
    """
    zero, one = np.float32(0), np.float32(1)
    gain, shift = np.float32(SPILL_GAIN), np.float32(SPILL_SHIFT)
    fall, outside = np.float32(SPILL_FALL), np.float32(SPILL_OUT)
    black, bright, least = np.float32(BLACK), np.float32(SPILL_LIGHT), np.float32(RIM_LEAST)
    for i in range(around.shape[0]):
        share, luma, spill = around[i], lights[0, i], rim[WRAP, i]
        for j in range(share.size):
            much = min(share[j] * gain - shift, outside - share[j] * fall)
            lit = min(max((luma[j] - black) * bright, zero), one)
            much = min(max(much, zero), one) * lit * most
            spill[j] = much if much > least else zero  # tiles without any are taken as they are
        for c in range(3):
            light, to = lights[c, i], rim[LIGHT + c, i]
            for j in range(share.size):
                to[j] = light[j] * spill[j]


spilt = _spilt if made(_spilt) else kernels_plain.spilt
