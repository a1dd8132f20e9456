# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""Colours of person and room, the blurred room, and light that the backdrop spills."""

from __future__ import annotations

import torch
from torch import Tensor

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from vcam.compose import constants
from vcam.compose.scene import Scene
from vcam.gpu import torch_draw
from vcam.gpu.kernels.common import BLOCK, _clamped, _linear, _mirrored, _ramp, _shrunk, blocks
from vcam.gpu.kernels.language import kernel, tl
from vcam.gpu.torch_draw import Fit

# As Triton reads them.
LUMA, CHROMA, MIDDLE, DARK = (tl.constexpr(x) for x in (LUMA_SLOPE, CHROMA_SLOPE, GREY, BLACK))
PERSON_NONE, PERSON_ALL = (tl.constexpr(x) for x in constants.PERSON_RAMP)
ROOM_NONE, ROOM_ALL = (tl.constexpr(x) for x in constants.ROOM_RAMP)
BLUR_NONE, BLUR_ALL = (tl.constexpr(x) for x in constants.BLUR_RAMP)
LEAST_WEIGHT = tl.constexpr(constants.LEAST_WEIGHT)
SPILL_GAIN, SPILL_SHIFT, SPILL_LEAST = (
    tl.constexpr(x) for x in (constants.SPILL_GAIN, constants.SPILL_SHIFT, constants.SPILL_LEAST)
)
SPILL_OUT, SPILL_FALL, SPILL_LIGHT = (
    tl.constexpr(x) for x in (constants.SPILL_OUT, constants.SPILL_FALL, constants.SPILL_LIGHT)
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
            fit.top, fit.left, y_rows=len(luma[0]), y_columns=len(luma[2]),
            c_rows=len(chroma[0]), c_columns=len(chroma[2]), MIRROR=scene.look.mirror, BLOCK=BLOCK,
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
def _light(
    alpha, behind, planes, yi, yv, yj, yw, ci, cv, cj, cw, h, w, scene_h, scene_w, top, left,
    y_rows, y_columns, c_rows, c_columns,
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
        1, 0, False, y_rows, y_columns,
    )  # fmt: skip
    tl.store(planes + n + place, x, mask=inside)
    area = scene_h * scene_w
    for k in tl.static_range(2):
        plane = behind + area + k * (area // 4) + top // 2 * (scene_w // 2) + left // 2
        x = _shrunk(
            plane, scene_w // 2, ci, cv, cj, cw, i, j, h, w, inside,
            1, 0, False, c_rows, c_columns,
        )  # fmt: skip
        tl.store(planes + (2 + k) * n + place, x, mask=inside)


@kernel
def _spill(planes, wrap, n, most, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    around = tl.load(planes + place, mask=inside, other=0)
    spill = tl.minimum(around * SPILL_GAIN - SPILL_SHIFT, SPILL_OUT - around * SPILL_FALL)
    bright = tl.load(planes + n + place, mask=inside, other=0) - DARK
    spill = _clamped(spill, 0.0, 1.0) * _clamped(bright * SPILL_LIGHT, 0.0, 1.0) * most
    spill = tl.where(spill < SPILL_LEAST, 0.0, spill)
    tl.store(wrap + place, spill, mask=inside)
    for k in tl.static_range(1, 4):
        x = tl.load(planes + k * n + place, mask=inside, other=0)
        tl.store(wrap + k * n + place, x * spill, mask=inside)
