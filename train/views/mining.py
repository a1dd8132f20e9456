"""Rooms that a network takes for a person, found during training and drawn more often."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from train.data.datasets import Alpha, Image

EAGER = 8.0  # how often a room stands in the list beside once, for each root of its share
MOST = 6  # at most so often


def shares(predict: Callable[[Image], Alpha], rooms: Sequence[Image]) -> list[float]:
    """Return the part of each room that `predict` takes for a person.

    Shapes:
        rooms: each (H, W, 3) uint8 RGB
    """
    return [float(np.mean(predict(room) > 0.5)) for room in rooms]


def drawn_from(found: Sequence[float]) -> list[int]:
    """Return numbers of rooms to draw from: each once, those taken for a person more often."""
    return [
        number
        for number, share in enumerate(found)
        for _ in range(1 + min(MOST, round(EAGER * math.sqrt(share))))
    ]
