"""Views rendered on the device that trains, with torch.

Pictures lie in the device's memory, and whole batches are made at a time. A view has the frame, the
person and the room that the processor would have rendered of the same seed; its noise and its JPEG
artefacts are others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from train.data.datasets import Image, Pictures
from train.views import draw
from train.views.batches import Material
from train.views.draw import Camera, Framed, Matrix, Moved, Part, Size, View
from train.views.filters import blurred, coded_as_jpeg, covers, lit, streaked
from train.views.plan import Plan
from train.views.render import streak

log = logging.getLogger(__name__)

DeviceBatch = tuple[Tensor, Tensor]

SHARE = 0.5  # of the device's free memory that pictures may take


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


@dataclass(frozen=True, slots=True)
class Drawn:
    """A view that was drawn, and the picture it is of."""

    which: int  # of the sets of pictures
    number: int
    view: View

    @property
    def person(self) -> Framed | Moved | None:
        """Place of the person."""
        return self.view.scene.person


class DeviceViews:
    """Batches of random views, by number, as `train.views.batches.Views` makes them, on a device.

    Shapes:
        a batch: (B, h, w, 3) uint8 RGB, (B, h, w) float32 alpha, both tensors
    """

    def __init__(self, material: Material, plan: Plan, device: torch.device) -> None:
        rooms = material.rooms
        self._material, self._plan, self._device = material, plan, device
        self._sheets = [
            Sheets([np.dstack(pictures[i]) for i in range(len(pictures))], device)
            for pictures in material.sets
        ]
        self._room_sheets = Sheets(rooms, device) if rooms else None
        self._numbers_of_rooms = list(range(len(rooms)))
        self._rooms = rooms

    def draw_rooms(self, numbers: list[int]) -> None:
        """Draw rooms from these numbers from now on; one that stands there twice comes twice."""
        self._numbers_of_rooms = numbers
        self._rooms = [self._material.rooms[number] for number in numbers]

    def __call__(self, epoch: int, index: int) -> DeviceBatch:
        """Return batch `index` of an epoch; the same for the same plan, whenever it is asked."""
        size = self._plan.size(epoch, index)
        members = [self._plan.rng(epoch, index, member) for member in self._plan.members()]
        drawn = [self._draw(rng, size) for rng in members]
        generator = torch.Generator(self._device).manual_seed(int(members[0].integers(2**31)))
        with torch.no_grad():
            image, alpha = self._scenes(drawn, size)
            image = self._filmed(image, [d.view.camera for d in drawn], generator)
            return image.permute(0, 2, 3, 1).to(torch.uint8).contiguous(), alpha.contiguous()

    def _draw(self, rng: Generator, size: Size) -> Drawn:
        which, number = self._material.pick(rng)
        _, matte = self._material.sets[which][number]
        return Drawn(
            which, number, draw.view(matte, self._rooms, size, rng, self._material.options)
        )

    def _scenes(self, drawn: list[Drawn], size: Size) -> tuple[Tensor, Tensor]:
        """Render everything before the camera: (B, 3, h, w) 0..255 and (B, h, w)."""
        image, alpha = self._people(drawn, size)
        scenes = [d.view.scene for d in drawn]
        rooms = self._parts([scene.room for scene in scenes], size)
        moved = [d.person if isinstance(d.person, Moved) else None for d in drawn]
        cut_out = self._numbers([float(m is not None) for m in moved])
        empty = self._numbers([float(d.person is None) for d in drawn])
        soft = ((blurred(alpha, [m.edge if m else 0.0 for m in moved]) - 0.25) / 0.6).clamp(0, 1)
        inside = (alpha > 0.5).float()
        person = (image * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3))).clamp(min=1)
        ratio = ((rooms.mean((1, 2, 3)) + 40) / (person + 40)).clamp(0.6, 1.5)
        lit_alike = self._numbers([float(m is not None and m.lit) for m in moved])
        gain = torch.where(lit_alike > 0, ratio[:, None, None, None], 1.0)
        before_room = (image * gain * soft + rooms * (1 - soft)).clamp(0, 255)
        image = torch.where(cut_out > 0, before_room, torch.where(empty > 0, rooms, image))
        alpha = torch.where(cut_out > 0, soft, alpha) * (1 - empty)
        image = blurred(image, [0.6 if m and m.blended else 0.0 for m in moved])
        if any(scene.cover for scene in scenes):
            cover = covers([scene.cover for scene in scenes], size, self._device)
            stuff = self._parts([s.cover.stuff if s.cover else None for s in scenes], size)
            image = image * (1 - cover) + stuff * cover
        return image, alpha[:, 0]

    def _people(self, drawn: list[Drawn], size: Size) -> tuple[Tensor, Tensor]:
        """The pictures with people as they are placed: (B, 3, h, w) and (B, 1, h, w)."""
        image = torch.zeros((len(drawn), 3, *size), device=self._device)
        alpha = torch.zeros((len(drawn), 1, *size), device=self._device)
        for which, sheets in enumerate(self._sheets):
            for kind, edge in ((Framed, "reflect"), (Moved, "zeros")):
                chosen = [
                    (i, d.number, d.person)
                    for i, d in enumerate(drawn)
                    if d.which == which and isinstance(d.person, kind)
                ]
                if not chosen:
                    continue
                places, numbers, people = zip(*chosen, strict=True)
                matrices = np.stack([_inverse(p.matrix) for p in people])
                seen = sheets.sample(list(numbers), matrices, size, edge=edge)
                at = torch.tensor(places, device=self._device)
                # Of a picture that was shrunk, as much as the processor's renderer blurs it.
                shrunk = [0.4 if isinstance(p, Framed) and p.scale < 0.6 else 0.0 for p in people]
                image[at], alpha[at] = blurred(seen[:, :3], shrunk), seen[:, 3:] / 255
        return image, alpha

    def _parts(self, parts: list[Part | None], size: Size) -> Tensor:
        """The parts of rooms that were drawn; black where there is none."""
        made = torch.zeros((len(parts), 3, *size), device=self._device)
        chosen = [(i, part) for i, part in enumerate(parts) if part is not None]
        if chosen and self._room_sheets is not None:
            numbers = [self._numbers_of_rooms[part.number] for _, part in chosen]
            matrices = np.stack([_towards(part, size) for _, part in chosen])
            seen = self._room_sheets.sample(numbers, matrices, size, edge="reflect")
            at = torch.tensor([i for i, _ in chosen], device=self._device)
            made[at] = blurred(seen, [part.blur for _, part in chosen])
        return made

    def _filmed(self, x: Tensor, cameras: list[Camera], generator: torch.Generator) -> Tensor:
        """Render light, lens, sensor and codec of cheap cameras."""
        x = torch.stack([lit(one, c.light) for one, c in zip(x, cameras, strict=True)])
        x = blurred(x, [0.45 / c.few if c.few else 0.0 for c in cameras])
        if any(c.streak for c in cameras):
            x = streaked(x, [streak(*c.streak) if c.streak else None for c in cameras])
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        grey = self._numbers([float(c.grey) for c in cameras])
        noise = torch.where(grey > 0, noise[:, :1], noise)
        x = x + noise * self._numbers([c.noise for c in cameras])
        x = x.clamp(0, 255).floor()
        thin = self._numbers([float(c.chroma) for c in cameras])
        coded = self._numbers([float(c.quality > 0) for c in cameras])
        if any(c.chroma or c.quality for c in cameras):
            known = coded_as_jpeg(x, [c.quality for c in cameras])
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


def _inverse(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = np.eye(3)
    whole[:2] = matrix
    return np.linalg.inv(whole)[:2].astype(np.float32)


def _towards(part: Part, size: Size) -> Matrix:
    """The matrix from a view's pixels to those of the room that `part` shows."""
    h, w = size
    down, across = part.rows / h, part.columns / w
    x, y = part.left, part.top
    matrix = np.array([[across, 0, x + across / 2 - 0.5], [0, down, y + down / 2 - 0.5]])
    if part.mirrored:
        matrix[0] = (-across, 0, x + across * (w - 0.5) - 0.5)
    return matrix.astype(np.float32)
