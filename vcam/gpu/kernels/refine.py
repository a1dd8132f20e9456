# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The matte tidied, steadied and fitted to the picture's edges."""

from __future__ import annotations

import torch
from torch import Tensor

from segmentation import constants
from vcam.gpu import torch_matte
from vcam.gpu.kernels.common import BLOCK, _clamped, _mirrored, _shrunk, blocks
from vcam.gpu.kernels.language import kernel, tl, triton
from vcam.gpu.kernels.pieces import (
    AFRESH,
    BAD,
    CHANGE,
    CUT,
    NOW,
    PRESENT,
    THEN,
    _add_up,
    _begin,
    _believe,
    _drop,
    _fill,
    _join,
)

COUNTS = 16
SPARSE = 128  # samples of a block
WARPS = 8  # of a block that joins pieces: of two pixels a thread, the second one's would spill
NOISE_GAIN = tl.constexpr(constants.NOISE_GAIN)
NOISE_STEP = tl.constexpr(constants.NOISE_STEP)


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
        samples = triton.cdiv(h, 8) * triton.cdiv(w, 8)
        self._samples = torch.zeros(samples, device=device, dtype=torch.int16)
        self._lines = torch.zeros((2, h, w), device=device)
        self.made = torch.zeros((3, h, w), device=device)
        self._shrink, self._enlarge = tidy.shrink.tables(), tidy.enlarge.tables()
        self._near = tidy.rows.to(torch.int32), tidy.columns.to(torch.int32)
        self.pictures = (
            self._half, self._bytes, self._both, self._samples, self._lines, self.made,
        )  # fmt: skip

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
            raw, self._half, mask, self._trees[0], self._areas, self._totals, counts, self._sum,
            w, *self._shrink, half_h, half_w, constants.FAINT, COUNTS=COUNTS, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](
            mask, self._trees[0], half_h, half_w, CORNERS=True, BLOCK=BLOCK, num_warps=WARPS
        )  # fmt: skip
        _add_up[half](
            mask, *sums[0], self._half, self._name, counts, half_h, half_w, HOLES=False, BLOCK=BLOCK
        )
        _drop[half](
            self._name, self._areas[0], self._totals[0], self._half, island, mask,
            self._trees[1], half_h, half_w, constants.ISLAND * n, constants.FIRM, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](
            mask, self._trees[1], half_h, half_w, CORNERS=False, BLOCK=BLOCK, num_warps=WARPS
        )  # fmt: skip
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
        samples = self._samples.numel()
        _sample[(triton.cdiv(samples, SPARSE),)](self._both, self._samples, h, w, BLOCK=SPARSE)
        _rest[(1,)](
            self._samples, counts, smoother.noise, first, h, w, smoother.quarter,
            constants.CUT * 255, constants.NOISIEST,
            BLOCK=triton.next_power_of_2(samples), num_warps=16,
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


@kernel
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


@kernel
def _sample(both, samples, h, w, BLOCK: tl.constexpr):
    """Motion at every eighth pixel of every eighth row."""
    wide = (w + 7) // 8
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < (h + 7) // 8 * wide
    motion = _motion(both, place // wide * 8, place % wide * 8, h, w, inside)
    tl.store(samples + place, motion.to(tl.int16), mask=inside)


@kernel
def _rest(samples, counts, noise, first, h, w, quarter, most, noisiest, BLOCK: tl.constexpr):
    """Is it a new scene, and what does the sensor's noise alone do? One block of all samples.

    It only selects: with the sums of `_sample` in it, a thread would need 4 KB of stack, which the
    driver reserves for every thread that the GPU can hold.
    """
    place = tl.arange(0, BLOCK)
    inside = place < (h + 7) // 8 * ((w + 7) // 8)
    motion = tl.load(samples + place, mask=inside, other=32767).to(tl.int32)
    # What a quarter of them is below, bit by bit.
    quiet = 0
    for k in tl.static_range(13):
        trial = quiet + (4096 >> k)
        below = tl.sum((motion < trial).to(tl.int32), axis=0)
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


@kernel
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


@kernel
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


@kernel
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
