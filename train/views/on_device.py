"""Views made on the device that trains: the pictures lie in its memory, whole batches at a time.

What happens to a view is drawn by `train.augment`'s own functions, from the same random numbers;
only the pixels are moved here, by torch. So a view has the frame, the person and the room that the
processor would have made of the same seed; its noise and its JPEG artefacts are others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from train.data.datasets import Image, Pictures
from train.views import render
from train.views.batches import Material
from train.views.draw import PLAIN, Augment, cut, framing, placement
from train.views.plan import Plan

log = logging.getLogger(__name__)

SHARE = 0.5  # of the device's free memory that pictures may take
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


class Sheets:
    """Pictures of one kind in a device's memory, each in a corner of a square.

    Shapes:
        data: (N, C, side, side) uint8; sizes: (N, 2) float32 height and width
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        side = max(max(p.shape[:2]) for p in pictures)
        channels = pictures[0].shape[2]
        self.data = torch.zeros((len(pictures), channels, side, side), dtype=torch.uint8)
        for place, picture in zip(self.data, pictures, strict=True):
            h, w = picture.shape[:2]
            place[:, :h, :w] = torch.from_numpy(picture).permute(2, 0, 1)
        self.data = self.data.to(device)
        sizes = [p.shape[:2] for p in pictures]
        self.sizes = torch.tensor(sizes, dtype=torch.float32, device=device)

    def sample(
        self, numbers: list[int], matrices: NDArray[np.float32], size: tuple[int, int], *, edge: str
    ) -> Tensor:
        """Return one view of each picture, every pixel the mean of four linear samples.

        `matrices` lead from a view's pixels to the picture's. Beyond its edges a picture goes on
        mirrored (`edge` is "reflect"), or there is nothing ("zeros").

        Shapes:
            matrices: (B, 2, 3) float32
            returns: (B, C, h, w) float32, 0..255
        """
        device, (h, w), side = self.data.device, size, self.data.shape[-1]
        index = torch.tensor(numbers, device=device)
        rows, columns = ((torch.arange(2 * n, device=device) + 0.5) / 2 - 0.5 for n in (h, w))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        there = torch.stack((x, y, torch.ones_like(x)))  # (3, 2h, 2w)
        at = torch.einsum("bij,jhw->bihw", torch.from_numpy(matrices).to(device), there)
        last = self.sizes[index].flip(1)[:, :, None, None] - 1  # (B, 2, 1, 1): x, y
        inside = ((at >= -0.5) & (at <= last + 0.5)).all(1, keepdim=True)
        period = (2 * last).clamp(min=1)
        folded = at.remainder(period)
        at = torch.where(folded > last, period - folded, folded) if edge == "reflect" else at
        grid = (at + 0.5) * (2 / side) - 1
        grid = grid.permute(0, 2, 3, 1)
        seen = F.grid_sample(self.data[index].float(), grid, align_corners=False)
        return F.avg_pool2d(seen * inside if edge == "zeros" else seen, 2).clamp_(0, 255)


@dataclass(slots=True)
class Drawn:
    """What was drawn for one view; matrices lead from the view's pixels to the picture's."""

    kind: int = 0  # 0: the picture as it is, 1: the person before another room, 2: an empty room
    set: int = 0  # 0: labelled, 1: mattes made by other models
    number: int = 0
    matrix: NDArray[np.float32] = field(default_factory=lambda: np.eye(2, 3, dtype=np.float32))
    before: float = 0.0  # blur of a picture that was shrunk
    room: tuple[int, NDArray[np.float32], float] | None = None  # number, matrix, blur
    soft: float = 0.0  # of the edge of a person that was cut out
    lit: bool = False  # like the room
    blend: float = 0.0  # blur over both
    cover: tuple[float, ...] | None = None  # centre x, y, half axes, degrees
    stuff: tuple[int, NDArray[np.float32], float] | None = None  # what covers
    light: list[tuple[str, Any]] = field(default_factory=list)
    few: float = 0.0  # of the pixels that are left along each side
    streak: NDArray[np.float32] | None = None
    noise: float = 0.0
    grey: bool = False  # noise is the same in all colours
    chroma: bool = False
    quality: int = 0  # of JPEG


class DeviceViews:
    """Batches of random views, by number, as `train.views.batches.Views` makes them, on a device.

    Shapes:
        a batch: (B, h, w, 3) uint8 RGB, (B, h, w) float32 alpha, both tensors
    """

    def __init__(self, material: Material, plan: Plan, device: torch.device) -> None:
        rooms = material.rooms
        self._material = material
        self._plan, self._options, self._device = plan, material.options, device
        self._sheets = [
            Sheets([np.dstack(pictures[i]) for i in range(len(pictures))], device)
            for pictures in material.sets
        ]
        self._rooms = rooms
        self._room_sheets = Sheets(rooms, device) if rooms else None
        self._drawn_from = list(range(len(rooms)))

    def draw_rooms(self, numbers: list[int]) -> None:
        """Draw rooms from these numbers from now on; one that stands there twice comes twice."""
        self._drawn_from = numbers

    def __call__(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Return batch `index` of an epoch; the same for the same plan, whenever it is asked."""
        size = self._plan.size(epoch, index)
        members = [self._plan.rng(epoch, index, member) for member in self._plan.members()]
        drawn = [self._draw(rng, size) for rng in members]
        generator = torch.Generator(self._device).manual_seed(int(members[0].integers(2**31)))
        with torch.no_grad():
            return self._made(drawn, size, generator)

    def _draw(self, rng: Generator, size: tuple[int, int]) -> Drawn:
        """Draw one view, in the order of `augment.view`."""
        options, made = self._options, Drawn()
        made.set, made.number = self._material.pick(rng)
        _, matte = self._material.sets[made.set][made.number]
        if rng.random() < options.plain:
            options = PLAIN
        if self._rooms and rng.random() < options.empty:
            made.kind, made.room = 2, self._room(rng, size)
        else:
            if self._rooms and rng.random() < options.composite:
                made.kind, made.room = 1, self._room(rng, size)
                made.matrix = _inverse(placement(matte, size, rng, options))
                made.soft = rng.uniform(0.5, 1.3)
                made.lit = rng.random() < 0.5
                made.blend = 0.6 if rng.random() < 0.3 else 0.0
            else:
                forward, scale = framing(matte, size, rng, options)
                made.matrix = _inverse(forward)
                made.before = 0.4 if scale < 0.6 else 0.0
            if self._rooms and rng.random() < options.occlude:
                made.stuff = self._room(rng, size)
                made.cover = _cover(rng, size)
        self._draw_camera(made, rng, options)
        return made

    def _room(
        self, rng: Generator, size: tuple[int, int]
    ) -> tuple[int, NDArray[np.float32], float]:
        number = self._drawn_from[int(rng.integers(len(self._drawn_from)))]
        y, x, rows, columns = cut(self._rooms[number].shape, size, rng)
        blur = rng.uniform(0.5, 3) if rng.random() < 0.4 else 0.0
        h, w = size
        down, across = rows / h, columns / w
        matrix = np.array([[across, 0, x + across / 2 - 0.5], [0, down, y + down / 2 - 0.5]])
        if rng.random() < 0.5:
            matrix[0] = (-across, 0, x + across * (w - 0.5) - 0.5)
        return number, matrix.astype(np.float32), blur

    def _draw_camera(self, made: Drawn, rng: Generator, options: Augment) -> None:
        """Draw light, lens, sensor and codec, in the order of `augment.degrade`."""
        if rng.random() < options.colour:
            if rng.random() < 0.5:
                made.light.append(("balance", rng.uniform(0.75, 1.25, 3)))
            made.light.append(("exposure", (rng.uniform(0.6, 1.35), rng.uniform(-20, 20))))
        if rng.random() < 0.5 * options.colour:
            made.light.append(("contrast", rng.uniform(0.6, 1.4)))
        if rng.random() < 0.5 * options.colour:
            made.light.append(("saturation", rng.uniform(0, 1.6)))
        if rng.random() < 0.375 * options.colour:
            made.light.append(("gamma", rng.uniform(0.5, 2.0)))
        if rng.random() < options.dark:
            made.light.append(("exposure", (rng.uniform(0.2, 0.5), 0.0)))
        if rng.random() < options.soft:
            made.few = rng.uniform(0.35, 0.9)
        if rng.random() < options.blur:
            made.streak = render._streak(int(rng.integers(3, 9)), rng.uniform(0, 180))
        if rng.random() < options.noise:
            made.grey, made.noise = rng.random() >= 0.5, rng.uniform(1, 14)
        made.chroma = rng.random() < options.chroma
        made.quality = int(rng.integers(25, 95)) if rng.random() < options.jpeg else 0

    def _made(
        self, drawn: list[Drawn], size: tuple[int, int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        device = self._device
        image = torch.zeros((len(drawn), 3, *size), device=device)
        alpha = torch.zeros((len(drawn), 1, *size), device=device)
        for which, sheets in enumerate(self._sheets):
            for kind, edge in ((0, "reflect"), (1, "zeros")):
                chosen = [i for i, d in enumerate(drawn) if d.set == which and d.kind == kind]
                if chosen:
                    matrices = np.stack([drawn[i].matrix for i in chosen])
                    seen = sheets.sample(
                        [drawn[i].number for i in chosen], matrices, size, edge=edge
                    )
                    at = torch.tensor(chosen, device=device)
                    shown = blurred(seen[:, :3], [drawn[i].before for i in chosen])
                    image[at], alpha[at] = shown, seen[:, 3:] / 255
        rooms = self._behind([d.room for d in drawn], size)
        cut_out = self._numbers([float(d.kind == 1) for d in drawn])
        empty = self._numbers([float(d.kind == 2) for d in drawn])
        soft = ((blurred(alpha, [d.soft for d in drawn]) - 0.25) / 0.6).clamp(0, 1)
        inside = (alpha > 0.5).float()
        person = (image * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3))).clamp(min=1)
        ratio = ((rooms.mean((1, 2, 3)) + 40) / (person + 40)).clamp(0.6, 1.5)
        lit = self._numbers([float(d.lit) for d in drawn])
        gain = torch.where(lit > 0, ratio[:, None, None, None], 1.0)
        before_room = (image * gain * soft + rooms * (1 - soft)).clamp(0, 255)
        image = torch.where(cut_out > 0, before_room, torch.where(empty > 0, rooms, image))
        alpha = torch.where(cut_out > 0, soft, alpha) * (1 - empty)
        image = blurred(image, [d.blend for d in drawn])
        if any(d.cover for d in drawn):
            cover = covers([d.cover for d in drawn], size, device)
            stuff = self._behind([d.stuff for d in drawn], size)
            image = image * (1 - cover) + stuff * cover
        image = self._camera(image, drawn, generator)
        return image.permute(0, 2, 3, 1).to(torch.uint8).contiguous(), alpha[:, 0].contiguous()

    def _behind(
        self, rooms: list[tuple[int, NDArray[np.float32], float] | None], size: tuple[int, int]
    ) -> Tensor:
        """The rooms that were drawn; black for those who have none."""
        made = torch.zeros((len(rooms), 3, *size), device=self._device)
        chosen = [(i, room) for i, room in enumerate(rooms) if room is not None]
        if chosen and self._room_sheets is not None:
            numbers, matrices = [r[0] for _, r in chosen], np.stack([r[1] for _, r in chosen])
            seen = self._room_sheets.sample(numbers, matrices, size, edge="reflect")
            at = torch.tensor([i for i, _ in chosen], device=self._device)
            made[at] = blurred(seen, [r[2] for _, r in chosen])
        return made

    def _camera(self, x: Tensor, drawn: list[Drawn], generator: torch.Generator) -> Tensor:
        """Light, lens, sensor and codec of a cheap camera."""
        x = torch.stack([lit(one, d.light) for one, d in zip(x, drawn, strict=True)])
        x = blurred(x, [0.45 / d.few if d.few else 0.0 for d in drawn])
        if any(d.streak is not None for d in drawn):
            x = streaked(x, [d.streak for d in drawn])
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        grey = self._numbers([float(d.grey) for d in drawn])
        noise = torch.where(grey > 0, noise[:, :1], noise)
        x = x + noise * self._numbers([d.noise for d in drawn])
        x = x.clamp(0, 255).floor()
        thin = self._numbers([float(d.chroma) for d in drawn])
        coded = self._numbers([float(d.quality > 0) for d in drawn])
        if any(d.chroma or d.quality for d in drawn):
            known = coded_as_jpeg(x, [d.quality for d in drawn])
            x = torch.where((thin > 0) | (coded > 0), known, x)
        return x.round().clamp(0, 255)

    def _numbers(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self._device)[:, None, None, None]


def fits(pictures: Sequence[Pictures], rooms: list[Image], device: torch.device) -> bool:
    """True if all of it lies in this machine's memory and has room in the device's."""
    if not all(pictures_.kept for pictures_ in pictures):
        return False
    need = sum(_bytes([p[i][0] for i in range(len(p))], 4) for p in pictures) + _bytes(rooms, 3)
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    log.info("The pictures take %.1f GB of the GPU's %.1f", need / 1e9, free / 1e9)
    return need <= SHARE * free


def _bytes(pictures: Sequence[Image], channels: int) -> int:
    side = max((max(p.shape[:2]) for p in pictures), default=0)
    return len(pictures) * side * side * channels


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


def lit(x: Tensor, light: list[tuple[str, Any]]) -> Tensor:
    """Change the light of one picture, step by step.

    Shapes:
        x: (3, h, w) float32, 0..255
    """
    for what, how in light:
        if what == "balance":
            x = x * torch.tensor(how, dtype=torch.float32, device=x.device)[:, None, None]
        elif what == "exposure":
            x = x * how[0] + how[1]
        elif what == "contrast":
            mean = x.mean()
            x = (x - mean) * how + mean
        elif what == "saturation":
            grey = x.mean(0, keepdim=True)
            x = grey + (x - grey) * how
        elif what == "gamma":
            x = 255 * (x.clamp(0, 255) / 255) ** how
    return x.clamp(0, 255)


def covers(
    ellipses: list[tuple[float, ...] | None], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Return how much each ellipse covers, (B, 1, h, w); nothing for None."""
    h, w = size
    none = (0.0, 0.0, 1.0, 1.0, 0.0)
    numbers = torch.tensor([e or none for e in ellipses], device=device)[:, :, None, None]
    y, x = torch.meshgrid(
        torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij"
    )
    dx, dy, turn = x - numbers[:, 0], y - numbers[:, 1], numbers[:, 4] * (math.pi / 180)
    along, across = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
    a, b = numbers[:, 2].clamp(min=1), numbers[:, 3].clamp(min=1)
    radius = ((along / a) ** 2 + (across / b) ** 2).sqrt()
    there = torch.tensor([float(e is not None) for e in ellipses], device=device)
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


def _inverse(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = np.eye(3)
    whole[:2] = matrix
    return np.linalg.inv(whole)[:2].astype(np.float32)


def _cover(rng: Generator, size: tuple[int, int]) -> tuple[float, ...]:
    """Draw an ellipse, in the order of `augment.occlude`."""
    h, w = size
    rows, columns = int(h * rng.uniform(0.1, 0.4)), int(w * rng.uniform(0.1, 0.3))
    y = int(rng.integers(h // 3, h - rows + 1))
    x = int(rng.integers(0, w - columns + 1))
    centre = (float(x + columns // 2), float(y + rows // 2))
    return (*centre, float(columns // 2), float(rows // 2), rng.uniform(0, 180))
