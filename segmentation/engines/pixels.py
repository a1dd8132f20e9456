# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The pixel kernels of a frame in Triton: from its bytes to the network's input, which pixels of a
matte hang together, and from the guided filter's coefficients to the composite.

They compute what `segmentation.engines.gpu` does in torch's own kernels, in five launches instead
of some five hundred. That one stays the reference: see `Plan.try_triton`.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmentation.engines.gpu import GAIN, Fit, Packing, Scene, Shrink

MOST_HALVES = 2  # beyond, a plane is read sixteen times over
# Triton's interpreter runs a block as NumPy arrays: the larger, the quicker.
BLOCK = 16384 if os.environ.get("TRITON_INTERPRET") == "1" else 256


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
        p = self._packing
        (h, w), (full_h, full_w) = self.picture.shape[1:], self.x.shape[2:]
        yi, yv, yj, yw = self._luma
        ci, cv, cj, cw = self._chroma
        _prepare[(triton.cdiv(full_h * full_w, BLOCK),)](
            data, self.picture, self.x, self._numbers,
            p.y.offset, p.y.line, p.u.offset, p.v.offset, p.u.line,
            yi, yv, yj, yw, ci, cv, cj, cw,
            h, w, full_h, full_w,
            Y_STEP=p.y.step, C_STEP=p.u.step,
            Y_HALVES=self._halves[0], C_HALVES=self._halves[1],
            Y_EXACT=self._exact[0], C_EXACT=self._exact[1],
            Y_ROWS=len(yi), Y_COLUMNS=len(yj), C_ROWS=len(ci), C_COLUMNS=len(cj),
            BLOCK=BLOCK,
        )  # fmt: skip
        return self.picture, self.x


class Draw:
    """Blends the person over a backdrop, as `segmentation.engines.gpu.draw` does."""

    def __init__(self, packing: Packing, fit: Fit, scene: Scene, *, full_range: bool) -> None:
        self._packing, self._fit, self._scene = packing, fit, scene
        self._full_range = full_range
        self._luma, self._chroma = fit.grow_y.tables(), fit.grow_c.tables()

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
            data: the frame as its packing says, uint8, or float32 of the output's size
        """
        p, fit, scene = self._packing, self._fit, self._scene
        if not fit.fills:
            out.copy_(behind)
        yi, yv, yj, yw = self._luma
        ci, cv, cj, cw = self._chroma
        height, width = fit.height // 2, fit.width // 2
        _draw[(triton.cdiv(height * width, BLOCK),)](
            data, a.contiguous(), b.contiguous(),
            a if purity is None else purity.contiguous(),
            a if wrap is None else wrap.contiguous(),
            behind, out,
            p.y.offset, p.y.line, p.u.offset, p.v.offset, p.u.line,
            yi, yv, yj, yw, ci, cv, cj, cw,
            a.shape[0], a.shape[1], height, width,
            scene.height, scene.width, fit.top, fit.left,
            Y_STEP=p.y.step, C_STEP=p.u.step, TALL=p.u.height == p.y.height,
            FULL_RANGE=self._full_range, MIRROR=scene.mirror,
            PURITY=purity is not None, WRAP=wrap is not None,
            GAIN=GAIN, BLOCK=BLOCK,
        )  # fmt: skip


def pieces(mask: Tensor, *, corners: bool) -> Tensor:
    """Name connected pieces, as `segmentation.engines.gpu.pieces` does, if by other numbers.

    From "Parallel connected component labelling on GPUs" (Playne and Hawick, TPDS 2018,
    https://doi.org/10.1109/TPDS.2018.2799216): every pixel is a tree, neighbours join their trees.

    Shapes:
        mask: (h, w) bool; returns: (h * w) int64, numbers from 1, 0 outside of `mask`
    """
    h, w = mask.shape
    seen = mask.contiguous().view(torch.uint8)
    tree = torch.arange(h * w, dtype=torch.int32, device=mask.device)
    name = torch.empty(h * w, dtype=torch.int64, device=mask.device)
    grid = (triton.cdiv(h * w, BLOCK),)
    _join[grid](seen, tree, h, w, CORNERS=corners, BLOCK=BLOCK)
    _look_up[grid](seen, tree, name, h * w, BLOCK=BLOCK)
    return name


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
def _look_up(mask, tree, name, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    on = tl.load(mask + place, mask=inside, other=0) != 0
    root = _root(tree, place, on)
    tl.store(name + place, tl.where(on, root + 1, 0).to(tl.int64), mask=inside)


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
