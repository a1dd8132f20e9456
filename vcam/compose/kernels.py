"""Loops over pixels: putting a person in front of a backdrop in planar YUV, averaging colours.

Each comes twice: compiled by Numba, and in NumPy where Numba is missing; both give the same bits.
The compiled ones release the interpreter's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from segmentation.jit import COMPILED, compiled
from vcam.compose.constants import GAIN, SHIFT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]
    Ints = NDArray[np.uint32]

TILE: Final = (16, 32)  # rows and columns of luma handled at once; even

# Planes of `low`, the arrays at model size that `compose` enlarges as it goes.
A, B = 0, 1  # alpha = clip(A * Y + B), Y = luma as stored, 0..255
PERSON, ROOM = 2, 5  # Y, U, V of the person and of the room near each pixel, limited range
WRAP, LIGHT = 8, 9  # how much of the backdrop spills over the person, and what: Y, U, V times WRAP
PLANES: Final = 12


def taps(size: int, small: int) -> tuple[Ints, Ints, Floats]:
    """Return, for each of `size` pixels, its two neighbours among `small` and the second's weight.

    Pixel centres are aligned, as `cv2.resize` does.
    """
    at = ((np.arange(size) + 0.5) * (small / size) - 0.5).astype(np.float32)
    first = np.floor(at)
    weight = at - first
    low = np.clip(first, 0, small - 1).astype(np.uint32)
    high = np.clip(first + 1, 0, small - 1).astype(np.uint32)
    return low, high, weight.astype(np.float32)


_READ = "Array(u1, 1, 'C', readonly=True)"
_TAPS = "u4[::1], u4[::1], f4[::1]"


@compiled(f"void(Array(f4, 1, 'C', readonly=True), {_TAPS}, f4[::1])", inline=True)
def _widen(source: Floats, j0: Ints, j1: Ints, wx: Floats, out: Floats) -> None:
    for j in range(out.size):
        left = source[j0[j]]
        out[j] = left + (source[j1[j]] - left) * wx[j]


@compiled("void(f4[::1], f4[::1], f4, f4[::1])", inline=True)
def _between(upper: Floats, lower: Floats, weight: float, out: Floats) -> None:
    for j in range(out.size):
        out[j] = upper[j] + (lower[j] - upper[j]) * weight


@compiled("void(f4[::1], f4[::1], f4[::1], f4[::1])", inline=True)
def _purify(t: Floats, person: Floats, room: Floats, c: Floats) -> None:
    one, zero, white = np.float32(1), np.float32(0), np.float32(255)
    for j in range(c.size):
        pure = c[j] + (one - t[j]) * ((person[j] - c[j]) + t[j] * (person[j] - room[j]))
        c[j] = min(max(pure, zero), white)


@compiled("void(f4[::1], f4[::1], f4[::1])", inline=True)
def _spill(wrap: Floats, light: Floats, c: Floats) -> None:
    one = np.float32(1)
    for j in range(c.size):
        c[j] = c[j] * (one - wrap[j]) + light[j]


@compiled(f"void(f4[::1], f4[::1], {_READ}, u1[::1])", inline=True)
def _mix(t: Floats, c: Floats, behind: Bytes, to: Bytes) -> None:
    one, half = np.float32(1), np.float32(0.5)
    for j in range(to.size):
        to[j] = np.uint8(np.int32(c[j] * t[j] + np.float32(behind[j]) * (one - t[j]) + half))


@compiled(
    f"i8({_READ}, i8, {_READ}, {_READ}, i8, i8, b1, Array(f4, 3, 'C', readonly=True), b1, b1, "
    f"{_TAPS}, {_TAPS}, {_TAPS}, {_TAPS}, {_READ}, u1[::1], i8, i8, i8, i8, f4[::1])"
)
def _compose_compiled(
    y: Bytes,
    y_line: int,
    u: Bytes,
    v: Bytes,
    c_line: int,
    c_step: int,
    full_range: bool,
    low: Floats,
    clean: bool,
    wrap: bool,
    i0: Ints,
    i1: Ints,
    wy: Floats,
    j0: Ints,
    j1: Ints,
    wx: Floats,
    ci0: Ints,
    ci1: Ints,
    cwy: Floats,
    cj0: Ints,
    cj1: Ints,
    cwx: Floats,
    backdrop: Bytes,
    out: Bytes,
    width: int,
    height: int,
    left: int,
    top: int,
    scratch: Floats,
) -> int:
    one, zero, half = np.float32(1), np.float32(0), np.float32(0.5)
    quarter, white = np.float32(0.25), np.float32(255)
    gain, shift = np.float32(GAIN), np.float32(SHIFT)
    slope, c_slope = np.float32(LUMA_SLOPE), np.float32(CHROMA_SLOPE)
    black, grey = np.float32(BLACK), np.float32(GREY)
    h, w, lw = i0.size, j0.size, low.shape[2]
    u_at = width * height
    c_width = width // 2
    tall = 0
    for ty in range(0, h, 16):
        tall = max(tall, int(i1[min(ty + 16, h) - 1]) - int(i0[ty]) + 1)
    at = 13 * tall * w
    wide = scratch[:at].reshape(13, tall, w)
    alpha = scratch[at : at + 16 * w].reshape(16, w)
    at += 16 * w
    colour, thin = scratch[at : at + w], scratch[at + w : at + 2 * w]
    first, second = scratch[at + 2 * w : at + 3 * w], scratch[at + 3 * w : at + 4 * w]
    at += 4 * w
    most, least = scratch[at : at + lw], scratch[at + lw : at + 2 * lw]
    at += 2 * lw
    kinds = scratch[at : at + (w + 31) // 32]
    soft_tiles = 0
    for ty in range(0, h, 16):
        th = min(16, h - ty)
        base, end = np.int64(i0[ty]), np.int64(i1[ty + th - 1]) + 1
        # What alpha can be at most and at least, whatever the luma.
        most[:] = np.float32(-9)
        least[:] = np.float32(9)
        for i in range(base, end):
            row_a, row_b = low[0, i], low[1, i]
            for j in range(lw):
                a = row_a[j] * white
                most[j] = max(most[j], row_b[j] + max(a, zero))
                least[j] = min(least[j], row_b[j] + min(a, zero))
            if wrap:
                row_w = low[8, i]
                for j in range(lw):
                    least[j] = min(least[j], one - row_w[j] * np.float32(1000))
        for n in range(kinds.size):
            x0, x1 = np.int64(j0[n * 32]), np.int64(j1[min(n * 32 + 32, w) - 1])
            high, deep = most[x0], least[x0]
            for j in range(x0 + 1, x1 + 1):
                high = max(high, most[j])
                deep = min(deep, least[j])
            kinds[n] = 0 if high < np.float32(0.005) else 1 if deep > np.float32(0.995) else 2
        n = 0
        while n < kinds.size:
            start, kind = n, kinds[n]
            while n < kinds.size and kinds[n] == kind:
                n += 1
            tx = start * 32
            tw = min(n * 32, w) - tx
            cw = tw // 2
            o = (top + ty) * width + left + tx
            oc = u_at + ((top + ty) // 2) * c_width + (left + tx) // 2
            if kind == 0:
                for r in range(th):
                    k = o + r * width
                    to, behind = out[k : k + tw], backdrop[k : k + tw]
                    for j in range(tw):
                        to[j] = behind[j]
                for p in range(2):
                    for r in range(th // 2):
                        k = oc + p * (u_at // 4) + r * c_width
                        to, behind = out[k : k + cw], backdrop[k : k + cw]
                        for j in range(cw):
                            to[j] = behind[j]
                continue
            if kind == 1:
                for r in range(th):
                    k, s = o + r * width, (ty + r) * y_line + tx
                    to, src = out[k : k + tw], y[s : s + tw]
                    if full_range:
                        for j in range(tw):
                            to[j] = np.uint8(np.int32(np.float32(src[j]) * slope + black + half))
                    else:
                        for j in range(tw):
                            to[j] = src[j]
                for p in range(2):
                    plane = u if p == 0 else v
                    for r in range(th // 2):
                        k = oc + p * (u_at // 4) + r * c_width
                        s = (ty // 2 + r) * c_step * c_line + tx // 2
                        s2 = s + (c_step - 1) * c_line
                        to = out[k : k + cw]
                        upper, lower = plane[s : s + cw], plane[s2 : s2 + cw]
                        if full_range:
                            for j in range(cw):
                                both = (np.float32(upper[j]) + np.float32(lower[j])) * half
                                both = (both - grey) * c_slope + grey
                                to[j] = np.uint8(np.int32(both + half))
                        else:
                            for j in range(cw):
                                both = (np.float32(upper[j]) + np.float32(lower[j])) * half
                                to[j] = np.uint8(np.int32(both + half))
                continue
            soft_tiles += n - start
            for p in range(12):
                if (p > 1 and p < 8 and not clean) or (p > 7 and not wrap):
                    continue
                if p < 3 or p == 5 or p == 8 or p == 9:
                    for i in range(end - base):
                        _widen(
                            low[p, base + i],
                            j0[tx : tx + tw],
                            j1[tx : tx + tw],
                            wx[tx : tx + tw],
                            wide[p, i, tx : tx + tw],
                        )
                else:
                    for i in range(end - base):
                        _widen(
                            low[p, base + i],
                            cj0[tx // 2 : tx // 2 + cw],
                            cj1[tx // 2 : tx // 2 + cw],
                            cwx[tx // 2 : tx // 2 + cw],
                            wide[p, i, tx // 2 : tx // 2 + cw],
                        )
            if wrap:  # the spill once more, for chroma
                for i in range(end - base):
                    _widen(
                        low[8, base + i],
                        cj0[tx // 2 : tx // 2 + cw],
                        cj1[tx // 2 : tx // 2 + cw],
                        cwx[tx // 2 : tx // 2 + cw],
                        wide[12, i, tx // 2 : tx // 2 + cw],
                    )
            f, g = first[:tw], second[:tw]
            for r in range(th):
                ia, ib = np.int64(i0[ty + r]) - base, np.int64(i1[ty + r]) - base
                weight = wy[ty + r]
                k, s = o + r * width, (ty + r) * y_line + tx
                src = y[s : s + tw]
                t, c = alpha[r, tx : tx + tw], colour[:tw]
                _between(wide[0, ia, tx : tx + tw], wide[0, ib, tx : tx + tw], weight, f)
                _between(wide[1, ia, tx : tx + tw], wide[1, ib, tx : tx + tw], weight, g)
                for j in range(tw):
                    stored = np.float32(src[j])
                    c[j] = stored * slope + black if full_range else stored
                    a = (f[j] * stored + g[j]) * gain - shift
                    t[j] = min(max(a, zero), one)
                if clean:
                    _between(wide[2, ia, tx : tx + tw], wide[2, ib, tx : tx + tw], weight, f)
                    _between(wide[5, ia, tx : tx + tw], wide[5, ib, tx : tx + tw], weight, g)
                    _purify(t, f, g, c)
                if wrap:
                    _between(wide[8, ia, tx : tx + tw], wide[8, ib, tx : tx + tw], weight, f)
                    _between(wide[9, ia, tx : tx + tw], wide[9, ib, tx : tx + tw], weight, g)
                    _spill(f, g, c)
                _mix(t, c, backdrop[k : k + tw], out[k : k + tw])
            f, g, c, t = first[:cw], second[:cw], colour[:cw], thin[:cw]
            tc = tx // 2
            for r in range(th // 2):
                upper_t, lower_t = alpha[2 * r, tx : tx + tw], alpha[2 * r + 1, tx : tx + tw]
                row = ty // 2 + r
                ia, ib = np.int64(ci0[row]) - base, np.int64(ci1[row]) - base
                weight = cwy[row]
                for j in range(cw):
                    a = (upper_t[2 * j] + upper_t[2 * j + 1]) + (
                        lower_t[2 * j] + lower_t[2 * j + 1]
                    )
                    t[j] = a * quarter
                for p in range(2):
                    plane = u if p == 0 else v
                    k = oc + p * (u_at // 4) + r * c_width
                    s = row * c_step * c_line + tc
                    s2 = s + (c_step - 1) * c_line
                    upper, lower = plane[s : s + cw], plane[s2 : s2 + cw]
                    for j in range(cw):
                        mean = (np.float32(upper[j]) + np.float32(lower[j])) * half
                        c[j] = (mean - grey) * c_slope + grey if full_range else mean
                    if clean:
                        q = 3 + p
                        _between(wide[q, ia, tc : tc + cw], wide[q, ib, tc : tc + cw], weight, f)
                        q = 6 + p
                        _between(wide[q, ia, tc : tc + cw], wide[q, ib, tc : tc + cw], weight, g)
                        _purify(t, f, g, c)
                    if wrap:
                        q = 12
                        _between(wide[q, ia, tc : tc + cw], wide[q, ib, tc : tc + cw], weight, f)
                        q = 10 + p
                        _between(wide[q, ia, tc : tc + cw], wide[q, ib, tc : tc + cw], weight, g)
                        _spill(f, g, c)
                    _mix(t, c, backdrop[k : k + cw], out[k : k + cw])
    return soft_tiles


def scratch_for(size: tuple[int, int], small: tuple[int, int]) -> Floats:
    """Return what `compose` needs to work in, for a frame of `size` and arrays of `small`."""
    (h, w), (lh, lw) = size, small
    i0, i1, _ = taps(h, lh)
    tall = int((i1[np.minimum(np.arange(15, h + 15, 16), h - 1)].astype(int) - i0[::16]).max()) + 1
    # Not `empty`: what happened to lie there would stay where no frame needs the room for it.
    return np.zeros(13 * tall * w + 20 * w + 2 * lw + (w + 31) // 32, np.float32)


def _compose_plain(
    y: Bytes,
    y_line: int,
    u: Bytes,
    v: Bytes,
    c_line: int,
    c_step: int,
    full_range: bool,
    low: Floats,
    clean: bool,
    wrap: bool,
    i0: Ints,
    i1: Ints,
    wy: Floats,
    j0: Ints,
    j1: Ints,
    wx: Floats,
    ci0: Ints,
    ci1: Ints,
    cwy: Floats,
    cj0: Ints,
    cj1: Ints,
    cwx: Floats,
    backdrop: Bytes,
    out: Bytes,
    width: int,
    height: int,
    left: int,
    top: int,
    scratch: Floats,
) -> int:
    one, zero, half, white = (np.float32(value) for value in (1, 0, 0.5, 255))
    h, w = i0.size, j0.size

    def enlarged(plane: int, channel: int) -> Floats:
        rows, columns = ((i0, i1, wy), (j0, j1, wx))
        if channel:
            rows, columns = ((ci0, ci1, cwy), (cj0, cj1, cwx))
        source = low[plane]
        first, second = source[:, columns[0]], source[:, columns[1]]
        wide = first + (second - first) * columns[2]
        upper, lower = wide[rows[0]], wide[rows[1]]
        made: Floats = upper + (lower - upper) * rows[2][:, None]
        return made

    def blended(c: Floats, t: Floats, channel: int, behind: Bytes) -> Bytes:
        if clean:
            person, room = enlarged(PERSON + channel, channel), enlarged(ROOM + channel, channel)
            c = c + (one - t) * ((person - c) + t * (person - room))
            c = np.clip(c, zero, white)
        if wrap:
            c = c * (one - enlarged(WRAP, channel)) + enlarged(LIGHT + channel, channel)
        mixed = c * t + behind.astype(np.float32) * (one - t) + half
        made: Bytes = mixed.astype(np.int32).astype(np.uint8)
        return made

    stored = _rows(y, y_line, h, w).astype(np.float32)
    t = (enlarged(A, 0) * stored + enlarged(B, 0)) * np.float32(GAIN) - np.float32(SHIFT)
    t = np.clip(t, zero, one)
    luma = stored * np.float32(LUMA_SLOPE) + np.float32(BLACK) if full_range else stored
    shape, area = (height, width), height * width
    place = np.s_[top : top + h, left : left + w]
    out[:area].reshape(shape)[place] = blended(luma, t, 0, backdrop[:area].reshape(shape)[place])
    quarter = (t[::2, ::2] + t[::2, 1::2]) + (t[1::2, ::2] + t[1::2, 1::2])
    quarter = quarter * np.float32(0.25)
    shape = (height // 2, width // 2)
    place = np.s_[top // 2 : (top + h) // 2, left // 2 : (left + w) // 2]
    for channel, plane, at in ((1, u, area), (2, v, area * 5 // 4)):
        both = _rows(plane, c_line, h // 2 * c_step, w // 2).astype(np.float32)
        c = (both[::c_step] + both[c_step - 1 :: c_step]) * half
        if full_range:
            c = (c - np.float32(GREY)) * np.float32(CHROMA_SLOPE) + np.float32(GREY)
        part = slice(at, at + area // 4)
        behind = backdrop[part].reshape(shape)[place]
        out[part].reshape(shape)[place] = blended(c, quarter, channel, behind)
    return -1


compose = _compose_compiled if COMPILED else _compose_plain


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
        rows[n, j] = total * np.float32(1 / 49)


@compiled(
    "void(Array(f4, 3, 'C', readonly=True), Array(f4, 2, 'C', readonly=True), f4, f4, f4, "
    "f4[:, :, ::1], f4[:, :, ::1], f4[:, ::1])"
)
def _near_compiled(
    planes: Floats,
    alpha: Floats,
    start: float,
    gain: float,
    trust: float,
    out: Floats,
    sums: Floats,
    rows: Floats,
) -> None:
    zero, one = np.float32(0), np.float32(1)
    h, w = alpha.shape
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


def _near_plain(
    planes: Floats,
    alpha: Floats,
    start: float,
    gain: float,
    trust: float,
    out: Floats,
    sums: Floats,
    rows: Floats,
) -> None:
    h, w = alpha.shape
    weight = (alpha - np.float32(start)) * np.float32(gain)
    weight = np.clip(weight, np.float32(0), np.float32(1))

    def box(x: Floats) -> Floats:
        wide = np.pad(x, ((0, 0), (3, 3)), mode="reflect" if w > 1 else "edge")
        across = wide[:, :w].copy()
        for k in range(1, 7):
            across += wide[:, k : k + w]
        tall = np.pad(across, ((3, 3), (0, 0)), mode="reflect" if h > 1 else "edge")
        total = tall[:h].copy()
        for k in range(1, 7):
            total += tall[k : k + h]
        return total * np.float32(1 / 49)

    total = box(weight) + np.float32(trust)
    for c in range(3):
        out[c] = (box(planes[c] * weight) + planes[c] * np.float32(trust)) / total


near = _near_compiled if COMPILED else _near_plain


def near_scratch(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return what `near` needs to work in, for planes of `shape`."""
    h, w = shape
    return np.zeros((4, h, w), np.float32), np.zeros((4, w + 6), np.float32)


@compiled(f"void({_READ}, u1[::1], u1[::1], u1[::1])")
def _split_yuyv_compiled(data: Bytes, y: Bytes, u: Bytes, v: Bytes) -> None:
    for j in range(y.size):
        y[j] = data[2 * j]
    for j in range(u.size):
        u[j] = data[4 * j + 1]
    for j in range(v.size):
        v[j] = data[4 * j + 3]


def _split_yuyv_plain(data: Bytes, y: Bytes, u: Bytes, v: Bytes) -> None:
    y[:], u[:], v[:] = data[0 : 2 * y.size : 2], data[1 : 4 * u.size : 4], data[3::4][: v.size]


split_yuyv = _split_yuyv_compiled if COMPILED else _split_yuyv_plain


def flat(plane: NDArray[np.uint8]) -> tuple[Bytes, int]:
    """Return a plane's memory as one row of bytes, padding included, and its bytes per line.

    The pixels of a row must be adjacent; otherwise the plane is copied first.
    """
    h, w = plane.shape
    line = plane.strides[0]
    if plane.strides[1] != 1 or line < w:
        plane = np.ascontiguousarray(plane)
        line = w
    if plane.flags.c_contiguous:
        return plane.reshape(-1), w
    size = (h - 1) * line + w
    bytes_: Bytes = np.lib.stride_tricks.as_strided(plane, (size,), (1,), writeable=False)
    return bytes_, line


def _rows(plane: Bytes, line: int, h: int, w: int) -> Bytes:
    return np.lib.stride_tricks.as_strided(plane, (h, w), (line, 1), writeable=False)
