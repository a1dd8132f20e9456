# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The network's last layers: one logit a pixel, doubled in size, cut to the frame's, as alpha."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcam.gpu.kernels.common import BLOCK, _clamped, blocks
from vcam.gpu.kernels.language import kernel, tl, triton

LEAST = 64  # pixels of a block that sums channels


class Tail:
    """`BiSeNet.logits`, its enlargement and the sigmoid, in two launches instead of six."""

    def __init__(self, conv: nn.Conv2d, full: tuple[int, int], size: tuple[int, int]) -> None:
        self._half = full[0] // 2, full[1] // 2
        # (9, C): a channels-last picture has its channels side by side, too.
        self._weight = conv.weight[0].permute(1, 2, 0).reshape(9, -1).contiguous()
        self._bias = conv.bias.float()
        self._logits = torch.zeros(self._half, device=conv.weight.device)
        self.raw = torch.zeros(size, device=conv.weight.device)
        self.pictures = (self._logits, self.raw)

    def __call__(self, features: Tensor) -> Tensor:
        """Return alpha, (h, w) float32; overwritten by the next call.

        Shapes:
            features: (1, C, full_h / 2, full_w / 2), channels last
        """
        (half_h, half_w), (h, w) = self._half, self.raw.shape
        channels = self._weight.shape[1]
        pad = triton.next_power_of_2(channels)
        block = max(LEAST, BLOCK // pad)
        _logits[(triton.cdiv(half_h * half_w, block),)](
            features.permute(0, 2, 3, 1), self._weight, self._bias, self._logits, half_h, half_w,
            C=channels, PAD=pad, BLOCK=block,
        )  # fmt: skip
        _doubled[blocks(h * w)](self._logits, self.raw, half_h, half_w, h, w, BLOCK=BLOCK)
        return self.raw


@kernel(aligned=True)
def _logits(x, weight, bias, out, h, w, C: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr):
    """A 3x3 convolution to one channel, summed in float32."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    c = tl.arange(0, PAD)
    total = tl.zeros([BLOCK, PAD], tl.float32)
    for k in tl.static_range(9):
        r, j = row + k // 3 - 1, column + k % 3 - 1
        there = inside & (r >= 0) & (r < h) & (j >= 0) & (j < w)
        at = (r * w + j)[:, None] * C + c[None, :]
        seen = tl.load(x + at, mask=there[:, None] & (c < C)[None, :], other=0).to(tl.float32)
        total += seen * tl.load(weight + k * C + c, mask=c < C, other=0).to(tl.float32)[None, :]
    tl.store(out + place, tl.sum(total, axis=1) + tl.load(bias), mask=inside)


@kernel
def _doubled(logits, raw, half_h, half_w, h, w, BLOCK: tl.constexpr):
    """Alpha at twice the size, the logits enlarged linearly; the edge goes on beyond itself."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < h * w
    row, column = place // w, place % w
    i, j = row // 2, column // 2
    r = _clamped(i + tl.where(row % 2 == 0, -1, 1), 0, half_h - 1)
    c = _clamped(j + tl.where(column % 2 == 0, -1, 1), 0, half_w - 1)
    own = tl.load(logits + i * half_w + j, mask=inside, other=0)
    side = tl.load(logits + i * half_w + c, mask=inside, other=0)
    near = tl.load(logits + r * half_w + j, mask=inside, other=0)
    far = tl.load(logits + r * half_w + c, mask=inside, other=0)
    x = 0.5625 * own + 0.1875 * (side + near) + 0.0625 * far
    tl.store(raw + place, 1 / (1 + tl.exp(-x)), mask=inside)
