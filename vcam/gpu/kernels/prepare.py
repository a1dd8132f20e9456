# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The network's input, from a frame's bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from vcam.gpu.kernels.common import BLOCK, _shrunk, blocks
from vcam.gpu.kernels.language import kernel, tl
from vcam.gpu.packing import Packing
from vcam.gpu.resample import Shrink

MOST_HALVES = 2  # beyond, a plane is read sixteen times over


class Prepare:
    """Makes the network's input from a frame's bytes, as `Shrink` and `to_input` do."""

    def __init__(
        self,
        packing: Packing,
        shrinks: list[Shrink],
        colour: tuple[Tensor, Tensor],
        sizes: tuple[tuple[int, int], tuple[int, int]],
        dtype: torch.dtype,
        inputs: int = 3,
    ) -> None:
        (matrix, scale), (full, size) = colour, sizes
        luma, chroma = shrinks[0], shrinks[1]
        if max(luma.halves, chroma.halves) > MOST_HALVES:
            raise RuntimeError("the frame is too large for the kernel")
        device = matrix.device
        self._packing, self._halves = packing, (luma.halves, chroma.halves)
        self._luma, self._chroma = luma.tables(), chroma.tables()
        self._exact = (luma.exact, chroma.exact)
        self._numbers = torch.cat((matrix.reshape(-1), scale.reshape(-1)))
        self.picture = torch.zeros((3, *size), device=device)
        self.x = torch.zeros((1, inputs, *full), device=device, dtype=dtype).to(
            memory_format=torch.channels_last
        )

    def __call__(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture at model size and the network's input; overwritten by the next call.

        Shapes:
            data: (packing.size) uint8
            returns: (3, h, w) float32 whole levels; (1, inputs, *full), channels last
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
            INPUTS=self.x.shape[1], Y_STEP=y.step, C_STEP=u.step,
            Y_HALVES=self._halves[0], C_HALVES=self._halves[1],
            Y_EXACT=self._exact[0], C_EXACT=self._exact[1],
            y_rows=len(yi), y_columns=len(yj), c_rows=len(ci), c_columns=len(cj),
            BLOCK=BLOCK,
        )  # fmt: skip
        return self.picture, self.x


@kernel
def _prepare(
    data, picture, x, numbers,
    y_at, y_line, u_at, v_at, c_line,
    yi, yv, yj, yw, ci, cv, cj, cw,
    h, w, full_h, full_w,
    INPUTS: tl.constexpr, Y_STEP: tl.constexpr, C_STEP: tl.constexpr,
    Y_HALVES: tl.constexpr, C_HALVES: tl.constexpr,
    Y_EXACT: tl.constexpr, C_EXACT: tl.constexpr,
    y_rows, y_columns,
    c_rows, c_columns,
    BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < full_h * full_w
    row, column = place // full_w, place % full_w
    i, j = tl.minimum(row, h - 1), tl.minimum(column, w - 1)  # the edge fills the padding
    y = _shrunk(
        data + y_at, y_line, yi, yv, yj, yw, i, j, h, w, inside,
        Y_STEP, Y_HALVES, Y_EXACT, y_rows, y_columns,
    )  # fmt: skip
    u = _shrunk(
        data + u_at, c_line, ci, cv, cj, cw, i, j, h, w, inside,
        C_STEP, C_HALVES, C_EXACT, c_rows, c_columns,
    )  # fmt: skip
    v = _shrunk(
        data + v_at, c_line, ci, cv, cj, cw, i, j, h, w, inside,
        C_STEP, C_HALVES, C_EXACT, c_rows, c_columns,
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
        tl.store(x + place * INPUTS + c, rgb.to(x.dtype.element_ty), mask=inside)
