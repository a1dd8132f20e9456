"""What is drawn for a view: the random numbers, without a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train.data.datasets import Image


@dataclass(frozen=True, slots=True)
class Augment:
    """How often each thing happens, 0..1, and how far it goes."""

    plain: float = 0.6  # as it was taken: nothing but light changes; of the rest:
    empty: float = 0.05  # a room with nobody in it
    composite: float = 0.38  # the person cut out and put into another room
    occlude: float = 0.06  # a part of some room passing before the person
    held: float = 0.0  # a drawn thing before the body: a mug, a phone, a microphone
    seat: float = 0.0  # the drawn back of a chair behind the shoulders
    head: float = 0.85  # the top of the person is in view, as it is before a webcam
    whole: float = 0.4  # as much of the picture as the view's shape takes in
    zoom: float = 1.9  # otherwise crop at most this much closer
    stretch: float = 0.1  # make wider or narrower by at most this part
    rotate: float = 12.0  # degrees, either way
    colour: float = 0.8  # exposure and white balance
    dark: float = 0.12  # low light
    blur: float = 0.12  # motion
    soft: float = 0.25  # upscaled from fewer pixels
    noise: float = 0.5  # of the sensor
    jpeg: float = 0.4
    chroma: float = 0.2  # 4:2:0 as cameras send it


PLAIN = Augment(
    plain=1, empty=0, composite=0, occlude=0, held=0, seat=0, head=1, whole=0.8, zoom=1.25,
    stretch=0.05, rotate=0, colour=0.3, dark=0, blur=0, soft=0, noise=0, jpeg=0, chroma=0,
)  # fmt: skip


def framing(
    matte: Image, size: tuple[int, int], rng: Generator, options: Augment
) -> tuple[NDArray[np.float32], float]:
    """Draw how a picture with this matte is seen: the matrix to the view's pixels, its scale.

    A view without a head teaches that any cloth is a person: seats, beds and curtains then are.
    """
    h, w = size
    height, width = matte.shape
    scale = max(h / height, w / width)
    if rng.random() >= options.whole:
        closer = 1 + (options.zoom - 1) * h / (scale * height)  # less where it shows a strip only
        scale *= math.exp(rng.uniform(0, math.log(closer)))
    wider = math.exp(rng.uniform(-options.stretch, options.stretch))
    across = max(scale * wider, w / width)
    angle = rng.uniform(-options.rotate, options.rotate) if rng.random() < 0.35 else 0.0
    mirror = -1 if rng.random() < 0.5 else 1
    slack_x, slack_y = max(0.0, width * across - w), max(0.0, height * scale - h)
    rows = h / scale  # of the picture, that the view shows
    first = rng.beta(1.2, 2.2) * slack_y / scale
    top = _top(matte)
    if rng.random() < options.head and not top - 0.5 * rows < first < top + 0.05 * rows:
        first = min(max(top - rng.uniform(-0.05, 0.35) * rows, 0.0), slack_y / scale)
    centre = (
        width / 2 + rng.uniform(-0.5, 0.5) * slack_x / across,
        first + min(rows, height) / 2,
    )
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = np.zeros((2, 3), np.float32)
    matrix[:, :2] = (
        (cos * across * mirror, -sin * scale),
        (sin * across * mirror, cos * scale),
    )
    matrix[:, 2] = (w / 2, h / 2) - matrix[:, :2] @ np.array(centre, np.float32)
    return matrix, scale


def placement(
    matte: Image, size: tuple[int, int], rng: Generator, options: Augment
) -> NDArray[np.float32]:
    """Draw where in a view of `size` the person of another picture is put: the matrix there."""
    (h, w), (height, width) = size, matte.shape
    zoom = rng.uniform(0.55, 1.6)
    scale = h / height * zoom if rng.random() < 0.6 else max(h / height, w / width) * zoom
    mirror = -1 if rng.random() < 0.5 else 1
    person = matte > 128
    columns = np.flatnonzero(person.any(axis=0))
    middle = float(columns.mean()) if columns.size else width / 2
    cut_aside = person[:, :3].mean() > 0.02 or person[:, -3:].mean() > 0.02
    x = rng.uniform(0.2, 0.8) * w - mirror * scale * middle
    if cut_aside:
        if scale * width < 1.02 * w:
            scale = 1.02 * w / width * rng.uniform(1, 1.25)
        x = (w - mirror * scale * width) / 2 + rng.uniform(-0.01, 0.01) * w
    if person[-4:].any():
        y = h - scale * height + rng.uniform(0, 0.25) * h
    else:
        y = rng.uniform(-0.1, 0.5) * h
    if rng.random() < options.head:
        y = max(y, rng.uniform(-0.05, 0.35) * h - scale * _top(matte))
    return np.array([[mirror * scale, 0, x], [0, scale, y]], np.float32)


def _top(matte: Image) -> int:
    """The first row in which a person is, more than a speck wide."""
    rows = np.flatnonzero((matte > 128).mean(axis=1) > 0.02)
    return int(rows[0]) if rows.size else 0


def cut(shape: tuple[int, ...], size: tuple[int, int], rng: Generator) -> tuple[int, int, int, int]:
    """Draw a part of a room's picture, of the view's shape: top, left, rows, columns."""
    (h, w), (height, width) = size, shape[:2]
    scale = max(h / height, w / width) * rng.uniform(1, 2)
    rows, columns = min(height, max(1, int(h / scale))), min(width, max(1, int(w / scale)))
    return (
        int(rng.integers(height - rows + 1)),
        int(rng.integers(width - columns + 1)),
        rows,
        columns,
    )
