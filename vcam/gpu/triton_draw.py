# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The composite's kernels in Triton: colours at the edge, spilt light, blurred room, blending."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from vcam.compose import constants
from vcam.compose.scene import Scene
from vcam.gpu import torch_draw
from vcam.gpu.packing import Packing
from vcam.gpu.resample import Bytes, Resize
from vcam.gpu.torch_draw import Fit
from vcam.gpu.triton_common import BLOCK, _clamped, _linear, _mirrored, _ramp, _shrunk, blocks

# As Triton reads them.
LUMA, CHROMA, MIDDLE, DARK = (tl.constexpr(x) for x in (LUMA_SLOPE, CHROMA_SLOPE, GREY, BLACK))
PERSON_NONE, PERSON_ALL = (tl.constexpr(x) for x in constants.PERSON_RAMP)
ROOM_NONE, ROOM_ALL = (tl.constexpr(x) for x in constants.ROOM_RAMP)
BLUR_NONE, BLUR_ALL = (tl.constexpr(x) for x in constants.BLUR_RAMP)
GAIN, SHIFT = tl.constexpr(constants.GAIN), tl.constexpr(constants.SHIFT)
LEAST_WEIGHT = tl.constexpr(constants.LEAST_WEIGHT)
SPILL_GAIN, SPILL_SHIFT, SPILL_LEAST = (
    tl.constexpr(x) for x in (constants.SPILL_GAIN, constants.SPILL_SHIFT, constants.SPILL_LEAST)
)


class Colours:
    """Colours of person and room near each pixel, as in `torch_draw.Colours`."""

    def __init__(
        self, twin: torch_draw.Colours, fit: Fit, scene: Scene, size: tuple[int, int]
    ) -> None:
        self._fit, self._scene, self._size, self._half = fit, scene, size, twin.half
        self._width = torch_draw.width(torch_draw.sigma(scene, size))
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
        """Look at the frame and its matte; see `torch_draw.Colours.take`."""
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
            self._planes,
            self._alpha,
            self._near,
            h,
            w,
            (constants.NEAR | 1) // 2,
            constants.TRUST,
            BLOCK=BLOCK,
        )
        _grow[blocks(self._size[0] * self._size[1])](
            self._near, self._grown, *self._grow, h, w, *self._size, BLOCK=BLOCK
        )
        return self._grown

    def blur(self, behind: Tensor) -> None:
        """Fill the backdrop with the room, blurred, as `torch_draw.blur` does.

        Shapes:
            behind: (scene.height * 3 // 2 * scene.width) uint8 I420
        """
        (h, w), fit, scene = self._half, self._fit, self._scene
        _keep[blocks(h * w)](
            self._planes, self._alpha, self._blurs[0], self._sums, h, w, BLOCK=BLOCK
        )
        for _ in range(constants.PASSES):
            slide(self._blurs, self._width, reflect=False)
        _settled[blocks(h * w)](
            self._blurs[0], self._sums, self._small, h * w, constants.TRUST, BLOCK=BLOCK
        )
        _spread[blocks(scene.height * scene.width // 4)](
            self._small, behind, *self._enlarge, h, w,
            scene.height // 2, scene.width // 2, fit.height, fit.width, fit.top, fit.left,
            MIRROR=scene.look.mirror, BLOCK=BLOCK,
        )  # fmt: skip


class Spill:
    """Light of the backdrop that spills over the person, as in `torch_draw.Spill`."""

    def __init__(
        self, twin: torch_draw.Spill, fit: Fit, scene: Scene, size: tuple[int, int]
    ) -> None:
        self._twin, self._fit, self._scene = twin, fit, scene
        self._light = [x.tables() for x in twin.light]
        device = self._light[0][0].device
        self._planes = torch.zeros((2, 4, *size), device=device)
        self.wrap = torch.zeros((4, *size), device=device)
        self.pictures = (self._planes, self.wrap)

    def __call__(self, alpha: Tensor, behind: Tensor) -> Tensor:
        """Return how much and what light, (4, h, w); see `torch_draw.Spill`."""
        (h, w), fit, scene = alpha.shape, self._fit, self._scene
        luma, chroma = self._light
        first = self._planes[0]
        _light[blocks(h * w)](
            alpha, behind, first, *luma, *chroma, h, w, scene.height, scene.width,
            fit.top, fit.left, Y_ROWS=len(luma[0]), Y_COLUMNS=len(luma[2]),
            C_ROWS=len(chroma[0]), C_COLUMNS=len(chroma[2]), MIRROR=scene.look.mirror, BLOCK=BLOCK,
        )  # fmt: skip
        slide(self._planes, self._twin.reach, reflect=True)
        slide(self._planes[:, :1], self._twin.reach, reflect=True)
        _spill[blocks(h * w)](first, self.wrap, h * w, self._twin.most, BLOCK=BLOCK)
        return self.wrap


def slide(pair: Tensor, width: int, *, reflect: bool) -> None:
    """Take the mean over a square window of odd `width`, in place, as `resample.box` does.

    Shapes:
        pair: (2, C, h, w) float32: what is averaged, and room for what is halfway
    """
    (x, halfway), (h, w) = pair, pair.shape[2:]
    n = x.numel()
    common = {"REFLECT": reflect, "BLOCK": BLOCK}
    _slide[blocks(n)](x, halfway, n, h, w, width // 2, DOWN=True, **common)
    _slide[blocks(n)](halfway, x, n, h, w, width // 2, DOWN=False, **common)


class Draw:
    """Blends the person over a backdrop, as `vcam.gpu.torch_draw.draw` does."""

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
        """Fill `out`; unlike for `torch_draw.draw`, nothing is mirrored yet but what `wrap` says.

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
            FULL_RANGE=self.full_range, MIRROR=scene.look.mirror,
            PURITY=purity is not None, WRAP=wrap is not None,
            BLOCK=BLOCK,
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
            x = x * LUMA + DARK if k == 0 else (x - MIDDLE) * CHROMA + MIDDLE
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
        s, t = _ramp(x, PERSON_NONE, PERSON_ALL), _ramp(x, ROOM_NONE, ROOM_ALL)
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
    weight = tl.where(inside, _ramp(most, BLUR_NONE, BLUR_ALL), 0.0)
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
    whole = tl.maximum(tl.load(sums + 3), LEAST_WEIGHT)
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
    """Share of each pixel that is not the person's, and the backdrop, at the model's size."""
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
    spill = _clamped(around * SPILL_GAIN - SPILL_SHIFT, 0.0, 1.0) * most
    spill = tl.where(spill < SPILL_LEAST, 0.0, spill)
    tl.store(wrap + place, spill, mask=inside)
    for k in tl.static_range(1, 4):
        x = tl.load(planes + k * n + place, mask=inside, other=0)
        tl.store(wrap + k * n + place, x * spill, mask=inside)


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
    BLOCK: tl.constexpr,
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
        t = tl.minimum(tl.maximum(t * GAIN - SHIFT, 0.0), 1.0)
        total += t
        if FULL_RANGE:
            y = y * LUMA + DARK
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
            x = (x - MIDDLE) * CHROMA + MIDDLE
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
