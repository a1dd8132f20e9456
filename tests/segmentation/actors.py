"""People who walk through a small room: pictures and mattes at model size, and who is where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

H, W = 224, 384
HERE = Path(__file__)
PORTRAITS = next(
    (
        found
        for n in (3, 4)
        if (found := HERE.parents[n] / "shared" / "data" / "portraits").is_dir()
    ),
    None,
)


@dataclass(frozen=True)
class Actor:
    """A cut-out person, 224 rows tall: RGB and alpha."""

    image: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Pose:
    """Where an actor is: middle as a share of the width, height as a share of the frame's."""

    x: float
    scale: float = 0.9
    light: float = 1.0


Script = Callable[[float], "Pose | None"]


def drawn(shirt: tuple[int, int, int], hair: tuple[int, int, int], skin=(205, 160, 135)) -> Actor:
    """Draw somebody: hair, face, shirt, a little shading."""
    h, w = 224, 170
    image, mask = np.zeros((h, w, 3), np.uint8), np.zeros((h, w), np.uint8)
    body = cv2.ellipse(np.zeros((h, w), np.uint8), (w // 2, h), (78, 112), 0, 180, 360, 255, -1)
    head = cv2.ellipse(np.zeros((h, w), np.uint8), (w // 2, 64), (34, 44), 0, 0, 360, 255, -1)
    top = cv2.ellipse(np.zeros((h, w), np.uint8), (w // 2, 50), (38, 40), 0, 180, 360, 255, -1)
    neck = cv2.rectangle(np.zeros((h, w), np.uint8), (w // 2 - 15, 90), (w // 2 + 15, 130), 255, -1)
    for part, colour in ((neck, skin), (body, shirt), (head, skin), (top, hair)):
        image[part > 0] = colour
        mask |= part
    shade = np.linspace(0.8, 1.15, w)[None, :, None]
    image = np.clip(image * shade + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255)
    return Actor(image.astype(np.uint8), mask.astype(np.float32) / 255)


def demo(turned: int = 0) -> Actor:
    """Cut out the bundled portrait; its colours turned by a share of the circle of hues."""
    root = HERE.parents[2] / "segmentation" / "answers"
    image = cv2.imread(str(root / "person.jpg"))
    mask = cv2.imread(str(root / "person.png"), 0)
    rows, columns = np.nonzero(mask)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    image, mask = image[box], mask[box]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + turned) % 180
    return _fitted(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), mask)


@cache
def portraits(most: int) -> list[Actor]:
    """Cut out people of photographs who fill much of them and end at the lower edge."""
    found: list[Actor] = []
    if PORTRAITS is None:
        return found
    for path in sorted((PORTRAITS / "val" / "img").iterdir()):
        image = cv2.imread(str(path))
        mask = cv2.imread(str(PORTRAITS / "val" / "mask" / f"{path.stem}.png"), 0)
        if mask is None or image is None or mask.shape != image.shape[:2]:
            continue
        count, _, _, _ = cv2.connectedComponentsWithStats((mask > 127).view(np.uint8))
        rows, columns = np.nonzero(mask > 127)
        if count != 2 or rows.max() < len(mask) - 3 or not 0.25 < len(rows) / mask.size < 0.6:
            continue
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        wide, tall = np.ptp(columns), np.ptp(rows)
        if wide < 1.1 * tall:
            found.append(_fitted(cv2.cvtColor(image[box], cv2.COLOR_BGR2RGB), mask[box]))
        if len(found) == most:
            break
    return found


def _fitted(image: np.ndarray, mask: np.ndarray) -> Actor:
    size = (round(image.shape[1] * 224 / image.shape[0]), 224)
    smaller = [cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (image, mask)]
    return Actor(smaller[0], smaller[1].astype(np.float32) / 255)


@cache
def room() -> np.ndarray:
    """The room of the known answers, a little darker."""
    path = HERE.parents[2] / "segmentation" / "answers" / "room.jpg"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (W, H), interpolation=cv2.INTER_AREA)


@cache
def grain() -> np.ndarray:
    """What a sensor adds: five pictures of noise."""
    return np.random.default_rng(0).normal(0, 2, (5, H, W, 3)).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """One frame: alpha of everybody, the picture, and whose each pixel is: 0 nobody's, else n+1."""

    alpha: np.ndarray
    picture: np.ndarray
    owner: np.ndarray
    pts: float

    def shown(self, alpha: np.ndarray, actor: int) -> float:
        """Share of what is seen of an actor that `alpha` shows; 0 if nothing is seen of them."""
        seen = self.owner == actor + 1
        return float((alpha[seen] > 0.5).mean()) if seen.any() else 0.0


def shoot(pts: float, cast: list[tuple[Actor, Pose | None]], *, light: float = 1.0) -> Shot:
    """Take a picture of those who are there; later ones stand in front."""
    image = room().astype(np.float32)
    alpha, owner = np.zeros((H, W), np.float32), np.zeros((H, W), np.uint8)
    for n, (actor, pose) in enumerate(cast):
        if pose is None:
            continue
        size = (round(actor.image.shape[1] * pose.scale), round(actor.image.shape[0] * pose.scale))
        if min(size) < 2:
            continue
        person = cv2.resize(actor.image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        mask = cv2.resize(actor.alpha, size, interpolation=cv2.INTER_AREA)
        left, top = round(pose.x * W - size[0] / 2), max(0, H - size[1])
        x0, x1 = max(0, left), min(W, left + size[0])
        if x0 >= x1:
            continue
        rows = slice(0, min(size[1], H))
        mask, person = (part[rows, x0 - left : x1 - left] for part in (mask, person))
        there = slice(top, top + mask.shape[0]), slice(x0, x1)
        m = mask[..., None]
        image[there] = image[there] * (1 - m) + person * m * pose.light
        alpha[there] = np.maximum(alpha[there], mask)
        owner[there][mask > 0.5] = n + 1
    rgb = np.clip(image * np.float32(light) + grain()[round(pts * 1000) % 5], 0, 255)
    y = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    u, v = (rgb[..., 2] - y) / 1.772, (rgb[..., 0] - y) / 1.402
    planes = [16 + y * 219 / 255, 128 + u * 224 / 255, 128 + v * 224 / 255]
    return Shot(alpha, np.clip(np.rint(np.stack(planes)), 0, 255).astype(np.uint8), owner, pts)
