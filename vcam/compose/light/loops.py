"""Loops over the person's pixels: tone, colour, sharpness, and noise that is averaged away.

Each comes twice, as those in `vcam.compose.kernels` do: here compiled, and in `loops_plain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE, LUMA_SPAN
from segmentation.jit import compiled, made
from vcam.compose.arrays import PERSON, ROOM, A, B, taps
from vcam.compose.light import loops_plain

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import Floats, Grid, Taps

    Int = int | np.int64
    Float = float | np.floating[Any]
    Rows = tuple[Int, Int]
    Part = tuple[Int, Int]
    Pair = tuple[Floats, Floats]
    Three = tuple[Bytes, Bytes, Bytes]
    Flags = tuple[bool, bool, bool]
    Run = tuple[Int, Int, Int, Int, Int, Int]  # rows and columns, from and to; base of low, width
    Work = tuple[Floats, Floats]  # widened fields, lines

BAND: Final = 16  # rows of luma that are handled as one, as wide as the person is in them; even
STEP: Final = 32  # columns, of which a band holds whole ones
NOTHING: Final = 0.005  # less of a person is none, as in `vcam.compose.kernels`
REACH: Final = 2  # pixels between those that sharpness compares
COARSE: Final = 4  # pixels of model size between two of the tone's strength, which is smooth
KNOT: Final = 16  # pixels of luma between which it is straight
# Lines of floats to work in: strength at both ends of a band, for luma and for chroma; gain and
# luma of chroma; where the person is for certain, one of luma, two for sharpness.
LINES: Final = 10
assert BAND == KNOT
assert STEP % KNOT == 0

# Numbers of a frame, by their place among `numbers`.
WHITE, BEND, SHARE, COLOUR, WARM_U, WARM_V = 0, 1, 2, 3, 4, 5
SHARP, SHARP_MOST, CALM, CALM_Y, CALM_C = 6, 7, 8, 9, 10
NUMBERS: Final = 11

_READ = "Array(u1, 1, 'C', readonly=True)"
_PLANE = "Array(f4, 2, 'C', readonly=True)"
_PLANES = "Array(f4, 3, 'C', readonly=True)"
_LINE = "Array(f4, 1, 'C', readonly=True)"
_TAPS = "Tuple((u4[::1], u4[::1], f4[::1]))"
_LUMA = f"Tuple(({_READ}, i8))"
_CHROMA = f"Tuple(({_READ}, {_READ}, i8, i8))"
_OUT = "UniTuple(u1[::1], 3)"
_FLAGS = "UniTuple(b1, 3)"
_PAIR = "UniTuple(i8, 2)"
_BOTH = "UniTuple(f4[::1], 2)"
_RUN = "UniTuple(i8, 6)"
_WORK = "Tuple((f4[:, :, ::1], f4[:, ::1]))"


@compiled(f"void({_PLANES}, f4[:, ::1], f4[::1])")
def _bound(low: Floats, bounds: Floats, most: Floats) -> None:
    """Fill `bounds` with the first and last column in which some of the person may be, each row.

    Where there is nobody, the first is behind the last. `most` is a line of that width.
    """
    least, white, zero = np.float32(NOTHING), np.float32(255), np.float32(0)
    w = np.int64(low.shape[2])
    for i in range(low.shape[1]):
        a, b = low[A, i], low[B, i]
        for j in range(w):
            most[j] = b[j] + max(a[j] * white, zero)
        first, last = np.int64(0), w - 1
        while first < w and most[first] < least:
            first += 1
        while last > first and most[last] < least:
            last -= 1
        bounds[0, i] = np.float32(first)
        bounds[1, i] = np.float32(last if first < w else -1)


@compiled(f"{_PAIR}(f4[:, ::1], {_PAIR}, {_TAPS})")
def _span(bounds: Floats, rows: Rows, columns: Taps) -> Part:
    """Columns, from and to, in which some of the person may be in rows of model size."""
    j0, j1, _ = columns
    first, last = bounds[0, rows[0]], bounds[1, rows[0]]
    for i in range(rows[0] + 1, rows[1]):
        first, last = min(first, bounds[0, i]), max(last, bounds[1, i])
    start, end, w = np.int64(0), np.int64(0), np.int64(j0.size)
    if first > last:
        return end, end
    while start < w and np.float32(j1[min(start + STEP, w) - 1]) < first:
        start += STEP
    end = start
    while end < w and np.float32(j0[end]) <= last:
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


@compiled(f"void({_LINE}, {_LINE}, f4, f4[::1])", inline=True)
def _between(upper: Floats, lower: Floats, weight: Float, out: Floats) -> None:
    for j in range(out.size):
        out[j] = upper[j] + (lower[j] - upper[j]) * weight


@compiled(f"void({_PLANE}, {_TAPS}, {_TAPS}, f4[:, ::1])")
def _knots(strength: Floats, rows: Taps, columns: Taps, knots: Floats) -> None:
    """Fill `knots` with the tone's strength at every `KNOT`th row and column of luma."""
    (i0, i1, wy), (j0, j1, wx) = rows, columns
    share, zero = np.float32(1 / COARSE), np.float32(0)
    for n in range(knots.shape[0]):
        y = min(n * KNOT, i0.size - 1)
        at = (np.float32(i0[y]) + (wy[y] if i1[y] > i0[y] else zero)) * share
        i = np.int64(at)
        down = at - np.float32(i)
        for m in range(knots.shape[1]):
            x = min(m * KNOT, j0.size - 1)
            at = (np.float32(j0[x]) + (wx[x] if j1[x] > j0[x] else zero)) * share
            j = np.int64(at)
            along = at - np.float32(j)
            upper = strength[i, j] + (strength[i, j + 1] - strength[i, j]) * along
            lower = strength[i + 1, j] + (strength[i + 1, j + 1] - strength[i + 1, j]) * along
            knots[n, m] = upper + (lower - upper) * down


@compiled(f"void({_LINE}, {_PAIR}, f4[::1], f4[::1])")
def _straight(knots: Floats, part: Part, fine: Floats, coarse: Floats) -> None:
    """Fill a part of a line of luma, and of chroma, with what lies between knots."""
    share, half = np.float32(1 / KNOT), np.float32(0.5)
    for m in range(part[0] // KNOT, (part[1] + KNOT - 1) // KNOT):
        start = knots[m]
        slope = (knots[m + 1] - start) * share
        for k in range(KNOT):
            fine[m * KNOT + k] = start + slope * np.float32(k)
        for k in range(KNOT // 2):
            coarse[m * (KNOT // 2) + k] = start + slope * (np.float32(2 * k) + half)


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


@compiled(f"void({_READ}, b1, {_LINE}, {_BOTH}, f4, f4[::1])", inline=True)
def _tone(
    row: Bytes, full_range: bool, numbers: Floats, ends: Pair, weight: Float, lit: Floats
) -> None:
    """Fill `lit` with a row's luma under its light, by the field above and below its band."""
    upper, lower = ends
    one, black, span = np.float32(1), np.float32(BLACK), np.float32(1 / LUMA_SPAN)
    slope = np.float32(LUMA_SLOPE) if full_range else one
    start = np.float32(0) if full_range else black
    white, bend = numbers[WHITE], numbers[BEND]
    for j in range(row.size):
        c = np.float32(row[j]) * slope - start
        x = c * span
        f = upper[j] + (lower[j] - upper[j]) * weight
        lit[j] = (c + c * (white + (one - x) * (f + bend * x))) + black


@compiled(f"void({_READ}, b1, {_LINE}, {_BOTH}, f4, u1[::1])", inline=True)
def _show_tone(
    row: Bytes, full_range: bool, numbers: Floats, ends: Pair, weight: Float, to: Bytes
) -> None:
    """Do what `_tone` and `_store` do, at once."""
    upper, lower = ends
    one, black, span = np.float32(1), np.float32(BLACK), np.float32(1 / LUMA_SPAN)
    zero, most, half = np.float32(0), np.float32(255), np.float32(0.5)
    slope = np.float32(LUMA_SLOPE) if full_range else one
    start = zero if full_range else black
    white, bend = numbers[WHITE], numbers[BEND]
    for j in range(row.size):
        c = np.float32(row[j]) * slope - start
        x = c * span
        f = upper[j] + (lower[j] - upper[j]) * weight
        lit = (c + c * (white + (one - x) * (f + bend * x))) + black
        to[j] = np.uint8(np.int32(min(max(lit, zero), most) + half))


@compiled(f"void({_READ}, f4[::1], {_LINE}, f4[::1], f4[::1])", inline=True)
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


@compiled(f"void({_READ}, {_READ}, b1, {_LINE}, {_BOTH}, f4, {_BOTH})", inline=True)
def _gain(
    upper_y: Bytes,
    lower_y: Bytes,
    full_range: bool,
    numbers: Floats,
    ends: Pair,
    weight: Float,
    made: Pair,
) -> None:
    """Fill `made` with what a row of chroma is multiplied by, and with its luma under its light.

    Both are those of the mean luma of a pixel of chroma.
    """
    upper, lower = ends
    gain, lit = made
    one, quarter, span = np.float32(1), np.float32(0.25), np.float32(1 / LUMA_SPAN)
    slope = np.float32(LUMA_SLOPE) if full_range else one
    start = np.float32(0) if full_range else np.float32(BLACK)
    white, bend, share, colour = numbers[WHITE], numbers[BEND], numbers[SHARE], numbers[COLOUR]
    for j in range(gain.size):
        four = np.int32(upper_y[2 * j]) + np.int32(upper_y[2 * j + 1])
        four += np.int32(lower_y[2 * j]) + np.int32(lower_y[2 * j + 1])
        c = np.float32(np.int32(four)) * quarter * slope - start
        x = c * span
        f = upper[j] + (lower[j] - upper[j]) * weight
        q = white + (one - x) * (f + bend * x)
        gain[j] = colour * (one + share * q)
        lit[j] = c + c * q


@compiled(f"void({_READ}, {_READ}, b1, {_BOTH}, f4, f4[::1])", inline=True)
def _tint(
    upper: Bytes, lower: Bytes, full_range: bool, made: Pair, warm: float, out: Floats
) -> None:
    """Fill `out` with a row of chroma under its light."""
    gain, lit = made
    half, grey = np.float32(0.5), np.float32(GREY)
    slope = np.float32(CHROMA_SLOPE) if full_range else np.float32(1)
    for j in range(out.size):
        both = np.int32(np.int32(upper[j]) + np.int32(lower[j]))
        c = (np.float32(both) * half - grey) * slope
        out[j] = (c * gain[j] + warm * lit[j]) + grey


@compiled(f"void({_READ}, {_READ}, b1, {_BOTH}, f4, u1[::1])", inline=True)
def _show_tint(
    upper: Bytes, lower: Bytes, full_range: bool, made: Pair, warm: float, to: Bytes
) -> None:
    """Do what `_tint` and `_store` do, at once."""
    gain, lit = made
    zero, most, half, grey = np.float32(0), np.float32(255), np.float32(0.5), np.float32(GREY)
    slope = np.float32(CHROMA_SLOPE) if full_range else np.float32(1)
    for j in range(to.size):
        both = np.int32(np.int32(upper[j]) + np.int32(lower[j]))
        c = (np.float32(both) * half - grey) * slope
        c = (c * gain[j] + warm * lit[j]) + grey
        to[j] = np.uint8(np.int32(min(max(c, zero), most) + half))


@compiled(f"void({_LUMA}, {_LINE}, {_FLAGS}, {_TAPS}, u1[::1], {_RUN}, {_WORK})")
def _light_rows(
    luma: Luma,
    numbers: Floats,
    flags: Flags,
    rows: Taps,
    shown: Bytes,
    run: Run,
    work: Work,
) -> None:
    """Light a band of luma."""
    wide, lines = work
    y, line = luma
    top, bottom, x, end, base, w = run
    full_range, sharp, calm = flags
    tw, h = end - x, rows[0].size
    ends = lines[0, x:end], lines[1, x:end]
    core, lit, near = lines[6, :tw], lines[7, :tw], lines[8, : tw + 2 * REACH]
    share = np.float32(1 / KNOT)
    for row in range(top, bottom):
        src, to = y[row * line + x : row * line + end], shown[row * w + x : row * w + end]
        below = np.float32(row - top) * share
        if not (sharp or calm):
            _show_tone(src, full_range, numbers, ends, below, to)
            continue
        _tone(src, full_range, numbers, ends, below, lit)
        upper, lower = rows[0][row] - base, rows[1][row] - base
        _between(wide[0, upper, :tw], wide[0, lower, :tw], rows[2][row], core)
        if sharp:
            up, here = max(row - REACH, 0) * line, row * line
            down = min(row + REACH, h - 1) * line
            _detail(y[up : up + w], y[here : here + w], y[down : down + w], (x, end), near)
            _sharpen(src, near, numbers, core, lit)
        if calm:
            _calm(lit, core, numbers[CALM], numbers[CALM_Y], to)
        _store(lit, to)


@compiled(f"void({_LUMA}, {_CHROMA}, {_LINE}, {_FLAGS}, {_TAPS}, {_OUT}, {_RUN}, {_WORK})")
def _light_chroma(
    luma: Luma,
    chroma: Chroma,
    numbers: Floats,
    flags: Flags,
    rows: Taps,
    shown: Three,
    run: Run,
    work: Work,
) -> None:
    """Light a band of chroma; rows and columns of `run` are those of chroma."""
    wide, lines = work
    y, y_line = luma
    u, v, line, step = chroma
    top, bottom, x, end, base, w = run
    tw = end - x
    gain, lit, core, c = lines[4, :tw], lines[5, :tw], lines[6, :tw], lines[7, :tw]
    ends, made = (lines[2, x:end], lines[3, x:end]), (gain, lit)
    share, half = np.float32(1 / KNOT), np.float32(0.5)
    for row in range(top, bottom):
        s = 2 * row * y_line + 2 * x
        above, under = y[s : s + 2 * tw], y[s + y_line : s + y_line + 2 * tw]
        below = (np.float32(2 * (row - top)) + half) * share
        _gain(above, under, flags[0], numbers, ends, below, made)
        if flags[2]:
            upper, lower = rows[0][row] - base, rows[1][row] - base
            _between(wide[1, upper, :tw], wide[1, lower, :tw], rows[2][row], core)
        for p in range(2):
            plane, to = (u, shown[1]) if p == 0 else (v, shown[2])
            s = row * step * line + x
            s2 = s + (step - 1) * line
            warm = numbers[WARM_U] if p == 0 else numbers[WARM_V]
            part = to[row * w + x : row * w + end]
            if flags[2]:
                _tint(plane[s : s + tw], plane[s2 : s2 + tw], flags[0], made, warm, c)
                _calm(c, core, numbers[CALM], numbers[CALM_C], part)
                _store(c, part)
            else:
                _show_tint(plane[s : s + tw], plane[s2 : s2 + tw], flags[0], made, warm, part)


@compiled(
    f"i8({_LUMA}, {_CHROMA}, {_PLANES}, UniTuple({_PLANE}, 2), {_LINE}, {_FLAGS}, "
    f"UniTuple({_TAPS}, 4), Tuple(({_OUT}, f4[:, ::1], f4[::1])))"
)
def _relight(
    luma: Luma,
    chroma: Chroma,
    low: Floats,
    fields: tuple[Floats, Floats],
    numbers: Floats,
    flags: Flags,
    grid: Grid,
    to: tuple[Three, Floats, Floats],
) -> int:
    """Light the person's part of a picture; return how many pixels of luma that was.

    Shapes:
        low: (PLANES, h, w), of which alpha's two are read
        fields: the tone's strength at every `COARSE`th row and column of (h, w) and one beyond,
            and where the person is for certain, (h, w)
        flags: full range, sharpness, noise to be averaged away
        to: Y, U and V, contiguous, limited range, 4:2:0; columns of the person, from and to, for
            each row of `low`, (2, h); memory to work in
    """
    rows, columns, c_rows, c_columns = grid
    shown, bounds, scratch = to
    i0, i1 = rows[0], rows[1]
    h, w = i0.size, columns[0].size
    done = np.int64(0)
    down, along = (h + KNOT - 1) // KNOT + 1, (w + KNOT - 1) // KNOT + 1
    at, length = down * along, along * KNOT
    knots = scratch[:at].reshape(down, along)
    lines = scratch[at : at + LINES * length].reshape(LINES, length)
    at += LINES * length
    most = scratch[at : at + low.shape[2]]
    at += most.size
    tall = (scratch.size - at) // (2 * w)
    wide = scratch[at : at + 2 * tall * w].reshape(2, tall, w)
    work = (wide, lines)
    _bound(low, bounds, most)
    _knots(fields[0], rows, columns, knots)
    for top in range(0, h, BAND):
        bottom = min(top + BAND, h)
        base, last = np.int64(i0[top]), np.int64(i1[bottom - 1]) + 1
        x, end = _span(bounds, (base, last), columns)
        if x >= end:
            continue
        done += np.int64(end - x) * (bottom - top)
        for n in range(2):
            _straight(knots[top // KNOT + n], (x, end), lines[n], lines[2 + n])
        if flags[1] or flags[2]:
            _widen(fields[1], (base, last), columns, (x, end), wide[0])
        if flags[2]:
            _widen(fields[1], (base, last), c_columns, (x // 2, end // 2), wide[1])
        run = (np.int64(top), np.int64(bottom), x, end, base, np.int64(w))
        _light_rows(luma, numbers, flags, rows, shown[0], run, work)
        half = (run[0] // 2, run[1] // 2, x // 2, end // 2, base, run[5] // 2)
        _light_chroma(luma, chroma, numbers, flags, c_rows, shown, half, work)
    return int(done)


relight = _relight if made(_relight) else loops_plain.relight


@compiled(f"void(f4[:, :, ::1], {_PLANE}, {_LINE}, f4[:, ::1], f4[:, ::1])")
def _relight_low(
    low: Floats, strength: Floats, numbers: Floats, bounds: Floats, lines: Floats
) -> None:
    """Light colours of person and room at model size, limited range, in place.

    Shapes:
        low: (PLANES, h, w); strength: as the first of the fields of `relight`
        bounds: as `relight` left them, (2, h); lines: (2, w + COARSE) to work in
    """
    one, black, grey = np.float32(1), np.float32(BLACK), np.float32(GREY)
    span, white, bend = np.float32(1 / LUMA_SPAN), numbers[WHITE], numbers[BEND]
    share, colour = numbers[SHARE], numbers[COLOUR]
    warm_u, warm_v = numbers[WARM_U], numbers[WARM_V]
    share_of, narrow = np.float32(1 / COARSE), lines[0, : strength.shape[1]]
    h, w = low.shape[1], low.shape[2]
    for i in range(h):
        # What is next to a pixel that may be the person's has a part in it, too.
        first, last = bounds[0, i], bounds[1, i]
        for k in range(max(i - 1, 0), min(i + 2, h)):
            first, last = min(first, bounds[0, k]), max(last, bounds[1, k])
        if first > last:
            continue
        x, end = max(int(first) - 1, 0), min(int(last) + 2, w)
        n = i // COARSE
        _between(strength[n], strength[n + 1], np.float32(i % COARSE) * share_of, narrow)
        for m in range(x // COARSE, (end - 1) // COARSE + 1):
            slope = (narrow[m + 1] - narrow[m]) * share_of
            for k in range(COARSE):
                lines[1, m * COARSE + k] = narrow[m] + slope * np.float32(k)
        f = lines[1, x:end]
        for p in range(PERSON, ROOM + 3, ROOM - PERSON):
            y, u, v = low[p, i, x:end], low[p + 1, i, x:end], low[p + 2, i, x:end]
            for j in range(f.size):
                c = y[j] - black
                light = c * span
                q = white + (one - light) * (f[j] + bend * light)
                lit = c + c * q
                gain = colour * (one + share * q)
                y[j] = lit + black
                u[j] = ((u[j] - grey) * gain + warm_u * lit) + grey
                v[j] = ((v[j] - grey) * gain + warm_v * lit) + grey


relight_low = _relight_low if made(_relight_low) else loops_plain.relight_low


def scratch_for(size: tuple[int, int], small: tuple[int, int]) -> Floats:
    """Return what `relight` works in, for a frame of `size` and fields of `small`."""
    (h, w), (low_h, low_w) = size, small
    i0, i1, _ = taps(h, low_h)
    ends = np.minimum(np.arange(BAND - 1, h + BAND - 1, BAND), h - 1)
    tall = int((i1[ends].astype(int) - i0[::BAND]).max()) + 1
    down, along = (-(-n // KNOT) + 1 for n in size)
    return np.zeros((down + LINES * KNOT) * along + low_w + 2 * tall * w, np.float32)


def strength_shape(small: tuple[int, int]) -> tuple[int, int]:
    """Shape of the tone's strength, for fields of `small`."""
    h, w = small
    return -(-h // COARSE) + 1, -(-w // COARSE) + 1
