# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""Pieces of a matte: islands that go, holes that are filled, and the evidence of a person."""

from __future__ import annotations

from segmentation import constants
from vcam.gpu.kernels.common import _linear
from vcam.gpu.kernels.language import kernel, tl, triton

# Where each number that the kernels count lies.
PIECES, SURE, NOW, THEN, CHANGE, PRESENT, CUT, AFRESH, BAD = (tl.constexpr(i) for i in range(9))
SOLID, HALF = tl.constexpr(constants.SOLID), tl.constexpr(constants.HALF)


@triton.jit
def _root(tree, i, go):
    """The root of each pixel's tree. Others may be changing it: the cache must not be asked.

    On the way every other pixel is tied to the one above its own: ways get half as long. Whatever
    that overwrites is above it as well, and a number only ever gets smaller.
    """
    above = tl.load(tree + i, mask=go, other=0, volatile=True)
    while tl.max((go & (above != i)).to(tl.int32), axis=0) > 0:
        top = tl.load(tree + above, mask=go, other=0, volatile=True)
        tl.store(tree + i, top, mask=go & (top < above))
        i = tl.where(go, top, i)
        above = tl.load(tree + i, mask=go, other=0, volatile=True)
    return i


@triton.jit
def _later(a, b):
    return tl.maximum(a, b)


@triton.jit
def _runs(on, place, column, BLOCK: tl.constexpr):
    """The first pixel of those side by side that each belongs to, within a row and a block."""
    first = (column == 0) | (tl.arange(0, BLOCK) == 0)
    start = tl.where(on, tl.where(first, place, -1), place + 1)
    return tl.where(on, tl.associative_scan(start, 0, _later), place)


@triton.jit
def _joined(tree, place, there, go):
    """Join the trees of pixels and of their neighbours, where wanted."""
    a, b = place, there
    while tl.max(go.to(tl.int32), axis=0) > 0:
        a, b = _root(tree, a, go), _root(tree, b, go)
        low, high = tl.minimum(a, b), tl.maximum(a, b)
        go = go & (low != high)
        found = tl.atomic_min(tree + high, low, mask=go)
        # No root any more? Then somebody else was quicker, and what they joined it to is joined.
        go = go & (found != high)
        a, b = tl.where(go, found, a), tl.where(go, low, b)


@kernel
def _join(mask, tree, h, w, CORNERS: tl.constexpr, BLOCK: tl.constexpr):
    """Join the runs of pixels that touch, each pair where it touches first."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = tl.load(mask + place, mask=place < h * w, other=0) != 0
    row, column = place // w, place % w
    before, below = on & (column > 0), on & (row > 0)
    left = tl.load(mask + place - 1, mask=before, other=0) != 0
    up = tl.load(mask + place - w, mask=below, other=0) != 0
    corner = tl.load(mask + place - w - 1, mask=before & below, other=0) != 0
    # Bits: left, where a block parted a run; up; and the corners, where nothing between is on.
    wanted = (left & (tl.arange(0, BLOCK) == 0)).to(tl.int32)
    wanted += (up & ((left == 0) | (corner == 0))).to(tl.int32) * 2
    if CORNERS:
        after = on & (column < w - 1)
        right = tl.load(mask + place + 1, mask=after, other=0) != 0
        other = tl.load(mask + place - w + 1, mask=after & below, other=0) != 0
        wanted += (corner & (up == 0) & (left == 0)).to(tl.int32) * 4
        wanted += (other & (up == 0) & (right == 0)).to(tl.int32) * 8
    for k in range(4 if CORNERS else 2):
        back = tl.where(k == 0, 1, tl.where(k == 1, w, tl.where(k == 2, w + 1, w - 1)))
        _joined(tree, place, place - back, (wanted >> k) % 2 != 0)


@kernel
def _add_up(
    mask, tree, area, total, half, name, counts, h, w, HOLES: tl.constexpr, BLOCK: tl.constexpr
):
    """Each pixel's piece, by its first pixel; how many pixels a piece has, and their sum.

    What is summed is alpha, and for holes whether they touch the border.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    on = tl.load(mask + place, mask=inside, other=0) != 0
    root = _root(tree, place, on)
    tl.store(name + place, tl.where(on, root, -1), mask=inside)
    if HOLES:
        row, column = place // w, place % w
        border = (row == 0) | (row == h - 1) | (column == 0) | (column == w - 1)
        value = tl.where(border, 1.0, 0.0)
        heads = tl.sum((on & (root == place)).to(tl.int32), axis=0)
        tl.atomic_add(counts + PIECES, heads)
    else:
        value = tl.load(half + place, mask=inside, other=0)
    # Most of a block is one piece: counted here, and added once.
    most = tl.max(tl.where(on, root, -1), axis=0)
    same = on & (root == most)
    pixels = tl.sum(same.to(tl.int32), axis=0)
    tl.atomic_add(area + most, pixels, mask=most >= 0)
    tl.atomic_add(total + most, tl.sum(tl.where(same, value, 0.0), axis=0), mask=most >= 0)
    other = on & (root != most)
    tl.atomic_add(area + root, tl.full([BLOCK], 1, tl.int32), mask=other)
    tl.atomic_add(total + root, value, mask=other)


@kernel
def _begin(
    raw, half, mask, tree, areas, totals, counts, sum_, wide,
    rows, row_weights, columns, column_weights, h, w, faint,
    COUNTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Alpha at half the size, where pieces are told apart; whatever counts starts at nothing."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = h * w
    inside = place < n
    row, column = place // w, place % w
    x = _linear(raw, wide, rows, row_weights, columns, column_weights, row, column, h, w, inside)
    on = inside & (x > faint)
    tl.store(half + place, x, mask=inside)
    tl.store(mask + place, on.to(tl.uint8), mask=inside)
    tl.store(tree + place, _runs(on, place, column, BLOCK), mask=inside)
    for k in tl.static_range(2):
        tl.store(areas + k * n + place, tl.zeros([BLOCK], tl.int32), mask=inside)
        tl.store(totals + k * n + place, tl.zeros([BLOCK], tl.float32), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(counts + tl.arange(0, COUNTS), tl.zeros([COUNTS], tl.int32))
        tl.store(sum_, 0.0)


@kernel
def _drop(name, area, total, half, island, mask, tree, h, w, least, firm, BLOCK: tl.constexpr):
    """Take islands out of `half`, and what is around them; then, what is open?"""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    found = place < 0
    for k in tl.static_range(9):
        r, c = row + k // 3 - 1, column + k % 3 - 1
        there = inside & (r >= 0) & (r < h) & (c >= 0) & (c < w)
        root = tl.load(name + r * w + c, mask=there, other=-1)
        on = root >= 0
        pixels = tl.load(area + root, mask=on, other=0).to(tl.float32)
        ghost = tl.load(total + root, mask=on, other=0) < firm * pixels
        found = found | (on & ((pixels < least) | ghost))
    x = tl.where(found, 0.0, tl.load(half + place, mask=inside, other=0))
    tl.store(half + place, x, mask=inside)
    tl.store(island + place, found.to(tl.uint8), mask=inside)
    on = inside & (x < SOLID)
    tl.store(mask + place, on.to(tl.uint8), mask=inside)
    tl.store(tree + place, _runs(on, place, column, BLOCK), mask=inside)


@kernel
def _fill(name, area, edge, half, hole, counts, sum_, n, least, BLOCK: tl.constexpr):
    """Fill the holes in `half`; how much of it is sure, and how sure?"""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    root = tl.load(name + place, mask=inside, other=-1)
    on = root >= 0
    pixels = tl.load(area + root, mask=on, other=0).to(tl.float32)
    closed = tl.load(edge + root, mask=on, other=1) == 0
    # A single gap is the room, however small.
    found = on & (pixels < least) & closed & (tl.load(counts + PIECES) > 1)
    x = tl.where(found, 1.0, tl.load(half + place, mask=inside, other=0))
    tl.store(half + place, x, mask=inside)
    tl.store(hole + place, found.to(tl.uint8), mask=inside)
    sure = inside & (x > HALF)
    tl.atomic_add(counts + SURE, tl.sum(sure.to(tl.int32), axis=0))
    tl.atomic_add(sum_, tl.sum(tl.where(sure, x, 0.0), axis=0))


@kernel
def _believe(
    half, trust, table, counts, sum_, present, first, h, w, rim,
    arrive, leave, sure, doubt, BLOCK: tl.constexpr,
):  # fmt: skip
    """Alpha weighted by the largest around it; and the evidence of a person."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    most = place * 0
    for k in range(rim * rim):
        r, c = row + k // rim - rim // 2, column + k % rim - rim // 2
        there = inside & (r >= 0) & (r < h) & (c >= 0) & (c < w)
        x = tl.load(half + r * w + c, mask=there, other=0)
        most = tl.maximum(most, (x * 255).to(tl.int32))
    believed = tl.load(table + most, mask=inside, other=0)
    tl.store(trust + place, believed.to(tl.int32).to(tl.uint8), mask=inside)
    if tl.program_id(0) == 0:
        count = tl.load(counts + SURE).to(tl.float32)
        mean = tl.load(sum_) / tl.maximum(count, 1.0)
        was = (tl.load(present) != 0) & (tl.load(first) == 0)
        enough = count / (h * w) >= tl.where(was, leave, arrive)
        now = enough & (mean >= tl.where(was, doubt, sure))
        tl.store(counts + PRESENT, now.to(tl.int32))
