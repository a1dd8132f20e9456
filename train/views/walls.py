"""Rooms that no photograph shows."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator

from train.data.datasets import Image


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
        low, high = np.sort(rng.uniform(0, 255, 2))
        tones = rng.uniform(low, high, (rows, columns, colours.shape[1]))
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
    return np.asarray(np.clip(picture, 0, 255), np.uint8)
