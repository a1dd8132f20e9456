"""The pixel arithmetic of a frame in torch: what the CPU path does, without ever asking the GPU.

Every function works on tensors of fixed shapes and never looks at a value from the host, so that
a CUDA graph can record it. Nor does any hand a number over as a tensor, as `x[0] = 0` and
`torch.where(x, y, 0)` do: that is a copy from the host, and recording it fails. On a CPU device it
is the same arithmetic, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segmentation import refine, temporal

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS: Final = (
    12  # steps in which pieces find their names; every round at least halves what is left
)
GAIN: Final = 1.02  # alpha is stretched about its middle, as the CPU's blending does
TRUST: Final = 1e-3  # weight of a pixel's own colour where nothing else is near
PASSES: Final = 3  # box blurs that make a bell
NEAR: Final = 6  # pixels at model size: how far the colours of person and room are looked up
BLUR_MOST: Final = 0.06  # deviation of the strongest blur, as a share of the longer side
SPILL: Final = 0.05  # how far the backdrop's light spills over the person, as a share of the height
EPSILON: Final = 1e-3  # of the guided filter: how much of an edge in the picture is no edge
SAMPLE: Final = 4  # the guard judges every fourth pixel of every fourth row
HEADER: Final = 64  # bytes before a frame on its way up, and before an answer on its way down


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one plane lies in a frame's bytes."""

    offset: int
    line: int  # bytes from row to row
    step: int  # bytes from pixel to pixel
    height: int
    width: int

    def of(self, data: Tensor) -> Tensor:
        """Return the plane as a view of the frame's bytes, (height, width) uint8."""
        offset = data.storage_offset() + self.offset
        return data.as_strided((self.height, self.width), (self.line, self.step), offset)

    def put(self, data: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
        """Write the plane into the frame's bytes, from pixels at the luma's size.

        Shapes:
            pixels: (H, W) uint8; every second one of them where the plane is half as large
        """
        there = np.lib.stride_tricks.as_strided(
            data[self.offset :], (self.height, self.width), (self.line, self.step)
        )
        step_y, step_x = -(-pixels.shape[0] // self.height), -(-pixels.shape[1] // self.width)
        np.copyto(there, pixels[::step_y, ::step_x][: self.height, : self.width])

    @property
    def thinned(self) -> Plane:
        """Every second row of it."""
        return Plane(self.offset, 2 * self.line, self.step, -(-self.height // 2), self.width)


@dataclass(frozen=True, slots=True)
class Packing:
    """How a frame's luma and chroma lie in memory; any format is three sets of strides."""

    y: Plane
    u: Plane
    v: Plane
    size: int  # bytes of the frame
    full_range: bool

    @property
    def seen(self) -> tuple[Plane, Plane, Plane]:
        """Y, U and V as the network's input is made from them; see `Segmenter.matte`."""
        if self.u.height < self.y.height:
            return self.y, self.u, self.v
        return self.y, self.u.thinned, self.v.thinned

    @classmethod
    def yuyv(cls, height: int, width: int) -> Packing:
        """YUYV 4:2:2 as a webcam sends it."""
        line = 2 * width
        u, v = (Plane(at, line, 4, height, width // 2) for at in (1, 3))
        return cls(Plane(0, line, 2, height, width), u, v, line * height, False)

    @classmethod
    def nv12(cls, height: int, width: int) -> Packing:
        """NV12 4:2:0 as a webcam sends it."""
        area = height * width
        u, v = (Plane(area + at, width, 2, height // 2, width // 2) for at in (0, 1))
        return cls(Plane(0, width, 1, height, width), u, v, area * 3 // 2, False)

    @classmethod
    def planar(cls, luma: tuple[int, ...], chroma: tuple[int, ...], *, full_range: bool) -> Packing:
        """Y, U and V one after the other, without padding."""
        (h, w), (ch, cw) = luma, chroma
        u, v = (Plane(at, cw, 1, ch, cw) for at in (h * w, h * w + ch * cw))
        return cls(Plane(0, w, 1, h, w), u, v, h * w + 2 * ch * cw, full_range)


def packing_of(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], *, full_range: bool
) -> tuple[Packing, tuple[NDArray[np.uint8], ...]]:
    """Return how a frame lies in memory, and its bytes, to be put one after the other.

    Planes that are views of one packed picture are taken as that picture.

    Shapes:
        y: (H, W) uint8; u, v: (H, W/2) or (H/2, W/2) uint8
    """
    (h, w), start = y.shape, y.ctypes.data
    places = (u.ctypes.data - start, v.ctypes.data - start)
    strides, halves = (y.strides, u.strides, v.strides), (u.shape, v.shape)
    packing = None
    if places == (1, 3) and strides == ((2 * w, 2), (2 * w, 4), (2 * w, 4)):
        packing = Packing.yuyv(h, w) if halves == ((h, w // 2),) * 2 else None
    elif places == (w * h, w * h + 1) and strides == ((w, 1), (w, 2), (w, 2)):
        packing = Packing.nv12(h, w) if halves == ((h // 2, w // 2),) * 2 else None
    if packing is None or full_range:
        return Packing.planar(y.shape, u.shape, full_range=full_range), (y, u, v)
    return packing, (np.lib.stride_tricks.as_strided(y, (packing.size,), (1,), writeable=False),)


class Axis:
    """Resampling of one axis: each new pixel is a weighted sum of a few old ones.

    Pixel centres are aligned, as `cv2.resize` does.
    """

    def __init__(self, before: int, after: int, device: torch.device, *, area: bool = False):
        scale = before / after
        if area and scale > 1:
            taps = int(np.ceil(scale)) + 1
            edges = np.arange(after + 1) * scale
            index = np.floor(edges[:-1])[None] + np.arange(taps)[:, None]
            share = np.minimum(index + 1, edges[1:]) - np.maximum(index, edges[:-1])
            weight = np.maximum(share, 0) / scale
        else:
            at = (np.arange(after) + 0.5) * scale - 0.5
            low = np.floor(at)
            index = np.stack([low, low + 1])
            weight = np.stack([1 - (at - low), at - low])
        index = index.clip(0, before - 1).astype(np.int64)
        self.index = [torch.from_numpy(row.copy()).to(device) for row in index]
        self.weight = [torch.from_numpy(row.astype(np.float32)).to(device) for row in weight]
        self.same = before == after

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return which old pixels and how much of each, (taps, after) int32 and float32."""
        return torch.stack(self.index).to(torch.int32), torch.stack(self.weight)

    def rows(self, x: Tensor) -> Tensor:
        """Resample the last but one axis of a float tensor."""
        if self.same:
            return x
        out = x.index_select(-2, self.index[0]) * self.weight[0][:, None]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            out = torch.addcmul(out, x.index_select(-2, index), weight[:, None])
        return out

    def columns(self, x: Tensor) -> Tensor:
        """Resample the last axis of a float tensor."""
        if self.same:
            return x
        out = x.index_select(-1, self.index[0]) * self.weight[0]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            out = torch.addcmul(out, x.index_select(-1, index), weight)
        return out


class Resize:
    """Scales planes (..., H, W) of one size to another."""

    def __init__(
        self,
        before: tuple[int, int],
        after: tuple[int, int],
        device: torch.device,
        *,
        area: bool = False,
    ) -> None:
        # Both axes shrink by area, or both are linear, as in OpenCV.
        area = area and before[0] >= after[0] and before[1] >= after[1]
        self._rows = Axis(before[0], after[0], device, area=area)
        self._columns = Axis(before[1], after[1], device, area=area)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` at the new size; x and the result are float."""
        return self._columns.columns(self._rows.rows(x))

    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return both axes' tables, rows first; see `Axis.tables`."""
        return (*self._rows.tables(), *self._columns.tables())


class Bytes:
    """Linear resampling of uint8 planes bit for bit as OpenCV does it: weights in 1/2048.

    One level more or less in the luma that guides the matte shows as several in the composite.
    """

    def __init__(self, before: tuple[int, int], after: tuple[int, int], device: torch.device):
        self.same = before == after
        self._index, self._weight = [], []
        for old, new in zip(before, after, strict=True):
            at = (np.arange(new) + 0.5) * (old / new) - 0.5
            low = np.floor(at)
            share = (at - low).astype(np.float32)
            index = np.stack([low, low + 1]).clip(0, old - 1).astype(np.int64)
            weight = np.rint(np.stack([1 - share, share]) * np.float32(2048)).astype(np.int32)
            self._index.append(torch.from_numpy(index).to(device))
            self._weight.append(torch.from_numpy(weight).to(device))

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` (..., H, W), float whole levels, at the new size."""
        if self.same:
            return x
        (i0, i1), (j0, j1) = self._index
        (v0, v1), (w0, w1) = self._weight
        x = x.to(torch.int32)
        wide = (x.index_select(-1, j0) * w0 + x.index_select(-1, j1) * w1) >> 4
        upper, lower = wide.index_select(-2, i0), wide.index_select(-2, i1)
        sums = ((upper * v0[:, None]) >> 16) + ((lower * v1[:, None]) >> 16)
        made: Tensor = ((sums + 2) >> 2).float()
        return made

    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return which old pixels and how much of each, rows first, (2, after) int32 each."""
        (i, j), (v, w) = ([x.to(torch.int32) for x in pair] for pair in (self._index, self._weight))
        return i, v, j, w


def resampler(
    before: tuple[int, int], after: tuple[int, int], device: torch.device, *, area: bool
) -> Bytes | Resize:
    """Return what scales uint8 planes as OpenCV does by area, or linearly."""
    if area and before[0] >= after[0] and before[1] >= after[1]:
        return Resize(before, after, device, area=True)
    return Bytes(before, after, device)


class Shrink:
    """Scales uint8 planes down like `segmentation.sizes.Shrink`: by halves, then linearly."""

    def __init__(self, before: tuple[int, int], after: tuple[int, int], device: torch.device):
        (height, width), (h, w) = before, after
        self.halves = 0
        while height % 2 == 0 and width % 2 == 0 and height >= 2 * h and width >= 2 * w:
            height, width = height // 2, width // 2
            self.halves += 1
        far = height > 2.5 * h or width > 2.5 * w
        self._last = resampler((height, width), after, device, area=far)
        self.exact = isinstance(self._last, Bytes)  # to the bit, in whole numbers

    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the step after the halvings reads; see `Axis.tables` and `Bytes.tables`."""
        return self._last.tables()

    def __call__(self, plane: Tensor) -> Tensor:
        """Return the plane at the smaller size, in whole levels, as float."""
        x = plane.float()
        for _ in range(self.halves):
            top, bottom = x[0::2], x[1::2]
            x = whole((top[:, 0::2] + top[:, 1::2] + bottom[:, 0::2] + bottom[:, 1::2]) / 4)
        return whole(self._last(x))


def whole(x: Tensor) -> Tensor:
    """Round to whole levels of 0..255, halves up; the result is still float."""
    return (x + 0.5).floor_().clamp_(0, 255)


def box(x: Tensor, size: tuple[int, int], mode: str = "replicate") -> Tensor:
    """Return the mean over a window of odd height and width.

    Shapes:
        x: (C, h, w) float32
    """
    top, left = size[0] // 2, size[1] // 2
    padded = F.pad(x[None], (left, left, top, top), mode=mode)
    # One axis after the other: a window of 31 costs 62 reads instead of 961.
    rows = F.avg_pool2d(padded, (size[0], 1), stride=1)
    return F.avg_pool2d(rows, (1, size[1]), stride=1)[0]


def to_input(
    picture: Tensor, matrix: Tensor, scale: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Return the network's input: YCbCr to normalised RGB, the edge repeated over the padding.

    Shapes:
        picture: (3, h, w) float32 levels; matrix: (3, 4); scale: (3, 2)
        returns: (1, 3, *size) of `dtype`, channels last
    """
    h, w = picture.shape[1:]
    rgb = torch.einsum("cp,phw->chw", matrix[:, :3], picture) + matrix[:, 3, None, None]
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
        self._come = torch.tensor((refine.ARRIVE, refine.SURE), device=device)
        self._stay = torch.tensor((refine.LEAVE, refine.DOUBT), device=device)

    def __call__(self, alpha: Tensor) -> Tensor:
        """Return the tidied matte (h, w), all 0 where nobody is present; updates `present`."""
        half = self.shrink(alpha)
        size = half.numel()
        name = self.pieces(half > refine.FAINT, corners=True)
        area, total = self._sums(name, self._ones), self._sums(name, half.reshape(-1))
        drop = (area < refine.ISLAND * size) | (total < refine.FIRM * area)
        drop[:1].zero_()
        island = grown(drop[name].reshape(half.shape))
        half = half.masked_fill(island, 0)
        alpha = alpha.masked_fill(self._enlarged(island), 0)

        open_ = half < 0.9
        name = self.pieces(open_, corners=False)
        area, edge = self._sums(name, self._ones), self._sums(name, self._border)
        fill = (area < refine.HOLE * size) & (edge == 0)
        # A single gap is the room, however small.
        several = (area[1:] > 0).sum() > 1
        fill[:1].zero_()
        hole = (fill[name] & several).reshape(half.shape)
        half = half.masked_fill(hole, 1)
        alpha = alpha.masked_fill(self._enlarged(grown(hole)), 1)

        sure = half > 0.5
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
    """Moving average of mattes, as `segmentation.temporal.Smoother` computes it."""

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
        cut = (change[0].mean() - brightness > temporal.CUT * 255) & ~fresh
        self.before.copy_(picture)
        afresh = fresh | cut
        both = (change[0] + torch.maximum(change[1], change[2])).clamp_(max=255)
        motion = box(both[None], (5, 5), "reflect")[0]
        quiet = motion[::8, ::8].reshape(-1).kthvalue(self.quarter + 1).values
        known = torch.where(self.noise < 0, quiet, self.noise * 1.02 + 0.02)
        noise = torch.minimum(quiet, known).clamp_(max=temporal.NOISIEST)
        rest = (motion - noise).clamp_(min=0) / temporal.STILL
        low, high = temporal.FOLLOW
        step = alpha - self.held
        far = ((step.abs() - low) / (high - low)).clamp_(0, 1)
        keep = decay * (1 - far) / (1 + rest * rest)
        self.held.copy_(torch.where(afresh, alpha, alpha - step * keep))
        self.noise.copy_(torch.where(afresh, self.noise, noise))
        return self.held, cut


def guided(
    alpha: Tensor, luma: Tensor, *, radius: int = 2, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the stretched matte and the coefficients of `segmentation.refine.Guided`.

    Shapes:
        alpha: (h, w) float32; luma: (h, w) float32 levels
        returns: alpha, a and b, each (h, w), with alpha at full size clip(a * Y / 255 + b, 0, 1)
    """
    low, high = refine.LEVELS
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


class Colours:
    """Colours of person and room near each pixel, as in `vcam.compose.colours`."""

    def __init__(self, h: int, w: int, device: torch.device) -> None:
        half = (max(2, h // 2), max(2, w // 2))
        self.half = half
        self.shrink = Resize((h, w), half, device)
        self.shrink_bytes = Bytes((h, w), half, device)
        self.grow = Resize(half, (h, w), device)

    def take(self, picture: Tensor, alpha: Tensor, *, full_range: bool) -> None:
        """Look at the frame and its matte.

        Shapes:
            picture: (3, h, w) float32 levels; alpha: (h, w) float32
        """
        planes = self.shrink_bytes(picture)
        if full_range:
            luma = planes[:1] * (219 / 255) + 16
            planes = torch.cat((luma, (planes[1:] - 128) * (224 / 255) + 128))
        self.planes, self.alpha = planes, self.shrink(alpha)

    def near(self) -> Tensor:
        """Return the person's colours, carried outwards, and the room's, inwards, (6, h, w)."""
        person, room = ramp(self.alpha, 0.6, 0.95), ramp(self.alpha, 0.4, 0.05)
        return torch.cat((self._carry(person), self._carry(room)))

    def blurred(self, sigma: float) -> Tensor:
        """Return the room blurred by `sigma` pixels of the model's size, without the person.

        Shapes:
            returns: (3, h / 2, w / 2) float32 whole levels
        """
        weight = ramp(F.max_pool2d(self.alpha[None], 3, 1, 1)[0], 0.5, 0.05)
        weighted = self.planes * weight
        mean = weighted.sum(dim=(1, 2)) / weight.sum().clamp(min=1e-3)
        both = torch.cat((weighted, weight[None]))
        for _ in range(PASSES):
            both = box(both, (width(sigma),) * 2)
        return whole((both[:3] + mean[:, None, None] * TRUST) / (both[3] + TRUST))

    def _carry(self, weight: Tensor) -> Tensor:
        size = NEAR | 1
        both = box(torch.cat((self.planes * weight, weight[None])), (size, size), "reflect")
        return self.grow((both[:3] + self.planes * TRUST) / (both[3] + TRUST))


def sigma(scene: Scene, size: tuple[int, int]) -> float:
    """Return by how many pixels of the model's size a scene's room is blurred."""
    return max(0.0, min(scene.blur, 100.0)) / 100 * BLUR_MOST * max(size)


def width(sigma: float) -> int:
    """Return how wide a box is, at half the model's size, three of which blur by `sigma`."""
    ideal = (12 * (sigma / 2) ** 2 / PASSES + 1) ** 0.5
    return max(1, round(float(ideal))) | 1


def ramp(alpha: Tensor, start: float, end: float) -> Tensor:
    """Return 0 where alpha is at `start`, 1 where it is at `end`."""
    return ((alpha - start) * (1 / (end - start))).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is put behind the person, and how.

    Shapes:
        backdrop: (height * 3 // 2, width) uint8 I420, limited range, contiguous; None where the
            room itself, blurred by `blur` percent, is the backdrop
    """

    width: int
    height: int
    backdrop: NDArray[np.uint8] | None = None
    blur: float = 50.0
    decontaminate: bool = True
    light_wrap: float = 0.0
    mirror: bool = False


class Fit:
    """Where a frame sits in the output: scaled to fit, centred, at even places."""

    def __init__(self, packing: Packing, scene: Scene, h: int, w: int, device: torch.device):
        width, height = scene.width, scene.height
        frame = packing.y
        scale = min(width / frame.width, height / frame.height)
        self.width = min(width, max(2, round(frame.width * scale / 2) * 2))
        self.height = min(height, max(2, round(frame.height * scale / 2) * 2))
        self.left, self.top = (width - self.width) // 4 * 2, (height - self.height) // 4 * 2
        self.fills = (self.width, self.height) == (width, height)
        luma, chroma = (self.height, self.width), (self.height // 2, self.width // 2)
        self.same = luma == (frame.height, frame.width)
        shrinks = self.width < frame.width
        halves = (packing.u.height, packing.u.width)
        whole_y = (frame.height, frame.width)
        self.scale_y = resampler(whole_y, luma, device, area=shrinks)
        self.scale_c = resampler(halves, chroma, device, area=shrinks)
        self.grow_y, self.grow_c = Resize((h, w), luma, device), Resize((h, w), chroma, device)
        small = (max(2, h // 2), max(2, w // 2))
        self.blur_y, self.blur_c = Bytes(small, luma, device), Bytes(small, chroma, device)

    def planes(self, packing: Packing, data: Tensor) -> list[Tensor]:
        """Return Y, U and V at the size they have in the output; float32 levels."""
        y, u, v = (plane.of(data).float() for plane in (packing.y, packing.u, packing.v))
        if not self.same:
            return [whole(self.scale_y(y)), whole(self.scale_c(u)), whole(self.scale_c(v))]
        if u.shape[0] == y.shape[0]:  # 4:2:2: the mean of two rows
            u, v = ((x[0::2] + x[1::2]) * 0.5 for x in (u, v))
        return [y, u, v]

    def flat(self, packing: Packing, data: Tensor) -> Tensor:
        """Return the planes one after the other, packed as `self.packing` says; float32."""
        return torch.cat([plane.reshape(-1) for plane in self.planes(packing, data)])

    def packing(self, *, full_range: bool) -> Packing:
        """How `flat` packs the planes."""
        luma, chroma = (self.height, self.width), (self.height // 2, self.width // 2)
        return Packing.planar(luma, chroma, full_range=full_range)


def limited(planes: list[Tensor]) -> list[Tensor]:
    """Fold full range to limited range."""
    y, u, v = planes
    return [y * (219 / 255) + 16, *((x - 128) * (224 / 255) + 128 for x in (u, v))]


def draw(
    planes: list[Tensor],
    a: Tensor,
    b: Tensor,
    purity: Tensor | None,
    wrap: Tensor | None,
    behind: Tensor,
    out: Tensor,
    fit: Fit,
    scene: Scene,
    *,
    full_range: bool,
) -> None:
    """Blend the person over `behind` into `out`, as `vcam.compose.kernels.compose` does.

    Shapes:
        planes: Y (H, W), U and V (H/2, W/2) of the frame's place in the output, float32 levels
        a, b: (h, w) float32, alpha = clip(a * Y / 255 + b, 0, 1)
        purity: (6, h, w), Y, U, V of the person and of the room; None leaves edges as they are
        wrap: (4, h, w), how much of the backdrop's light spills over, and the light's Y, U, V
        behind, out: (height * 3 // 2 * width) uint8 I420
    """
    y, *chroma = planes
    t = ((fit.grow_y(a) * (y / 255) + fit.grow_y(b)) * GAIN - (GAIN - 1) / 2).clamp_(0, 1)
    thin = F.avg_pool2d(t[None], 2)[0]
    colours = limited([y, *chroma]) if full_range else [y, *chroma]
    if not fit.fills:
        out.copy_(behind)
    for channel, c in enumerate(colours):
        grow, weight = (fit.grow_c, thin) if channel else (fit.grow_y, t)
        if purity is not None:
            person, room = grow(purity[channel]), grow(purity[3 + channel])
            c = (c + (1 - weight) * ((person - c) + weight * (person - room))).clamp_(0, 255)
        if wrap is not None:
            c = c * (1 - grow(wrap[0])) + grow(wrap[1 + channel])
        place, view = (part(x, channel, fit, scene) for x in (behind, out))
        view.copy_((c * weight + place.float() * (1 - weight) + 0.5).to(torch.uint8))


def part(data: Tensor, channel: int, fit: Fit, scene: Scene) -> Tensor:
    """Return the part of an I420 picture's plane that the frame covers, as a view."""
    n = 2 if channel else 1
    area = scene.height * scene.width
    at = (0, area, area * 5 // 4)[channel]
    plane = data[at : at + area // n**2].view(scene.height // n, scene.width // n)
    top, left = fit.top // n, fit.left // n
    return plane[top : top + fit.height // n, left : left + fit.width // n]


def spread(data: Tensor, channel: int, fit: Fit, scene: Scene) -> None:
    """Repeat the edges of the frame's place over the bars beside it, in place."""
    n = 2 if channel else 1
    area = scene.height * scene.width
    at = (0, area, area * 5 // 4)[channel]
    plane = data[at : at + area // n**2].view(scene.height // n, scene.width // n)
    top, left = fit.top // n, fit.left // n
    bottom, right = top + fit.height // n, left + fit.width // n
    plane[top:bottom, :left] = plane[top:bottom, left : left + 1]
    plane[top:bottom, right:] = plane[top:bottom, right - 1 : right]
    plane[:top] = plane[top : top + 1]
    plane[bottom:] = plane[bottom - 1 : bottom]


def blur(behind: Tensor, small: Tensor, fit: Fit, scene: Scene) -> None:
    """Fill the backdrop with the blurred room.

    Shapes:
        behind: (height * 3 // 2 * width) uint8 I420; small: (3, h, w) float32 whole levels
    """
    for channel in range(3):
        plane = (fit.blur_c if channel else fit.blur_y)(small[channel])
        plane = plane.flip(-1) if scene.mirror else plane
        part(behind, channel, fit, scene).copy_(plane)
        if not fit.fills:
            spread(behind, channel, fit, scene)


class Spill:
    """Light of the backdrop over the person, as in `vcam.compose.compositor`."""

    def __init__(self, fit: Fit, scene: Scene, size: tuple[int, int], device: torch.device) -> None:
        self._fit, self._scene = fit, scene
        self.light = [
            Resize((fit.height // n, fit.width // n), size, device, area=True) for n in (1, 2)
        ]
        self.reach = max(3, round(SPILL * size[0])) | 1
        self.most = 0.6 * scene.light_wrap

    def __call__(self, alpha: Tensor, behind: Tensor) -> Tensor:
        """Return how much, and that much of the light, (4, h, w).

        Shapes:
            alpha: (h, w) float32; behind: (height * 3 // 2 * width) uint8 I420
        """
        reach, scene = (self.reach,) * 2, self._scene
        around = box(box(1 - alpha[None], reach, "reflect"), reach, "reflect")[0]
        spill = (around * 1.6 - 0.1).clamp_(0, 1) * self.most
        spill = spill.masked_fill(spill < 1e-3, 0)
        if scene.mirror:
            spill = spill.flip(-1)
        parts = [part(behind, channel, self._fit, scene).float() for channel in range(3)]
        light = torch.stack([self.light[min(i, 1)](plane) for i, plane in enumerate(parts)])
        return torch.cat((spill[None], box(whole(light), reach, "reflect") * spill))
