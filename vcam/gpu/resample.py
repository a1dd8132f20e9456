"""Planes at other sizes on the GPU, exactly as OpenCV makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    pass


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
    """Scales uint8 planes down like `segmentation.planes.Shrink`: by halves, then linearly."""

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
