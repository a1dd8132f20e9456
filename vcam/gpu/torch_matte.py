"""The pixel arithmetic of a frame in torch: what the CPU path does, without ever asking the GPU.

Every function works on tensors of fixed shapes and never looks at a value from the host, so that
a CUDA graph can record it. Nor does any hand a number over as a tensor, as `x[0] = 0` and
`torch.where(x, y, 0)` do: that is a copy from the host, and recording it fails. On a CPU device it
is the same arithmetic, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segmentation import constants, refine
from vcam.gpu.resample import Bytes, Resize, box

if TYPE_CHECKING:
    pass

ROUNDS: Final = (
    12  # steps in which pieces find their names; every round at least halves what is left
)


def to_input(
    picture: Tensor, matrix: Tensor, scale: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Return the network's input: YCbCr to normalised RGB, the edge repeated over the padding.

    Shapes:
        picture: (3, h, w) float32 levels; matrix: (3, 4); scale: (3, 2)
        returns: (1, 3, *size) of `dtype`, channels last
    """
    h, w = picture.shape[1:]
    # Not as a product of matrices: cuBLAS would keep 32 MB of the GPU's memory for itself.
    rgb = matrix[:, 3, None, None]
    for i, plane in enumerate(picture):
        rgb = torch.addcmul(rgb, matrix[:, i, None, None], plane)
    x = rgb.clamp_(0, 1) * scale[:, 0, None, None] + scale[:, 1, None, None]
    if (h, w) != size:
        x = F.pad(x[None], (0, size[1] - w, 0, size[0] - h), mode="replicate")[0]
    return x[None].to(dtype, memory_format=torch.channels_last)


def pieces(mask: Tensor, *, corners: bool, settle: bool = False) -> Tensor:
    """Name connected pieces: each pixel of `mask` gets the number of its piece, others 0.

    From "FastSV" (Zhang, Azad, Hu, 2020, https://arxiv.org/abs/1910.05971): neighbours, and the
    heads of their pieces, hook onto the largest number in sight, then everyone looks up the head's.
    `settle` goes on until nothing changes, which asks the device; a recorded graph cannot.

    Shapes:
        mask: (h, w) bool; `corners` says whether pixels that share a corner are neighbours
        returns: (h * w) int64, numbers from 1
    """
    h, w = mask.shape
    outside = ~mask.reshape(-1)
    number = torch.arange(1, h * w + 1, device=mask.device)
    head = F.pad(number.masked_fill(outside, 0), (1, 0))  # entry 0 is "no piece"
    rounds = h * w if settle else ROUNDS
    for _ in range(rounds):
        grid = head[1:].to(torch.float32).reshape(1, 1, h, w)  # exact below 2 ** 24
        if corners:
            seen = F.max_pool2d(grid, 3, 1, 1)
        else:
            seen = torch.maximum(
                F.max_pool2d(grid, (3, 1), 1, (1, 0)), F.max_pool2d(grid, (1, 3), 1, (0, 1))
            )
        best = seen.reshape(-1).to(torch.int64).masked_fill_(outside, 0)
        best = head[best]
        after = head.scatter_reduce(0, head[1:], best, "amax")
        after = torch.maximum(after, F.pad(best, (1, 0)))
        after[:1].zero_()
        after = after[after]
        if settle and torch.equal(after, head):
            break
        head = after
    return head[1:]


def trial_matte(h: int, w: int, device: torch.device) -> Tensor:
    """Return a matte with somebody in it, spots beside them and holes in them, (h, w) float32."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    person = ((y - 0.4) ** 2 / 0.8 + x**2 / 0.2 < 1).float()
    coarse = torch.rand((h // 8 + 1, w // 8 + 1), generator=torch.manual_seed(0))
    spots = coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)[:h, :w]
    person = torch.where(spots > 0.9, 1 - person, person)
    return (person * (0.8 + 0.2 * spots)).to(device)


class Tidy:
    """Takes islands and small holes out of mattes, as `segmentation.refine.Tidy` does."""

    pieces: Callable[..., Tensor]

    def __init__(self, h: int, w: int, device: torch.device, *, settle: bool) -> None:
        self.size = (h, w)
        self.half = half = (max(1, h // 2), max(1, w // 2))
        self.present = torch.zeros((), dtype=torch.bool, device=device)
        self.pieces = partial(pieces, settle=settle)
        self.shrink = Resize((h, w), half, device)
        rows, columns = (
            torch.from_numpy(np.floor(np.arange(n) * (m / n)).astype(np.int64)).to(device)
            for n, m in zip((h, w), half, strict=True)
        )
        self.rows, self.columns = rows, columns
        border = torch.zeros(half, device=device)
        border[0] = border[-1] = border[:, 0] = border[:, -1] = 1
        self._border = border.reshape(-1)
        self._ones = torch.ones_like(self._border)
        self.enlarge = Bytes(half, (h, w), device)
        self.rim = refine.rim(half[0])
        self.trust = torch.from_numpy(refine.TRUST.reshape(-1).astype(np.float32)).to(device)
        self._come = torch.tensor((constants.ARRIVE, constants.SURE), device=device)
        self._stay = torch.tensor((constants.LEAVE, constants.DOUBT), device=device)

    def __call__(self, alpha: Tensor) -> Tensor:
        """Return the tidied matte (h, w), all 0 where nobody is present; updates `present`."""
        half = self.shrink(alpha)
        size = half.numel()
        name = self.pieces(half > constants.FAINT, corners=True)
        area, total = self._sums(name, self._ones), self._sums(name, half.reshape(-1))
        drop = (area < constants.ISLAND * size) | (total < constants.FIRM * area)
        drop[:1].zero_()
        island = grown(drop[name].reshape(half.shape))
        half = half.masked_fill(island, 0)
        alpha = alpha.masked_fill(self._enlarged(island), 0)

        open_ = half < constants.SOLID
        name = self.pieces(open_, corners=False)
        area, edge = self._sums(name, self._ones), self._sums(name, self._border)
        fill = (area < constants.HOLE * size) & (edge == 0)
        # A single gap is the room, however small.
        several = (area[1:] > 0).sum() > 1
        fill[:1].zero_()
        hole = (fill[name] & several).reshape(half.shape)
        half = half.masked_fill(hole, 1)
        alpha = alpha.masked_fill(self._enlarged(grown(hole)), 1)

        sure = half > constants.HALF
        count = sure.sum()
        share = count / size
        mean = half.masked_fill(~sure, 0).sum() / count.clamp(min=1)
        was = self.present
        least, trust = torch.where(was, self._stay, self._come)
        self.present.copy_((share >= least) & (mean >= trust))
        near = F.max_pool2d((half * 255).floor_()[None], self.rim, 1, self.rim // 2)[0]
        return alpha * (self.enlarge(self.trust[near.long()]) * (1 / 255)) * self.present

    def _sums(self, name: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(name.numel() + 1).index_add_(0, name, values)

    def _enlarged(self, mask: Tensor) -> Tensor:
        return mask.index_select(0, self.rows).index_select(1, self.columns)


def grown(mask: Tensor) -> Tensor:
    """Return the mask and the pixels around it."""
    return F.max_pool2d(mask.to(torch.float32)[None], 3, 1, 1)[0] > 0


class Smoother:
    """Moving average of mattes, as `segmentation.motion.temporal.Smoother` computes it."""

    def __init__(self, h: int, w: int, device: torch.device) -> None:
        self.held = torch.zeros((h, w), device=device)
        self.before = torch.zeros((3, h, w), device=device)
        self.noise = torch.full((), -1.0, device=device)
        self.quarter = ((h + 7) // 8) * ((w + 7) // 8) // 4

    def __call__(
        self, alpha: Tensor, picture: Tensor, fresh: Tensor, decay: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the smoothed matte, and whether the scene was cut.

        Shapes:
            alpha: (h, w) float32; picture: (3, h, w) float32 levels; fresh: () bool
            decay: () float32, weight of the mattes before where nothing moves
        """
        change = (picture - self.before).abs()
        brightness = (picture[0].mean() - self.before[0].mean()).abs()
        cut = (change[0].mean() - brightness > constants.CUT * 255) & ~fresh
        self.before.copy_(picture)
        afresh = fresh | cut
        both = (change[0] + torch.maximum(change[1], change[2])).clamp_(max=255)
        motion = box(both[None], (5, 5), "reflect")[0]
        quiet = motion[::8, ::8].reshape(-1).kthvalue(self.quarter + 1).values
        known = torch.where(
            self.noise < 0, quiet, self.noise * constants.NOISE_GAIN + constants.NOISE_STEP
        )
        noise = torch.minimum(quiet, known).clamp_(max=constants.NOISIEST)
        rest = (motion - noise).clamp_(min=0) / constants.STILL
        low, high = constants.FOLLOW
        step = alpha - self.held
        far = ((step.abs() - low) / (high - low)).clamp_(0, 1)
        keep = decay * (1 - far) / (1 + rest * rest)
        self.held.copy_(torch.where(afresh, alpha, alpha - step * keep))
        self.noise.copy_(torch.where(afresh, self.noise, noise))
        return self.held, cut


def guided(
    alpha: Tensor, luma: Tensor, *, radius: int = 2, epsilon: float = constants.EPSILON
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the stretched matte and the coefficients of `segmentation.refine.Guided`.

    Shapes:
        alpha: (h, w) float32; luma: (h, w) float32 levels
        returns: alpha, a and b, each (h, w), with alpha at full size clip(a * Y / 255 + b, 0, 1)
    """
    low, high = constants.LEVELS
    p = ((alpha - low) / (high - low)).clamp_(0, 1)
    guide = luma / 255
    window = (2 * radius + 1, 2 * radius + 1)
    mean_i, mean_p, mean_ip, mean_ii = box(
        torch.stack((guide, p, guide * p, guide * guide)), window
    )
    variance = (mean_ii - mean_i * mean_i).clamp_(min=0)
    a = (mean_ip - mean_i * mean_p) / (variance + epsilon)
    a, b = box(torch.stack((a, mean_p - a * mean_i)), window)
    return p, a, b
