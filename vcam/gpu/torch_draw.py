"""The composite in torch: the compositor's arithmetic, without ever asking the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from vcam.compose.constants import (
    BLUR_MOST,
    BLUR_RAMP,
    GAIN,
    LEAST_WEIGHT,
    NEAR,
    PASSES,
    PERSON_RAMP,
    ROOM_RAMP,
    SHIFT,
    SPILL,
    SPILL_FALL,
    SPILL_GAIN,
    SPILL_LEAST,
    SPILL_LIGHT,
    SPILL_MOST,
    SPILL_OUT,
    SPILL_SHIFT,
    TRUST,
)
from vcam.compose.scene import Scene
from vcam.gpu.packing import Packing
from vcam.gpu.resample import Bytes, Resize, box, resampler, whole


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
            luma = planes[:1] * LUMA_SLOPE + BLACK
            planes = torch.cat((luma, (planes[1:] - GREY) * CHROMA_SLOPE + GREY))
        self.planes, self.alpha = planes, self.shrink(alpha)

    def near(self) -> Tensor:
        """Return the person's colours, carried outwards, and the room's, inwards, (6, h, w)."""
        person, room = ramp(self.alpha, *PERSON_RAMP), ramp(self.alpha, *ROOM_RAMP)
        return torch.cat((self._carry(person), self._carry(room)))

    def blurred(self, sigma: float) -> Tensor:
        """Return the room blurred by `sigma` pixels of the model's size, without the person.

        Shapes:
            returns: (3, h / 2, w / 2) float32 whole levels
        """
        weight = ramp(F.max_pool2d(self.alpha[None], 3, 1, 1)[0], *BLUR_RAMP)
        weighted = self.planes * weight
        mean = weighted.sum(dim=(1, 2)) / weight.sum().clamp(min=LEAST_WEIGHT)
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
    strength = scene.blur.strength if scene.blur else 0.0
    return max(0.0, min(strength, 100.0)) / 100 * BLUR_MOST * max(size)


def width(sigma: float) -> int:
    """Return how wide a box is, at half the model's size, three of which blur by `sigma`."""
    ideal = (12 * (sigma / 2) ** 2 / PASSES + 1) ** 0.5
    return max(1, round(float(ideal))) | 1


def ramp(alpha: Tensor, start: float, end: float) -> Tensor:
    """Return 0 where alpha is at `start`, 1 where it is at `end`."""
    return ((alpha - start) * (1 / (end - start))).clamp_(0, 1)


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
        """Layout of the planes that `flat` packs."""
        luma, chroma = (self.height, self.width), (self.height // 2, self.width // 2)
        return Packing.planar(luma, chroma, full_range=full_range)


def limited(planes: list[Tensor]) -> list[Tensor]:
    """Fold full range to limited range."""
    y, u, v = planes
    return [y * LUMA_SLOPE + BLACK, *((x - GREY) * CHROMA_SLOPE + GREY for x in (u, v))]


@dataclass(frozen=True)
class Person:
    """The person's edges and colours, at the matte's size.

    Shapes:
        a, b: (h, w) float32, alpha = clip(a * Y / 255 + b, 0, 1)
        purity: (6, h, w), Y, U, V of the person and of the room; None leaves edges as they are
        wrap: (4, h, w), how much of the backdrop's light spills over, and the light's Y, U, V
    """

    a: Tensor
    b: Tensor
    purity: Tensor | None = None
    wrap: Tensor | None = None

    @property
    def mirrored(self) -> Person:
        """The same, left to right; the light is of the backdrop, which stays."""
        purity = None if self.purity is None else self.purity.flip(-1)
        return Person(self.a.flip(-1), self.b.flip(-1), purity, self.wrap)


def draw(
    planes: list[Tensor],
    person: Person,
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
        behind, out: (height * 3 // 2 * width) uint8 I420
    """
    y, *chroma = planes
    t = ((fit.grow_y(person.a) * (y / 255) + fit.grow_y(person.b)) * GAIN - SHIFT).clamp_(0, 1)
    thin = F.avg_pool2d(t[None], 2)[0]
    colours = limited([y, *chroma]) if full_range else [y, *chroma]
    if not fit.fills:
        out.copy_(behind)
    for channel, c in enumerate(colours):
        grow, weight = (fit.grow_c, thin) if channel else (fit.grow_y, t)
        if person.purity is not None:
            own, room = grow(person.purity[channel]), grow(person.purity[3 + channel])
            c = (c + (1 - weight) * ((own - c) + weight * (own - room))).clamp_(0, 255)
        place, view = (part(x, channel, fit, scene) for x in (behind, out))
        c = c * weight + place.float() * (1 - weight)
        if person.wrap is not None:
            c = c * (1 - grow(person.wrap[0])) + grow(person.wrap[1 + channel])
        view.copy_((c + 0.5).to(torch.uint8))


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
        plane = plane.flip(-1) if scene.look.mirror else plane
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
        self.most = SPILL_MOST * scene.look.light_wrap

    def __call__(self, alpha: Tensor, behind: Tensor) -> Tensor:
        """Return how much, and that much of the light, (4, h, w).

        Shapes:
            alpha: (h, w) float32; behind: (height * 3 // 2 * width) uint8 I420
        """
        reach, scene = (self.reach,) * 2, self._scene
        around = box(box(1 - alpha[None], reach, "reflect"), reach, "reflect")[0]
        spill = torch.minimum(around * SPILL_GAIN - SPILL_SHIFT, SPILL_OUT - around * SPILL_FALL)
        spill = spill.clamp_(0, 1)
        if scene.look.mirror:
            spill = spill.flip(-1)
        parts = [part(behind, channel, self._fit, scene).float() for channel in range(3)]
        light = torch.stack([self.light[min(i, 1)](plane) for i, plane in enumerate(parts)])
        light = box(whole(light), reach, "reflect")
        spill = spill * ((light[0] - BLACK) * SPILL_LIGHT).clamp(0, 1) * self.most
        spill = spill.masked_fill(spill < SPILL_LEAST, 0)
        return torch.cat((spill[None], light * spill))
