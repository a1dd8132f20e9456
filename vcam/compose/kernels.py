"""Loops over pixels that put a person in front of a backdrop, in planar YUV.

Each comes twice: here compiled by Numba, and in `kernels_plain` in NumPy where Numba is missing;
both give the same bits. The compiled ones release the interpreter's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from segmentation.jit import compiled, made
from vcam.compose import kernels_plain
from vcam.compose.arrays import LIGHT, PERSON, PLANES, RIM, ROOM, WRAP, A, B, taps
from vcam.compose.constants import GAIN, SHIFT

if TYPE_CHECKING:
    from segmentation.planes import Bytes, Chroma, Luma
    from vcam.compose.arrays import (
        Floats,
        Grids,
        Ints,
        Layers,
        Lumas,
        Pictures,
        Place,
        Taps,
        Wishes,
    )

    Int = int | np.int64
    Rows = tuple[Int, Int]
    Span = tuple[Int, Int, Int, Int]  # first and last row of `low`, and of `rim`
    Run = tuple[int, int, int, int, Int, Int]  # top, height, left, width; first rows of the two
    Work = tuple[Floats, Floats, Floats]  # planes as wide as the frame, alpha, five lines

TILE_H, TILE_W = 16, 32  # rows and columns of luma handled at once; even
EMPTY, FULL, SOFT = 0, 1, 2  # kinds of tiles: backdrop alone, person alone, both or light on them
# Alpha that comes out as exactly 0 and as exactly 1, once it is stretched by `GAIN`.
NOTHING: Final = 0.005
ALL: Final = 0.995
WRAP_C: Final = RIM  # of the planes of `rim` as wide as the frame: `WRAP` at the width of chroma
WIDE: Final = PLANES + RIM + 1
LINES: Final = 5  # as wide as the frame, to work in

_READ = "Array(u1, 1, 'C', readonly=True)"
_LINE = "Array(f4, 1, 'C', readonly=True)"
_PLANE = "Array(f4, 2, 'C', readonly=True)"
_PLANES = "Array(f4, 3, 'C', readonly=True)"
_TAPS = "Tuple((u4[::1], u4[::1], f4[::1]))"
_GRIDS = f"UniTuple(UniTuple({_TAPS}, 4), 2)"
_LAYERS = f"UniTuple({_PLANES}, 2)"
_SPAN = "UniTuple(i8, 4)"
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
    lines = scratch[at : at + LINES * w].reshape(LINES, w)
    at += LINES * w
    bounds = scratch[at : at + 2 * low_w].reshape(2, low_w)
    at += 2 * low_w
    return wide, alpha, lines, bounds, scratch[at : at + (w + TILE_W - 1) // TILE_W]


@compiled(f"void({_LAYERS}, b1, {_SPAN}, UniTuple({_TAPS}, 2), f4[:, ::1], f4[::1])")
def _classify(
    layers: Layers,
    wrap: bool,
    span: Span,
    columns: tuple[Taps, Taps],
    bounds: Floats,
    kinds: Floats,
) -> None:
    """Say of each tile beside one another which kind it is, by what alpha can be in those rows."""
    zero, white = np.float32(0), np.float32(255)
    low, rim = layers
    j0, j1, _ = columns[0]
    most, least = bounds[0], bounds[1]  # whatever the luma
    most[:] = np.float32(-9)
    least[:] = np.float32(9)
    for i in range(span[0], span[1]):
        row_a, row_b = low[A, i], low[B, i]
        for j in range(most.size):
            a = row_a[j] * white
            most[j] = max(most[j], row_b[j] + max(a, zero))
            least[j] = min(least[j], row_b[j] + min(a, zero))
    for n in range(kinds.size):
        last = min(n * TILE_W + TILE_W, j1.size) - 1
        x0, x1 = np.int64(j0[n * TILE_W]), np.int64(j1[last])
        high, deep = most[x0], least[x0]
        for j in range(x0 + 1, x1 + 1):
            high = max(high, most[j])
            deep = min(deep, least[j])
        full = FULL if deep > np.float32(ALL) else SOFT
        kinds[n] = EMPTY if high < np.float32(NOTHING) else full
    if not wrap:
        return
    j0, j1, _ = columns[1]
    spilt = bounds[0, : rim.shape[2]]
    spilt[:] = zero
    for i in range(span[2], span[3]):
        for j in range(spilt.size):
            spilt[j] = max(spilt[j], rim[WRAP, i, j])
    for n in range(kinds.size):
        last = min(n * TILE_W + TILE_W, j1.size) - 1
        for j in range(np.int64(j0[n * TILE_W]), np.int64(j1[last]) + 1):
            if spilt[j] > zero:
                kinds[n] = SOFT


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


@compiled(f"void({_PLANES}, b1, {_GRIDS}, {_SPAN}, f4[:, :, ::1], {_RUN})")
def _enlarge(low: Floats, clean: bool, grids: Grids, span: Span, wide: Floats, run: Run) -> None:
    """Widen the planes that say who is where, and what colours they have."""
    tx, tw = run[2], run[3]
    part, c_part = (tx, tx + tw), (tx // 2, tx // 2 + tw // 2)
    rows, columns, c_columns = (span[0], span[1]), grids[0][1], grids[0][3]
    for p in range(PLANES if clean else PERSON):
        if p <= PERSON or p == ROOM:
            _widen_rows(low[p], rows, columns, part, wide[p])
        else:
            _widen_rows(low[p], rows, c_columns, c_part, wide[p])


@compiled(f"void({_PLANES}, {_GRIDS}, {_SPAN}, f4[:, :, ::1], {_RUN})")
def _enlarge_rim(rim: Floats, grids: Grids, span: Span, wide: Floats, run: Run) -> None:
    """Widen the light that spills."""
    tx, tw = run[2], run[3]
    part, c_part = (tx, tx + tw), (tx // 2, tx // 2 + tw // 2)
    rows, columns, c_columns = (span[2], span[3]), grids[1][1], grids[1][3]
    for p in range(RIM):
        if p <= LIGHT:
            _widen_rows(rim[p], rows, columns, part, wide[PLANES + p])
        else:
            _widen_rows(rim[p], rows, c_columns, c_part, wide[PLANES + p])
    # The spill once more, for chroma.
    _widen_rows(rim[WRAP], rows, c_columns, c_part, wide[PLANES + WRAP_C])


@compiled(f"void({_LUMAS}, {_GRIDS}, {_WISHES}, {_PICTURES}, {_WORK}, {_PLACE}, {_RUN})")
def _soft_luma(
    lumas: Lumas,
    grids: Grids,
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
    (i0, i1, wy), (k0, k1, wk) = grids[0][0], grids[1][2]
    full_range, clean, wrap = wishes
    behind, out = pictures
    wide, alpha, lines = work
    ty, tx, tw = run[0], run[2], run[3]
    o = _corner(place, run)[0]
    c, f, g = lines[0, :tw], lines[2, :tw], lines[3, :tw]
    spill, light = lines[1, :tw], lines[4, :tw]
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
            if r % 2 == 0:  # it is smooth: two rows take the same
                n = (ty + r) // 2
                both = np.int64(k0[n]) - run[5], np.int64(k1[n]) - run[5]
                _grown(wide[PLANES + WRAP], both, wk[n], tx, spill)
                _grown(wide[PLANES + LIGHT], both, wk[n], tx, light)
            _mix_lit(t, c, behind[k : k + tw], spill, light, out[k : k + tw])
        else:
            _mix(t, c, behind[k : k + tw], out[k : k + tw])


@compiled(f"void({_CHROMA}, {_GRIDS}, {_WISHES}, {_PICTURES}, {_WORK}, {_PLACE}, {_RUN})")
def _soft_chroma(
    chroma: Chroma,
    grids: Grids,
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
    (i0, i1, wy), (k0, k1, wk) = grids[0][2], grids[1][2]
    full_range, clean, wrap = wishes
    behind, out = pictures
    wide, alpha, lines = work
    tx, tw, tc, cw = run[2], run[3], run[2] // 2, run[3] // 2
    _, o, c_width, c_area = _corner(place, run)
    c, t, f, g = lines[0, :cw], lines[1, :cw], lines[2, :cw], lines[3, :cw]
    spill = lines[1, cw : 2 * cw]
    for r in range(run[1] // 2):
        upper_t, lower_t = alpha[2 * r, tx : tx + tw], alpha[2 * r + 1, tx : tx + tw]
        row = run[0] // 2 + r
        weight = wy[row]
        both = np.int64(i0[row]) - run[4], np.int64(i1[row]) - run[4]
        fine = np.int64(k0[row]) - run[5], np.int64(k1[row]) - run[5]
        for j in range(cw):
            a = (upper_t[2 * j] + upper_t[2 * j + 1]) + (lower_t[2 * j] + lower_t[2 * j + 1])
            t[j] = a * quarter
        if wrap:
            _grown(wide[PLANES + WRAP_C], fine, wk[row], tc, spill)
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
                _grown(wide[PLANES + LIGHT + 1 + p], fine, wk[row], tc, g)
                _mix_lit(t, c, behind[k : k + cw], spill, g, out[k : k + cw])
            else:
                _mix(t, c, behind[k : k + cw], out[k : k + cw])


@compiled(
    f"i8({_LUMAS}, {_CHROMA}, {_LAYERS}, {_WISHES}, {_GRIDS}, {_PICTURES}, {_PLACE}, f4[::1])"
)
def _compose(
    lumas: Lumas,
    chroma: Chroma,
    layers: Layers,
    wishes: Wishes,
    grids: Grids,
    pictures: Pictures,
    place: Place,
    scratch: Floats,
) -> int:
    """Put the person into the picture tile by tile; return how many tiles hold an edge of theirs.

    Tiles of one kind beside one another are handled as one run. Of `lumas` the first is what alpha
    was made for, the second what is shown.
    """
    grid, fine = grids
    columns = grid[1], fine[1]
    i0, i1, h, w = grid[0][0], grid[0][1], grid[0][0].size, grid[1][0].size
    tall = 0
    for ty in range(0, h, TILE_H):
        tall = max(tall, int(i1[min(ty + TILE_H, h) - 1]) - int(i0[ty]) + 1)
    wide, alpha, lines, bounds, kinds = _parts(scratch, tall + 1, w, layers[0].shape[2])
    work = (wide, alpha, lines)
    soft_tiles = 0
    for ty in range(0, h, TILE_H):
        th = min(TILE_H, h - ty)
        base, end = np.int64(i0[ty]), np.int64(i1[ty + th - 1]) + 1
        start_f, end_f = np.int64(fine[0][0][ty]), np.int64(fine[0][1][ty + th - 1]) + 1
        span = (base, end, start_f, end_f)
        _classify(layers, wishes[2], span, columns, bounds, kinds)
        n = 0
        while n < kinds.size:
            start, kind = n, kinds[n]
            while n < kinds.size and kinds[n] == kind:
                n += 1
            tx = start * TILE_W
            run = (ty, th, tx, min(n * TILE_W, w) - tx, base, start_f)
            if kind == EMPTY:
                _copy_backdrop(pictures, place, run)
            elif kind == FULL:
                _copy_person(lumas[1], chroma, wishes[0], pictures[1], place, run)
            else:
                soft_tiles += n - start
                _enlarge(layers[0], wishes[1], grids, span, wide, run)
                if wishes[2]:
                    _enlarge_rim(layers[1], grids, span, wide, run)
                _soft_luma(lumas, grids, wishes, pictures, work, place, run)
                _soft_chroma(chroma, grids, wishes, pictures, work, place, run)
    return soft_tiles


compose = _compose if made(_compose) else kernels_plain.compose


def scratch_for(size: tuple[int, int], small: tuple[int, int]) -> Floats:
    """Return what `compose` needs to work in, for a frame of `size` and arrays of `small`.

    It is enough for every part of them.
    """
    (h, w), (low_h, low_w) = size, small
    i0, i1, _ = taps(h, low_h)
    ends = np.minimum(np.arange(TILE_H - 1, h + TILE_H - 1, TILE_H), h - 1)
    tall = min(int((i1[ends].astype(int) - i0[::TILE_H]).max()) + 2, low_h) + 1
    tiles = (w + TILE_W - 1) // TILE_W
    # Not `empty`: what happened to lie there would stay where no frame needs the room for it.
    return np.zeros(WIDE * tall * w + (TILE_H + LINES) * w + 2 * low_w + tiles, np.float32)


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
