"""Sets of pictures that a recipe names."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.data.datasets import Image, Pictures
from train.data.manifests import find_set, read_rooms
from train.data.shards import shards_of
from train.errors import DataError
from train.recipe import Recipe, ratio
from train.views.teachers import Teachers, weighted
from train.views.walls import walls


@dataclass(slots=True)
class Sets:
    """Everything that is read from disk."""

    train: Pictures | None
    shards: list[Path]
    pseudo: Pictures | None
    validation: Pictures
    rooms: list[Image]
    teachers: Teachers | None = None


def read_sets(recipe: Recipe, root: Path) -> Sets:
    """Find and read everything the recipe names.

    Raises:
        DataError: a set is empty or a picture cannot be read.
    """
    data = recipe.data
    shards = [path for entry in data.train for path in shards_of(entry, root)]
    folders = [entry for entry in data.train if not entry.endswith(".tar")]
    if shards and folders:
        raise DataError(
            f"[data] train mixes shards and folders: {', '.join(data.train)}",
            hint="Pack the folders into shards too.",
        )
    memory = data.memory_gb * 1e9
    read = functools.partial(Pictures, longest=data.longest, memory=memory)
    find = functools.partial(find_set, root=root, licences=data.licences)
    train = [pair for entry in folders for pair in find(entry, split="train")]
    validation = [pair for entry in data.validation for pair in find_set(entry, root, "val")]
    told = recipe.distil.models
    pseudo = [pair for entry in data.pseudo for pair in find(entry, split="train")]
    rooms = read_rooms(root / data.rooms, data.licences) if data.rooms else []
    return Sets(
        train=read(train) if train else None,
        shards=shards,
        pseudo=read(pseudo) if pseudo else None,
        validation=read(validation),
        rooms=rooms + walls(data.walls) if rooms else [],
        teachers=Teachers(weighted(told, root), recipe.distil.share) if told else None,
    )


def engine_sizes(side: int, shapes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Input sizes (h, w) of about `side` squared pixels, one for each "width:height"."""
    ratios = [math.sqrt(ratio(shape)) for shape in shapes]
    return tuple((_multiple(side / r), _multiple(side * r)) for r in ratios)


def _multiple(pixels: float) -> int:
    return max(32, round(pixels / 32) * 32)
