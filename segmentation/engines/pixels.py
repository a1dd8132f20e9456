# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The pixel kernels of a frame in Triton: everything but the network, in some twenty launches.

They compute what `segmentation.engines.gpu` does in torch's own kernels, which are hundreds. That
one stays the reference: see `Plan.try_triton`. A kernel never reads what others of its launch
write, but for the trees of `_join`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmentation import refine, temporal
from segmentation.engines import gpu
from segmentation.engines.gpu import (
    GAIN,
    HEADER,
    SAMPLE,
    Bytes,
    Fit,
    Packing,
    Resize,
    Scene,
    Shrink,
)

MOST_HALVES = 2  # beyond, a plane is read sixteen times over
# Triton's interpreter runs a block as NumPy arrays: the larger, the quicker.
BLOCK = 16384 if os.environ.get("TRITON_INTERPRET") == "1" else 256
# Where each number that the kernels count lies.
PIECES, SURE, NOW, THEN, CHANGE, PRESENT, CUT, AFRESH, BAD = (tl.constexpr(i) for i in range(9))
COUNTS = 16


def blocks(pixels: int) -> tuple[int]:
    """Return how many blocks such a number of pixels takes."""
    return (triton.cdiv(pixels, BLOCK),)


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
    """From what the network says to coefficients: `gpu.Tidy`, `gpu.Smoother` and `gpu.guided`.

    It keeps its state in the tensors of those two.
    """

    def __init__(self, tidy: gpu.Tidy, smoother: gpu.Smoother) -> None:
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
            w, *self._shrink, half_h, half_w, refine.FAINT, COUNTS=COUNTS, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](mask, self._trees[0], half_h, half_w, CORNERS=True, BLOCK=BLOCK)
        _add_up[half](
            mask, *sums[0], self._half, self._name, counts, half_h, half_w, HOLES=False, BLOCK=BLOCK
        )
        _drop[half](
            self._name, self._areas[0], self._totals[0], self._half, island, mask,
            half_h, half_w, refine.ISLAND * n, refine.FIRM, BLOCK=BLOCK,
        )  # fmt: skip
        _join[half](mask, self._trees[1], half_h, half_w, CORNERS=False, BLOCK=BLOCK)
        _add_up[half](
            mask, *sums[1], self._half, self._name, counts, half_h, half_w, HOLES=True, BLOCK=BLOCK
        )
        _fill[half](
            self._name, self._areas[1], self._totals[1], self._half, hole, counts, self._sum,
            n, refine.HOLE * n, BLOCK=BLOCK,
        )  # fmt: skip
        _believe[half](
            self._half, trust, tidy.trust, counts, self._sum, present, first, half_h, half_w,
            tidy.rim, refine.ARRIVE, refine.LEAVE, refine.SURE, refine.DOUBT, BLOCK=BLOCK,
        )  # fmt: skip
        _look[whole](picture, smoother.before, self._both, counts, h * w, BLOCK=BLOCK)
        _rest[(1,)](
            self._both, counts, smoother.noise, first, h, w, smoother.quarter,
            temporal.CUT * 255, temporal.NOISIEST,
            BLOCK=triton.next_power_of_2(triton.cdiv(h, 8) * triton.cdiv(w, 8)), num_warps=8,
        )  # fmt: skip
        alpha, a, b = self.made
        _smooth[whole](
            raw, island, hole, trust, *self._near, *self._enlarge,
            self._both, smoother.noise, smoother.held, alpha, present, counts, decay,
            h, w, half_h, half_w, temporal.STILL, *temporal.FOLLOW, *refine.LEVELS, BLOCK=BLOCK,
        )  # fmt: skip
        _lines[whole](alpha, picture, self._lines, h, w, gpu.EPSILON, BLOCK=BLOCK)
        _mean_lines[whole](self._lines, a, b, counts, h, w, BLOCK=BLOCK)
        return alpha, a, b


class Colours:
    """What colours person and room have near each pixel, as `gpu.Colours` computes them."""

    def __init__(self, twin: gpu.Colours, fit: Fit, scene: Scene, size: tuple[int, int]) -> None:
        self._fit, self._scene, self._size, self._half = fit, scene, size, twin.half
        self._width = gpu.width(gpu.sigma(scene, size))
        self._shrink = (*twin.shrink_bytes.tables(), *twin.shrink.tables())
        self._grow = twin.grow.tables()
        self._enlarge = (*fit.blur_y.tables(), *fit.blur_c.tables())
        device = self._shrink[0].device
        self._planes = torch.zeros((3, *twin.half), device=device)
        self._alpha = torch.zeros(twin.half, device=device)
        self._near = torch.zeros((6, *twin.half), device=device)
        self._grown = torch.zeros((6, *size), device=device)
        self._blurs = torch.zeros((2, 4, *twin.half), device=device)
        self._sums = torch.zeros(4, device=device)
        self._small = torch.zeros((3, *twin.half), device=device, dtype=torch.uint8)
        self.pictures = (
            self._planes, self._alpha, self._near, self._grown, self._blurs, self._small
        )  # fmt: skip

    def take(self, picture: Tensor, alpha: Tensor, *, full_range: bool) -> None:
        """Look at the frame and its matte; see `gpu.Colours.take`."""
        h, w = self._half
        _small[blocks(h * w)](
            picture, alpha, self._planes, self._alpha, self._sums,
            *self._shrink, *self._size, h, w,
            FULL_RANGE=full_range, BLOCK=BLOCK,
        )  # fmt: skip

    def near(self) -> Tensor:
        """Return Y, U and V of the person, then of the room, carried over edges, (6, h, w)."""
        h, w = self._half
        _carry[blocks(h * w)](
            self._planes, self._alpha, self._near, h, w, (gpu.NEAR | 1) // 2, gpu.TRUST, BLOCK=BLOCK
        )
        _grow[blocks(self._size[0] * self._size[1])](
            self._near, self._grown, *self._grow, h, w, *self._size, BLOCK=BLOCK
        )
        return self._grown

    def blur(self, behind: Tensor) -> None:
        """Fill the backdrop with the room, blurred, as `gpu.blur` does.

        Shapes:
            behind: (scene.height * 3 // 2 * scene.width) uint8 I420
        """
        (h, w), fit, scene = self._half, self._fit, self._scene
        _keep[blocks(h * w)](
            self._planes, self._alpha, self._blurs[0], self._sums, h, w, BLOCK=BLOCK
        )
        for _ in range(gpu.PASSES):
            slide(self._blurs, self._width, reflect=False)
        _settled[blocks(h * w)](
            self._blurs[0], self._sums, self._small, h * w, gpu.TRUST, BLOCK=BLOCK
        )
        _spread[blocks(scene.height * scene.width // 4)](
            self._small, behind, *self._enlarge, h, w,
            scene.height // 2, scene.width // 2, fit.height, fit.width, fit.top, fit.left,
            MIRROR=scene.mirror, BLOCK=BLOCK,
        )  # fmt: skip


class Spill:
    """How much of the backdrop's light spills over the person, as `gpu.Spill` computes it."""

    def __init__(self, twin: gpu.Spill, fit: Fit, scene: Scene, size: tuple[int, int]) -> None:
        self._twin, self._fit, self._scene = twin, fit, scene
        self._light = [x.tables() for x in twin.light]
        device = self._light[0][0].device
        self._planes = torch.zeros((2, 4, *size), device=device)
        self.wrap = torch.zeros((4, *size), device=device)
        self.pictures = (self._planes, self.wrap)

    def __call__(self, alpha: Tensor, behind: Tensor) -> Tensor:
        """Return how much and what light, (4, h, w); see `gpu.Spill`."""
        (h, w), fit, scene = alpha.shape, self._fit, self._scene
        luma, chroma = self._light
        first = self._planes[0]
        _light[blocks(h * w)](
            alpha, behind, first, *luma, *chroma, h, w, scene.height, scene.width,
            fit.top, fit.left, Y_ROWS=len(luma[0]), Y_COLUMNS=len(luma[2]),
            C_ROWS=len(chroma[0]), C_COLUMNS=len(chroma[2]), MIRROR=scene.mirror, BLOCK=BLOCK,
        )  # fmt: skip
        slide(self._planes, self._twin.reach, reflect=True)
        slide(self._planes[:, :1], self._twin.reach, reflect=True)
        _spill[blocks(h * w)](first, self.wrap, h * w, self._twin.most, BLOCK=BLOCK)
        return self.wrap


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
        if scene.decontaminate or not pictured:
            colours.take(picture, alpha, full_range=self._draw.full_range)
        if not pictured:
            colours.blur(behind)
        if scene.decontaminate:
            purity = colours.near()
        if scene.light_wrap > 0:
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


def slide(pair: Tensor, width: int, *, reflect: bool) -> None:
    """Take the mean over a square window of odd `width`, in place, as `gpu.box` does.

    Shapes:
        pair: (2, C, h, w) float32: what is averaged, and room for what is halfway
    """
    (x, halfway), (h, w) = pair, pair.shape[2:]
    n = x.numel()
    common = {"REFLECT": reflect, "BLOCK": BLOCK}
    _slide[blocks(n)](x, halfway, n, h, w, width // 2, DOWN=True, **common)
    _slide[blocks(n)](halfway, x, n, h, w, width // 2, DOWN=False, **common)


class Draw:
    """Blends the person over a backdrop, as `segmentation.engines.gpu.draw` does."""

    def __init__(self, packing: Packing, fit: Fit, scene: Scene, device: torch.device) -> None:
        self._from, self._fit, self.scene = packing, fit, scene
        self.full_range = packing.full_range
        self._packing = packing if fit.same else fit.packing(full_range=packing.full_range)
        self._luma, self._chroma = fit.grow_y.tables(), fit.grow_c.tables()
        self._scale = fit.scale_y.tables(), fit.scale_c.tables()
        self._fitted = torch.zeros(
            0 if fit.same else self._packing.size, device=device, dtype=torch.uint8
        )
        self.pictures = (self._fitted,)

    def __call__(
        self,
        data: Tensor,
        a: Tensor,
        b: Tensor,
        purity: Tensor | None,
        wrap: Tensor | None,
        behind: Tensor,
        out: Tensor,
    ) -> None:
        """Fill `out`; unlike for `gpu.draw`, nothing is mirrored yet but what `wrap` says.

        Shapes:
            data: the frame as its packing says, uint8
        """
        p, fit, scene = self._packing, self._fit, self.scene
        if not fit.same:
            data = self._fitting(data)
        if not fit.fills:
            out.copy_(behind)
        height, width = fit.height // 2, fit.width // 2
        _draw[blocks(height * width)](
            data, a, b, a if purity is None else purity, a if wrap is None else wrap, behind, out,
            p.y.offset, p.y.line, p.u.offset, p.v.offset, p.u.line,
            *self._luma, *self._chroma,
            a.shape[0], a.shape[1], height, width,
            scene.height, scene.width, fit.top, fit.left,
            Y_STEP=p.y.step, C_STEP=p.u.step, TALL=p.u.height == p.y.height,
            FULL_RANGE=self.full_range, MIRROR=scene.mirror,
            PURITY=purity is not None, WRAP=wrap is not None,
            GAIN=GAIN, BLOCK=BLOCK,
        )  # fmt: skip

    def _fitting(self, data: Tensor) -> Tensor:
        """Return the frame's planes at the size they have in the output, one after the other."""
        p, fit = self._from, self._fit
        luma, chroma = self._scale
        _fitted[blocks(fit.height * fit.width // 4)](
            data, self._fitted, p.y.offset, p.y.line, p.u.offset, p.v.offset, p.u.line,
            *luma, *chroma, fit.height // 2, fit.width // 2,
            Y_STEP=p.y.step, C_STEP=p.u.step,
            Y_EXACT=exact(fit.scale_y), C_EXACT=exact(fit.scale_c),
            Y_ROWS=len(luma[0]), Y_COLUMNS=len(luma[2]),
            C_ROWS=len(chroma[0]), C_COLUMNS=len(chroma[2]), BLOCK=BLOCK,
        )  # fmt: skip
        return self._fitted


def exact(scale: Bytes | Resize) -> bool:
    """True if it computes in whole numbers."""
    return isinstance(scale, Bytes)


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
def _number(at, inside):
    """What lies there, 0 if it is no number."""
    x = tl.load(at, mask=inside, other=0)
    return tl.where(x == x, x, 0.0)


@triton.jit
def _linear(plane, wide, rows, row_weights, columns, column_weights, i, j, h, w, inside):
    """A plane `wide` pixels wide at pixel (i, j) of its new size (h, w), linearly."""
    found = i.to(tl.float32) * 0
    for across in tl.static_range(2):
        c = tl.load(columns + across * w + j, mask=inside, other=0)
        column = i.to(tl.float32) * 0
        for down in tl.static_range(2):
            r = tl.load(rows + down * h + i, mask=inside, other=0)
            weight = tl.load(row_weights + down * h + i, mask=inside, other=0)
            column += _number(plane + r * wide + c, inside) * weight
        found += column * tl.load(column_weights + across * w + j, mask=inside, other=0)
    return found


@triton.jit
def _clamped(x, low, high):
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def _mirrored(i, n):
    """A place beyond the edge, reflected; the edge itself is not repeated."""
    i = tl.abs(i)
    return n - 1 - tl.abs(n - 1 - i)


@triton.jit
def _ramp(alpha, start, end):
    return _clamped((alpha - start) * (1 / (end - start)), 0.0, 1.0)


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
    tl.store(mask + place, (x < 0.9).to(tl.uint8), mask=inside)


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
    sure = inside & (x > 0.5)
    tl.atomic_add(counts + SURE, tl.sum(sure.to(tl.int32), axis=0))
    tl.atomic_add(sum_, tl.sum(tl.where(sure, x, 0.0), axis=0))


@triton.jit
def _believe(
    half, trust, table, counts, sum_, present, first, h, w, rim,
    arrive, leave, sure, doubt, BLOCK: tl.constexpr,
):  # fmt: skip
    """How far alpha is believed, by the most that is around it; and is somebody there?"""
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
    """What changed since the picture before, which the new one replaces."""
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
    known = tl.where(known < 0, quiet, known * 1.02 + 0.02)
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
def _small(
    picture, alpha, planes, small, sums, bi, bv, bj, bw, rows, row_weights, columns, column_weights,
    whole_h, whole_w, h, w, FULL_RANGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Colours and alpha at half the model's size."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    i, j = place // w, place % w
    for k in tl.static_range(3):
        plane = picture + k * whole_h * whole_w
        x = _shrunk(plane, whole_w, bi, bv, bj, bw, i, j, h, w, inside, 1, 0, True, 2, 2)
        if FULL_RANGE:
            x = x * (219 / 255) + 16 if k == 0 else (x - 128) * (224 / 255) + 128
        tl.store(planes + k * h * w + place, x, mask=inside)
    x = _linear(alpha, whole_w, rows, row_weights, columns, column_weights, i, j, h, w, inside)
    tl.store(small + place, x, mask=inside)
    if tl.program_id(0) == 0:
        tl.store(sums + tl.arange(0, 4), tl.zeros([4], tl.float32))


@triton.jit
def _carry(planes, alpha, near, h, w, reach, trust, BLOCK: tl.constexpr):
    """Y, U and V of the person, and of the room, as far as `reach` from where they are sure."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = h * w
    inside = place < n
    row, column = place // w, place % w
    zero = tl.zeros([BLOCK], tl.float32)
    p, py, pu, pv = zero, zero, zero, zero
    q, qy, qu, qv = zero, zero, zero, zero
    side = 2 * reach + 1
    for k in range(side * side):
        r, c = _mirrored(row + k // side - reach, h), _mirrored(column + k % side - reach, w)
        at = r * w + c
        x = tl.load(alpha + at, mask=inside, other=0)
        y = tl.load(planes + at, mask=inside, other=0)
        u = tl.load(planes + n + at, mask=inside, other=0)
        v = tl.load(planes + 2 * n + at, mask=inside, other=0)
        s, t = _ramp(x, 0.6, 0.95), _ramp(x, 0.4, 0.05)
        p, py, pu, pv = p + s, py + s * y, pu + s * u, pv + s * v
        q, qy, qu, qv = q + t, qy + t * y, qu + t * u, qv + t * v
    # A mean of them, and of the pixel's own colour where there is nothing else.
    trust = trust * side * side
    p, q = p + trust, q + trust
    for k in tl.static_range(3):
        own = tl.load(planes + k * n + place, mask=inside, other=0) * trust
        person = py if k == 0 else pu if k == 1 else pv
        room = qy if k == 0 else qu if k == 1 else qv
        tl.store(near + k * n + place, (person + own) / p, mask=inside)
        tl.store(near + (3 + k) * n + place, (room + own) / q, mask=inside)


@triton.jit
def _grow(
    near, grown, rows, row_weights, columns, column_weights, half_h, half_w, h, w,
    BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    i, j = place // w, place % w
    for k in tl.static_range(6):
        x = _linear(
            near + k * half_h * half_w, half_w,
            rows, row_weights, columns, column_weights, i, j, h, w, inside,
        )  # fmt: skip
        tl.store(grown + k * h * w + place, x, mask=inside)


@triton.jit
def _keep(planes, alpha, weighted, sums, h, w, BLOCK: tl.constexpr):
    """The room's colours, as far as it is the room, and how far; and the sums of those."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = h * w
    inside = place < n
    row, column = place // w, place % w
    most = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(9):
        r, c = row + k // 3 - 1, column + k % 3 - 1
        there = inside & (r >= 0) & (r < h) & (c >= 0) & (c < w)
        most = tl.maximum(most, tl.load(alpha + r * w + c, mask=there, other=0))
    weight = tl.where(inside, _ramp(most, 0.5, 0.05), 0.0)
    for k in tl.static_range(3):
        x = tl.load(planes + k * n + place, mask=inside, other=0) * weight
        tl.store(weighted + k * n + place, x, mask=inside)
        tl.atomic_add(sums + k, tl.sum(x, axis=0))
    tl.store(weighted + 3 * n + place, weight, mask=inside)
    tl.atomic_add(sums + 3, tl.sum(weight, axis=0))


@triton.jit
def _slide(x, out, n, h, w, reach, DOWN: tl.constexpr, REFLECT: tl.constexpr, BLOCK: tl.constexpr):
    """The mean of as many as `reach` before and after each, down or across planes of (h, w)."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    size, step = (h, w) if DOWN else (w, 1)
    at = place // step % size
    start = place - at * step
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(2 * reach + 1):
        i = at + k - reach
        i = _mirrored(i, size) if REFLECT else _clamped(i, 0, size - 1)
        total += tl.load(x + start + i * step, mask=inside, other=0)
    tl.store(out + place, total / (2 * reach + 1), mask=inside)


@triton.jit
def _settled(weighted, sums, small, n, trust, BLOCK: tl.constexpr):
    """The room's blurred colours; where there is none of it, those of all of it."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    weight = tl.load(weighted + 3 * n + place, mask=inside, other=1)
    whole = tl.maximum(tl.load(sums + 3), 1e-3)
    for k in tl.static_range(3):
        x = tl.load(weighted + k * n + place, mask=inside, other=0)
        x = (x + tl.load(sums + k) / whole * trust) / (weight + trust)
        x = _clamped(tl.floor(x + 0.5), 0.0, 255.0)
        tl.store(small + k * n + place, x.to(tl.int32).to(tl.uint8), mask=inside)


@triton.jit
def _spread(
    small, behind, yi, yv, yj, yw, ci, cv, cj, cw, small_h, small_w,
    height, width, fit_h, fit_w, top, left, MIRROR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The blurred room at full size, its edges repeated over the bars beside it."""
    # Each of the block's places is four pixels of luma and one of chroma.
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < height * width
    row, column = place // width, place % width
    for k in tl.static_range(4):
        r, c = 2 * row + k // 2, 2 * column + k % 2
        i, j = _clamped(r - top, 0, fit_h - 1), _clamped(c - left, 0, fit_w - 1)
        j = fit_w - 1 - j if MIRROR else j
        x = _shrunk(small, small_w, yi, yv, yj, yw, i, j, fit_h, fit_w, inside, 1, 0, True, 2, 2)
        tl.store(behind + r * 2 * width + c, x.to(tl.int32).to(tl.uint8), mask=inside)
    fit_h, fit_w = fit_h // 2, fit_w // 2
    i = _clamped(row - top // 2, 0, fit_h - 1)
    j = _clamped(column - left // 2, 0, fit_w - 1)
    j = fit_w - 1 - j if MIRROR else j
    for k in tl.static_range(1, 3):
        plane = small + k * small_h * small_w
        x = _shrunk(plane, small_w, ci, cv, cj, cw, i, j, fit_h, fit_w, inside, 1, 0, True, 2, 2)
        at = (3 + k) * height * width + place
        tl.store(behind + at, x.to(tl.int32).to(tl.uint8), mask=inside)


@triton.jit
def _light(
    alpha, behind, planes, yi, yv, yj, yw, ci, cv, cj, cw, h, w, scene_h, scene_w, top, left,
    Y_ROWS: tl.constexpr, Y_COLUMNS: tl.constexpr, C_ROWS: tl.constexpr, C_COLUMNS: tl.constexpr,
    MIRROR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """How far each pixel is none of the person's, and the backdrop, at the model's size."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = h * w
    inside = place < n
    i, j = place // w, place % w
    shown = w - 1 - j if MIRROR else j
    tl.store(planes + place, 1 - tl.load(alpha + i * w + shown, mask=inside, other=0), mask=inside)
    x = _shrunk(
        behind + top * scene_w + left, scene_w, yi, yv, yj, yw, i, j, h, w, inside,
        1, 0, False, Y_ROWS, Y_COLUMNS,
    )  # fmt: skip
    tl.store(planes + n + place, x, mask=inside)
    area = scene_h * scene_w
    for k in tl.static_range(2):
        plane = behind + area + k * (area // 4) + top // 2 * (scene_w // 2) + left // 2
        x = _shrunk(
            plane, scene_w // 2, ci, cv, cj, cw, i, j, h, w, inside,
            1, 0, False, C_ROWS, C_COLUMNS,
        )  # fmt: skip
        tl.store(planes + (2 + k) * n + place, x, mask=inside)


@triton.jit
def _spill(planes, wrap, n, most, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    around = tl.load(planes + place, mask=inside, other=0)
    spill = _clamped(around * 1.6 - 0.1, 0.0, 1.0) * most
    spill = tl.where(spill < 1e-3, 0.0, spill)
    tl.store(wrap + place, spill, mask=inside)
    for k in tl.static_range(1, 4):
        x = tl.load(planes + k * n + place, mask=inside, other=0)
        tl.store(wrap + k * n + place, x * spill, mask=inside)


@triton.jit
def _pixel(plane, line, r, c, inside, STEP: tl.constexpr):
    return tl.load(plane + r * line + c * STEP, mask=inside, other=0).to(tl.int32)


@triton.jit
def _half(plane, line, r, c, inside, STEP: tl.constexpr):
    r, c = 2 * r, 2 * c
    top = _pixel(plane, line, r, c, inside, STEP) + _pixel(plane, line, r, c + 1, inside, STEP)
    r = r + 1
    low = _pixel(plane, line, r, c, inside, STEP) + _pixel(plane, line, r, c + 1, inside, STEP)
    return (top + low + 2) >> 2


@triton.jit
def _quarter(plane, line, r, c, inside, STEP: tl.constexpr):
    r, c = 2 * r, 2 * c
    top = _half(plane, line, r, c, inside, STEP) + _half(plane, line, r, c + 1, inside, STEP)
    r = r + 1
    low = _half(plane, line, r, c, inside, STEP) + _half(plane, line, r, c + 1, inside, STEP)
    return (top + low + 2) >> 2


@triton.jit
def _at(plane, line, r, c, inside, STEP: tl.constexpr, HALVES: tl.constexpr):
    """A pixel of the plane after so many halvings, each rounded."""
    if HALVES == 0:
        found = _pixel(plane, line, r, c, inside, STEP)
    elif HALVES == 1:
        found = _half(plane, line, r, c, inside, STEP)
    else:
        found = _quarter(plane, line, r, c, inside, STEP)
    return found


@triton.jit
def _shrunk(
    plane, line, rows, row_weights, columns, column_weights, i, j, h, w, inside,
    STEP: tl.constexpr, HALVES: tl.constexpr, EXACT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The plane's pixel (i, j) at model size, in whole levels."""
    if EXACT:  # `gpu.Bytes`: weights in 1/2048
        j0 = tl.load(columns + j, mask=inside, other=0)
        j1 = tl.load(columns + w + j, mask=inside, other=0)
        w0 = tl.load(column_weights + j, mask=inside, other=0)
        w1 = tl.load(column_weights + w + j, mask=inside, other=0)
        sums = i * 0 + 2
        for tap in tl.static_range(2):
            r = tl.load(rows + tap * h + i, mask=inside, other=0)
            left = _at(plane, line, r, j0, inside, STEP, HALVES)
            right = _at(plane, line, r, j1, inside, STEP, HALVES)
            weight = tl.load(row_weights + tap * h + i, mask=inside, other=0)
            sums += (((left * w0 + right * w1) >> 4) * weight) >> 16
        found = (sums >> 2).to(tl.float32)
    else:  # `gpu.Resize`, by area
        found = i.to(tl.float32) * 0
        for across in tl.static_range(COLUMNS):
            c = tl.load(columns + across * w + j, mask=inside, other=0)
            column = i.to(tl.float32) * 0
            for down in tl.static_range(ROWS):
                r = tl.load(rows + down * h + i, mask=inside, other=0)
                weight = tl.load(row_weights + down * h + i, mask=inside, other=0)
                column += _at(plane, line, r, c, inside, STEP, HALVES).to(tl.float32) * weight
            found += column * tl.load(column_weights + across * w + j, mask=inside, other=0)
        found = tl.floor(found + 0.5)
    return tl.minimum(tl.maximum(found, 0.0), 255.0)


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


@triton.jit
def _grown(plane, w, i0, i1, v0, v1, j0, j1, w0, w1, inside):
    """A plane of model size, enlarged linearly, at one pixel of the output."""
    left = tl.load(plane + i0 * w + j0, mask=inside, other=0) * v0
    left += tl.load(plane + i1 * w + j0, mask=inside, other=0) * v1
    right = tl.load(plane + i0 * w + j1, mask=inside, other=0) * v0
    right += tl.load(plane + i1 * w + j1, mask=inside, other=0) * v1
    return left * w0 + right * w1


@triton.jit
def _mixed(
    c, weight, purity, wrap, channel, n, w,
    i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside,
    PURITY: tl.constexpr, WRAP: tl.constexpr,
):  # fmt: skip
    """The person's colour without the old room's in it, and with the backdrop's light on it."""
    if PURITY:
        person = _grown(purity + channel * n, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        room = _grown(purity + (3 + channel) * n, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        c = c + (1 - weight) * ((person - c) + weight * (person - room))
        c = tl.minimum(tl.maximum(c, 0.0), 255.0)
    if WRAP:
        spill = _grown(wrap, w, i0, i1, v0, v1, m0, m1, z0, z1, inside)
        light = _grown(wrap + (1 + channel) * n, w, i0, i1, v0, v1, m0, m1, z0, z1, inside)
        c = c * (1 - spill) + light
    return c


@triton.jit
def _blended(c, weight, behind, out, at, inside):
    room = tl.load(behind + at, mask=inside, other=0).to(tl.float32)
    shown = c * weight + room * (1 - weight) + 0.5
    tl.store(out + at, shown.to(tl.int32).to(tl.uint8), mask=inside)


@triton.jit
def _draw(
    data, a, b, purity, wrap, behind, out,
    y_at, y_line, u_at, v_at, c_line,
    yi, yv, yj, yw, ci, cv, cj, cw,
    h, w, height, width, scene_h, scene_w, top, left,
    Y_STEP: tl.constexpr, C_STEP: tl.constexpr, TALL: tl.constexpr,
    FULL_RANGE: tl.constexpr, MIRROR: tl.constexpr,
    PURITY: tl.constexpr, WRAP: tl.constexpr,
    GAIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Each of the block's places is four pixels of luma and one of chroma.
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < height * width
    row, column = place // width, place % width
    n = h * w
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(4):
        r, shown = 2 * row + k // 2, 2 * column + k % 2
        c = 2 * width - 1 - shown if MIRROR else shown
        i0 = tl.load(yi + r, mask=inside, other=0)
        i1 = tl.load(yi + 2 * height + r, mask=inside, other=0)
        v0 = tl.load(yv + r, mask=inside, other=0)
        v1 = tl.load(yv + 2 * height + r, mask=inside, other=0)
        j0 = tl.load(yj + c, mask=inside, other=0)
        j1 = tl.load(yj + 2 * width + c, mask=inside, other=0)
        w0 = tl.load(yw + c, mask=inside, other=0)
        w1 = tl.load(yw + 2 * width + c, mask=inside, other=0)
        m0 = tl.load(yj + shown, mask=inside, other=0)
        m1 = tl.load(yj + 2 * width + shown, mask=inside, other=0)
        z0 = tl.load(yw + shown, mask=inside, other=0)
        z1 = tl.load(yw + 2 * width + shown, mask=inside, other=0)
        y = tl.load(data + y_at + r * y_line + c * Y_STEP, mask=inside, other=0).to(tl.float32)
        slope = _grown(a, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        t = slope * (y / 255) + _grown(b, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        t = tl.minimum(tl.maximum(t * GAIN - (GAIN - 1) / 2, 0.0), 1.0)
        total += t
        if FULL_RANGE:
            y = y * (219 / 255) + 16
        y = _mixed(
            y, t, purity, wrap, 0, n, w,
            i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside, PURITY, WRAP,
        )  # fmt: skip
        _blended(y, t, behind, out, (top + r) * scene_w + left + shown, inside)
    weight = total * 0.25
    c = width - 1 - column if MIRROR else column
    i0 = tl.load(ci + row, mask=inside, other=0)
    i1 = tl.load(ci + height + row, mask=inside, other=0)
    v0 = tl.load(cv + row, mask=inside, other=0)
    v1 = tl.load(cv + height + row, mask=inside, other=0)
    j0 = tl.load(cj + c, mask=inside, other=0)
    j1 = tl.load(cj + width + c, mask=inside, other=0)
    w0 = tl.load(cw + c, mask=inside, other=0)
    w1 = tl.load(cw + width + c, mask=inside, other=0)
    m0 = tl.load(cj + column, mask=inside, other=0)
    m1 = tl.load(cj + width + column, mask=inside, other=0)
    z0 = tl.load(cw + column, mask=inside, other=0)
    z1 = tl.load(cw + width + column, mask=inside, other=0)
    area = scene_h * scene_w
    at = (top // 2 + row) * (scene_w // 2) + left // 2 + column
    for k in tl.static_range(2):
        plane = data + u_at if k == 0 else data + v_at
        if TALL:  # 4:2:2: the mean of two rows
            x = tl.load(plane + 2 * row * c_line + c * C_STEP, mask=inside, other=0)
            under = tl.load(plane + (2 * row + 1) * c_line + c * C_STEP, mask=inside, other=0)
            x = (x.to(tl.float32) + under.to(tl.float32)) * 0.5
        else:
            x = tl.load(plane + row * c_line + c * C_STEP, mask=inside, other=0).to(tl.float32)
        if FULL_RANGE:
            x = (x - 128) * (224 / 255) + 128
        x = _mixed(
            x, weight, purity, wrap, 1 + k, n, w,
            i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside, PURITY, WRAP,
        )  # fmt: skip
        _blended(x, weight, behind, out, area + k * (area // 4) + at, inside)


@triton.jit
def _fitted(
    data, out, y_at, y_line, u_at, v_at, c_line, yi, yv, yj, yw, ci, cv, cj, cw, height, width,
    Y_STEP: tl.constexpr, C_STEP: tl.constexpr, Y_EXACT: tl.constexpr, C_EXACT: tl.constexpr,
    Y_ROWS: tl.constexpr, Y_COLUMNS: tl.constexpr, C_ROWS: tl.constexpr, C_COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The frame's planes at another size."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < height * width
    row, column = place // width, place % width
    for k in tl.static_range(4):
        i, j = 2 * row + k // 2, 2 * column + k % 2
        x = _shrunk(
            data + y_at, y_line, yi, yv, yj, yw, i, j, 2 * height, 2 * width, inside,
            Y_STEP, 0, Y_EXACT, Y_ROWS, Y_COLUMNS,
        )  # fmt: skip
        tl.store(out + i * 2 * width + j, x.to(tl.int32).to(tl.uint8), mask=inside)
    for k in tl.static_range(2):
        x = _shrunk(
            data + (u_at if k == 0 else v_at), c_line, ci, cv, cj, cw, row, column, height, width,
            inside, C_STEP, 0, C_EXACT, C_ROWS, C_COLUMNS,
        )  # fmt: skip
        tl.store(out + (4 + k) * height * width + place, x.to(tl.int32).to(tl.uint8), mask=inside)
