"""The light's loops in NumPy: where Numba is missing, and to compare its own with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE, LUMA_SPAN

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import Floats, Grid, Taps

    Three = tuple[Bytes, Bytes, Bytes]
    Flags = tuple[bool, bool, bool]

ONE, ZERO, HALF, WHITE, QUARTER = (np.float32(value) for value in (1, 0, 0.5, 255, 0.25))
DARK, MIDDLE, SPAN = np.float32(BLACK), np.float32(GREY), np.float32(1 / LUMA_SPAN)
REACH = 2


def relight(
    luma: Luma,
    chroma: Chroma,
    low: Floats,
    fields: Floats,
    numbers: Floats,
    flags: Flags,
    grid: Grid,
    to: tuple[Three, Floats],
) -> int:
    """See `vcam.compose.light.loops.relight`; all of the picture is lit, and not counted."""
    white, bend, share, colour, warm_u, warm_v, sharp, most, calm, calm_y, calm_c = numbers
    full_range, sharpens, calms = flags
    rows, columns, c_rows, c_columns = grid
    h, w = rows[0].size, columns[0].size
    (y, u, v), _ = to

    row = _rows(*luma, h, w).astype(np.float32)
    c = row * np.float32(LUMA_SLOPE) if full_range else row - DARK
    x = c * SPAN
    tone = white + (ONE - x) * (_enlarged(fields[0], rows, columns) + bend * x)
    lit = (c + c * tone) + DARK
    core = _enlarged(fields[1], rows, columns)
    if sharpens:
        wide = np.pad(row, REACH, mode="edge")
        around = (wide[: -2 * REACH] + wide[2 * REACH :]) + (row2 := wide[REACH:-REACH]) + row2
        sides = around[:, : -2 * REACH] + around[:, 2 * REACH :]
        sides = sides + (around[:, REACH:-REACH] + around[:, REACH:-REACH])
        d = row - sides * np.float32(1 / 16)
        lit = lit + np.clip(d * sharp, -most, most) * core
    _show(lit := _calmed(lit, core, calm, calm_y, y, calms), y)

    tone, lit = _quartered(tone), _quartered(lit) - DARK
    core = _enlarged(fields[1], c_rows, c_columns)
    cu, cv, line, step = chroma
    for plane, warm, out in ((cu, warm_u, u), (cv, warm_v, v)):
        both = _rows(plane, line, h // 2 * step, w // 2).astype(np.float32)
        c = (both[::step] + both[step - 1 :: step]) * HALF - MIDDLE
        c = c * np.float32(CHROMA_SLOPE) if full_range else c
        c = (c * (colour * (ONE + share * tone)) + warm * lit) + MIDDLE
        _show(_calmed(c, core, calm, calm_c, out, calms), out)
    return -1


def relight_low(planes: Floats, field: Floats, numbers: Floats) -> None:
    """See `vcam.compose.light.loops.relight_low`."""
    white, bend, share, colour, *warm = numbers[:6]
    c = planes[0] - DARK
    x = c * SPAN
    tone = white + (ONE - x) * (field + bend * x)
    lit = c + c * tone
    gain = colour * (ONE + share * tone)
    planes[0] = lit + DARK
    for plane, warmth in zip(planes[1:], warm, strict=True):
        plane[:] = ((plane - MIDDLE) * gain + warmth * lit) + MIDDLE


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
