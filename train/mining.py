"""Rooms that a network takes for a person, found during training and drawn more often."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from segmentation.bisenet import BiSeNet
from train import engine
from train.augment import Image

EAGER = 8.0  # how often a room stands in the list beside once, for each root of its share
MOST = 6  # at most so often


def shares(
    network: BiSeNet, rooms: Sequence[Image], side: int, amp: torch.dtype | None
) -> list[float]:
    """Return the part of each room that the network takes for a person.

    Shapes:
        rooms: each (H, W, 3) uint8 RGB
    """
    device = next(network.parameters()).device
    found = []
    with engine.autocast(device, amp):
        for room in rooms:
            found.append(float((engine.predict(network, room, side) > 0.5).mean()))
    return found


def drawn_from(found: Sequence[float]) -> list[int]:
    """Return numbers of rooms to draw from: each once, those taken for a person more often."""
    return [
        number
        for number, share in enumerate(found)
        for _ in range(1 + min(MOST, round(EAGER * math.sqrt(share))))
    ]
