"""Loops over pixels at full size: putting a person in front of a backdrop, in planar YUV.

Each comes twice: compiled by Numba, and in NumPy where Numba is missing; both give the same bits.
The compiled ones release the interpreter's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.jit import COMPILED, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]

TILE: Final = (16, 32)  # rows and columns of luma handled at once; even
# Alpha is stretched by this much about its middle, so that almost-0 and almost-1 are exactly so.
GAIN: Final = 1.02

# Planes of `low`, the arrays at model size that `compose` enlarges as it goes.
A, B = 0, 1  # alpha = clip(A * Y + B)
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
    low = np.clip(first, 0, small - 1).astype(np.int32)
    high = np.clip(first + 1, 0, small - 1).astype(np.int32)
    return low, high, weight.astype(np.float32)


_COMPOSE = (
    "i8("
    "Array(u1, 1, 'C', readonly=True), i8,"  # y
    "Array(u1, 1, 'C', readonly=True), Array(u1, 1, 'C', readonly=True), i8, i8,"  # u, v
    "b1,"
    "Array(f4, 3, 'C', readonly=True), b1, b1,"  # low
    "i4[::1], i4[::1], f4[::1],"  # rows
    "i4[::1], i4[::1], f4[::1],"  # columns
    "Array(u1, 1, 'C', readonly=True), u1[::1],"
    "i8, i8, i8, i8)"
)


@compiled(_COMPOSE)
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
    backdrop: Bytes,
    out: Bytes,
    width: int,
    height: int,
    left: int,
    top: int,
) -> int:
    one, zero, half = np.float32(1), np.float32(0), np.float32(0.5)
    gain = np.float32(1.02)
    shift = np.float32(0.01)
    slope = np.float32(219 / 255)
    c_slope = np.float32(224 / 255)
    black, grey, white = np.float32(16), np.float32(128), np.float32(255)
    h, w = i0.size, j0.size
    u_at = width * height
    v_at = u_at + u_at // 4
    line = np.empty((12, low.shape[2]), np.float32)
    alpha = np.empty((16, 32), np.float32)
    soft_tiles = 0
    for ty in range(0, h, 16):
        th = min(16, h - ty)
        for tx in range(0, w, 32):
            tw = min(32, w - tx)
            x0, x1 = j0[tx], j1[tx + tw - 1]
            least, most = np.float32(9), np.float32(-9)
            for i in range(i0[ty], i1[ty + th - 1] + 1):
                for j in range(x0, x1 + 1):
                    a, b = low[0, i, j], low[1, i, j]
                    most = max(most, b + max(a, zero))
                    least = min(least, b + min(a, zero))
                    if wrap and low[8, i, j] > zero:
                        least = zero
            o = (top + ty) * width + left + tx
            oc = ((top + ty) // 2) * (width // 2) + (left + tx) // 2
            if most < np.float32(0.005):
                for r in range(th):
                    k = o + r * width
                    out[k : k + tw] = backdrop[k : k + tw]
                for r in range(th // 2):
                    k = u_at + oc + r * (width // 2)
                    out[k : k + tw // 2] = backdrop[k : k + tw // 2]
                    k += v_at - u_at
                    out[k : k + tw // 2] = backdrop[k : k + tw // 2]
                continue
            whole = least > np.float32(0.995)
            if whole:
                for r in range(th):
                    k, s = o + r * width, (ty + r) * y_line + tx
                    to, src = out[k : k + tw], y[s : s + tw]
                    if full_range:
                        for j in range(tw):
                            to[j] = np.uint8(np.int32(np.float32(src[j]) * slope + black + half))
                    else:
                        for j in range(tw):
                            to[j] = src[j]
            else:
                soft_tiles += 1
                for r in range(th):
                    ia, ib, f = i0[ty + r], i1[ty + r], wy[ty + r]
                    for p in range(12):
                        if p in (3, 4, 6, 7, 10, 11):
                            continue
                        if (p == 2 or p == 5) and not clean:
                            continue
                        if p > 7 and not wrap:
                            continue
                        for j in range(x0, x1 + 1):
                            line[p, j] = low[p, ia, j] + (low[p, ib, j] - low[p, ia, j]) * f
                    k, s = o + r * width, (ty + r) * y_line + tx
                    to, src, behind = out[k : k + tw], y[s : s + tw], backdrop[k : k + tw]
                    for j in range(tw):
                        ja, jb, g = j0[tx + j], j1[tx + j], wx[tx + j]
                        stored = np.float32(src[j])
                        a = line[0, ja] + (line[0, jb] - line[0, ja]) * g
                        b = line[1, ja] + (line[1, jb] - line[1, ja]) * g
                        t = (a * (stored / white) + b) * gain - shift
                        t = min(max(t, zero), one)
                        alpha[r, j] = t
                        c = stored * slope + black if full_range else stored
                        if clean:
                            person = line[2, ja] + (line[2, jb] - line[2, ja]) * g
                            room = line[5, ja] + (line[5, jb] - line[5, ja]) * g
                            c = c + (one - t) * ((person - c) + t * (person - room))
                            c = min(max(c, zero), white)
                        if wrap:
                            spill = line[8, ja] + (line[8, jb] - line[8, ja]) * g
                            light = line[9, ja] + (line[9, jb] - line[9, ja]) * g
                            c = c * (one - spill) + light
                        to[j] = np.uint8(np.int32(c * t + np.float32(behind[j]) * (one - t) + half))
            for r in range(th // 2):
                row = ty + 2 * r
                s = (row // 2) * c_step * c_line + tx // 2
                s2 = s + (c_step - 1) * c_line
                for p in range(2):
                    plane = u if p == 0 else v
                    k = (u_at if p == 0 else v_at) + oc + r * (width // 2)
                    to, behind = out[k : k + tw // 2], backdrop[k : k + tw // 2]
                    upper, lower = plane[s : s + tw // 2], plane[s2 : s2 + tw // 2]
                    if whole:
                        for j in range(tw // 2):
                            c = (np.float32(upper[j]) + np.float32(lower[j])) * half
                            if full_range:
                                c = (c - grey) * c_slope + grey
                            to[j] = np.uint8(np.int32(c + half))
                        continue
                    if clean or wrap:
                        ia, ib, f = i0[row], i1[row], wy[row]
                        for q in (3, 6, 8, 10):
                            n = q if q == 8 else q + p
                            if (q < 8 and not clean) or (q >= 8 and not wrap):
                                continue
                            for j in range(x0, x1 + 1):
                                line[n, j] = low[n, ia, j] + (low[n, ib, j] - low[n, ia, j]) * f
                    for j in range(tw // 2):
                        ja, jb, g = j0[tx + 2 * j], j1[tx + 2 * j], wx[tx + 2 * j]
                        c = (np.float32(upper[j]) + np.float32(lower[j])) * half
                        if full_range:
                            c = (c - grey) * c_slope + grey
                        t = (alpha[2 * r, 2 * j] + alpha[2 * r, 2 * j + 1]) + (
                            alpha[2 * r + 1, 2 * j] + alpha[2 * r + 1, 2 * j + 1]
                        )
                        t = t * np.float32(0.25)
                        if clean:
                            n = 3 + p
                            person = line[n, ja] + (line[n, jb] - line[n, ja]) * g
                            n = 6 + p
                            room = line[n, ja] + (line[n, jb] - line[n, ja]) * g
                            c = c + (one - t) * ((person - c) + t * (person - room))
                            c = min(max(c, zero), white)
                        if wrap:
                            n = 10 + p
                            spill = line[8, ja] + (line[8, jb] - line[8, ja]) * g
                            light = line[n, ja] + (line[n, jb] - line[n, ja]) * g
                            c = c * (one - spill) + light
                        to[j] = np.uint8(np.int32(c * t + np.float32(behind[j]) * (one - t) + half))
    return soft_tiles


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
    backdrop: Bytes,
    out: Bytes,
    width: int,
    height: int,
    left: int,
    top: int,
) -> int:
    one, zero, half, white = (np.float32(value) for value in (1, 0, 0.5, 255))
    h, w = i0.size, j0.size

    def enlarged(plane: int, step: int) -> Floats:
        rows, columns = slice(None, None, step), slice(None, None, step)
        upper, lower = low[plane, i0[rows]], low[plane, i1[rows]]
        line = upper + (lower - upper) * wy[rows, None]
        first, second = line[:, j0[columns]], line[:, j1[columns]]
        made: Floats = first + (second - first) * wx[columns]
        return made

    def blended(c: Floats, t: Floats, channel: int, behind: Bytes) -> Bytes:
        step = 1 if channel == 0 else 2
        if clean:
            person, room = enlarged(PERSON + channel, step), enlarged(ROOM + channel, step)
            c = c + (one - t) * ((person - c) + t * (person - room))
            c = np.clip(c, zero, white)
        if wrap:
            c = c * (one - enlarged(WRAP, step)) + enlarged(LIGHT + channel, step)
        mixed = c * t + behind.astype(np.float32) * (one - t) + half
        made: Bytes = mixed.astype(np.int32).astype(np.uint8)
        return made

    stored = _rows(y, y_line, h, w).astype(np.float32)
    t = (enlarged(A, 1) * (stored / white) + enlarged(B, 1)) * np.float32(1.02) - np.float32(0.01)
    t = np.clip(t, zero, one)
    luma = stored * np.float32(219 / 255) + np.float32(16) if full_range else stored
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
            c = (c - np.float32(128)) * np.float32(224 / 255) + np.float32(128)
        part = slice(at, at + area // 4)
        behind = backdrop[part].reshape(shape)[place]
        out[part].reshape(shape)[place] = blended(c, quarter, channel, behind)
    return -1


compose = _compose_compiled if COMPILED else _compose_plain


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
