"""Loops over the pixels of the learned room: its difference to a picture, and one lesson.

Each comes twice: compiled by Numba, and in NumPy where Numba is missing; both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.constants import ROOM_SCALE
from segmentation.jit import COMPILED, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]
    Colours = tuple[Floats, Floats]  # a layout's matrix and scale
    Terms = tuple[float, float, float, int, int]
    Memory = tuple[Floats, Bytes, Bytes, NDArray[np.float64]]

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


compare = _compare_compiled if COMPILED else _compare_plain


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


learn = _learn_compiled if COMPILED else _learn_plain
