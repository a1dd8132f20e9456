"""Sets of pictures: folders, and the manifests that say where each picture comes from.

A manifest is a CSV file. `split` is "train", or "choose" and "report" for what is kept out: what
weights are selected on is not what is reported of them. A person has `image` and `matte`, a room
has `image` alone; `source`, `licence`, `group` and `made_by` (the maker of the matte) go with both.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from train.data.datasets import PICTURES, Image, Pair, find_pairs, read_image, shrunk
from train.errors import DataError

Row = dict[str, str]
# Splits that a name stands for: `prepare` keeps out one part, `sets` two halves.
SAME = {"val": ("val", "choose"), "report": ("val", "report")}


def find_set(entry: str, root: Path, split: str, licences: Sequence[str] = ()) -> list[Pair]:
    """The pairs of one set of a recipe: a folder, or the rows of a manifest for `split`.

    With `licences`, only pictures whose manifest states one of them; a folder's is the
    `manifest.csv` in it or beside it.

    Raises:
        DataError: there is not a single pair.
    """
    path = root / entry
    if path.suffix != ".csv":
        pairs, told = find_pairs(path), sources(path) if licences else {}
        kept = [p for p in pairs if allowed(told.get(p.image.stem, {}), licences)]
        return _some(kept, path, f"no picture under {', '.join(licences)}")
    rows = read_manifest(path, ("split", "image", "matte"))
    wanted = SAME.get(split, (split,))
    pairs = [
        Pair(path.parent / row["image"], path.parent / row["matte"])
        for row in rows
        if row["split"] in wanted and allowed(row, licences)
    ]
    return _some(pairs, path, f"the split {split!r} is empty")


def _some(pairs: list[Pair], path: Path, otherwise: str) -> list[Pair]:
    if not pairs:
        raise DataError(
            f"{path}: {otherwise}",
            hint="Make it anew with a larger share for that, or allow more licences.",
        )
    return pairs


def allowed(row: Row, licences: Sequence[str]) -> bool:
    """True if a picture may be used: any where no licence is told."""
    return not licences or row.get("licence", "") in licences


def read_manifest(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read every row of a manifest.

    Raises:
        DataError: it cannot be read, or has not these columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            rows = list(reader)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", hint="Run `train prepare` first."
        ) from error
    if missing:
        raise DataError(
            f"{path}: has no column {missing[0]!r}",
            hint="Use a manifest written by `train prepare` or `train sets`.",
        )
    return rows


def sources(folder: Path) -> dict[str, Row]:
    """The rows of the manifest beside `folder` or in it, by name; empty where there is none."""
    for path in (folder / "manifest.csv", folder.parent / "manifest.csv"):
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                return {row["name"]: row for row in csv.DictReader(file) if "name" in row}
    return {}


def find_rooms(
    path: Path, split: str = "train", licences: Sequence[str] = ()
) -> list[tuple[Path, Row]]:
    """The pictures of rooms in a folder, or those of a manifest's `split`, with what it says.

    Raises:
        DataError: there is none.
    """
    if path.suffix == ".csv":
        wanted = SAME.get(split, (split,))
        rows = [row for row in read_manifest(path, ("split", "image")) if row["split"] in wanted]
        found = [(path.parent / row["image"], row) for row in rows]
    else:
        told = sources(path) if path.is_dir() else {}
        pictures = [p for p in sorted(path.glob("*")) if p.suffix.lower() in PICTURES]
        found = [(p, told.get(p.stem, {})) for p in pictures]
    found = [(p, row) for p, row in found if allowed(row, licences)]
    if not found:
        raise DataError(f"{path}: holds no pictures", hint="Set [data] rooms to another folder.")
    return found


def read_room(path: Path, row: Row, longest: int = 512) -> Image:
    """Read a room, in the shape that `seen_as` says where it was squashed.

    Raises:
        DataError: it cannot be read.
    """
    image = read_image(path)
    if row.get("seen_as"):
        wide, tall = (float(part) for part in row["seen_as"].split(":"))
        side = (image.shape[0] * image.shape[1]) ** 0.5
        size = (round(side * (wide / tall) ** 0.5), round(side * (tall / wide) ** 0.5))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return shrunk(image, image[..., 0], longest, Pair(path, path))[0]


def read_rooms(path: Path, licences: Sequence[str] = ()) -> list[Image]:
    """Every picture of a folder or of a manifest's training rows, as backgrounds.

    Raises:
        DataError: there is none.
    """
    return [read_room(*found) for found in find_rooms(path, licences=licences)]
