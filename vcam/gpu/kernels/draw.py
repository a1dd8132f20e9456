# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The person blended over a backdrop."""

from __future__ import annotations

import torch
from torch import Tensor

from vcam.compose import constants
from vcam.compose.scene import Scene
from vcam.gpu.kernels.colours import CHROMA, DARK, LUMA, MIDDLE
from vcam.gpu.kernels.common import BLOCK, _shrunk, blocks
from vcam.gpu.kernels.language import kernel, tl, triton
from vcam.gpu.packing import Packing
from vcam.gpu.resample import Bytes, Resize
from vcam.gpu.torch_draw import Fit

GAIN, SHIFT = tl.constexpr(constants.GAIN), tl.constexpr(constants.SHIFT)


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
            y_step=p.y.step, c_step=p.u.step, full_range=int(self.full_range),
            TALL=p.u.height == p.y.height,
            MIRROR=scene.look.mirror, PURITY=purity is not None, WRAP=wrap is not None,
            BLOCK=BLOCK,
        )  # fmt: skip

    def _fitting(self, data: Tensor) -> Tensor:
        """Return the frame's planes at the size they have in the output, one after the other."""
        p, fit = self._from, self._fit
        luma, chroma = self._scale
        _fitted[blocks(fit.height * fit.width // 4)](
            data, self._fitted, p.y.offset, p.y.line, p.u.offset, p.v.offset, p.u.line,
            *luma, *chroma, fit.height // 2, fit.width // 2,
            y_step=p.y.step, c_step=p.u.step,
            Y_EXACT=exact(fit.scale_y), C_EXACT=exact(fit.scale_c),
            y_rows=len(luma[0]), y_columns=len(luma[2]),
            c_rows=len(chroma[0]), c_columns=len(chroma[2]), BLOCK=BLOCK,
        )  # fmt: skip
        return self._fitted


def exact(scale: Bytes | Resize) -> bool:
    """True if it computes in whole numbers."""
    return isinstance(scale, Bytes)


@triton.jit
def _grown(plane, w, i0, i1, v0, v1, j0, j1, w0, w1, inside):
    """A plane of model size, enlarged linearly, at one pixel of the output."""
    left = tl.load(plane + i0 * w + j0, mask=inside, other=0) * v0
    left += tl.load(plane + i1 * w + j0, mask=inside, other=0) * v1
    right = tl.load(plane + i0 * w + j1, mask=inside, other=0) * v0
    right += tl.load(plane + i1 * w + j1, mask=inside, other=0) * v1
    return left * w0 + right * w1


@triton.jit
def _blend(
    c, weight, purity, wrap, behind, out, at, channel, n, w,
    i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside,
    PURITY: tl.constexpr, WRAP: tl.constexpr,
):  # fmt: skip
    """The person's colour without the old room's in it, and the backdrop's light on both."""
    if PURITY:
        person = _grown(purity + channel * n, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        room = _grown(purity + (3 + channel) * n, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        c = c + (1 - weight) * ((person - c) + weight * (person - room))
        c = tl.minimum(tl.maximum(c, 0.0), 255.0)
    room = tl.load(behind + at, mask=inside, other=0).to(tl.float32)
    c = c * weight + room * (1 - weight)
    if WRAP:
        spill = _grown(wrap, w, i0, i1, v0, v1, m0, m1, z0, z1, inside)
        light = _grown(wrap + (1 + channel) * n, w, i0, i1, v0, v1, m0, m1, z0, z1, inside)
        c = c * (1 - spill) + light
    tl.store(out + at, (c + 0.5).to(tl.int32).to(tl.uint8), mask=inside)


@kernel
def _draw(
    data, a, b, purity, wrap, behind, out,
    y_at, y_line, u_at, v_at, c_line,
    yi, yv, yj, yw, ci, cv, cj, cw,
    h, w, height, width, scene_h, scene_w, top, left, y_step, c_step, full_range,
    TALL: tl.constexpr, MIRROR: tl.constexpr, PURITY: tl.constexpr, WRAP: tl.constexpr,
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
        y = tl.load(data + y_at + r * y_line + c * y_step, mask=inside, other=0).to(tl.float32)
        slope = _grown(a, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        t = slope * (y / 255) + _grown(b, w, i0, i1, v0, v1, j0, j1, w0, w1, inside)
        t = tl.minimum(tl.maximum(t * GAIN - SHIFT, 0.0), 1.0)
        total += t
        y = tl.where(full_range != 0, y * LUMA + DARK, y)
        _blend(
            y, t, purity, wrap, behind, out, (top + r) * scene_w + left + shown, 0, n, w,
            i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside, PURITY, WRAP,
        )  # fmt: skip
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
            x = tl.load(plane + 2 * row * c_line + c * c_step, mask=inside, other=0)
            under = tl.load(plane + (2 * row + 1) * c_line + c * c_step, mask=inside, other=0)
            x = (x.to(tl.float32) + under.to(tl.float32)) * 0.5
        else:
            x = tl.load(plane + row * c_line + c * c_step, mask=inside, other=0).to(tl.float32)
        x = tl.where(full_range != 0, (x - MIDDLE) * CHROMA + MIDDLE, x)
        _blend(
            x, weight, purity, wrap, behind, out, area + k * (area // 4) + at, 1 + k, n, w,
            i0, i1, v0, v1, j0, j1, w0, w1, m0, m1, z0, z1, inside, PURITY, WRAP,
        )  # fmt: skip


@kernel
def _fitted(
    data, out, y_at, y_line, u_at, v_at, c_line, yi, yv, yj, yw, ci, cv, cj, cw, height, width,
    y_step, c_step, Y_EXACT: tl.constexpr, C_EXACT: tl.constexpr,
    y_rows, y_columns, c_rows, c_columns,
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
            y_step, 0, Y_EXACT, y_rows, y_columns,
        )  # fmt: skip
        tl.store(out + i * 2 * width + j, x.to(tl.int32).to(tl.uint8), mask=inside)
    for k in tl.static_range(2):
        x = _shrunk(
            data + (u_at if k == 0 else v_at), c_line, ci, cv, cj, cw, row, column, height, width,
            inside, c_step, 0, C_EXACT, c_rows, c_columns,
        )  # fmt: skip
        tl.store(out + (4 + k) * height * width + place, x.to(tl.int32).to(tl.uint8), mask=inside)
