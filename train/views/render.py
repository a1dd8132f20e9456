"""Random views of a picture and its matte, as webcams would show them.

Every function takes its random generator, so that a seed names a picture. Images are
(H, W, 3) uint8 RGB, mattes (H, W) uint8; views are of the size asked for, mattes float32 in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train.data.datasets import Alpha, Image
from train.views import things
from train.views.draw import PLAIN, Augment, cut, framing, placement

MARGIN = 4  # pixels around a view in which a transplanted person's edge is looked for


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
