"""Filters on batches of pictures in torch: blur, motion, light, covers and JPEG.

Shapes:
    pictures are (B, C, h, w) float32, 0..255
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from train.views.draw import Cover, Light, Size

REACH = 9  # pixels that a blur looks in each direction
STREAK = 9  # side of the longest motion blur
# ITU-T T.81, annex K: what cheap cameras divide their frequencies by, at quality 50.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # the rest is 99  # fmt: skip


def blurred(x: Tensor, deviations: list[float]) -> Tensor:
    """Blur each picture by its own deviation in pixels; 0 leaves it as it is.

    Shapes:
        x: (B, C, h, w) float32
    """
    if not any(deviations):
        return x
    b, c, h, w = x.shape
    sigma = torch.tensor(deviations, device=x.device)[:, None].clamp(min=0.05)
    away = torch.arange(-REACH, REACH + 1, device=x.device)[None]
    bell = torch.exp(-0.5 * (away / sigma) ** 2)
    bell = (bell / bell.sum(1, keepdim=True)).repeat_interleave(c, 0)  # (B * C, 2 * REACH + 1)
    flat = F.pad(x.reshape(1, b * c, h, w), (REACH,) * 4, mode="reflect")
    flat = F.conv2d(flat, bell[:, None, :, None], groups=b * c)
    return F.conv2d(flat, bell[:, None, None, :], groups=b * c).reshape(b, c, h, w)


def streaked(x: Tensor, kernels: list[NDArray[np.float32] | None]) -> Tensor:
    """Blur each picture along its own line; None leaves it as it is."""
    b, c, h, w = x.shape
    whole = np.zeros((b, STREAK, STREAK), np.float32)
    for place, kernel in zip(whole, kernels, strict=True):
        if kernel is None:
            place[STREAK // 2, STREAK // 2] = 1
            continue
        n = len(kernel)
        at = STREAK // 2 - n // 2
        place[at : at + n, at : at + n] = kernel
    weight = torch.from_numpy(whole).to(x.device).repeat_interleave(c, 0)[:, None]
    flat = F.pad(x.reshape(1, b * c, h, w), (STREAK // 2,) * 4, mode="reflect")
    return F.conv2d(flat, weight, groups=b * c).reshape(b, c, h, w)


def lit(x: Tensor, light: Sequence[Light]) -> Tensor:
    """Change the light of one picture, step by step.

    Shapes:
        x: (3, h, w) float32, 0..255
    """
    for step in light:
        first = step.values[0]
        if step.kind == "balance":
            gains = torch.tensor(step.values, dtype=torch.float32, device=x.device)
            x = x * gains[:, None, None]
        elif step.kind == "exposure":
            x = x * first + step.values[1]
        elif step.kind == "contrast":
            mean = x.mean()
            x = (x - mean) * first + mean
        elif step.kind == "saturation":
            grey = x.mean(0, keepdim=True)
            x = grey + (x - grey) * first
        elif step.kind == "gamma":
            x = 255 * (x.clamp(0, 255) / 255) ** first
    return x.clamp(0, 255)


def covers(drawn: list[Cover | None], size: Size, device: torch.device) -> Tensor:
    """Return the share of each pixel that an ellipse covers, (B, 1, h, w); 0 for None."""
    h, w = size
    none = (0.0, 0.0, 1.0, 1.0, 0.0)
    ellipses = [(*map(float, (*c.centre, *c.axes)), c.degrees) if c else none for c in drawn]
    numbers = torch.tensor(ellipses, device=device)[:, :, None, None]
    y, x = torch.meshgrid(
        torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij"
    )
    dx, dy, turn = x - numbers[:, 0], y - numbers[:, 1], numbers[:, 4] * (math.pi / 180)
    along, across = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
    a, b = numbers[:, 2].clamp(min=1), numbers[:, 3].clamp(min=1)
    radius = ((along / a) ** 2 + (across / b) ** 2).sqrt()
    there = torch.tensor([float(c is not None) for c in drawn], device=device)
    cover = ((1 - radius) * torch.minimum(a, b) / 3 + 0.5).clamp(0, 1)
    return (cover * there[:, None, None])[:, None]


def coded_as_jpeg(x: Tensor, qualities: list[int]) -> Tensor:
    """Return pictures as a JPEG of their quality would show them, colours at half the size.

    Quality 0 only halves the colours.

    Shapes:
        x: (B, 3, h, w) float32 RGB, 0..255; h and w multiples of 16
    """
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    colours = torch.cat(((blue - luma) / 1.772, (red - luma) / 1.402), 1)
    colours = F.avg_pool2d(colours, 2)
    rest = torch.full((8, 8), 99.0)
    rest[:4, :4] = torch.tensor(CHROMA)
    luma = _quantised(luma - 128, torch.tensor(LUMA, dtype=torch.float32), qualities) + 128
    colours = _quantised(colours, rest, qualities)
    colours = F.interpolate(colours, scale_factor=2.0, mode="bilinear", align_corners=False)
    u, v = colours[:, :1], colours[:, 1:]
    green = luma - 0.344136 * u - 0.714136 * v
    return torch.cat((luma + 1.402 * v, green, luma + 1.772 * u), 1)


def _quantised(x: Tensor, table: Tensor, qualities: list[int]) -> Tensor:
    """Round the frequencies of each block of 8 x 8 to what JPEG keeps."""
    b, c, h, w = x.shape
    quality = torch.tensor(qualities, dtype=torch.float32)
    share = torch.where(quality < 50, 5000 / quality.clamp(min=1), 200 - 2 * quality) / 100
    steps = (table * share[:, None, None]).round().clamp(1, 255)  # (B, 8, 8)
    steps = torch.where(quality[:, None, None] > 0, steps, 1e-3)
    steps = steps.to(x.device)[:, None, None, :, None, :]
    place = torch.arange(8.0)
    waves = torch.cos((2 * place[None] + 1) * place[:, None] * (math.pi / 16)) / 2
    waves[0] /= math.sqrt(2)
    waves = waves.to(x.device)
    blocks = x.reshape(b, c, h // 8, 8, w // 8, 8)
    found = torch.einsum("ui,bcyixj,vj->bcyuxv", waves, blocks, waves)
    found = (found / steps).round() * steps
    return torch.einsum("ui,bcyuxv,vj->bcyixj", waves, found, waves).reshape(b, c, h, w)
