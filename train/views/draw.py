"""Views as plain numbers: drawn here once, rendered by `render` (OpenCV) or `on_device` (torch).

Every function takes its random generator, so that a seed names a view. No pixel is made here; of
pictures and rooms only the sizes are looked at, of mattes where the person is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train.data.datasets import Image

Size: TypeAlias = tuple[int, int]  # height, width
Matrix: TypeAlias = NDArray[np.float32]  # (2, 3), from a picture's pixels to the view's


@dataclass(frozen=True, slots=True)
class Augment:
    """Frequency of each thing that may happen to a view, 0..1, and its extent."""

    plain: float = 0.6  # as it was taken: nothing but light changes; of the rest:
    empty: float = 0.05  # a room with nobody in it
    composite: float = 0.38  # the person cut out and put into another room
    occlude: float = 0.06  # a part of some room passing before the person
    held: float = 0.0  # a drawn thing before the body: a mug, a phone, a microphone
    seat: float = 0.0  # the drawn back of a chair behind the shoulders
    known: float = 0.0  # a webcam that stands still knows the room, or some of it
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
    plain=1, empty=0, composite=0, occlude=0, held=0, seat=0, known=0, head=1, whole=0.8, zoom=1.25,
    stretch=0.05, rotate=0, colour=0.3, dark=0, blur=0, soft=0, noise=0, jpeg=0, chroma=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a room's picture, which fills the view."""

    number: int  # of the room
    top: int
    left: int
    rows: int
    columns: int
    blur: float  # deviation in the view's pixels; 0: in focus
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Framed:
    """A person seen where the picture was taken."""

    matrix: Matrix
    scale: float


@dataclass(frozen=True, slots=True)
class Moved:
    """A person cut out, to be put before another room."""

    matrix: Matrix
    edge: float  # deviation by which the matte is softened
    lit: bool  # as bright as the room
    blended: bool  # blurred together with the room


@dataclass(frozen=True, slots=True)
class Cover:
    """An ellipse of some room that passes before the person."""

    stuff: Part
    centre: tuple[int, int]  # x, y
    axes: tuple[int, int]  # half of its width and height
    degrees: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything before the camera: nobody before a room, or a person, perhaps before another."""

    size: Size
    person: Framed | Moved | None
    room: Part | None = None
    cover: Cover | None = None


@dataclass(frozen=True, slots=True)
class Light:
    """One change of light: gains of red, green and blue, gain and offset, or one factor."""

    kind: Literal["balance", "exposure", "contrast", "saturation", "gamma"]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Camera:
    """Light, lens, sensor and codec of a cheap camera."""

    light: tuple[Light, ...]
    few: float  # part of the pixels along each side that is left; 0: all
    streak: tuple[int, float] | None  # pixels and degrees of motion
    noise: float  # deviation, 0..255
    grey: bool  # noise is the same in all colours
    grain: NDArray[np.float32] | None  # normal numbers of the noise; None: the renderer's own
    chroma: bool  # colours at half the size
    quality: int  # of JPEG; 0: none


@dataclass(frozen=True, slots=True)
class View:
    """Everything that makes a view of one picture."""

    scene: Scene
    camera: Camera


def view(
    matte: Image, rooms: Sequence[Image], size: Size, rng: Generator, options: Augment
) -> View:
    """Draw a view; the renderer makes the noise, from numbers of its own."""
    options = chosen(rng, options)
    drawn = scene(matte, rooms, size, rng, options)
    return View(drawn, camera(rng, options))


def chosen(rng: Generator, options: Augment) -> Augment:
    """Draw between `options` and those of a photograph as it was taken."""
    return PLAIN if rng.random() < options.plain else options


def scene(
    matte: Image, rooms: Sequence[Image], size: Size, rng: Generator, options: Augment
) -> Scene:
    """Draw where the person is, before which room, and behind what."""
    if rooms and rng.random() < options.empty:
        return Scene(size, None, part(rooms, size, rng))
    behind = None
    person: Framed | Moved
    if rooms and rng.random() < options.composite:
        behind = part(rooms, size, rng)
        person = moved(matte, size, rng, options)
    else:
        person = framed(matte, size, rng, options)
    covered = bool(rooms) and rng.random() < options.occlude
    return Scene(size, person, behind, cover(rooms, size, rng) if covered else None)


def framed(matte: Image, size: Size, rng: Generator, options: Augment) -> Framed:
    """Draw crop, turn and mirroring: heads stay near the top, as they do before a webcam.

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
    return Framed(matrix, scale)


def moved(matte: Image, size: Size, rng: Generator, options: Augment) -> Moved:
    """Draw where in a view of `size` a person is put, near or far, lit alike half the time.

    A person cut by the picture's side or lower edge stays cut by the view's.
    """
    return Moved(
        matrix=_placement(matte, size, rng, options),
        edge=rng.uniform(0.5, 1.3),
        lit=rng.random() < 0.5,
        blended=rng.random() < 0.3,
    )


def _placement(matte: Image, size: Size, rng: Generator, options: Augment) -> Matrix:
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


def part(rooms: Sequence[Image], size: Size, rng: Generator) -> Part:
    """Draw a part of one of the rooms, of the view's shape, sometimes out of focus."""
    number = int(rng.integers(len(rooms)))
    (h, w), (height, width) = size, rooms[number].shape[:2]
    scale = max(h / height, w / width) * rng.uniform(1, 2)
    rows, columns = min(height, max(1, int(h / scale))), min(width, max(1, int(w / scale)))
    return Part(
        number=number,
        top=int(rng.integers(height - rows + 1)),
        left=int(rng.integers(width - columns + 1)),
        rows=rows,
        columns=columns,
        blur=rng.uniform(0.5, 3) if rng.random() < 0.4 else 0.0,
        mirrored=rng.random() < 0.5,
    )


def cover(rooms: Sequence[Image], size: Size, rng: Generator) -> Cover:
    """Draw something before the lower two thirds of the view."""
    stuff, (h, w) = part(rooms, size, rng), size
    rows, columns = int(h * rng.uniform(0.1, 0.4)), int(w * rng.uniform(0.1, 0.3))
    y = int(rng.integers(h // 3, h - rows + 1))
    x = int(rng.integers(0, w - columns + 1))
    centre, axes = (x + columns // 2, y + rows // 2), (columns // 2, rows // 2)
    return Cover(stuff, centre, axes, rng.uniform(0, 180))


def camera(rng: Generator, options: Augment, *, grain: Size | None = None) -> Camera:
    """Draw a cheap camera; with `grain`, the size of a view, its noise too.

    Noise takes a number for every pixel and colour, so that whatever is drawn after it, chroma and
    quality, is another with it than without.
    """
    light = tuple(_light(rng, options))
    few = rng.uniform(0.35, 0.9) if rng.random() < options.soft else 0.0
    streak = None
    if rng.random() < options.blur:
        streak = int(rng.integers(3, 9)), rng.uniform(0, 180)
    noise, grey, grains = 0.0, False, None
    if rng.random() < options.noise:
        grey, noise = rng.random() >= 0.5, rng.uniform(1, 14)
        if grain:
            grains = rng.standard_normal((*grain, 1 if grey else 3), np.float32)
    chroma = rng.random() < options.chroma
    quality = int(rng.integers(25, 95)) if rng.random() < options.jpeg else 0
    return Camera(light, few, streak, noise, grey, grains, chroma, quality)


def _light(rng: Generator, options: Augment) -> Iterator[Light]:
    if rng.random() < options.colour:
        if rng.random() < 0.5:
            yield Light("balance", tuple(rng.uniform(0.75, 1.25, 3).tolist()))
        yield Light("exposure", (rng.uniform(0.6, 1.35), rng.uniform(-20, 20)))
    if rng.random() < 0.5 * options.colour:
        yield Light("contrast", (rng.uniform(0.6, 1.4),))
    if rng.random() < 0.5 * options.colour:  # down to grey
        yield Light("saturation", (rng.uniform(0, 1.6),))
    if rng.random() < 0.375 * options.colour:
        yield Light("gamma", (rng.uniform(0.5, 2.0),))
    if rng.random() < options.dark:
        yield Light("exposure", (rng.uniform(0.2, 0.5), 0.0))


def _top(matte: Image) -> int:
    """The first row in which a person is, more than a speck wide."""
    rows = np.flatnonzero((matte > 128).mean(axis=1) > 0.02)
    return int(rows[0]) if rows.size else 0
