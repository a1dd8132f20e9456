"""The composite's loops in NumPy: where Numba is missing, and to compare its own with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from vcam.compose.arrays import LIGHT, PERSON, ROOM, WRAP, A, B
from vcam.compose.constants import (
    GAIN,
    NEAR,
    RIM_LEAST,
    SHIFT,
    SPILL_FALL,
    SPILL_GAIN,
    SPILL_LIGHT,
    SPILL_OUT,
    SPILL_SHIFT,
)

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma
    from vcam.compose.arrays import Floats, Grid, Grids, Layers, Lumas, Pictures, Place, Wishes

ONE, ZERO, HALF, WHITE = (np.float32(value) for value in (1, 0, 0.5, 255))
BOX = NEAR | 1  # pixels across: the window of `near`


def compose(
    lumas: Lumas,
    chroma: Chroma,
    layers: Layers,
    wishes: Wishes,
    grids: Grids,
    pictures: Pictures,
    place: Place,
    scratch: Floats,
) -> int:
    """See `vcam.compose.kernels.compose`; tiles are not counted."""
    full_range, _, _ = wishes
    low, grid = layers[0], grids[0]
    backdrop, out = pictures
    width, height, left, top = place
    h, w = grid[0][0].size, grid[1][0].size

    stored, shown = (_rows(*luma, h, w).astype(np.float32) for luma in lumas)
    t = (_enlarged(low[A], grid, 0) * stored + _enlarged(low[B], grid, 0)) * np.float32(GAIN)
    t = np.clip(t - np.float32(SHIFT), ZERO, ONE)
    colour = shown * np.float32(LUMA_SLOPE) + np.float32(BLACK) if full_range else shown
    shape, area = (height, width), height * width
    covered = np.s_[top : top + h, left : left + w]
    behind = backdrop[:area].reshape(shape)[covered]
    out[:area].reshape(shape)[covered] = _mixed(colour, t, behind, (layers, wishes, grids), 0)

    quarter = (t[::2, ::2] + t[::2, 1::2]) + (t[1::2, ::2] + t[1::2, 1::2])
    quarter = quarter * np.float32(0.25)
    shape = (height // 2, width // 2)
    covered = np.s_[top // 2 : (top + h) // 2, left // 2 : (left + w) // 2]
    u, v, line, step = chroma
    for channel, plane in ((1, u), (2, v)):
        both = _rows(plane, line, h // 2 * step, w // 2).astype(np.float32)
        colour = (both[::step] + both[step - 1 :: step]) * HALF
        if full_range:
            colour = (colour - np.float32(GREY)) * np.float32(CHROMA_SLOPE) + np.float32(GREY)
        at = area + (channel - 1) * (area // 4)
        part = slice(at, at + area // 4)
        behind = backdrop[part].reshape(shape)[covered]
        drawn = _mixed(colour, quarter, behind, (layers, wishes, grids), channel)
        out[part].reshape(shape)[covered] = drawn
    return -1


def _enlarged(source: Floats, grid: Grid, channel: int) -> Floats:
    """A plane of model size at that of luma, or of chroma."""
    rows, columns = grid[2:] if channel else grid[:2]
    first, second = source[:, columns[0]], source[:, columns[1]]
    wide = first + (second - first) * columns[2]
    upper, lower = wide[rows[0]], wide[rows[1]]
    made: Floats = upper + (lower - upper) * rows[2][:, None]
    return made


def _mixed(
    c: Floats, t: Floats, behind: Bytes, how: tuple[Layers, Wishes, Grids], channel: int
) -> Bytes:
    """The person, without the old room's colour, over the backdrop, and its light on both."""
    (low, rim), (_, clean, wrap), (grid, fine) = how
    if clean:
        person = _enlarged(low[PERSON + channel], grid, channel)
        room = _enlarged(low[ROOM + channel], grid, channel)
        c = c + (ONE - t) * ((person - c) + t * (person - room))
        c = np.clip(c, ZERO, WHITE)
    mixed = c * t + behind.astype(np.float32) * (ONE - t)
    if wrap:
        # Two rows of luma take the same: those of chroma.
        taps = (*fine[2:], fine[2], fine[3 if channel else 1])
        spill, light = (_enlarged(rim[n], taps, 1) for n in (WRAP, LIGHT + channel))
        rows = 1 if channel else 2
        mixed = mixed * (ONE - spill.repeat(rows, 0)) + light.repeat(rows, 0)
    made: Bytes = (mixed + HALF).astype(np.int32).astype(np.uint8)
    return made


def near(
    planes: Floats,
    alpha: Floats,
    ramp: tuple[float, float],
    trust: float,
    out: Floats,
    scratch: tuple[Floats, Floats],
) -> None:
    """See `vcam.compose.light.small.near`."""
    start, gain = ramp
    weight = (alpha - np.float32(start)) * np.float32(gain)
    weight = np.clip(weight, ZERO, ONE)
    total = _box(weight) + np.float32(trust)
    for c in range(3):
        out[c] = (_box(planes[c] * weight) + planes[c] * np.float32(trust)) / total


def spilt(around: Floats, lights: Floats, most: float, rim: Floats) -> None:
    """See `vcam.compose.light.small.spilt`."""
    much = around * np.float32(SPILL_GAIN) - np.float32(SPILL_SHIFT)
    much = np.minimum(much, np.float32(SPILL_OUT) - around * np.float32(SPILL_FALL))
    lit = np.clip((lights[0] - np.float32(BLACK)) * np.float32(SPILL_LIGHT), ZERO, ONE)
    much = np.clip(much, ZERO, ONE) * lit * np.float32(most)
    rim[WRAP] = np.where(much > np.float32(RIM_LEAST), much, ZERO)
    np.multiply(lights, rim[WRAP], out=rim[LIGHT:])


def _box(x: Floats) -> Floats:
    """The mean over a square window; beyond the edges pixels are mirrored."""
    (h, w), reach = x.shape, BOX // 2
    wide = np.pad(x, ((0, 0), (reach, reach)), mode="reflect" if w > 1 else "edge")
    across = wide[:, :w].copy()
    for k in range(1, BOX):
        across += wide[:, k : k + w]
    tall = np.pad(across, ((reach, reach), (0, 0)), mode="reflect" if h > 1 else "edge")
    total = tall[:h].copy()
    for k in range(1, BOX):
        total += tall[k : k + h]
    mean: Floats = total * np.float32(1 / BOX**2)
    return mean


def split_yuyv(data: Bytes, y: Bytes, u: Bytes, v: Bytes) -> None:
    """See `vcam.compose.kernels.split_yuyv`."""
    y[:], u[:], v[:] = data[0 : 2 * y.size : 2], data[1 : 4 * u.size : 4], data[3::4][: v.size]


def _rows(plane: Bytes, line: int, h: int, w: int) -> Bytes:
    return np.lib.stride_tricks.as_strided(plane, (h, w), (line, 1), writeable=False)
