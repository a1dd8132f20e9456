"""Loops over the person's pixels: tone, colour, sharpness, and noise that is averaged away.

Each comes twice, as those in `vcam.compose.kernels` do: here compiled, and in `loops_plain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE, LUMA_SPAN
from segmentation.jit import compiled, made
from vcam.compose.arrays import A, B, taps
from vcam.compose.light import loops_plain

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import Floats, Grid, Taps

    Int = int | np.int64
    Rows = tuple[Int, Int]
    Part = tuple[Int, Int]
    Three = tuple[Bytes, Bytes, Bytes]
    Flags = tuple[bool, bool, bool]
    Run = tuple[Int, Int, Int, Int, Int]  # row, columns from and to, first row of low, width
    Work = tuple[Floats, Floats]  # widened fields, lines

BAND: Final = 16  # rows of luma that are handled as one, as wide as the person is in them; even
STEP: Final = 32  # columns, of which a band holds whole ones
NOTHING: Final = 0.005  # less of a person is none, as in `vcam.compose.kernels`
REACH: Final = 2  # pixels between those that sharpness compares
# Lines of floats to work in: two fields, two rows of tone and two of luma, one for sharpness.
LINES: Final = 8

# Numbers of a frame, by their place among `numbers`.
WHITE, BEND, SHARE, COLOUR, WARM_U, WARM_V = 0, 1, 2, 3, 4, 5
SHARP, SHARP_MOST, CALM, CALM_Y, CALM_C = 6, 7, 8, 9, 10
NUMBERS: Final = 11

_READ = "Array(u1, 1, 'C', readonly=True)"
_PLANE = "Array(f4, 2, 'C', readonly=True)"
_PLANES = "Array(f4, 3, 'C', readonly=True)"
_NUMBERS = "Array(f4, 1, 'C', readonly=True)"
_TAPS = "Tuple((u4[::1], u4[::1], f4[::1]))"
_LUMA = f"Tuple(({_READ}, i8))"
_CHROMA = f"Tuple(({_READ}, {_READ}, i8, i8))"
_OUT = "UniTuple(u1[::1], 3)"
_FLAGS = "UniTuple(b1, 3)"
_PAIR = "UniTuple(i8, 2)"
_RUN = "UniTuple(i8, 5)"
_WORK = "Tuple((f4[:, :, ::1], f4[:, ::1]))"


@compiled(f"{_PAIR}({_PLANES}, {_PAIR}, {_TAPS})")
def _span(low: Floats, rows: Rows, columns: Taps) -> Part:
    """Columns, from and to, in which some of the person may be in rows of model size."""
    j0, j1, _ = columns
    first, last = np.int64(low.shape[2]), np.int64(-1)
    white, zero = np.float32(255), np.float32(0)
    for i in range(rows[0], rows[1]):
        for j in range(low.shape[2]):
            if low[B, i, j] + max(low[A, i, j] * white, zero) >= np.float32(NOTHING):
                first = min(first, np.int64(j))
                last = max(last, np.int64(j))
    start, end, w = np.int64(0), np.int64(0), np.int64(j0.size)
    while start < w and np.int64(j1[min(start + STEP, w) - 1]) < first:
        start += STEP
    end = start
    while end < w and np.int64(j0[end]) <= last:
        end += STEP
    return min(start, w), min(end, w)


@compiled(f"void({_PLANE}, {_PAIR}, {_TAPS}, {_PAIR}, f4[:, ::1])")
def _widen(plane: Floats, rows: Rows, columns: Taps, part: Part, wide: Floats) -> None:
    """Fill `wide` with those rows of a field of model size, each as wide as the part."""
    j0, j1, wx = columns
    for i in range(rows[0], rows[1]):
        source, out = plane[i], wide[i - rows[0]]
        for j in range(part[0], part[1]):
            left = source[j0[j]]
            out[j - part[0]] = left + (source[j1[j]] - left) * wx[j]


@compiled("void(f4[::1], f4[::1], f4, f4[::1])", inline=True)
def _between(upper: Floats, lower: Floats, weight: float, out: Floats) -> None:
    for j in range(out.size):
        out[j] = upper[j] + (lower[j] - upper[j]) * weight


@compiled(f"void({_READ}, {_READ}, {_READ}, {_PAIR}, f4[::1])")
def _detail(above: Bytes, row: Bytes, below: Bytes, part: Part, out: Floats) -> None:
    """Fill `out` with a row and its neighbours, from `REACH` columns before the part to as many
    after it; beyond the ends of the row, its ends."""
    first, start = max(part[0] - REACH, 0), max(REACH - part[0], 0)
    n = min(out.size - start, row.size - first)
    a, b, c, to = above[first:], row[first:], below[first:], out[start : start + n]
    for j in range(n):
        middle = np.float32(b[j])
        to[j] = (np.float32(a[j]) + np.float32(c[j])) + (middle + middle)
    out[:start] = out[start]
    out[start + n :] = out[start + n - 1]


@compiled(f"void({_READ}, b1, {_NUMBERS}, f4[::1], f4[::1], f4[::1])", inline=True)
def _tone(
    row: Bytes, full_range: bool, numbers: Floats, field: Floats, tone: Floats, lit: Floats
) -> None:
    """Fill `lit` with a row's luma under its light, and `tone` with what that multiplied it by."""
    one, black, slope = np.float32(1), np.float32(BLACK), np.float32(LUMA_SLOPE)
    span, white, bend = np.float32(1 / LUMA_SPAN), numbers[WHITE], numbers[BEND]
    for j in range(row.size):
        stored = np.float32(row[j])
        c = stored * slope if full_range else stored - black
        x = c * span
        q = white + (one - x) * (field[j] + bend * x)
        tone[j] = q
        lit[j] = (c + c * q) + black


@compiled(f"void({_READ}, f4[::1], {_NUMBERS}, f4[::1], f4[::1])", inline=True)
def _sharpen(row: Bytes, around: Floats, numbers: Floats, core: Floats, lit: Floats) -> None:
    sharp, most = numbers[SHARP], numbers[SHARP_MOST]
    sixteenth = np.float32(1 / 16)
    for j in range(row.size):
        sides = (around[j] + around[j + 2 * REACH]) + (around[j + REACH] + around[j + REACH])
        d = np.float32(row[j]) - sides * sixteenth
        d = min(max(d * sharp, -most), most)
        lit[j] += d * core[j]


@compiled("void(f4[::1], f4[::1], f4, f4, u1[::1])", inline=True)
def _calm(fresh: Floats, core: Floats, share: float, steep: float, shown: Bytes) -> None:
    """Average a row with what was shown of it before, where it hardly changed."""
    one, zero = np.float32(1), np.float32(0)
    for j in range(shown.size):
        d = np.float32(shown[j]) - fresh[j]
        fresh[j] += d * (share * core[j] * max(one - abs(d) * steep, zero))


@compiled("void(f4[::1], u1[::1])", inline=True)
def _store(c: Floats, to: Bytes) -> None:
    zero, white, half = np.float32(0), np.float32(255), np.float32(0.5)
    for j in range(to.size):
        to[j] = np.uint8(np.int32(min(max(c[j], zero), white) + half))


@compiled(f"void({_READ}, {_READ}, b1, {_NUMBERS}, UniTuple(f4[::1], 2), f4, f4[::1])", inline=True)
def _tint(
    upper: Bytes,
    lower: Bytes,
    full_range: bool,
    numbers: Floats,
    made: tuple[Floats, Floats],
    warm: float,
    out: Floats,
) -> None:
    """Fill `out` with a row of chroma under its light."""
    tone, lit = made
    black = np.float32(BLACK)
    half, grey, one = np.float32(0.5), np.float32(GREY), np.float32(1)
    slope = np.float32(CHROMA_SLOPE)
    share, colour = numbers[SHARE], numbers[COLOUR]
    for j in range(out.size):
        c = (np.float32(upper[j]) + np.float32(lower[j])) * half - grey
        c = c * slope if full_range else c
        out[j] = (c * (colour * (one + share * tone[j])) + warm * (lit[j] - black)) + grey


@compiled("void(f4[::1], f4[::1], f4[::1])", inline=True)
def _quarter(upper: Floats, lower: Floats, out: Floats) -> None:
    quarter = np.float32(0.25)
    for j in range(out.size):
        four = (upper[2 * j] + upper[2 * j + 1]) + (lower[2 * j] + lower[2 * j + 1])
        out[j] = four * quarter


@compiled(f"void({_LUMA}, {_NUMBERS}, {_FLAGS}, {_TAPS}, u1[::1], {_RUN}, {_WORK})")
def _light_row(
    luma: Luma,
    numbers: Floats,
    flags: Flags,
    rows: Taps,
    shown: Bytes,
    run: Run,
    work: Work,
) -> None:
    """Light one row of luma; its tone and luma stay in `work` for chroma."""
    wide, lines = work
    y, line = luma
    row, x, end, base, w = run
    full_range, sharp, calm = flags
    tw, h = end - x, rows[0].size
    field, core, near = lines[0, :tw], lines[1, :tw], lines[6, : tw + 2 * REACH]
    tone, lit = lines[2 + row % 2, :tw], lines[4 + row % 2, :tw]
    upper, lower, weight = rows[0][row] - base, rows[1][row] - base, rows[2][row]
    src = y[row * line + x : row * line + end]
    _between(wide[0, upper, :tw], wide[0, lower, :tw], weight, field)
    _tone(src, full_range, numbers, field, tone, lit)
    if sharp or calm:
        _between(wide[1, upper, :tw], wide[1, lower, :tw], weight, core)
    if sharp:
        up, here = max(row - REACH, 0) * line, row * line
        down = min(row + REACH, h - 1) * line
        _detail(y[up : up + w], y[here : here + w], y[down : down + w], (x, end), near)
        _sharpen(src, near, numbers, core, lit)
    to = shown[row * w + x : row * w + end]
    if calm:
        _calm(lit, core, numbers[CALM], numbers[CALM_Y], to)
    _store(lit, to)


@compiled(f"void({_CHROMA}, {_NUMBERS}, {_FLAGS}, {_TAPS}, {_OUT}, {_RUN}, {_WORK})")
def _light_chroma(
    chroma: Chroma,
    numbers: Floats,
    flags: Flags,
    rows: Taps,
    shown: Three,
    run: Run,
    work: Work,
) -> None:
    """Light one row of chroma, after the two of luma that it lies in."""
    wide, lines = work
    u, v, line, step = chroma
    row, x, end, base, w = run
    tw = end - x
    tone, lit, core, c = lines[0, :tw], lines[1, :tw], lines[6, :tw], lines[7, :tw]
    _quarter(lines[2, : 2 * tw], lines[3, : 2 * tw], tone)
    _quarter(lines[4, : 2 * tw], lines[5, : 2 * tw], lit)
    if flags[2]:
        upper, lower = rows[0][row] - base, rows[1][row] - base
        _between(wide[2, upper, :tw], wide[2, lower, :tw], rows[2][row], core)
    for p in range(2):
        plane, to = (u, shown[1]) if p == 0 else (v, shown[2])
        s = row * step * line + x
        s2 = s + (step - 1) * line
        warm = numbers[WARM_U] if p == 0 else numbers[WARM_V]
        _tint(plane[s : s + tw], plane[s2 : s2 + tw], flags[0], numbers, (tone, lit), warm, c)
        part = to[row * w + x : row * w + end]
        if flags[2]:
            _calm(c, core, numbers[CALM], numbers[CALM_C], part)
        _store(c, part)


@compiled(
    f"i8({_LUMA}, {_CHROMA}, {_PLANES}, {_PLANES}, {_NUMBERS}, {_FLAGS}, UniTuple({_TAPS}, 4), "
    f"Tuple(({_OUT}, f4[::1])))"
)
def _relight(
    luma: Luma,
    chroma: Chroma,
    low: Floats,
    fields: Floats,
    numbers: Floats,
    flags: Flags,
    grid: Grid,
    to: tuple[Three, Floats],
) -> int:
    """Light the person's part of a picture; return how many pixels of luma that was.

    Shapes:
        low: (PLANES, h, w), of which alpha's two are read; fields: (2, h, w), the tone's strength
            and where the person is for certain
        flags: full range, sharpness, noise to be averaged away
        to: Y, U and V, contiguous, limited range, 4:2:0; memory to work in
    """
    rows, columns, c_rows, c_columns = grid
    shown, scratch = to
    i0, i1 = rows[0], rows[1]
    h, w = i0.size, columns[0].size
    done = np.int64(0)
    at = LINES * (w + 2 * REACH)
    lines = scratch[:at].reshape(LINES, w + 2 * REACH)
    wide = scratch[at:].reshape(3, (scratch.size - at) // (3 * w), w)
    work = (wide, lines)
    for top in range(0, h, BAND):
        bottom = min(top + BAND, h)
        base, last = np.int64(i0[top]), np.int64(i1[bottom - 1]) + 1
        x, end = _span(low, (base, last), columns)
        if x >= end:
            continue
        done += np.int64(end - x) * (bottom - top)
        _widen(fields[0], (base, last), columns, (x, end), wide[0])
        if flags[1] or flags[2]:
            _widen(fields[1], (base, last), columns, (x, end), wide[1])
        if flags[2]:
            _widen(fields[1], (base, last), c_columns, (x // 2, end // 2), wide[2])
        for row in range(top, bottom):
            run = (np.int64(row), x, end, base, np.int64(w))
            _light_row(luma, numbers, flags, rows, shown[0], run, work)
            if row % 2:
                half = (np.int64(row // 2), x // 2, end // 2, base, np.int64(w // 2))
                _light_chroma(chroma, numbers, flags, c_rows, shown, half, work)
    return int(done)


relight = _relight if made(_relight) else loops_plain.relight


@compiled(f"void(f4[:, :, ::1], {_PLANE}, {_NUMBERS})")
def _relight_low(planes: Floats, field: Floats, numbers: Floats) -> None:
    """Light colours at model size, limited range, in place.

    Shapes:
        planes: (3, h, w) Y, U and V; field: (h, w) as the first of `relight`
    """
    one, black, grey = np.float32(1), np.float32(BLACK), np.float32(GREY)
    span, white, bend = np.float32(1 / LUMA_SPAN), numbers[WHITE], numbers[BEND]
    share, colour = numbers[SHARE], numbers[COLOUR]
    warm_u, warm_v = numbers[WARM_U], numbers[WARM_V]
    for i in range(field.shape[0]):
        y, u, v, f = planes[0, i], planes[1, i], planes[2, i], field[i]
        for j in range(f.size):
            c = y[j] - black
            x = c * span
            q = white + (one - x) * (f[j] + bend * x)
            lit = c + c * q
            gain = colour * (one + share * q)
            y[j] = lit + black
            u[j] = ((u[j] - grey) * gain + warm_u * lit) + grey
            v[j] = ((v[j] - grey) * gain + warm_v * lit) + grey


relight_low = _relight_low if made(_relight_low) else loops_plain.relight_low


def scratch_for(size: tuple[int, int], small: tuple[int, int]) -> Floats:
    """Return what `relight` works in, for a frame of `size` and fields of `small`."""
    (h, w), (low_h, _) = size, small
    i0, i1, _ = taps(h, low_h)
    ends = np.minimum(np.arange(BAND - 1, h + BAND - 1, BAND), h - 1)
    tall = int((i1[ends].astype(int) - i0[::BAND]).max()) + 1
    return np.zeros(LINES * (w + 2 * REACH) + 3 * tall * w, np.float32)
