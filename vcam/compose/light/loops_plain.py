"""The light's loops in NumPy: where Numba is missing, and to compare its own with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE, LUMA_SPAN
from vcam.compose.arrays import PERSON, ROOM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import Floats, Grid, Taps

    Three = tuple[Bytes, Bytes, Bytes]
    Flags = tuple[bool, bool, bool]

ONE, ZERO, HALF, WHITE, QUARTER = (np.float32(value) for value in (1, 0, 0.5, 255, 0.25))
DARK, MIDDLE, SPAN = np.float32(BLACK), np.float32(GREY), np.float32(1 / LUMA_SPAN)
REACH = 2
KNOT, COARSE = 16, 4


def relight(
    luma: Luma,
    chroma: Chroma,
    low: Floats,
    fields: tuple[Floats, Floats],
    numbers: Floats,
    flags: Flags,
    grid: Grid,
    to: tuple[Three, Floats, Floats],
) -> int:
    """See `vcam.compose.light.loops.relight`; all of the picture is lit, and not counted."""
    white, bend, share, colour, warm_u, warm_v, sharp, most, calm, calm_y, calm_c = numbers
    full_range, sharpens, calms = flags
    rows, columns, c_rows, c_columns = grid
    h, w = rows[0].size, columns[0].size
    (y, u, v), bounds, _ = to
    bounds[0], bounds[1] = 0, low.shape[2] - 1
    strength, c_strength = _straight(fields[0], rows, columns)
    slope, start = (np.float32(LUMA_SLOPE), ZERO) if full_range else (ONE, DARK)

    row = _rows(*luma, h, w).astype(np.float32)
    c = row * slope - start
    x = c * SPAN
    lit = (c + c * (white + (ONE - x) * (strength + bend * x))) + DARK
    core = _enlarged(fields[1], rows, columns)
    if sharpens:
        wide = np.pad(row, REACH, mode="edge")
        around = (wide[: -2 * REACH] + wide[2 * REACH :]) + (row2 := wide[REACH:-REACH]) + row2
        sides = around[:, : -2 * REACH] + around[:, 2 * REACH :]
        sides = sides + (around[:, REACH:-REACH] + around[:, REACH:-REACH])
        d = row - sides * np.float32(1 / 16)
        lit = lit + np.clip(d * sharp, -most, most) * core
    _show(_calmed(lit, core, calm, calm_y, y, calms), y)

    c = _quartered(row) * slope - start
    x = c * SPAN
    tone = white + (ONE - x) * (c_strength + bend * x)
    gain, lit = colour * (ONE + share * tone), c + c * tone
    core = _enlarged(fields[1], c_rows, c_columns)
    cu, cv, line, step = chroma
    c_slope = np.float32(CHROMA_SLOPE) if full_range else ONE
    for plane, warm, out in ((cu, warm_u, u), (cv, warm_v, v)):
        both = _rows(plane, line, h // 2 * step, w // 2).astype(np.float32)
        c = ((both[::step] + both[step - 1 :: step]) * HALF - MIDDLE) * c_slope
        c = (c * gain + warm * lit) + MIDDLE
        _show(_calmed(c, core, calm, calm_c, out, calms), out)
    return -1


def relight_low(
    low: Floats, strength: Floats, numbers: Floats, bounds: Floats, lines: Floats
) -> None:
    """See `vcam.compose.light.loops.relight_low`; all of the colours are lit."""
    white, bend, share, colour, *warm = numbers[:6]
    (i, down), (j, along) = (_places(np.arange(n, dtype=np.float32)) for n in low.shape[1:])
    narrow = strength[i] + (strength[i + 1] - strength[i]) * down[:, None]
    # As the compiled loop does: a quarter of the way first, then so many of them.
    slope = (narrow[:, j + 1] - narrow[:, j]) * np.float32(1 / COARSE)
    strength = narrow[:, j] + slope * (along * np.float32(COARSE))
    for first in (PERSON, ROOM):
        planes = low[first : first + 3]
        c = planes[0] - DARK
        x = c * SPAN
        tone = white + (ONE - x) * (strength + bend * x)
        lit = c + c * tone
        gain = colour * (ONE + share * tone)
        planes[0] = lit + DARK
        for plane, warmth in zip(planes[1:], warm, strict=True):
            plane[:] = ((plane - MIDDLE) * gain + warmth * lit) + MIDDLE


def _places(at: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Rows or columns of the tone's strength before those of model size, and how far after."""
    at = at * np.float32(1 / COARSE)
    first = at.astype(np.int64)
    return first, at - first.astype(np.float32)


def _straight(strength: Floats, rows: Taps, columns: Taps) -> tuple[Floats, Floats]:
    """The tone's strength at the size of luma, and of chroma: straight between knots."""
    places = []
    for first, second, weight in (rows, columns):
        at = np.minimum(np.arange(-(-first.size // KNOT) + 1) * KNOT, first.size - 1)
        past = np.where(second[at] > first[at], weight[at], ZERO)
        places.append(_places(first[at].astype(np.float32) + past))
    (i, down), (j, along) = places
    wide = strength[:, j] + (strength[:, j + 1] - strength[:, j]) * along
    knots = wide[i] + (wide[i + 1] - wide[i]) * down[:, None]
    made = []
    for n in (1, 2):
        k = np.arange(KNOT // n, dtype=np.float32) * np.float32(n) + (ZERO if n == 1 else HALF)
        slope = (knots[:, 1:] - knots[:, :-1]) * np.float32(1 / KNOT)
        line = knots[:, :-1, None] + slope[..., None] * k
        line = line.reshape(len(knots), -1)[:, : columns[0].size // n]
        below = (k * np.float32(1 / KNOT))[:, None]
        whole = line[:-1, None] + (line[1:, None] - line[:-1, None]) * below
        made.append(whole.reshape(-1, line.shape[1])[: rows[0].size // n])
    return made[0], made[1]


def _calmed(
    fresh: Floats, core: Floats, share: np.float32, steep: np.float32, shown: Bytes, wanted: bool
) -> Floats:
    if not wanted:
        return fresh
    d = shown.reshape(fresh.shape).astype(np.float32) - fresh
    made: Floats = fresh + d * (share * core * np.maximum(ONE - np.abs(d) * steep, ZERO))
    return made


def _show(c: Floats, to: Bytes) -> None:
    whole = (np.clip(c, ZERO, WHITE) + HALF).astype(np.int32)
    to.reshape(c.shape)[:] = whole.astype(np.uint8)


def _quartered(x: Floats) -> Floats:
    made: Floats = (x[::2, ::2] + x[::2, 1::2]) + (x[1::2, ::2] + x[1::2, 1::2])
    return made * QUARTER


def _enlarged(plane: Floats, rows: Taps, columns: Taps) -> Floats:
    """A field of model size at that of luma, or of chroma."""
    left, right = plane[:, columns[0]], plane[:, columns[1]]
    wide = left + (right - left) * columns[2]
    upper, lower = wide[rows[0]], wide[rows[1]]
    made: Floats = upper + (lower - upper) * rows[2][:, None]
    return made


def _rows(plane: Bytes, line: int, h: int, w: int) -> Bytes:
    return np.lib.stride_tricks.as_strided(plane, (h, w), (line, 1), writeable=False)
