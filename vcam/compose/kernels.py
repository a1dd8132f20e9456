"""Loops over pixels: putting a person in front of a backdrop in planar YUV, averaging colours.

Each comes twice: here compiled by Numba, and in `kernels_plain` in NumPy where Numba is missing;
both give the same bits. The compiled ones release the interpreter's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from segmentation.jit import compiled, made
from vcam.compose import kernels_plain
from vcam.compose.arrays import LIGHT, PERSON, PLANES, ROOM, WRAP, A, B, taps
from vcam.compose.constants import GAIN, NEAR, SHIFT

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import Floats, Grid, Ints, Lumas, Pictures, Place, Taps, Wishes

    Int = int | np.int64
    Rows = tuple[Int, Int]
    Run = tuple[int, int, int, int, Int, Int]  # top, height, left, width; first and last row of low
    Work = tuple[Floats, Floats, Floats]  # planes as wide as the frame, alpha, four lines

TILE_H, TILE_W = 16, 32  # rows and columns of luma handled at once; even
EMPTY, FULL, SOFT = 0, 1, 2  # kinds of tiles: backdrop alone, person alone, both
# Alpha that comes out as exactly 0 and as exactly 1, once it is stretched by `GAIN`.
NOTHING: Final = 0.005
ALL: Final = 0.995
MARKED: Final = 1000  # times the smallest spill, on alpha or taken from it, is an edge
WRAP_C: Final = PLANES  # of the planes as wide as the frame: `WRAP` at the width of chroma
WIDE: Final = PLANES + 1

SHARE: Final = 1 / (NEAR | 1) ** 2  # of one pixel in the window of `near`
assert NEAR | 1 == 7, "the loops below sum seven neighbours"

_READ = "Array(u1, 1, 'C', readonly=True)"
_LINE = "Array(f4, 1, 'C', readonly=True)"
_PLANE = "Array(f4, 2, 'C', readonly=True)"
_PLANES = "Array(f4, 3, 'C', readonly=True)"
_TAPS = "Tuple((u4[::1], u4[::1], f4[::1]))"
_LUMA = f"Tuple(({_READ}, i8))"
_LUMAS = f"UniTuple({_LUMA}, 2)"
_CHROMA = f"Tuple(({_READ}, {_READ}, i8, i8))"
_WISHES = "UniTuple(b1, 3)"
_PICTURES = f"Tuple(({_READ}, u1[::1]))"
_PLACE = "UniTuple(i8, 4)"
_RUN = "UniTuple(i8, 6)"
_WORK = "Tuple((f4[:, :, ::1], f4[:, ::1], f4[:, ::1]))"


@compiled(f"void({_LINE}, u4[::1], u4[::1], f4[::1], f4[::1])", inline=True)
def _widen(source: Floats, j0: Ints, j1: Ints, wx: Floats, out: Floats) -> None:
    for j in range(out.size):
        left = source[j0[j]]
        out[j] = left + (source[j1[j]] - left) * wx[j]


@compiled("void(f4[::1], f4[::1], f4, f4[::1])", inline=True)
def _between(upper: Floats, lower: Floats, weight: float, out: Floats) -> None:
    for j in range(out.size):
        out[j] = upper[j] + (lower[j] - upper[j]) * weight


@compiled("void(f4[:, ::1], UniTuple(i8, 2), f4, i8, f4[::1])", inline=True)
def _grown(wide: Floats, rows: Rows, weight: float, x: int, out: Floats) -> None:
    """Fill `out` with what lies between two rows of a widened plane, from column `x` on."""
    end = x + out.size
    _between(wide[rows[0], x:end], wide[rows[1], x:end], weight, out)


@compiled("void(f4[::1], f4[::1], f4[::1], f4[::1])", inline=True)
def _purify(t: Floats, person: Floats, room: Floats, c: Floats) -> None:
    one, zero, white = np.float32(1), np.float32(0), np.float32(255)
    for j in range(c.size):
        pure = c[j] + (one - t[j]) * ((person[j] - c[j]) + t[j] * (person[j] - room[j]))
        c[j] = min(max(pure, zero), white)


@compiled(f"void(f4[::1], f4[::1], {_READ}, f4[::1], f4[::1], u1[::1])", inline=True)
def _mix_lit(t: Floats, c: Floats, behind: Bytes, wrap: Floats, light: Floats, to: Bytes) -> None:
    one, half = np.float32(1), np.float32(0.5)
    for j in range(to.size):
        c[j] = c[j] * t[j] + np.float32(behind[j]) * (one - t[j])
    for j in range(to.size):
        to[j] = np.uint8(np.int32(c[j] * (one - wrap[j]) + light[j] + half))


@compiled(f"void(f4[::1], f4[::1], {_READ}, u1[::1])", inline=True)
def _mix(t: Floats, c: Floats, behind: Bytes, to: Bytes) -> None:
    one, half = np.float32(1), np.float32(0.5)
    for j in range(to.size):
        to[j] = np.uint8(np.int32(c[j] * t[j] + np.float32(behind[j]) * (one - t[j]) + half))


@compiled(f"void({_READ}, u1[::1])", inline=True)
def _copy(source: Bytes, to: Bytes) -> None:
    for j in range(to.size):
        to[j] = source[j]


@compiled(f"UniTuple(i8, 4)({_PLACE}, {_RUN})", inline=True)
def _corner(place: Place, run: Run) -> tuple[int, int, int, int]:
    """Return where a run begins in luma and in U, how wide chroma is, and how large."""
    width, height, left, top = place
    luma = (top + run[0]) * width + left + run[2]
    chroma = width * height + ((top + run[0]) // 2) * (width // 2) + (left + run[2]) // 2
    return luma, chroma, width // 2, width * height // 4


@compiled(
    "Tuple((f4[:, :, ::1], f4[:, ::1], f4[:, ::1], f4[:, ::1], f4[::1]))(f4[::1], i8, i8, i8)",
    inline=True,
)
def _parts(
    scratch: Floats, tall: int, w: int, low_w: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Cut up the memory of `scratch_for`: widened planes, alpha, lines, bounds, kinds of tiles."""
    at = WIDE * tall * w
    wide = scratch[:at].reshape(WIDE, tall, w)
    alpha = scratch[at : at + TILE_H * w].reshape(TILE_H, w)
    at += TILE_H * w
    lines = scratch[at : at + 4 * w].reshape(4, w)
    at += 4 * w
    bounds = scratch[at : at + 2 * low_w].reshape(2, low_w)
    at += 2 * low_w
    return wide, alpha, lines, bounds, scratch[at : at + (w + TILE_W - 1) // TILE_W]


@compiled(f"void({_PLANES}, b1, UniTuple(i8, 2), {_TAPS}, f4[:, ::1], f4[::1])")
def _classify(
    low: Floats, wrap: bool, rows: Rows, columns: Taps, bounds: Floats, kinds: Floats
) -> None:
    """Say of each tile beside one another which kind it is, by what alpha can be in those rows."""
    one, zero, white = np.float32(1), np.float32(0), np.float32(255)
    j0, j1, _ = columns
    most, least = bounds[0], bounds[1]  # whatever the luma
    most[:] = np.float32(-9)
    least[:] = np.float32(9)
    for i in range(rows[0], rows[1]):
        row_a, row_b = low[A, i], low[B, i]
        for j in range(most.size):
            a = row_a[j] * white
            most[j] = max(most[j], row_b[j] + max(a, zero))
            least[j] = min(least[j], row_b[j] + min(a, zero))
        if wrap:
            row_w = low[WRAP, i]
            for j in range(least.size):
                spilt = row_w[j] * np.float32(MARKED)
                least[j] = min(least[j], one - spilt)
                most[j] = max(most[j], spilt)
    for n in range(kinds.size):
        last = min(n * TILE_W + TILE_W, j1.size) - 1
        x0, x1 = np.int64(j0[n * TILE_W]), np.int64(j1[last])
        high, deep = most[x0], least[x0]
        for j in range(x0 + 1, x1 + 1):
            high = max(high, most[j])
            deep = min(deep, least[j])
        full = FULL if deep > np.float32(ALL) else SOFT
        kinds[n] = EMPTY if high < np.float32(NOTHING) else full


@compiled(f"void({_PICTURES}, {_PLACE}, {_RUN})")
def _copy_backdrop(pictures: Pictures, place: Place, run: Run) -> None:
    behind, out = pictures
    o, oc, c_width, c_area = _corner(place, run)
    tw, cw = run[3], run[3] // 2
    for r in range(run[1]):
        k = o + r * place[0]
        _copy(behind[k : k + tw], out[k : k + tw])
    for p in range(2):
        for r in range(run[1] // 2):
            k = oc + p * c_area + r * c_width
            _copy(behind[k : k + cw], out[k : k + cw])


@compiled(f"void({_LUMA}, {_CHROMA}, b1, u1[::1], {_PLACE}, {_RUN})")
def _copy_person(
    luma: Luma, chroma: Chroma, full_range: bool, out: Bytes, place: Place, run: Run
) -> None:
    half, black, grey = np.float32(0.5), np.float32(BLACK), np.float32(GREY)
    slope, c_slope = np.float32(LUMA_SLOPE), np.float32(CHROMA_SLOPE)
    y, line = luma
    u, v, c_line, c_step = chroma
    ty, th, tx, tw = run[0], run[1], run[2], run[3]
    o, oc, c_width, c_area = _corner(place, run)
    for r in range(th):
        k, s = o + r * place[0], (ty + r) * line + tx
        to, src = out[k : k + tw], y[s : s + tw]
        if full_range:
            for j in range(tw):
                to[j] = np.uint8(np.int32(np.float32(src[j]) * slope + black + half))
        else:
            _copy(src, to)
    cw = tw // 2
    for p in range(2):
        plane = u if p == 0 else v
        for r in range(th // 2):
            k = oc + p * c_area + r * c_width
            s = (ty // 2 + r) * c_step * c_line + tx // 2
            s2 = s + (c_step - 1) * c_line
            to, upper, lower = out[k : k + cw], plane[s : s + cw], plane[s2 : s2 + cw]
            if full_range:
                for j in range(cw):
                    both = (np.float32(upper[j]) + np.float32(lower[j])) * half
                    both = (both - grey) * c_slope + grey
                    to[j] = np.uint8(np.int32(both + half))
            else:
                for j in range(cw):
                    both = (np.float32(upper[j]) + np.float32(lower[j])) * half
                    to[j] = np.uint8(np.int32(both + half))


@compiled(f"void({_PLANE}, UniTuple(i8, 2), {_TAPS}, UniTuple(i8, 2), f4[:, ::1])")
def _widen_rows(
    plane: Floats, rows: Rows, columns: Taps, part: tuple[int, int], wide: Floats
) -> None:
    """Fill a part of `wide`, from and to a column, with those rows of a plane at model size."""
    j0, j1, wx = columns
    x0, x1 = part
    for i in range(rows[0], rows[1]):
        _widen(plane[i], j0[x0:x1], j1[x0:x1], wx[x0:x1], wide[i - rows[0], x0:x1])


@compiled(f"void({_PLANES}, {_WISHES}, {_TAPS}, {_TAPS}, f4[:, :, ::1], {_RUN})")
def _enlarge(
    low: Floats, wishes: Wishes, columns: Taps, c_columns: Taps, wide: Floats, run: Run
) -> None:
    """Widen all planes that soft tiles need."""
    tx, tw, rows = run[2], run[3], (run[4], run[5])
    part, c_part = (tx, tx + tw), (tx // 2, tx // 2 + tw // 2)
    for p in range(PLANES):
        if (p >= PERSON and p < WRAP and not wishes[1]) or (p >= WRAP and not wishes[2]):
            continue
        if p <= PERSON or p in (ROOM, WRAP, LIGHT):
            _widen_rows(low[p], rows, columns, part, wide[p])
        else:
            _widen_rows(low[p], rows, c_columns, c_part, wide[p])
    if wishes[2]:  # the spill once more, for chroma
        _widen_rows(low[WRAP], rows, c_columns, c_part, wide[WRAP_C])


@compiled(f"void({_LUMAS}, {_TAPS}, {_WISHES}, {_PICTURES}, {_WORK}, {_PLACE}, {_RUN})")
def _soft_luma(
    lumas: Lumas,
    rows: Taps,
    wishes: Wishes,
    pictures: Pictures,
    work: Work,
    place: Place,
    run: Run,
) -> None:
    """Blend luma, and leave alpha for chroma."""
    one, zero = np.float32(1), np.float32(0)
    gain, shift = np.float32(GAIN), np.float32(SHIFT)
    slope, black = np.float32(LUMA_SLOPE), np.float32(BLACK)
    (y, line), (own, own_line) = lumas
    i0, i1, wy = rows
    full_range, clean, wrap = wishes
    behind, out = pictures
    wide, alpha, lines = work
    ty, tx, tw = run[0], run[2], run[3]
    o = _corner(place, run)[0]
    c, f, g = lines[0, :tw], lines[2, :tw], lines[3, :tw]
    for r in range(run[1]):
        weight = wy[ty + r]
        both = np.int64(i0[ty + r]) - run[4], np.int64(i1[ty + r]) - run[4]
        k, s = o + r * place[0], (ty + r) * line + tx
        src, t = y[s : s + tw], alpha[r, tx : tx + tw]
        s = (ty + r) * own_line + tx
        colour = own[s : s + tw]
        _grown(wide[A], both, weight, tx, f)
        _grown(wide[B], both, weight, tx, g)
        for j in range(tw):
            shown = np.float32(colour[j])
            c[j] = shown * slope + black if full_range else shown
            a = (f[j] * np.float32(src[j]) + g[j]) * gain - shift
            t[j] = min(max(a, zero), one)
        if clean:
            _grown(wide[PERSON], both, weight, tx, f)
            _grown(wide[ROOM], both, weight, tx, g)
            _purify(t, f, g, c)
        if wrap:
            _grown(wide[WRAP], both, weight, tx, f)
            _grown(wide[LIGHT], both, weight, tx, g)
            _mix_lit(t, c, behind[k : k + tw], f, g, out[k : k + tw])
        else:
            _mix(t, c, behind[k : k + tw], out[k : k + tw])


@compiled(f"void({_CHROMA}, {_TAPS}, {_WISHES}, {_PICTURES}, {_WORK}, {_PLACE}, {_RUN})")
def _soft_chroma(
    chroma: Chroma,
    rows: Taps,
    wishes: Wishes,
    pictures: Pictures,
    work: Work,
    place: Place,
    run: Run,
) -> None:
    """Blend chroma, by the alpha that luma left."""
    half, quarter = np.float32(0.5), np.float32(0.25)
    c_slope, grey = np.float32(CHROMA_SLOPE), np.float32(GREY)
    u, v, line, step = chroma
    i0, i1, wy = rows
    full_range, clean, wrap = wishes
    behind, out = pictures
    wide, alpha, lines = work
    tx, tw, tc, cw = run[2], run[3], run[2] // 2, run[3] // 2
    _, o, c_width, c_area = _corner(place, run)
    c, t, f, g = lines[0, :cw], lines[1, :cw], lines[2, :cw], lines[3, :cw]
    for r in range(run[1] // 2):
        upper_t, lower_t = alpha[2 * r, tx : tx + tw], alpha[2 * r + 1, tx : tx + tw]
        row = run[0] // 2 + r
        weight = wy[row]
        both = np.int64(i0[row]) - run[4], np.int64(i1[row]) - run[4]
        for j in range(cw):
            a = (upper_t[2 * j] + upper_t[2 * j + 1]) + (lower_t[2 * j] + lower_t[2 * j + 1])
            t[j] = a * quarter
        for p in range(2):
            plane = u if p == 0 else v
            k = o + p * c_area + r * c_width
            s = row * step * line + tc
            s2 = s + (step - 1) * line
            upper, lower = plane[s : s + cw], plane[s2 : s2 + cw]
            for j in range(cw):
                mean = (np.float32(upper[j]) + np.float32(lower[j])) * half
                c[j] = (mean - grey) * c_slope + grey if full_range else mean
            if clean:
                _grown(wide[PERSON + 1 + p], both, weight, tc, f)
                _grown(wide[ROOM + 1 + p], both, weight, tc, g)
                _purify(t, f, g, c)
            if wrap:
                _grown(wide[WRAP_C], both, weight, tc, f)
                _grown(wide[LIGHT + 1 + p], both, weight, tc, g)
                _mix_lit(t, c, behind[k : k + cw], f, g, out[k : k + cw])
            else:
                _mix(t, c, behind[k : k + cw], out[k : k + cw])


@compiled(
    f"i8({_LUMAS}, {_CHROMA}, {_PLANES}, {_WISHES}, UniTuple({_TAPS}, 4), {_PICTURES}, {_PLACE}, "
    "f4[::1])"
)
def _compose(
    lumas: Lumas,
    chroma: Chroma,
    low: Floats,
    wishes: Wishes,
    grid: Grid,
    pictures: Pictures,
    place: Place,
    scratch: Floats,
) -> int:
    """Put the person into the picture tile by tile; return how many tiles hold an edge of theirs.

    Tiles of one kind beside one another are handled as one run. Of `lumas` the first is what alpha
    was made for, the second what is shown.
    """
    rows, columns, c_rows, c_columns = grid
    i0, i1 = rows[0], rows[1]
    h, w = i0.size, columns[0].size
    tall = 0
    for ty in range(0, h, TILE_H):
        tall = max(tall, int(i1[min(ty + TILE_H, h) - 1]) - int(i0[ty]) + 1)
    wide, alpha, lines, bounds, kinds = _parts(scratch, tall, w, low.shape[2])
    work = (wide, alpha, lines)
    soft_tiles = 0
    for ty in range(0, h, TILE_H):
        th = min(TILE_H, h - ty)
        base, end = np.int64(i0[ty]), np.int64(i1[ty + th - 1]) + 1
        _classify(low, wishes[2], (base, end), columns, bounds, kinds)
        n = 0
        while n < kinds.size:
            start, kind = n, kinds[n]
            while n < kinds.size and kinds[n] == kind:
                n += 1
            tx = start * TILE_W
            run = (ty, th, tx, min(n * TILE_W, w) - tx, base, end)
            if kind == EMPTY:
                _copy_backdrop(pictures, place, run)
            elif kind == FULL:
                _copy_person(lumas[1], chroma, wishes[0], pictures[1], place, run)
            else:
                soft_tiles += n - start
                _enlarge(low, wishes, columns, c_columns, wide, run)
                _soft_luma(lumas, rows, wishes, pictures, work, place, run)
                _soft_chroma(chroma, c_rows, wishes, pictures, work, place, run)
    return soft_tiles


compose = _compose if made(_compose) else kernels_plain.compose


def scratch_for(size: tuple[int, int], small: tuple[int, int]) -> Floats:
    """Return what `compose` needs to work in, for a frame of `size` and arrays of `small`.

    It is enough for every part of them.
    """
    (h, w), (low_h, low_w) = size, small
    i0, i1, _ = taps(h, low_h)
    ends = np.minimum(np.arange(TILE_H - 1, h + TILE_H - 1, TILE_H), h - 1)
    tall = min(int((i1[ends].astype(int) - i0[::TILE_H]).max()) + 2, low_h)
    tiles = (w + TILE_W - 1) // TILE_W
    # Not `empty`: what happened to lie there would stay where no frame needs the room for it.
    return np.zeros(WIDE * tall * w + (TILE_H + 4) * w + 2 * low_w + tiles, np.float32)


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


@compiled(f"void({_READ}, u1[::1], u1[::1], u1[::1])")
def _split_yuyv(data: Bytes, y: Bytes, u: Bytes, v: Bytes) -> None:
    """Take a YUYV picture apart into planes of 4:2:2."""
    for j in range(y.size):
        y[j] = data[2 * j]
    for j in range(u.size):
        u[j] = data[4 * j + 1]
    for j in range(v.size):
        v[j] = data[4 * j + 3]


split_yuyv = _split_yuyv if made(_split_yuyv) else kernels_plain.split_yuyv
