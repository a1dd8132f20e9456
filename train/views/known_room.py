"""The room as a fixed webcam knows it, beside a view: what was there before, and where it was seen.

Shapes:
    images are (h, w, 3) uint8 RGB, alphas (h, w) float32 in 0..1, known (h, w) uint8, 255 where
    the room was seen
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from segmentation.motion.state import CELL, looks_otherwise, textured
from train.data.datasets import Alpha, Image
from train.views.draw import Camera

WHOLE = 0.65  # of the rooms that could be known whole, the part that is; the rest where nobody was
SHADE = 0.5  # how often: the person's shadow and bounce light on the room
UNEVEN = 0.3  # light that changed in a part of the picture: a lamp, a screen, a cloud
CHANGED = 0.25  # something was moved since
GHOST = 0.08  # somebody was there when the room was learnt
FOREIGN = 0.04  # another room altogether
ALIKE = 0.35  # the person wears what the room looks like,
PLAIN = 10.0  # or most often its colour: pixels that it is blurred by
GAPS = 0.4  # pieces nobody learnt
SHIFT = 0.7  # pixels, deviation of the camera's place


@dataclass(frozen=True, slots=True)
class Behind:
    """A room and where it is known."""

    image: Image
    known: NDArray[np.uint8]


def nothing(size: tuple[int, int]) -> Behind:
    """A room of which nothing is known."""
    return Behind(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8))


def scene(
    seen: Image, alpha: Alpha, room: Image | None, other: Image, rng: Generator
) -> tuple[Image, Behind]:
    """Draw what is known of the room behind a person, and what the person and time do to it.

    `room` is the picture without the person, None where there is none: then it is known around
    the person alone, as it was taken. `other` is any other picture of the same size.

    Returns:
        the picture, with shadow and whatever else changed; the room before camera and light
    """
    whole = room is not None and rng.random() < WHOLE
    behind = (seen if room is None else room).astype(np.float32)
    now = seen.astype(np.float32)
    if room is not None:
        now, behind = _changed(now, behind, alpha, other, rng)
        if rng.random() < ALIKE:
            now = _alike(now, behind, alpha, rng)
    if rng.random() < GHOST:
        behind = _ghost(behind, seen, alpha, rng)
    if rng.random() < FOREIGN:
        behind = other.astype(np.float32)
    known = np.ones(alpha.shape, np.uint8) if whole else 1 - _trodden(alpha, rng)
    if rng.random() < GAPS:
        pieces = (rng.random((7, 12)) >= 0.25).astype(np.uint8)
        known &= cv2.resize(pieces, alpha.shape[::-1], interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        behind = _shifted(behind, rng.normal(0, SHIFT, 2))
    return _bytes(now), Behind(_bytes(behind), known * np.uint8(255))


def camera_of(drawn: Camera) -> Camera:
    """The camera that saw the room: the same lens and light; noise and codec averaged away."""
    return replace(drawn, streak=None, noise=0.0, grain=None, chroma=False, quality=0)


def drifted(room: Image, rng: Generator) -> Image:
    """Leave what matching exposure and white balance leaves."""
    gain = rng.normal(1, 0.02) * rng.normal(1, 0.01, 3)
    x = room.astype(np.float32) * gain.astype(np.float32) + np.float32(rng.normal(0, 1.5))
    noise = np.float32(rng.uniform(0, 2.5)) * rng.standard_normal(room.shape, np.float32)
    return _bytes(x + noise)


def told(seen: Image, alpha: Alpha, behind: Behind) -> NDArray[np.uint8]:
    """The part of what is known that the program tells its network, 0..255.

    It is told where the room is textured, or looks otherwise now; see `segmentation.motion.room`.
    """
    h, w = alpha.shape
    now, room = (cv2.cvtColor(one, cv2.COLOR_RGB2YUV) for one in (seen, behind.image))
    known = behind.known > 0
    apart = cv2.absdiff(now, room)
    outside = apart[..., 0][known & (alpha < 0.05)]
    noise = float(np.clip(1.48 * np.median(outside), 0.5, 8)) if outside.size else 2.0
    texture = np.empty((max(1, h // CELL), max(1, w // CELL)), np.float32)
    rich = np.empty((h, w), np.float32)
    textured(room[..., 0].astype(np.float32), known, noise, texture, rich)
    share = np.maximum(rich, looks_otherwise(apart.max(axis=2), noise)) * known
    return np.asarray(np.rint(share * 255), np.uint8)


def _changed(
    now: NDArray[np.float32],
    behind: NDArray[np.float32],
    alpha: Alpha,
    other: Image,
    rng: Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shadow, bounce light, lamps, and things that are no longer where they were."""
    h, w = alpha.shape
    outside = 1 - alpha[..., None]
    if rng.random() < SHADE:
        aside = np.array([[1, 0, rng.uniform(-25, 25)], [0, 1, rng.uniform(-5, 25)]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, aside, (w, h)), (0, 0), rng.uniform(4, 18))
        now = now * (1 - rng.uniform(-0.1, 0.4) * shadow[..., None] * outside)
    if rng.random() < UNEVEN:
        field = rng.standard_normal((3, 4)).astype(np.float32)
        field = cv2.resize(field, (w, h), interpolation=cv2.INTER_CUBIC)
        now = now * (1 + rng.uniform(0.02, 0.12) * field[..., None])
    if rng.random() < CHANGED:
        share = _blot((h, w), rng, 0.02, 0.2)[..., None]
        if rng.random() < 0.5:
            behind = behind + (other - behind) * share
        else:
            now = now + (other - now) * share * outside
    return now.astype(np.float32), behind.astype(np.float32)


def _alike(
    now: NDArray[np.float32], behind: NDArray[np.float32], alpha: Alpha, rng: Generator
) -> NDArray[np.float32]:
    """Dress the person, from some row on or in a part, in the room behind or in its colour."""
    h = len(alpha)
    if rng.random() < 0.5:
        row = np.float32(rng.uniform(0.1, 0.7) * h)
        below = np.clip((np.arange(h, dtype=np.float32)[:, None] - row) / 8 + np.float32(0.5), 0, 1)
        share = np.asarray(below * np.ones_like(alpha), np.float32)
    else:
        share = _blot(alpha.shape, rng, 0.1, 0.4)
    share = share * (alpha > 0.95) * np.float32(rng.uniform(0.4, 1))
    cloth = behind
    if rng.random() < 0.75:
        folds = (now - cv2.GaussianBlur(now, (0, 0), PLAIN)) * np.float32(rng.uniform(0.1, 0.6))
        colour = cv2.GaussianBlur(behind, (0, 0), PLAIN)
        cloth = np.asarray(colour + folds, np.float32)
    share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 2)
    return np.asarray(now + (cloth - now) * share[..., None], np.float32)


def _ghost(
    behind: NDArray[np.float32], seen: Image, alpha: Alpha, rng: Generator
) -> NDArray[np.float32]:
    """Put somebody into the room as it was learnt: the same person, at some other place."""
    h, w = alpha.shape
    aside = rng.choice((-1, 1)) * rng.uniform(0.08, 0.5) * w
    place = np.array([[1, 0, aside], [0, 1, rng.uniform(0, 0.2) * h]], np.float32)
    if rng.random() < 0.5:
        place = place @ np.array([[-1, 0, w - 1], [0, 1, 0], [0, 0, 1]], np.float32)
    there = cv2.warpAffine(alpha, place, (w, h)).astype(np.float32)[..., None]
    person = cv2.warpAffine(seen, place, (w, h)).astype(np.float32)
    return np.asarray(behind + (person - behind) * there, np.float32)


def _trodden(alpha: Alpha, rng: Generator) -> NDArray[np.uint8]:
    """Where the person is or was: 1 there and somewhat beyond."""
    h, w = alpha.shape
    person = (alpha > 0.05).astype(np.uint8)
    all_of_it = person.copy()
    for _ in range(int(rng.integers(0, 4))):
        aside = np.array(
            [[1, 0, rng.uniform(-0.12, 0.12) * w], [0, 1, rng.uniform(-0.06, 0.06) * h]], np.float32
        )
        all_of_it |= cv2.warpAffine(person, aside, (w, h))
    side = 2 * int(rng.integers(1, 12)) + 1
    return np.asarray(cv2.dilate(all_of_it, np.ones((side, side), np.uint8)), np.uint8)


def _blot(size: tuple[int, int], rng: Generator, least: float, most: float) -> Alpha:
    """A soft ellipse anywhere; its axes are parts of the height."""
    h, w = size
    shape = np.zeros((h, w), np.float32)
    centre = int(rng.integers(w)), int(rng.integers(h // 4, h))
    axes = [max(3, int(rng.uniform(least, most) * h)) for _ in range(2)]
    cv2.ellipse(shape, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return np.asarray(cv2.GaussianBlur(shape, (0, 0), 1), np.float32)


def _shifted(image: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    h, w = image.shape[:2]
    matrix = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    moved = cv2.warpAffine(image, matrix, (w, h), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)


def _bytes(x: NDArray[np.float32]) -> Image:
    return np.asarray(np.clip(x, 0, 255), np.uint8)
