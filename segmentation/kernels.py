"""Loops over pixels at model size: network input, moving averages, guided filter, learned room.

Each comes twice: compiled by Numba, and in NumPy where Numba is missing; both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import (
    BLACK,
    CHROMA_SLOPE,
    CHROMA_SPAN,
    GREY,
    LUMA_SLOPE,
    LUMA_SPAN,
    ROOM_SCALE,
)
from segmentation.jit import compiled, made

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]
    Colours = tuple[Floats, Floats]  # a layout's matrix and scale
    Terms = tuple[float, float, float, int, int]
    Memory = tuple[Floats, Bytes, Bytes, NDArray[np.float64]]

# Rows of `matrix` in `to_input`: Y, U, V and a constant to R, G, B in 0..1, from BT.601.
LIMITED = np.array(
    [
        [1 / LUMA_SPAN, 0, 1.402 / CHROMA_SPAN, 0],
        [1 / LUMA_SPAN, -0.344136 / CHROMA_SPAN, -0.714136 / CHROMA_SPAN, 0],
        [1 / LUMA_SPAN, 1.772 / CHROMA_SPAN, 0, 0],
    ]
)
LIMITED[:, 3] = -(LIMITED[:, 0] * BLACK + (LIMITED[:, 1] + LIMITED[:, 2]) * GREY)
FULL = LIMITED * [LUMA_SLOPE, CHROMA_SLOPE, CHROMA_SLOPE, 0]
FULL[:, 3] = -(FULL[:, 1] + FULL[:, 2]) * GREY


@compiled("void(Array(u1, 3, 'C', readonly=True), f4[:, ::1], f4[:, ::1], f4[:, :, :, ::1])")
def _to_input_compiled(
    small: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> None:
    h, w = small.shape[1], small.shape[2]
    for c in range(3):
        m0, m1, m2, m3 = matrix[c, 0], matrix[c, 1], matrix[c, 2], matrix[c, 3]
        s, t = scale[c, 0], scale[c, 1]
        for i in range(h):
            y, u, v, out = small[0, i], small[1, i], small[2, i], x[0, c, i]
            for j in range(w):
                a = np.float32(y[j]) * m0 + np.float32(u[j]) * m1
                a = (a + np.float32(v[j]) * m2) + m3
                a = min(max(a, np.float32(0)), np.float32(1))
                out[j] = a * s + t
            last = out[w - 1]
            for j in range(w, x.shape[3]):
                out[j] = last
        for i in range(h, x.shape[2]):
            for j in range(x.shape[3]):
                x[0, c, i, j] = x[0, c, h - 1, j]


def _to_input_plain(
    small: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> None:
    h, w = small.shape[1:]
    planes = small.astype(np.float32)
    for c in range(3):
        m = matrix[c]
        a = planes[0] * m[0] + planes[1] * m[1]
        a = (a + planes[2] * m[2]) + m[3]
        a = np.clip(a, np.float32(0), np.float32(1))
        x[0, c, :h, :w] = a * scale[c, 0] + scale[c, 1]
    x[0, :3, :h, w:] = x[0, :3, :h, w - 1 : w]
    x[0, :3, h:] = x[0, :3, h - 1 : h]


to_input = _to_input_compiled if made(_to_input_compiled) else _to_input_plain


@compiled("void(Array(f4, 2, 'C', readonly=True), f4[:, ::1], f4[:, ::1], f4, f4, f4, f4)")
def _smooth_compiled(
    alpha: NDArray[np.float32],
    motion: NDArray[np.float32],
    held: NDArray[np.float32],
    decay: float,
    still: float,
    low: float,
    high: float,
) -> None:
    one = np.float32(1)
    span = one / (high - low)
    inverse = one / still
    for i in range(alpha.shape[0]):
        a, m, h = alpha[i], motion[i], held[i]
        for j in range(a.size):
            step = a[j] - h[j]
            far = (abs(step) - low) * span
            far = min(max(far, np.float32(0)), one)
            rest = m[j] * inverse
            keep = decay * (one - far) / (one + rest * rest)
            h[j] = a[j] - step * keep


def _smooth_plain(
    alpha: NDArray[np.float32],
    motion: NDArray[np.float32],
    held: NDArray[np.float32],
    decay: float,
    still: float,
    low: float,
    high: float,
) -> None:
    one = np.float32(1)
    span = one / (np.float32(high) - np.float32(low))
    step = alpha - held
    far = np.clip((np.abs(step) - np.float32(low)) * span, np.float32(0), one)
    rest = motion * (one / np.float32(still))
    keep = np.float32(decay) * (one - far) / (one + rest * rest)
    np.subtract(alpha, step * keep, out=held)


smooth = _smooth_compiled if made(_smooth_compiled) else _smooth_plain


_TALL = "f4[:, ::1]"


@compiled(f"void({_TALL}, i8, i8, i8)", inline=True)
def _across(work: NDArray[np.float32], row: int, to: int, w: int) -> None:
    """Sum five neighbours in a row that starts two later, and repeats its ends before and after."""
    work[row, 0] = work[row, 1] = work[row, 2]
    work[row, w + 2] = work[row, w + 3] = work[row, w + 1]
    for j in range(w):
        two = work[row, j] + work[row, j + 1]
        work[to, j] = ((two + work[row, j + 2]) + work[row, j + 3]) + work[row, j + 4]


@compiled(f"void({_TALL}, i8, i8, i8, i8, i8)", inline=True)
def _down(work: NDArray[np.float32], ring: int, y: int, h: int, to: int, w: int) -> None:
    """Average the five rows around `y`, which lie in a ring of five."""
    r0, r1, r2 = ring + max(y - 2, 0) % 5, ring + max(y - 1, 0) % 5, ring + y % 5
    r3, r4 = ring + min(y + 1, h - 1) % 5, ring + min(y + 2, h - 1) % 5
    part = np.float32(1 / 25)
    for j in range(w):
        two = work[r0, j] + work[r1, j]
        work[to, j] = (((two + work[r2, j]) + work[r3, j]) + work[r4, j]) * part


@compiled(f"void({_TALL}, Array(u1, 2, 'C', readonly=True), {_TALL}, {_TALL}, f4, f4, f4, {_TALL})")
def _guide_compiled(
    alpha: NDArray[np.float32],
    luma: NDArray[np.uint8],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    low: float,
    gain: float,
    epsilon: float,
    work: NDArray[np.float32],
) -> None:
    h, w = alpha.shape
    zero, one = np.float32(0), np.float32(1)
    level = np.float32(1 / 255)
    # Rows 0 to 19 of `work` hold sums across of the five rows around the one at hand, for each of
    # I, p, I p and I I; then come those rows themselves, with their ends repeated; then means.
    # Every loop reads and writes few rows, or the compiler no longer tells them apart.
    for i in range(h + 2):
        if i < h:
            for j in range(w):
                p = min(max((alpha[i, j] - low) * gain, zero), one)
                alpha[i, j] = p
                work[21, j + 2] = p
            for j in range(w):
                work[20, j + 2] = np.float32(luma[i, j]) * level
            for j in range(w):
                work[22, j + 2] = work[20, j + 2] * work[21, j + 2]
            for j in range(w):
                work[23, j + 2] = work[20, j + 2] * work[20, j + 2]
            for n in range(4):
                _across(work, 20 + n, 5 * n + i % 5, w)
        if i < 2:
            continue
        y = i - 2
        for n in range(4):
            _down(work, 5 * n, y, h, 24 + n, w)
        for j in range(w):
            mean = work[24, j]
            spread = max(work[27, j] - mean * mean, zero) + epsilon
            a[y, j] = (work[26, j] - mean * work[25, j]) / spread
        for j in range(w):
            b[y, j] = work[25, j] - a[y, j] * work[24, j]
    for i in range(h + 2):
        if i < h:
            for j in range(w):
                work[20, j + 2] = a[i, j]
            for j in range(w):
                work[21, j + 2] = b[i, j]
            for n in range(2):
                _across(work, 20 + n, 5 * n + i % 5, w)
        if i < 2:
            continue
        y = i - 2
        for n in range(2):
            _down(work, 5 * n, y, h, 24 + n, w)
        for j in range(w):
            a[y, j] = work[24, j]
        for j in range(w):
            b[y, j] = work[25, j]


def _guide_plain(
    alpha: NDArray[np.float32],
    luma: NDArray[np.uint8],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    low: float,
    gain: float,
    epsilon: float,
    work: NDArray[np.float32],
) -> None:
    def box(x: NDArray[np.float32]) -> NDArray[np.float32]:
        h, w = x.shape
        wide = np.pad(x, 2, mode="edge")
        sums = wide[:, :w] + wide[:, 1 : w + 1]
        for k in range(2, 5):
            sums = sums + wide[:, k : k + w]
        total = sums[:h] + sums[1 : h + 1]
        for k in range(2, 5):
            total = total + sums[k : k + h]
        mean: NDArray[np.float32] = total * np.float32(1 / 25)
        return mean

    p = np.clip((alpha - np.float32(low)) * np.float32(gain), np.float32(0), np.float32(1))
    alpha[:] = p
    guide = luma.astype(np.float32) * np.float32(1 / 255)
    mi, mp = box(guide), box(p)
    spread = np.maximum(box(guide * guide) - mi * mi, np.float32(0)) + np.float32(epsilon)
    slope = np.divide(box(guide * p) - mi * mp, spread, dtype=np.float32)
    a[:], b[:] = box(slope), box(np.subtract(mp, slope * mi, dtype=np.float32))


guide = _guide_compiled if made(_guide_compiled) else _guide_plain


def guide_scratch(w: int) -> NDArray[np.float32]:
    """Return what `guide` needs to work in, for rows of `w` pixels."""
    return np.zeros((28, w + 4), np.float32)


# What may stand in a pixel of `near` but nothing, 0: whoever is learnt there is not the room.
PERSON: Final = np.uint8(1)  # it is called a person, or is next to one: it must wait
UNSTEADY: Final = np.uint8(2)  # something moves there: not now

_PICTURE: Final = "Array(u1, 3, 'C', readonly=True)"
_PLANES: Final = "f4[:, :, ::1]"


@compiled(
    f"void({_PICTURE}, {_PLANES}, u1[:, ::1], f4[:, ::1], UniTuple(f4[:, ::1], 2), i8, "
    "f4[:, :, :, ::1], u1[:, ::1])"
)
def _compare_compiled(
    picture: Bytes,
    room: Floats,
    weight: Bytes,
    fit: Floats,
    colours: Colours,
    known: int,
    x: Floats,
    apart: Bytes,
) -> None:
    matrix, scale = colours
    h, w = weight.shape
    part, one, zero = np.float32(ROOM_SCALE), np.float32(1), np.float32(0)
    most, unknown = np.float32(254), np.float32(255)
    d = np.empty((3, w), np.float32)
    there = np.empty(w, np.float32)
    wide = x.shape[1] > 3
    for i in range(h):
        # Without a branch in them, loops are compiled to vectors.
        for j in range(w):
            there[j] = one if weight[i, j] >= known else zero
        for c in range(3):
            gain, offset, seen, row = fit[c, 0], fit[c, 1], picture[c, i], room[c, i]
            for j in range(w):
                d[c, j] = (row[j] * gain + offset) - np.float32(seen[j])
        for j in range(w):
            far = max(max(abs(d[0, j]), abs(d[1, j])), abs(d[2, j]))
            apart[i, j] = np.uint8(min(far, most) if there[j] > zero else unknown)
        if not wide:
            continue
        for c in range(3):
            m0, m1, m2, s, out = (
                matrix[c, 0],
                matrix[c, 1],
                matrix[c, 2],
                scale[c, 0],
                x[0, 3 + c, i],
            )
            for j in range(w):
                t = (d[0, j] * m0 + d[1, j] * m1) + d[2, j] * m2
                out[j] = ((t * s) * part) * there[j]
        out = x[0, 6, i]
        for j in range(w):
            out[j] = there[j]


def _compare_plain(
    picture: Bytes,
    room: Floats,
    weight: Bytes,
    fit: Floats,
    colours: Colours,
    known: int,
    x: Floats,
    apart: Bytes,
) -> None:
    matrix, scale = colours
    h, w = weight.shape
    there = weight >= known
    gain, offset = fit[:, 0, None, None], fit[:, 1, None, None]
    d = (room * gain + offset) - picture.astype(np.float32)
    far = np.minimum(np.abs(d).max(axis=0), np.float32(254))
    np.copyto(apart, np.where(there, far, 255), casting="unsafe")
    if x.shape[1] == 3:
        return
    for c in range(3):
        m = matrix[c]
        told = ((d[0] * m[0] + d[1] * m[1]) + d[2] * m[2]) * scale[c, 0] * np.float32(ROOM_SCALE)
        x[0, 3 + c, :h, :w] = told * there
    x[0, 6, :h, :w] = there


compare = _compare_compiled if made(_compare_compiled) else _compare_plain


@compiled(
    f"void({_PICTURE}, u1[:, ::1], f4[:, ::1], Tuple((f8, f8, f8, i8, i8)), "
    f"Tuple(({_PLANES}, u1[:, ::1], u1[:, ::1], f8[:, ::1])))"
)
def _learn_compiled(picture: Bytes, near: Bytes, fit: Floats, terms: Terms, memory: Memory) -> None:
    now, again, limit, most, patience = terms
    room, weight, differs, last = memory
    h, w = weight.shape
    one = np.float32(1)
    far = np.float32(limit)
    for i in range(h):
        for j in range(w):
            if near[i, j] == PERSON:
                last[i, j] = now
            if near[i, j]:
                continue
            if now - last[i, j] < again:
                continue
            seen0 = (np.float32(picture[0, i, j]) - fit[0, 1]) / fit[0, 0]
            seen1 = (np.float32(picture[1, i, j]) - fit[1, 1]) / fit[1, 0]
            seen2 = (np.float32(picture[2, i, j]) - fit[2, 1]) / fit[2, 0]
            n = weight[i, j]
            if n > 0:
                d0, d1, d2 = seen0 - room[0, i, j], seen1 - room[1, i, j], seen2 - room[2, i, j]
                if max(max(abs(d0), abs(d1)), abs(d2)) <= far:
                    n = n + 1 if n < most else n
                    share = one / np.float32(n)
                    room[0, i, j] += d0 * share
                    room[1, i, j] += d1 * share
                    room[2, i, j] += d2 * share
                    weight[i, j] = n
                    differs[i, j] = 0
                    continue
                differs[i, j] += 1
                if differs[i, j] < patience:
                    continue
            room[0, i, j], room[1, i, j], room[2, i, j] = seen0, seen1, seen2
            weight[i, j] = 1
            differs[i, j] = 0


def _learn_plain(picture: Bytes, near: Bytes, fit: Floats, terms: Terms, memory: Memory) -> None:
    now, again, limit, most, patience = terms
    room, weight, differs, last = memory
    last[near == PERSON] = now
    chosen = (near == 0) & ~(now - last < again)
    gain, offset = fit[:, 0, None, None], fit[:, 1, None, None]
    seen = (picture.astype(np.float32) - offset) / gain
    d = seen - room
    alike = np.abs(d).max(axis=0) <= np.float32(limit)
    old = chosen & (weight > 0)
    mean = old & alike
    weight[mean & (weight < most)] += 1
    share = np.float32(1) / np.maximum(weight, 1).astype(np.float32)
    np.copyto(room, room + d * share, where=mean)
    differs[mean] = 0
    strange = old & ~alike
    differs[strange] += 1
    anew = (chosen & ~old) | (strange & (differs >= patience))
    np.copyto(room, seen, where=anew)
    weight[anew] = 1
    differs[anew] = 0


learn = _learn_compiled if made(_learn_compiled) else _learn_plain


@compiled(f"void({_PICTURE}, {_PICTURE}, {_PLANES})")
def _in_blocks_compiled(moved: Bytes, now: Bytes, out: Floats) -> None:
    h, w = moved.shape[1], moved.shape[2]
    part, half = np.float32(1 / 16), np.float32(1 / 32)
    change, sums = np.empty(w, np.int32), np.empty(w, np.int32)
    # Columns are added up first, in vectors, and then every four of them.
    for c in range(3):
        for i in range(h // 4):
            change[:] = 0
            sums[:] = 0
            for y in range(4 * i, 4 * i + 4):
                before, after = moved[c, y], now[c, y]
                for j in range(w):
                    change[j] += abs(np.int32(after[j]) - np.int32(before[j]))
                    sums[j] += np.int32(after[j])
            for k in range(w // 4):
                j = 4 * k
                all_of = change[j] + change[j + 1] + change[j + 2] + change[j + 3]
                out[c, i, k] = np.float32(all_of) * part
                all_of = sums[j] + sums[j + 1] + sums[j + 2] + sums[j + 3]
                out[3 + c, i, k] = np.float32(all_of) * part
    for i in range(h // 4):
        change[:] = 0
        for y in range(4 * i, 4 * i + 4):
            row = moved[0, y]
            for j in range(w - 1):
                change[j] += abs(np.int32(row[j + 1]) - np.int32(row[j]))
            if y + 1 < h:
                below = moved[0, y + 1]
                for j in range(w):
                    change[j] += abs(np.int32(below[j]) - np.int32(row[j]))
        for k in range(w // 4):
            j = 4 * k
            all_of = change[j] + change[j + 1] + change[j + 2] + change[j + 3]
            out[6, i, k] = np.float32(all_of) * half


def _in_blocks_plain(moved: Bytes, now: Bytes, out: Floats) -> None:
    planes, h, w = moved.shape
    before, after = moved.astype(np.int32), now.astype(np.int32)
    steep = np.zeros((h, w), np.int32)
    steep[:, :-1] += np.abs(np.diff(before[0], axis=1))
    steep[:-1] += np.abs(np.diff(before[0], axis=0))
    each = np.concatenate([np.abs(after - before), after, steep[None]])
    sums = each.reshape(2 * planes + 1, h // 4, 4, w // 4, 4).sum(axis=(2, 4))
    out[:] = sums.astype(np.float32) * np.float32(1 / 16)
    out[6] *= np.float32(0.5)


in_blocks = _in_blocks_compiled if made(_in_blocks_compiled) else _in_blocks_plain
"""Means over blocks of four by four: each plane's change, each plane, and luma's slopes.

Shapes:
    moved, now: (3, h, w) uint8, sides multiples of four; the slopes are those of `moved`
    out: (7, h / 4, w / 4) float32
"""
