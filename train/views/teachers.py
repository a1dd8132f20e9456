"""Other people's models as teachers: their mattes of each view are mixed into its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError, UsageError
from train.subjects import Subject, open_subject
from train.views.plan import Batch

HEARD = 0.8  # least overlap, intersection over union, with the truth of who is believed


class Teachers:
    """Mixes the mattes that models make of a batch's views into the mattes of the batch.

    From "Knowledge distillation: A good teacher is patient and consistent" (Beyer et al., CVPR
    2022, https://arxiv.org/abs/2106.05237): the teacher judges the very view, cropped, lit and
    degraded, that the student learns from.
    Differs: a share of the truth stays; all of it where a teacher sees somebody else than the truth
    does, as they do in one view of ten: cropped to a chest, or nearly dark.

    Called in the processes that make views; each opens the models once, when it first needs them.
    """

    def __init__(self, models: list[tuple[Path, float]], share: float) -> None:
        """Take models with their weights, and the part of the truth that is theirs, 0..1."""
        self._models = models
        self._share = np.float32(share)
        self._open: list[tuple[Subject, float]] = []

    def __call__(self, batch: Batch | DataError) -> Batch | DataError:
        """Return the batch with the teachers' mattes mixed in.

        Shapes:
            batch: (B, h, w, 3) uint8 RGB, (B, h, w) float32 alpha

        Raises:
            UsageError: a model cannot be used.
        """
        if isinstance(batch, DataError):
            return batch
        if not self._open:
            self._open = [(open_subject(path, "network"), part) for path, part in self._models]
        images, alphas = batch
        mixed = alphas.copy()
        for image, alpha in zip(images, mixed, strict=True):
            if not alpha.any():
                continue
            said = np.asarray(sum(part * s.alpha(image) for s, part in self._open), np.float32)
            if agree(said, alpha):
                alpha += self._share * (said - alpha)
        return images, mixed


def agree(said: NDArray[np.float32], truth: NDArray[np.float32]) -> bool:
    """True if a matte and the truth see the same person, both (h, w) in 0..1."""
    return bool(np.minimum(said, truth).sum() > HEARD * np.maximum(said, truth).sum())


def weighted(told: list[str] | tuple[str, ...], root: Path = Path()) -> list[tuple[Path, float]]:
    """Read "FILE=WEIGHT", as the command line and recipes say it; the weights add up to one.

    Raises:
        UsageError: one is not of that form, or a weight is not positive.
    """
    models = []
    for entry in told:
        name, _, number = entry.rpartition("=")
        try:
            models.append((root / name, float(number)))
        except ValueError:
            name = ""
        if not name:
            raise UsageError(
                f"model is {entry!r}, expected FILE=WEIGHT", hint="Write model.onnx=0.6."
            )
    if not models:
        return []
    total = sum(weight for _, weight in models)
    if min(weight for _, weight in models) < 0 or total <= 0:
        raise UsageError("weights of models must be positive", hint="Write model.onnx=0.6.")
    return [(path, weight / total) for path, weight in models]
