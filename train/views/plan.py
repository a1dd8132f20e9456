"""The plan of an epoch: numbers, sizes and random numbers of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plan:
    """Views of an epoch: the same for the same seed, however many processes share it."""

    seed: int
    views: int  # in an epoch, all processes together
    batch: int  # all processes together
    sizes: tuple[tuple[int, int], ...]  # one is drawn for each batch
    rank: int = 0
    world: int = 1
    early_sizes: tuple[tuple[int, int], ...] = ()  # instead of `sizes`, in the first epochs
    early: int = 0  # how many those are

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return self.views // self.batch

    def size(self, epoch: int, index: int) -> tuple[int, int]:
        """The size (h, w) of a batch, the same in every process."""
        rng = np.random.default_rng((self.seed, epoch, index))
        sizes = self.early_sizes if epoch < self.early else self.sizes
        return sizes[int(rng.integers(len(sizes)))]

    def members(self) -> range:
        """The views of a batch that this process makes."""
        return range(self.rank, self.batch, self.world)

    def rng(self, epoch: int, index: int, member: int) -> np.random.Generator:
        """The random numbers of one view."""
        return np.random.default_rng((self.seed, epoch, index, member))


Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]
