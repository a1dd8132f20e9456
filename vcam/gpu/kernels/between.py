# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""The network between its convolutions: weights by the mean of all pixels, enlargements, sums."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.bisenet import BiSeNet
from segmentation.engines import networks
from vcam.gpu.kernels.common import BLOCK, _clamped
from vcam.gpu.kernels.language import kernel, tl, triton

TILE = 8 * BLOCK  # numbers of a block that doubles a size
SUMMED = 16384  # and of one that takes a mean: few blocks, of many threads
WARPS = 16
PART = 16  # outputs of a block
TIMES = 4  # tiles of a block that adds up a large picture's pixels


class Body:
    """`BiSeNet` but its last layers: as many convolutions, and little else.

    Results are those of the network in torch, to the rounding of its type; sums are in float32.
    """

    def __init__(self, network: BiSeNet) -> None:
        self._network = network
        self._tail = Gate(networks.conv_of(network.tail), relu=True)
        self._gate32 = Gate(network.arm32.attention)
        self._gate16 = Gate(network.arm16.attention)
        self._head8 = Scaled(network)

    @classmethod
    def of(cls, network: nn.Module) -> Body | None:
        """Return the body of such a network; None if it is none that is known."""
        known = isinstance(network, BiSeNet) and not network.lean
        return cls(network) if known else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return what `networks.split` promises; comments in `BiSeNet.forward` say the shapes."""
        network = self._network
        half, quarter, eighth, sixteenth, last = network.context(x)
        at32, at16 = network.arm32.conv(last), network.arm16.conv(sixteenth)
        joined = network.join32(doubled(at32, self._gate32(at32), shift=self._tail(last)))
        context = network.join16(doubled(at16, self._gate16(at16), inner=joined))
        spatial = eighth if network.spatial is None else network.spatial(x)
        at8 = self._head8(network.fusion.conv(torch.cat((spatial, context), dim=1)))
        at4 = network.head4(doubled(at8, outer=network.skip4(quarter)))
        return network.head2(doubled(network.narrow(at4), outer=network.skip2(half)))


class Gate:
    """A 1x1 convolution of the mean of all pixels, with a sigmoid or a ReLU, in one launch."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False) -> None:
        self._weight, self._bias, self._relu = conv.weight, conv.bias.float(), relu

    def __call__(self, x: Tensor) -> Tensor:
        """Return one number for each channel of the output, float32.

        Shapes:
            x: (1, C, h, w)
        """
        x = _channels_last(x)
        outputs, channels = self._weight.shape[:2]
        made = torch.empty(outputs, device=x.device)
        pad = triton.next_power_of_2(channels)
        _gate[(triton.cdiv(outputs, PART),)](
            x, self._weight, self._bias, made, x.shape[2] * x.shape[3],
            C=channels, OUT=outputs, PAD=pad, ROWS=SUMMED // pad, PART=PART, RELU=self._relu,
            num_warps=WARPS,
        )  # fmt: skip
        return made


class Scaled:
    """Layers behind the convolution of `FeatureFusion`, and `head8`: three launches, not eleven.

    Its channels are not multiplied: the next convolution's weights are.
    """

    def __init__(self, network: BiSeNet) -> None:
        fusion = network.fusion
        self._squeeze, self._excite, self._head = fusion.squeeze, fusion.excite, network.head8
        self._biases = self._squeeze.bias.float(), self._excite.bias.float()

    def __call__(self, x: Tensor) -> Tensor:
        """Return `head8(x + x * weight)`.

        Shapes:
            x: (1, C, h, w)
        """
        x, conv = _channels_last(x), networks.conv_of(self._head)
        n, channels, small = x.shape[2] * x.shape[3], x.shape[1], self._squeeze.out_channels
        pad = triton.next_power_of_2(channels)
        rows = SUMMED // pad
        blocks = triton.cdiv(n, TIMES * rows)
        sums = torch.empty((blocks, channels), device=x.device)
        _sums[(blocks,)](
            x, sums, n, C=channels, PAD=pad, ROWS=rows, TIMES=TIMES, num_warps=WARPS
        )  # fmt: skip
        weight = torch.empty_like(conv.weight)
        _scaled[(1,)](
            sums, self._squeeze.weight, self._excite.weight, *self._biases, conv.weight, weight,
            n, blocks, C=channels, SMALL=small, OUT=conv.out_channels, PAD=pad,
            PAD_SMALL=triton.next_power_of_2(small),
            PAD_OUT=triton.next_power_of_2(conv.out_channels), ROWS=rows, num_warps=WARPS,
        )  # fmt: skip
        if isinstance(self._head, networks.ConvRelu):
            return self._head(x, weight)
        return F.relu(F.conv2d(x, weight, conv.bias))


def doubled(
    x: Tensor,
    gate: Tensor | None = None,
    *,
    shift: Tensor | None = None,
    inner: Tensor | None = None,
    outer: Tensor | None = None,
) -> Tensor:
    """Return `x * gate + shift + inner` at twice the size, linearly, and `outer` added to it.

    Shapes:
        x, inner: (1, C, h, w); gate, shift: (C) float32; outer, returns: (1, C, 2 h, 2 w)
    """
    _, channels, h, w = x.shape
    x, inner, outer = (None if y is None else _channels_last(y) for y in (x, inner, outer))
    made = torch.empty(
        (1, channels, 2 * h, 2 * w),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    pad = triton.next_power_of_2(channels)
    pixels = max(1, TILE // pad)
    _enlarged[(triton.cdiv(4 * h * w, pixels),)](
        x, *(x if y is None else y for y in (gate, shift, inner, outer)), made, h, w,
        GATED=gate is not None, SHIFTED=shift is not None, INNER=inner is not None,
        OUTER=outer is not None, C=channels, PAD=pad, PIXELS=pixels,
    )  # fmt: skip
    return made


def _channels_last(x: Tensor) -> Tensor:
    """As cuDNN makes them; a copy of nothing else."""
    return x.contiguous(memory_format=torch.channels_last)


@triton.jit
def _mean(x, n, C: tl.constexpr, PAD: tl.constexpr, ROWS: tl.constexpr):
    """The mean of n pixels, each of C numbers side by side."""
    c = tl.arange(0, PAD)
    total = tl.zeros([ROWS, PAD], tl.float32)
    for start in range(0, n, ROWS):
        row = start + tl.arange(0, ROWS)
        there = (row < n)[:, None] & (c < C)[None, :]
        total += tl.load(x + row[:, None] * C + c[None, :], mask=there, other=0).to(tl.float32)
    return tl.sum(total, axis=0) / n


@triton.jit
def _linear_of(x, weight, k, c, OUT: tl.constexpr, C: tl.constexpr):
    """Sums over channels c of x, weighted for outputs k."""
    there = (k < OUT)[:, None] & (c < C)[None, :]
    by = tl.load(weight + k[:, None] * C + c[None, :], mask=there, other=0).to(tl.float32)
    return tl.sum(by * x[None, :], axis=1)


@kernel(aligned=True)
def _gate(
    x, weight, bias, out, n, C: tl.constexpr, OUT: tl.constexpr, PAD: tl.constexpr,
    ROWS: tl.constexpr, PART: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Each block takes the mean for itself: waiting for another launch would take longer."""
    mean = _mean(x, n, C, PAD, ROWS)
    k = tl.program_id(0) * PART + tl.arange(0, PART)
    y = _linear_of(mean, weight, k, tl.arange(0, PAD), OUT, C)
    y += tl.load(bias + k, mask=k < OUT, other=0)
    y = tl.maximum(y, 0.0) if RELU else 1 / (1 + tl.exp(-y))
    tl.store(out + k, y, mask=k < OUT)


@kernel(aligned=True)
def _sums(
    x, out, n, C: tl.constexpr, PAD: tl.constexpr, ROWS: tl.constexpr, TIMES: tl.constexpr
):  # fmt: skip
    """The sum of the pixels that a block sees, of each channel."""
    c = tl.arange(0, PAD)
    total = tl.zeros([ROWS, PAD], tl.float32)
    for k in tl.static_range(TIMES):
        row = (tl.program_id(0) * TIMES + k) * ROWS + tl.arange(0, ROWS)
        there = (row < n)[:, None] & (c < C)[None, :]
        total += tl.load(x + row[:, None] * C + c[None, :], mask=there, other=0).to(tl.float32)
    tl.store(out + tl.program_id(0) * C + c, tl.sum(total, axis=0), mask=c < C)


@kernel(aligned=True)
def _scaled(
    sums, squeeze, excite, squeeze_bias, excite_bias, weight, out, n, blocks,
    C: tl.constexpr, SMALL: tl.constexpr, OUT: tl.constexpr,
    PAD: tl.constexpr, PAD_SMALL: tl.constexpr, PAD_OUT: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The attention of `FeatureFusion`, and by it the weights of the convolution behind it."""
    c, s, k = tl.arange(0, PAD), tl.arange(0, PAD_SMALL), tl.arange(0, PAD_OUT)
    mean = _mean(sums, blocks, C, PAD, ROWS) * blocks / n
    small = _linear_of(mean, squeeze, s, c, SMALL, C)
    small = tl.maximum(small + tl.load(squeeze_bias + s, mask=s < SMALL, other=0), 0.0)
    gate = _linear_of(small, excite, c, s, C, SMALL)
    gate = 1 + 1 / (1 + tl.exp(-gate - tl.load(excite_bias + c, mask=c < C, other=0)))
    there = (k < OUT)[:, None] & (c < C)[None, :]
    at = k[:, None] * C + c[None, :]
    by = tl.load(weight + at, mask=there, other=0).to(tl.float32) * gate[None, :]
    tl.store(out + at, by.to(out.dtype.element_ty), mask=there)


@kernel(aligned=True)
def _enlarged(
    x, gate, shift, inner, outer, out, h, w,
    GATED: tl.constexpr, SHIFTED: tl.constexpr, INNER: tl.constexpr, OUTER: tl.constexpr,
    C: tl.constexpr, PAD: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """The four nearest pixels of each, weighted; the edge goes on beyond itself."""
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = place < 4 * h * w
    row, column = place // (2 * w), place % (2 * w)
    i, j = row // 2, column // 2
    r = _clamped(i + tl.where(row % 2 == 0, -1, 1), 0, h - 1)
    s = _clamped(j + tl.where(column % 2 == 0, -1, 1), 0, w - 1)
    c = tl.arange(0, PAD)
    there = inside[:, None] & (c < C)[None, :]
    if GATED:
        by = tl.load(gate + c, mask=c < C, other=0)
    total = tl.zeros([PIXELS, PAD], tl.float32)
    for k in tl.static_range(4):
        down, across = i if k < 2 else r, j if k % 2 == 0 else s
        at = (down * w + across)[:, None] * C + c[None, :]
        seen = tl.load(x + at, mask=there, other=0).to(tl.float32)
        if GATED:
            seen = seen * by[None, :]
        if INNER:
            seen += tl.load(inner + at, mask=there, other=0).to(tl.float32)
        total += seen * (0.5625 if k == 0 else 0.0625 if k == 3 else 0.1875)
    if SHIFTED:  # the same everywhere: enlarged, it is itself
        total += tl.load(shift + c, mask=c < C, other=0)[None, :]
    at = place[:, None] * C + c[None, :]
    if OUTER:
        total += tl.load(outer + at, mask=there, other=0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=there)
