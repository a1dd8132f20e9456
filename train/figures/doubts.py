"""Labels in doubt: pictures on which other models agree with each other and not with the matte."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data.datasets import Pair, read_image, read_matte
from train.errors import DataError
from train.figures.sheet import write_sheet
from train.subjects import open_subject

SHOWN = 100  # on a sheet


@dataclass(frozen=True, slots=True)
class Doubt:
    """One picture: how far its matte is from the models', intersection over union of the person."""

    pair: Pair
    agreement: float


def find_doubts(pairs: Sequence[Pair], models: list[tuple[Path, float]]) -> list[Doubt]:
    """Compare each matte with the weighted mean of what `models` say; the worst come first.

    Raises:
        DataError: a picture cannot be read.
        UsageError: a model cannot be used.
    """
    subjects = [(open_subject(path, "network", quality="high"), part) for path, part in models]
    found = []
    for pair in pairs:
        image, truth = read_image(pair.image), read_matte(pair.matte) > 0.5
        said = np.sum([part * s.alpha(image) for s, part in subjects], axis=0) > 0.5
        found.append(Doubt(pair, _overlap(said, truth)))
    for subject, _ in subjects:
        subject.close()
    return sorted(found, key=lambda doubt: doubt.agreement)


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def write_doubts(path: Path, doubts: Sequence[Doubt], *, sheet: Path | None = None) -> None:
    """Write all of them as CSV, and a sheet of the first with what their mattes hide darkened.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "agreement", "reason"))
            writer.writerows((d.pair.image.stem, f"{d.agreement:.4f}", "") for d in doubts)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror}", hint="Choose another path."
        ) from error
    if sheet:
        rows = []
        for doubt in doubts[:SHOWN]:
            image, matte = read_image(doubt.pair.image), read_matte(doubt.pair.matte)
            rows.append((f"{doubt.agreement:.2f} {doubt.pair.image.stem}", image, matte, matte))
        write_sheet(rows, sheet)
