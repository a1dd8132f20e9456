"""Random views of a picture and its matte, as webcams would show them.

Every function takes its random generator, so that a seed names a picture. Images are
(H, W, 3) uint8 RGB, mattes (H, W) uint8; views are of the size asked for, mattes float32 in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train import things

MARGIN = 4  # pixels around a view in which a transplanted person's edge is looked for

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]


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


def view(
    image: Image,
    matte: Image,
    rooms: Sequence[Image],
    size: tuple[int, int],
    rng: Generator,
    options: Augment,
) -> tuple[Image, Alpha]:
    """Return one random view of a picture: framed, lit and degraded like a webcam's.

    Shapes:
        image: (H, W, 3) uint8 RGB; matte: (H, W) uint8; rooms: each (H, W, 3) uint8 RGB
        returns: (h, w, 3) uint8 RGB, (h, w) float32 in 0..1
    """
    if rng.random() < options.plain:
        options = PLAIN
    if rooms and rng.random() < options.empty:
        return degrade(room(rooms, size, rng), rng, options), np.zeros(size, np.float32)
    if rooms and rng.random() < options.composite:
        image, alpha = transplant(image, matte, room(rooms, size, rng), rng, options)
    else:
        image, alpha = frame(image, matte, size, rng, options)
    if rooms and rng.random() < options.occlude:
        image, alpha = occlude(image, alpha, room(rooms, size, rng), rng)
    if options.seat and rooms and rng.random() < options.seat:
        image = things.seat(image, alpha, room(rooms, size, rng), rng)
    if options.held and rooms and rng.random() < options.held:
        image, alpha = things.held(image, alpha, room(rooms, size, rng), rng)
    return degrade(image, rng, options), alpha


def frame(
    image: Image, matte: Image, size: tuple[int, int], rng: Generator, options: Augment
) -> tuple[Image, Alpha]:
    """Crop, turn and mirror: heads stay near the top, as they do before a webcam."""
    h, w = size
    matrix, scale = framing(matte, size, rng, options)
    if scale < 0.6:  # linear interpolation looks at two pixels only
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.uint8)
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    seen = cv2.warpAffine(image, matrix, (w, h), **flags)
    alpha = cv2.warpAffine(matte, matrix, (w, h), **flags)
    return np.asarray(seen, np.uint8), alpha.astype(np.float32) / np.float32(255)


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


def transplant(
    image: Image, matte: Image, background: Image, rng: Generator, options: Augment
) -> tuple[Image, Alpha]:
    """Cut the person out and put them before `background`, near or far, lit alike half the time.

    A person cut by the picture's side or lower edge stays cut by the view's.
    """
    h, w = background.shape[:2]
    matrix = placement(matte, (h, w), rng, options)
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
    person = cv2.warpAffine(image, matrix, (w, h), **flags).astype(np.float32)
    wider = matrix + np.array([[0, 0, MARGIN], [0, 0, MARGIN]], np.float32)
    size = (w + 2 * MARGIN, h + 2 * MARGIN)  # so that an edge at the view's own is seen whole
    alpha = cv2.warpAffine(matte, wider, size, **flags).astype(np.float32) / np.float32(255)
    # The rim of the old room goes: the edge moves in a little and becomes soft.
    blurred = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.5, 1.3))
    soft = np.clip((blurred - 0.25) / 0.6, 0, 1)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    soft = np.ascontiguousarray(soft, np.float32)
    alpha = alpha[MARGIN:-MARGIN, MARGIN:-MARGIN]
    behind = background.astype(np.float32)
    inside = alpha > 0.5
    if rng.random() < 0.5 and inside.any():
        ratio = (float(behind.mean()) + 40) / (float(person[inside].mean()) + 40)
        person *= np.float32(min(max(ratio, 0.6), 1.5))
    seen = person * soft[..., None] + behind * (1 - soft[..., None])
    seen = np.clip(seen, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), 0.6)
    return np.asarray(seen, np.uint8), soft


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


def room(rooms: Sequence[Image], size: tuple[int, int], rng: Generator) -> Image:
    """A random part of a random room, sometimes out of focus."""
    h, w = size
    picture = rooms[int(rng.integers(len(rooms)))]
    y, x, rows, columns = cut(picture.shape, size, rng)
    part = picture[y : y + rows, x : x + columns]
    part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.4:
        part = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.5, 3))
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part, np.uint8)


def walls(count: int, seed: int = 0) -> list[Image]:
    """Make rooms that no photograph shows: cells, checkers, stripes, smooth and grainy noise.

    What a network has never seen it may take for a person; such a wall, an unfamiliar curtain or a
    test card behind somebody must not let the room through.

    Shapes:
        returns: each (384, 512, 3) uint8 RGB
    """
    rng = np.random.default_rng((seed, count))
    return [_wall(384, 512, rng) for _ in range(count)]


def _wall(height: int, width: int, rng: Generator) -> Image:
    columns = int(math.exp(rng.uniform(math.log(3), math.log(width / 2))))
    flat = rng.choice((1.0, 1.0, 0.4, 2.5))
    rows = max(1, min(height // 2, round(columns * height / width * flat)))
    colours = rng.uniform(0, 255, (int(rng.integers(2, 7)), 3 if rng.random() < 0.5 else 1))
    kind = rng.choice(("cells", "checkers", "stripes", "noise"))
    if kind == "noise":
        tones = rng.uniform(*np.sort(rng.uniform(0, 255, 2)), (rows, columns, colours.shape[1]))
    elif kind == "cells":
        tones = colours[rng.integers(len(colours), size=(rows, columns))]
    else:
        y, x = np.mgrid[:rows, :columns]
        tones = colours[(x + (y if kind == "checkers" else 0)) % len(colours)]
    soft = cv2.INTER_CUBIC if rng.random() < 0.25 else cv2.INTER_NEAREST
    picture = cv2.resize(tones.astype(np.float32), (width, height), interpolation=soft)
    picture = np.broadcast_to(picture.reshape(height, width, -1), (height, width, 3))
    if rng.random() < 0.3:
        centre, angle = (width / 2, height / 2), rng.uniform(-90, 90)
        turn = cv2.getRotationMatrix2D(centre, angle, 1.0)
        picture = cv2.warpAffine(
            np.ascontiguousarray(picture), turn, (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
    return np.clip(picture, 0, 255).astype(np.uint8)


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


def occlude(image: Image, alpha: Alpha, stuff: Image, rng: Generator) -> tuple[Image, Alpha]:
    """Put something before the lower two thirds of the picture.

    What it hides of the person stays the person's: it hides no room there. The rest of it is room.
    """
    h, w = alpha.shape
    rows, columns = int(h * rng.uniform(0.1, 0.4)), int(w * rng.uniform(0.1, 0.3))
    y = int(rng.integers(h // 3, h - rows + 1))
    x = int(rng.integers(0, w - columns + 1))
    shape = np.zeros((h, w), np.float32)
    centre, axes = (x + columns // 2, y + rows // 2), (columns // 2, rows // 2)
    cv2.ellipse(shape, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    cover = cv2.GaussianBlur(shape, (0, 0), 1).astype(np.float32)
    seen = image * (1 - cover[..., None]) + stuff * cover[..., None]
    return seen.astype(np.uint8), alpha


def degrade(image: Image, rng: Generator, options: Augment) -> Image:
    """Light, lens, sensor and codec of a cheap camera."""
    x = _light(image.astype(np.float32), rng, options)
    h, w = x.shape[:2]
    if rng.random() < options.soft:
        part = rng.uniform(0.35, 0.9)
        few = cv2.resize(x, (int(w * part), int(h * part)), interpolation=cv2.INTER_AREA)
        x = cv2.resize(few, (w, h), interpolation=cv2.INTER_LINEAR)
    if rng.random() < options.blur:
        x = cv2.filter2D(x, -1, _streak(int(rng.integers(3, 9)), rng.uniform(0, 180)))
    if rng.random() < options.noise:
        shape = x.shape if rng.random() < 0.5 else (h, w, 1)
        x = x + np.float32(rng.uniform(1, 14)) * rng.standard_normal(shape, np.float32)
    seen = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < options.chroma and h % 2 == w % 2 == 0:
        seen = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    if rng.random() < options.jpeg:
        _, coded = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        seen = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(seen, np.uint8)


def _light(x: NDArray[np.float32], rng: Generator, options: Augment) -> NDArray[np.float32]:
    if rng.random() < options.colour:
        if rng.random() < 0.5:  # white balance
            x = x * rng.uniform(0.75, 1.25, 3).astype(np.float32)
        x = x * rng.uniform(0.6, 1.35) + rng.uniform(-20, 20)
    if rng.random() < 0.5 * options.colour:  # contrast
        mean = float(x.mean())
        x = (x - mean) * rng.uniform(0.6, 1.4) + mean
    if rng.random() < 0.5 * options.colour:  # saturation, down to grey
        grey = x.mean(axis=2, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0, 1.6)
    if rng.random() < 0.375 * options.colour:  # gamma
        x = 255 * np.power(np.clip(x, 0, 255) / 255, rng.uniform(0.5, 2.0))
    if rng.random() < options.dark:
        x = x * rng.uniform(0.2, 0.5)
    return np.clip(x, 0, 255).astype(np.float32)


def _streak(length: int, angle: float) -> NDArray[np.float32]:
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), angle, 1)
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(kernel / max(float(kernel.sum()), 1e-3), np.float32)
