# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The pixel kernels of a frame in Triton: everything but the network, in some twenty launches.

They compute what `vcam.gpu.torch_matte` does in torch's own kernels, which are hundreds. That
one stays the reference: see `Plan.try_triton`. A kernel never reads what others of its launch
write, but for the trees of `_join`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmentation import constants
from vcam.gpu import torch_matte
from vcam.gpu.packing import HEADER, SAMPLE, Packing
from vcam.gpu.resample import Shrink
from vcam.gpu.triton_common import BLOCK, _clamped, _linear, _mirrored, _shrunk, blocks
from vcam.gpu.triton_draw import Colours, Draw, Spill

MOST_HALVES = 2  # beyond, a plane is read sixteen times over
# Where each number that the kernels count lies.
PIECES, SURE, NOW, THEN, CHANGE, PRESENT, CUT, AFRESH, BAD = (tl.constexpr(i) for i in range(9))
COUNTS = 16
SOLID, HALF = tl.constexpr(constants.SOLID), tl.constexpr(constants.HALF)
NOISE_GAIN = tl.constexpr(constants.NOISE_GAIN)
NOISE_STEP = tl.constexpr(constants.NOISE_STEP)


class Prepare:
    """Makes the network's input from a frame's bytes, as `Shrink` and `to_input` do."""

    def __init__(
        self,
        packing: Packing,
        shrinks: list[Shrink],
        matrix: Tensor,
        scale: Tensor,
        full: tuple[int, int],
        size: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        luma, chroma = shrinks[0], shrinks[1]
        if max(luma.halves, chroma.halves) > MOST_HALVES:
            raise RuntimeError("the frame is too large for the kernel")
        device = matrix.device
        self._packing, self._halves = packing, (luma.halves, chroma.halves)
        self._luma, self._chroma = luma.tables(), chroma.tables()
        self._exact = (luma.exact, chroma.exact)
        self._numbers = torch.cat((matrix.reshape(-1), scale.reshape(-1)))
        self.picture = torch.zeros((3, *size), device=device)
        self.x = torch.zeros((1, 3, *full), device=device, dtype=dtype).to(
            memory_format=torch.channels_last
        )

    def __call__(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture at model size and the network's input; overwritten by the next call.

        Shapes:
            data: (packing.size) uint8
            returns: (3, h, w) float32 whole levels; (1, 3, *full), channels last
        """
        y, u, v = self._packing.seen
        (h, w), (full_h, full_w) = self.picture.shape[1:], self.x.shape[2:]
        yi, _, yj, _ = self._luma
        ci, _, cj, _ = self._chroma
        _prepare[blocks(full_h * full_w)](
            data, self.picture, self.x, self._numbers,
            y.offset, y.line, u.offset, v.offset, u.line,
            *self._luma, *self._chroma,
            h, w, full_h, full_w,
            Y_STEP=y.step, C_STEP=u.step,
            Y_HALVES=self._halves[0], C_HALVES=self._halves[1],
            Y_EXACT=self._exact[0], C_EXACT=self._exact[1],
            Y_ROWS=len(yi), Y_COLUMNS=len(yj), C_ROWS=len(ci), C_COLUMNS=len(cj),
            BLOCK=BLOCK,
        )  # fmt: skip
        return self.picture, self.x


class Refine:
    """From logits to coefficients: `Tidy`, `Smoother` and `guided` of `torch_matte`.

    It keeps its state in the tensors of those two.
    """

    def __init__(self, tidy: torch_matte.Tidy, smoother: torch_matte.Smoother) -> None:
        self._tidy, self._smoother = tidy, smoother
        (h, w), (half_h, half_w) = tidy.size, tidy.half
        n, device = half_h * half_w, smoother.held.device
        self._half = torch.zeros(n, device=device)
        self._bytes = torch.zeros((4, n), device=device, dtype=torch.uint8)
        self._trees = torch.zeros((2, n), device=device, dtype=torch.int32)
        self._name = torch.zeros(n, device=device, dtype=torch.int32)
        self._areas = torch.zeros((2, n), device=device, dtype=torch.int32)
        self._totals = torch.zeros((2, n), device=device)
        self.counts = torch.zeros(COUNTS, device=device, dtype=torch.int32)
        self._sum = torch.zeros(1, device=device)  # of alpha where it is above a half
        self._both = torch.zeros((h, w), device=device, dtype=torch.uint8)
        self._lines = torch.zeros((2, h, w), device=device)
        self.made = torch.zeros((3, h, w), device=device)
        self._shrink, self._enlarge = tidy.shrink.tables(), tidy.enlarge.tables()
        self._near = tidy.rows.to(torch.int32), tidy.columns.to(torch.int32)
        self.pictures = (self._half, self._bytes, self._both, self._lines, self.made)

    def __call__(self, raw: Tensor, picture: Tensor, header: Tensor) -> tuple[Tensor, ...]:
        """Return the stretched matte, a and b, (h, w) each; overwritten by the next call.

        Shapes:
            raw: (h, w) float32; picture: (3, h, w) float32 levels
            header: the frame's number and whether it is the first, int64, decay, float32: bytes
        """
        tidy, smoother = self._tidy, self._smoother
        (h, w), (half_h, half_w) = tidy.size, tidy.half
        n = half_h * half_w
        whole, half = blocks(h * w), blocks(n)
        first, decay = header[8:16].view(torch.int64), header[16:20].view(torch.float32)
        mask, island, hole, trust = self._bytes
        present, counts = tidy.present.view(torch.uint8), self.counts
        sums = tuple(zip(self._trees, self._areas, self._totals, strict=True))
        _begin[half](
            raw, self._half, mask, self._trees, self._areas, self._totals, counts, self._sum,
            w, *self._shrink, half_h, half_w, constants.FAINT, COUNTS=COUNTS, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](mask, self._trees[0], half_h, half_w, CORNERS=True, BLOCK=BLOCK)
        _add_up[half](
            mask, *sums[0], self._half, self._name, counts, half_h, half_w, HOLES=False, BLOCK=BLOCK
        )
        _drop[half](
            self._name, self._areas[0], self._totals[0], self._half, island, mask,
            half_h, half_w, constants.ISLAND * n, constants.FIRM, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](mask, self._trees[1], half_h, half_w, CORNERS=False, BLOCK=BLOCK)
        _add_up[half](
            mask, *sums[1], self._half, self._name, counts, half_h, half_w, HOLES=True, BLOCK=BLOCK
        )
        _fill[half](
            self._name, self._areas[1], self._totals[1], self._half, hole, counts, self._sum,
            n, constants.HOLE * n, BLOCK=BLOCK,
        )  # fmt: skip
        _believe[half](
            self._half, trust, tidy.trust, counts, self._sum, present, first, half_h, half_w,
            tidy.rim, constants.ARRIVE, constants.LEAVE, constants.SURE, constants.DOUBT,
            BLOCK=BLOCK,
        )  # fmt: skip
        _look[whole](picture, smoother.before, self._both, counts, h * w, BLOCK=BLOCK)
        _rest[(1,)](
            self._both, counts, smoother.noise, first, h, w, smoother.quarter,
            constants.CUT * 255, constants.NOISIEST,
            BLOCK=triton.next_power_of_2(triton.cdiv(h, 8) * triton.cdiv(w, 8)), num_warps=8,
        )  # fmt: skip
        alpha, a, b = self.made
        _smooth[whole](
            raw, island, hole, trust, *self._near, *self._enlarge,
            self._both, smoother.noise, smoother.held, alpha, present, counts, decay,
            h, w, half_h, half_w, constants.STILL, *constants.FOLLOW, *constants.LEVELS,
            BLOCK=BLOCK,
        )  # fmt: skip
        _lines[whole](alpha, picture, self._lines, h, w, constants.EPSILON, BLOCK=BLOCK)
        _mean_lines[whole](self._lines, a, b, counts, h, w, BLOCK=BLOCK)
        return alpha, a, b


@dataclass(frozen=True)
class Shapers:
    """The stages of a `Plan` but its network."""

    prepare: Prepare
    _refine: Refine
    _colours: Colours
    _spill: Spill
    _draw: Draw

    def refine(self, raw: Tensor, picture: Tensor, header: Tensor) -> tuple[Tensor, ...]:
        """See `Refine`."""
        return self._refine(raw, picture, header)

    def draw(
        self,
        data: Tensor,
        picture: Tensor,
        made: tuple[Tensor, ...],
        behind: Tensor,
        out: Tensor,
        pictured: bool,
    ) -> None:
        """Put the person in front of the backdrop; see `Plan.draw`."""
        scene, colours = self._draw.scene, self._colours
        (alpha, a, b), purity, wrap = made, None, None
        if scene.look.decontaminate or not pictured:
            colours.take(picture, alpha, full_range=self._draw.full_range)
        if not pictured:
            colours.blur(behind)
        if scene.look.decontaminate:
            purity = colours.near()
        if scene.look.light_wrap > 0:
            wrap = self._spill(alpha, behind)
        self._draw(data, a, b, purity, wrap, behind, out)

    def answer(self, raw: Tensor, picture: Tensor, header: Tensor, out: Tensor) -> None:
        """Fill an answer's header and its thinned mattes and picture, as `Plan.download` does.

        Shapes:
            header, out: bytes of a frame on its way up, and of an answer on its way down
        """
        (h, w), made = raw.shape, self._refine.made
        thin = (-(-h // SAMPLE), -(-w // SAMPLE))
        n = thin[0] * thin[1]
        _answer[blocks(n)](
            raw, *made, picture, self._refine.counts, header[:8].view(torch.int64),
            out[:24].view(torch.int64), out[HEADER : HEADER + 16 * n].view(torch.float32),
            out[HEADER + 16 * n :], h, w, *thin, STEP=SAMPLE, BLOCK=BLOCK,
        )  # fmt: skip

    def wipe(self) -> None:
        """Leave nothing of a picture behind."""
        for stage in (self._refine, self._colours, self._spill, self._draw):
            for buffer in stage.pictures:
                buffer.zero_()
        self.prepare.picture.zero_()
        self.prepare.x.zero_()


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
def _joined(mask, tree, place, there, go):
    """Join the trees of pixels and of their neighbours, where there are both."""
    go = go & (tl.load(mask + there, mask=go, other=0) != 0)
    a, b = place, there
    while tl.max(go.to(tl.int32), axis=0) > 0:
        a, b = _root(tree, a, go), _root(tree, b, go)
        low, high = tl.minimum(a, b), tl.maximum(a, b)
        go = go & (low != high)
        found = tl.atomic_min(tree + high, low, mask=go)
        # No root any more? Then somebody else was quicker, and what they joined it to is joined.
        go = go & (found != high)
        a, b = tl.where(go, found, a), tl.where(go, low, b)


@triton.jit
def _join(mask, tree, h, w, CORNERS: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = tl.load(mask + place, mask=place < h * w, other=0) != 0
    row, column = place // w, place % w
    _joined(mask, tree, place, place - 1, on & (column > 0))
    _joined(mask, tree, place, place - w, on & (row > 0))
    if CORNERS:
        _joined(mask, tree, place, place - w - 1, on & (row > 0) & (column > 0))
        _joined(mask, tree, place, place - w + 1, on & (row > 0) & (column < w - 1))


@triton.jit
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


@triton.jit
def _begin(
    raw, half, mask, trees, areas, totals, counts, sum_, wide,
    rows, row_weights, columns, column_weights, h, w, faint,
    COUNTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Alpha at half the size, where pieces are told apart; whatever counts starts at nothing."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = h * w
    inside = place < n
    x = _linear(
        raw, wide, rows, row_weights, columns, column_weights, place // w, place % w, h, w, inside
    )
    tl.store(half + place, x, mask=inside)
    tl.store(mask + place, (x > faint).to(tl.uint8), mask=inside)
    for k in tl.static_range(2):
        tl.store(trees + k * n + place, place, mask=inside)
        tl.store(areas + k * n + place, tl.zeros([BLOCK], tl.int32), mask=inside)
        tl.store(totals + k * n + place, tl.zeros([BLOCK], tl.float32), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(counts + tl.arange(0, COUNTS), tl.zeros([COUNTS], tl.int32))
        tl.store(sum_, 0.0)


@triton.jit
def _drop(name, area, total, half, island, mask, h, w, least, firm, BLOCK: tl.constexpr):
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
    tl.store(mask + place, (x < SOLID).to(tl.uint8), mask=inside)


@triton.jit
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


@triton.jit
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


@triton.jit
def _look(picture, before, both, counts, n, BLOCK: tl.constexpr):
    """Change since the picture before, which the new one replaces."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    luma = tl.load(picture + place, mask=inside, other=0)
    then = tl.load(before + place, mask=inside, other=0)
    change = tl.abs(luma - then)
    colour = change * 0
    tl.store(before + place, luma, mask=inside)
    for k in tl.static_range(1, 3):
        x = tl.load(picture + k * n + place, mask=inside, other=0)
        y = tl.load(before + k * n + place, mask=inside, other=0)
        tl.store(before + k * n + place, x, mask=inside)
        colour = tl.maximum(colour, tl.abs(x - y))
    seen = tl.minimum(change + colour, 255.0)
    tl.store(both + place, seen.to(tl.int32).to(tl.uint8), mask=inside)
    tl.atomic_add(counts + NOW, tl.sum(luma.to(tl.int32), axis=0))
    tl.atomic_add(counts + THEN, tl.sum(then.to(tl.int32), axis=0))
    tl.atomic_add(counts + CHANGE, tl.sum(change.to(tl.int32), axis=0))


@triton.jit
def _motion(both, row, column, h, w, inside):
    """The sum of 5 x 5 changes."""
    found = row * 0
    for k in tl.static_range(25):
        r, c = _mirrored(row + k // 5 - 2, h), _mirrored(column + k % 5 - 2, w)
        found += tl.load(both + r * w + c, mask=inside, other=0).to(tl.int32)
    return found


@triton.jit
def _rest(both, counts, noise, first, h, w, quarter, most, noisiest, BLOCK: tl.constexpr):
    """Is it a new scene, and what does the sensor's noise alone do? One block of all samples."""
    wide = (w + 7) // 8
    place = tl.arange(0, BLOCK)
    inside = place < (h + 7) // 8 * wide
    motion = _motion(both, place // wide * 8, place % wide * 8, h, w, inside)
    # What a quarter of them is below, bit by bit.
    quiet = 0
    for k in tl.static_range(13):
        trial = quiet + (4096 >> k)
        below = tl.sum((inside & (motion < trial)).to(tl.int32), axis=0)
        quiet = tl.where(below <= quarter, trial, quiet)
    quiet = quiet.to(tl.float32) / 25
    known = tl.load(noise)
    known = tl.where(known < 0, quiet, known * NOISE_GAIN + NOISE_STEP)
    n = h * w
    now, then = tl.load(counts + NOW).to(tl.float32), tl.load(counts + THEN).to(tl.float32)
    moved = tl.load(counts + CHANGE).to(tl.float32) / n - tl.abs(now / n - then / n)
    fresh = tl.load(first) != 0
    cut = (moved > most) & (fresh == 0)
    tl.store(counts + CUT, cut.to(tl.int32))
    tl.store(counts + AFRESH, (fresh | cut).to(tl.int32))
    if (fresh | cut) == 0:
        tl.store(noise, tl.minimum(tl.minimum(quiet, known), noisiest))


@triton.jit
def _smooth(
    raw, island, hole, trust, near_rows, near_columns, rows, row_weights, columns, column_weights,
    both, noise, held, alpha, present, counts, decay,
    h, w, half_h, half_w, still, low, high, dark, bright, BLOCK: tl.constexpr,
):  # fmt: skip
    """The matte tidied, steadied and stretched."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    said = tl.load(raw + place, mask=inside, other=0)
    x = tl.where(said == said, said, 0.0)
    i = tl.load(near_rows + row, mask=inside, other=0)
    j = tl.load(near_columns + column, mask=inside, other=0)
    x = tl.where(tl.load(island + i * half_w + j, mask=inside, other=0) != 0, 0.0, x)
    filled = place < 0
    for k in tl.static_range(9):
        r, c = i + k // 3 - 1, j + k % 3 - 1
        there = inside & (r >= 0) & (r < half_h) & (c >= 0) & (c < half_w)
        filled = filled | (tl.load(hole + r * half_w + c, mask=there, other=0) != 0)
    x = tl.where(filled, 1.0, x)
    believed = _shrunk(
        trust, half_w, rows, row_weights, columns, column_weights, row, column, h, w, inside,
        1, 0, True, 2, 2,
    )  # fmt: skip
    now = tl.load(counts + PRESENT)
    x = x * (believed * (1 / 255)) * now.to(tl.float32)
    moved = _motion(both, row, column, h, w, inside).to(tl.float32) / 25
    rest = tl.maximum(moved - tl.load(noise), 0.0) / still
    step = x - tl.load(held + place, mask=inside, other=0)
    far = _clamped((tl.abs(step) - low) / (high - low), 0.0, 1.0)
    keep = tl.load(decay) * (1 - far) / (1 + rest * rest)
    x = tl.where(tl.load(counts + AFRESH) != 0, x, x - step * keep)
    tl.store(held + place, x, mask=inside)
    tl.store(alpha + place, _clamped((x - dark) / (bright - dark), 0.0, 1.0), mask=inside)
    bad = inside & ((said - said != 0) | (x - x != 0))
    tl.atomic_max(counts + BAD, tl.max(bad.to(tl.int32), axis=0))
    if tl.program_id(0) == 0:
        tl.store(present, now.to(tl.uint8))


@triton.jit
def _lines(alpha, luma, made, h, w, epsilon, BLOCK: tl.constexpr):
    """The line alpha = a * Y + b that fits best around each pixel."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    p, i = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    ip, ii = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(25):
        r, c = _clamped(row + k // 5 - 2, 0, h - 1), _clamped(column + k % 5 - 2, 0, w - 1)
        x = tl.load(alpha + r * w + c, mask=inside, other=0)
        y = tl.load(luma + r * w + c, mask=inside, other=0) / 255
        p, i, ip, ii = p + x, i + y, ip + x * y, ii + y * y
    p, i, ip, ii = p / 25, i / 25, ip / 25, ii / 25
    a = (ip - i * p) / (tl.maximum(ii - i * i, 0.0) + epsilon)
    tl.store(made + place, a, mask=inside)
    tl.store(made + h * w + place, p - a * i, mask=inside)


@triton.jit
def _mean_lines(made, a, b, counts, h, w, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    x, y = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(25):
        r, c = _clamped(row + k // 5 - 2, 0, h - 1), _clamped(column + k % 5 - 2, 0, w - 1)
        x += tl.load(made + r * w + c, mask=inside, other=0)
        y += tl.load(made + h * w + r * w + c, mask=inside, other=0)
    tl.store(a + place, x / 25, mask=inside)
    tl.store(b + place, y / 25, mask=inside)
    bad = inside & ((x - x != 0) | (y - y != 0))
    tl.atomic_max(counts + BAD, tl.max(bad.to(tl.int32), axis=0))


@triton.jit
def _answer(
    raw, alpha, a, b, picture, counts, number, header, floats, bytes_, h, w, thin_h, thin_w,
    STEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = thin_h * thin_w
    inside = place < n
    at = place // thin_w * STEP * w + place % thin_w * STEP
    # One pixel that is no number, sampled or not, makes all of them so: the guard must see it.
    bad = tl.load(counts + BAD) != 0
    for k in tl.static_range(4):
        plane = raw if k == 0 else alpha if k == 1 else a if k == 2 else b
        x = tl.load(plane + at, mask=inside, other=0)
        tl.store(floats + k * n + place, tl.where(bad, float("nan"), x), mask=inside)
    for k in tl.static_range(3):
        x = tl.load(picture + k * h * w + at, mask=inside, other=0)
        tl.store(bytes_ + k * n + place, x.to(tl.int32).to(tl.uint8), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(header, tl.load(number))
        tl.store(header + 1, tl.load(counts + PRESENT).to(tl.int64))
        tl.store(header + 2, tl.load(counts + CUT).to(tl.int64))


@triton.jit
def _prepare(
    data, picture, x, numbers,
    y_at, y_line, u_at, v_at, c_line,
    yi, yv, yj, yw, ci, cv, cj, cw,
    h, w, full_h, full_w,
    Y_STEP: tl.constexpr, C_STEP: tl.constexpr,
    Y_HALVES: tl.constexpr, C_HALVES: tl.constexpr,
    Y_EXACT: tl.constexpr, C_EXACT: tl.constexpr,
    Y_ROWS: tl.constexpr, Y_COLUMNS: tl.constexpr,
    C_ROWS: tl.constexpr, C_COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < full_h * full_w
    row, column = place // full_w, place % full_w
    i, j = tl.minimum(row, h - 1), tl.minimum(column, w - 1)  # the edge fills the padding
    y = _shrunk(
        data + y_at, y_line, yi, yv, yj, yw, i, j, h, w, inside,
        Y_STEP, Y_HALVES, Y_EXACT, Y_ROWS, Y_COLUMNS,
    )  # fmt: skip
    u = _shrunk(
        data + u_at, c_line, ci, cv, cj, cw, i, j, h, w, inside,
        C_STEP, C_HALVES, C_EXACT, C_ROWS, C_COLUMNS,
    )  # fmt: skip
    v = _shrunk(
        data + v_at, c_line, ci, cv, cj, cw, i, j, h, w, inside,
        C_STEP, C_HALVES, C_EXACT, C_ROWS, C_COLUMNS,
    )  # fmt: skip
    own = inside & (row < h) & (column < w)
    tl.store(picture + i * w + j, y, mask=own)
    tl.store(picture + h * w + i * w + j, u, mask=own)
    tl.store(picture + 2 * h * w + i * w + j, v, mask=own)
    for c in tl.static_range(3):
        rgb = (
            y * tl.load(numbers + 4 * c)
            + u * tl.load(numbers + 4 * c + 1)
            + v * tl.load(numbers + 4 * c + 2)
            + tl.load(numbers + 4 * c + 3)
        )
        rgb = tl.minimum(tl.maximum(rgb, 0.0), 1.0)
        rgb = rgb * tl.load(numbers + 12 + 2 * c) + tl.load(numbers + 13 + 2 * c)
        tl.store(x + place * 3 + c, rgb.to(x.dtype.element_ty), mask=inside)
