"""Things that people hold, and seats that they sit in: drawn, for views.

What is before the body belongs to the person, for it hides no room; a seat behind the shoulder is
room. Every function takes its random generator, so that a seed names a picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train.data.datasets import Alpha, Image

KINDS = ("mug", "phone", "book", "microphone", "pen", "bottle", "ball")
FINE = 2  # drawn this much larger, then shrunk, so that outlines are soft
ON_BODY = 0.8  # of the things: their middle is on the body, and all of them belongs to the person
SKIN = ((238, 205, 180), (214, 165, 130), (172, 120, 85), (120, 78, 52), (78, 50, 35))


def held(image: Image, alpha: Alpha, stuff: Image, rng: Generator) -> tuple[Image, Alpha]:
    """Put a drawn thing before the body.

    A thing whose middle is on the body belongs to the person, all of it; one that only passes
    before it hides the room beside the body and stays room there, and no hole in the person.

    Shapes:
        image, stuff: (H, W, 3) uint8 RGB; alpha: (H, W) float32 in 0..1
        returns: the same
    """
    body = np.argwhere(alpha > 0.9)
    if len(body) < 0.02 * alpha.size:
        return image, alpha
    top, left = body.min(axis=0)
    bottom, right = body.max(axis=0)
    on_body = rng.random() < ON_BODY
    low = body[body[:, 0] > top + 0.3 * (bottom - top)] if rng.random() < 0.8 else body
    y, x = (low if len(low) else body)[int(rng.integers(len(low) or len(body)))]
    if not on_body:
        x += int(rng.choice((-1, 1)) * rng.uniform(0.1, 0.35) * (right - left))
    size = max(8.0, rng.uniform(0.1, 0.42) * math.sqrt(float((alpha > 0.5).sum())))
    patch, cover = thing(str(rng.choice(KINDS)), int(size), stuff, rng)
    seen, where = paste(image, patch, cover, (float(x), float(y)), rng.uniform(-40, 40))
    return seen, np.maximum(alpha, where) if on_body else alpha


def thing(kind: str, size: int, stuff: Image, rng: Generator) -> tuple[NDArray[np.float32], Alpha]:
    """Draw one thing of about `size` pixels, in a square twice as wide.

    Shapes:
        returns: (2 * size, 2 * size, 3) float32 RGB, (2 * size, 2 * size) float32 in 0..1
    """
    side = 2 * size * FINE
    cover = np.zeros((side, side), np.uint8)
    colour = rng.uniform(0, 255, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(5, 250))
    picture = np.broadcast_to(colour, (side, side, 3)).astype(np.float32)
    centre, unit = side // 2, size * FINE
    if kind in ("phone", "book") or rng.random() < 0.3:
        picture = _printed(picture, stuff, rng)
    parts = {
        "mug": _mug,
        "phone": _flat,
        "book": _flat,
        "microphone": _microphone,
        "pen": _pen,
        "bottle": _bottle,
        "ball": _ball,
    }[kind](centre, unit, rng)
    for points in parts:
        cv2.fillPoly(cover, [np.round(points).astype(np.int32)], 255)
    if kind == "mug":
        _handle(cover, centre, unit, rng)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)  # lit from one side
    lit = 1 + np.float32(rng.uniform(-0.35, 0.35)) * ramp
    picture = np.ascontiguousarray(picture * lit[None, :, None], np.float32)
    if rng.random() < 0.5:
        _hand(picture, cover, centre, unit, rng)
    shape = (2 * size, 2 * size)
    few = cv2.resize(picture.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(cover, shape, interpolation=cv2.INTER_AREA)
    return np.clip(few, 0, 255), soft.astype(np.float32) / np.float32(255)


def paste(
    image: Image,
    patch: NDArray[np.float32],
    cover: Alpha,
    centre: tuple[float, float],
    degrees: float,
) -> tuple[Image, Alpha]:
    """Lay a patch over a picture, its middle at `centre`, turned; return where it covers too."""
    h, w = image.shape[:2]
    middle = patch.shape[0] / 2
    turn = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    turn[:, 2] += (centre[0] - middle, centre[1] - middle)
    over = cv2.warpAffine(patch, turn, (w, h), borderMode=cv2.BORDER_REPLICATE)
    where = cv2.warpAffine(cover, turn, (w, h)).astype(np.float32)
    seen = image * (1 - where[..., None]) + over * where[..., None]
    return np.clip(seen, 0, 255).astype(np.uint8), where


def seat(
    image: Image, alpha: Alpha, stuff: Image, rng: Generator, room: Image | None = None
) -> tuple[Image, Image | None]:
    """Put the back of a chair or a sofa behind the person, a little wider than the shoulders.

    Where there is a picture of the `room` alone, it stands in that too.

    Shapes:
        image, stuff, room: (H, W, 3) uint8 RGB; alpha: (H, W) float32 in 0..1
        returns: image and room
    """
    h, w = alpha.shape
    person = alpha > 0.5
    columns, rows = np.flatnonzero(person.any(axis=0)), np.flatnonzero(person.any(axis=1))
    if not columns.size or person.mean() > 0.8:
        return image, room
    left, right, top = float(columns[0]), float(columns[-1]), float(rows[0])
    wide, tall = right - left, h - top
    middle = (left + right) / 2 + rng.uniform(-0.35, 0.35) * wide
    half = wide * rng.uniform(0.2, 0.75)
    head = top + rng.uniform(0.05, 0.65) * tall
    box = _rounded(
        (middle - half, head), (middle + half, h + 0.3 * tall), rng.uniform(0.05, 0.5) * half
    )
    cover = np.zeros((h, w), np.uint8)
    cv2.fillPoly(cover, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
    if rng.random() < 0.3:  # a head rest
        rest = half * rng.uniform(0.3, 0.6)
        rise = rng.uniform(0.1, 0.3) * tall
        box = _rounded((middle - rest, head - rise), (middle + rest, head - 2), rest * 0.4)
        cv2.fillPoly(cover, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
    if rng.random() < 0.25:  # bars, between which the room shows
        step = max(4, int(half * rng.uniform(0.15, 0.5)))
        cover[:, ::step] = 0
        cover = cv2.dilate(cover, np.ones((1, max(1, step // 3)), np.uint8)) if step > 6 else cover
    colour = rng.uniform(0, 255, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(5, 250))
    if rng.random() < 0.35:  # of what the person wears
        inside = image[person]
        colour = inside[int(rng.integers(len(inside)))].astype(np.float64)
    cloth = np.broadcast_to(colour, image.shape).astype(np.float32)
    if rng.random() < 0.4:
        cloth = _printed(cloth, stuff, rng)
    shade = np.linspace(rng.uniform(0.7, 1.2), rng.uniform(0.6, 1.1), h, dtype=np.float32)
    cloth = cloth * shade[:, None, None]
    soft = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.5, 1.2)).astype(np.float32) / 255
    grain = rng.uniform(0, 8) * rng.standard_normal((h, w, 1), np.float32)
    cloth = cloth + grain.astype(np.float32)
    seen = _laid(image, cloth, soft * (1 - alpha))
    return seen, None if room is None else _laid(room, cloth, soft)


def _laid(image: Image, cloth: NDArray[np.float32], where: Alpha) -> Image:
    seen = image * (1 - where[..., None]) + cloth * where[..., None]
    return np.asarray(np.clip(seen, 0, 255), np.uint8)


def _printed(plain: NDArray[np.float32], stuff: Image, rng: Generator) -> NDArray[np.float32]:
    """A print on a thing: any part of any picture, in part."""
    side = int(rng.integers(8, max(9, min(stuff.shape[:2]))))
    y, x = (int(rng.integers(n - side + 1)) for n in stuff.shape[:2])
    part = cv2.resize(stuff[y : y + side, x : x + side], plain.shape[1::-1])
    share = np.float32(rng.uniform(0.3, 1))
    return np.asarray(plain * (1 - share) + part.astype(np.float32) * share, np.float32)


def _rounded(
    start: tuple[float, float], end: tuple[float, float], radius: float
) -> NDArray[np.float64]:
    """The outline of a box with round corners, (N, 2) x and y."""
    x0, y0, x1, y1 = *start, *end
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    corners = (
        (x1 - radius, y1 - radius, 0.0), (x0 + radius, y1 - radius, 0.5),
        (x0 + radius, y0 + radius, 1.0), (x1 - radius, y0 + radius, 1.5),
    )  # fmt: skip
    points = [
        (x + radius * math.cos(math.pi * (turn + t)), y + radius * math.sin(math.pi * (turn + t)))
        for x, y, turn in corners
        for t in np.linspace(0, 0.5, 7)
    ]
    return np.array(points)


Parts = list[NDArray[np.float64]]


def _mug(c: int, unit: int, rng: Generator) -> Parts:
    half, tall = unit * rng.uniform(0.25, 0.38), unit * rng.uniform(0.3, 0.5)
    return [_rounded((c - half, c - tall), (c + half, c + tall), unit * 0.08)]


def _handle(cover: NDArray[np.uint8], c: int, unit: int, rng: Generator) -> None:
    centre = (int(c + unit * 0.4), c)
    axes = (int(unit * rng.uniform(0.12, 0.2)), int(unit * rng.uniform(0.15, 0.25)))
    cv2.ellipse(cover, centre, axes, 0, -100, 100, 255, max(1, int(unit * 0.07)), cv2.LINE_AA)


def _flat(c: int, unit: int, rng: Generator) -> Parts:
    half, tall = unit * rng.uniform(0.22, 0.6), unit * rng.uniform(0.35, 0.7)
    return [_rounded((c - half, c - tall), (c + half, c + tall), unit * rng.uniform(0, 0.1))]


def _microphone(c: int, unit: int, rng: Generator) -> Parts:
    head, stick = unit * rng.uniform(0.15, 0.32), unit * rng.uniform(0.05, 0.12)
    long = c + unit * rng.uniform(0.4, 0.95)
    ball = _rounded((c - head, c - unit * 0.4), (c + head, c + head), head)
    return [ball, _rounded((c - stick, c), (c + stick, long), stick)]


def _pen(c: int, unit: int, rng: Generator) -> Parts:
    half, tall = unit * rng.uniform(0.03, 0.07), unit * rng.uniform(0.4, 0.8)
    return [_rounded((c - half, c - tall), (c + half, c + tall), half)]


def _bottle(c: int, unit: int, rng: Generator) -> Parts:
    half, neck = unit * rng.uniform(0.15, 0.28), unit * rng.uniform(0.05, 0.12)
    body = _rounded((c - half, c - unit * 0.2), (c + half, c + unit * 0.7), half * 0.5)
    return [body, _rounded((c - neck, c - unit * 0.6), (c + neck, c), neck * 0.5)]


def _ball(c: int, unit: int, rng: Generator) -> Parts:
    across, tall = unit * rng.uniform(0.25, 0.6), unit * rng.uniform(0.25, 0.6)
    turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    wave = 1 + rng.uniform(0, 0.2) * np.sin(turns * int(rng.integers(2, 6)))
    return [np.stack((c + across * wave * np.cos(turns), c + tall * wave * np.sin(turns)), 1)]


def _hand(
    picture: NDArray[np.float32], cover: NDArray[np.uint8], c: int, unit: int, rng: Generator
) -> None:
    """Four fingers across the thing, of any skin."""
    skin = np.array(SKIN[int(rng.integers(len(SKIN)))]) * rng.uniform(0.8, 1.15)
    thick = max(2, int(unit * rng.uniform(0.1, 0.16)))
    reach, side = unit * rng.uniform(0.2, 0.5), rng.choice((-1, 1))
    for finger in range(4):
        y = int(c + (finger - 1.2) * thick * 1.1)
        start, end = (
            (int(c + side * unit * 0.45), y),
            (int(c + side * (unit * 0.45 - reach)), y + 2),
        )
        tone = tuple(float(v) for v in skin * (1 - 0.06 * finger))
        cv2.line(picture, start, end, tone, thick, cv2.LINE_AA)
        cv2.line(cover, start, end, 255, thick, cv2.LINE_AA)
