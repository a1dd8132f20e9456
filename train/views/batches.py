"""Batches of random views, made by the processor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from train.data.datasets import Alpha, Image, Pictures
from train.data.shards import read_shard
from train.errors import DataError
from train.views.draw import Augment
from train.views.plan import Batch, Plan
from train.views.render import view

BUFFER = 512  # pairs among which a stream is shuffled


@dataclass(frozen=True, slots=True)
class Material:
    """Pictures and rooms that views are made of, and what may happen to them."""

    labelled: Pictures
    pseudo: Pictures | None  # mattes made by other models
    pseudo_share: float  # of the views
    rooms: list[Image]
    options: Augment

    @property
    def sets(self) -> list[Pictures]:
        """Sets of pictures, the labelled one first."""
        return [self.labelled, *([self.pseudo] if self.pseudo else [])]

    def pick(self, rng: Generator) -> tuple[int, int]:
        """Draw a picture: its set's place in `sets` and its number there."""
        which = int(bool(self.pseudo) and rng.random() < self.pseudo_share)
        return which, int(rng.integers(len(self.sets[which])))

    def with_rooms(self, rooms: list[Image]) -> Material:
        """The same before other rooms."""
        return replace(self, rooms=rooms)


class Views:
    """Batches of random views, by number, for one epoch from batch `start` on.

    A picture that cannot be read is returned as the error, so that it reaches the user whole.

    Shapes:
        a batch: (B, h, w, 3) uint8 RGB, (B, h, w) float32 alpha
    """

    def __init__(self, material: Material, plan: Plan, *, epoch: int, start: int = 0) -> None:
        self._material = material
        self._plan = plan
        self._epoch = epoch
        self._start = start

    def __len__(self) -> int:
        return self._plan.batches - self._start

    def __getitem__(self, number: int) -> Batch | DataError:
        cv2.setNumThreads(1)
        index = number + self._start
        size = self._plan.size(self._epoch, index)
        try:
            views = [self._view(index, member, size) for member in self._plan.members()]
        except DataError as error:
            return error
        return np.stack([v[0] for v in views]), np.stack([v[1] for v in views])

    def _view(self, index: int, member: int, size: tuple[int, int]) -> tuple[Image, Alpha]:
        rng, material = self._plan.rng(self._epoch, index, member), self._material
        which, number = material.pick(rng)
        image, matte = material.sets[which][number]
        return view(image, matte, material.rooms, size, rng, material.options)


class Shards:
    """Batches of random views of pairs streamed from .tar files, for sets larger than memory.

    Each process reads its own shards; pairs pass through a buffer that shuffles them.
    """

    def __init__(
        self,
        shards: list[Path],
        rooms: list[Image],
        plan: Plan,
        options: Augment,
        *,
        longest: int,
        epoch: int,
        start: int = 0,
    ) -> None:
        if len(shards) < plan.world:
            raise DataError(
                f"{len(shards)} shards for {plan.world} processes, expected one each or more",
                hint="Pack smaller shards, or start fewer processes.",
            )
        self._shards = shards
        self._rooms = rooms
        self._plan = plan
        self._options = options
        self._longest = longest
        self._epoch = epoch
        self._start = start

    def __iter__(self) -> Iterator[Batch | DataError]:
        cv2.setNumThreads(1)
        try:
            pairs = self._shuffled()
            for index in range(self._plan.batches):
                views = []
                for member in self._plan.members():
                    image, matte = next(pairs)
                    if index >= self._start:
                        rng = self._plan.rng(self._epoch, index, member)
                        size = self._plan.size(self._epoch, index)
                        views.append(view(image, matte, self._rooms, size, rng, self._options))
                if views:
                    yield np.stack([v[0] for v in views]), np.stack([v[1] for v in views])
        except DataError as error:
            yield error

    def _shuffled(self) -> Iterator[tuple[Image, Image]]:
        """Pairs for ever, each process its own shards, in an order the seed decides."""
        rng = np.random.default_rng((self._plan.seed, self._epoch, self._plan.rank))
        mine = self._shards[self._plan.rank :: self._plan.world]
        waiting: list[tuple[Image, Image]] = []
        while True:
            for shard in rng.permutation(len(mine)):
                for pair in read_shard(mine[int(shard)], self._longest):
                    waiting.append(pair)
                    if len(waiting) > BUFFER:
                        turn = int(rng.integers(len(waiting)))
                        waiting[turn], waiting[-1] = waiting[-1], waiting[turn]
                        yield waiting.pop()
            while len(waiting) > BUFFER // 2 or (waiting and len(mine) == 1):
                yield waiting.pop(int(rng.integers(len(waiting))))
