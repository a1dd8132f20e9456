"""Manifests for a folder of pictures from many sources: what is learnt from, what is kept out.

The folder holds `portraits` (train/ and val/ with img/ and mask/), `people/SET` (img/ and mask/),
`rooms` and `rooms2`, each with a `manifest.csv`, and `backgrounds` without one; any may be missing.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from train.data.datasets import PICTURES
from train.data.manifests import Row
from train.errors import DataError

COLUMNS = ("image", "matte", "split", "source", "group", "licence", "kind", "made_by", "seen_as")
MADE_BY = {
    "3": "bisenet-r18 .4, bisenet-small .3, MediaPipe selfie general .3",
    "5": "bisenet-r18 .25, bisenet-small .2, MediaPipe selfie general .2, IS-Net .2, RVM .15",
}
SQUASHED = "Places365"  # its pictures were made square, whatever they were
SHAPES = ("4:3", "16:9")
HOUSES = "emanhamed/Houses-dataset"  # its pictures are named NUMBER_bedroom.jpg
HOUSE_KEPT_OUT = 6  # one house of so many
# Whole sources that nothing is learnt from.
KEPT_OUT = {
    "people": (
        "typelevel/typelevel.github.com",
        "jsis/jsconf.is",
        "djangocon/2025.djangocon.us",
        "JSConfBp/2020.jsconfbp.com",
        "KoukiFTW/RealTimeSignLanguageRecognition",
        "neytey2/RecogniseV2",
        "thepetk/action-recognition-stanford40",
    ),
    "rooms2": (
        "TAUscience/indoor-objects-detection",
        "brittanyaquino/hausMarketplace",
        "hahaDestined/158258.assignment2",
        "JayUnjiya/furniture-rental-app",
        "GiwrgosGln/Annecy",
        "cadencere/crescentseattle",
        "PeshalaPerera/real-estate",
        "morecarrion/gl-arquitetura",
        "r0dn3y7/furni",
        "KOKOSALIS13/sea-view-apartments",
        "AWD-2069/cleanitup",
        "lijinyang1666/re01-maomaohualang",
        "asimpletune/craigslist-roommate-ad",
    ),
}


def write_sets(folder: Path, output: Path) -> dict[str, Counter[str]]:
    """Write portraits.csv, people.csv and rooms.csv into `output`; return the size of each split.

    Raises:
        DataError: there is nothing in `folder`, or `output` cannot be written.
    """
    rooms = [*_rooms(folder / "rooms"), *_rooms(folder / "rooms2"), *_unlisted(folder)]
    made = {
        "portraits": list(_portraits(folder / "portraits")),
        "people": list(_people(folder / "people")),
        "rooms": rooms,
    }
    if not any(made.values()):
        raise DataError(
            f"{folder}: holds none of portraits, people, rooms, rooms2, backgrounds",
            hint="Give the folder that they are in.",
        )
    counts = {}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, rows in made.items():
            if rows:
                _write(output / f"{name}.csv", rows)
                counts[name] = Counter(row["split"] for row in rows)
    except OSError as error:
        raise DataError(
            f"{output}: cannot be written: {error.strerror}", hint="Choose another folder."
        ) from error
    return counts


def half(group: str) -> str:
    """The half of what is kept out: "choose" weights by it, or "report" of it."""
    return "choose" if hashlib.sha256(group.encode()).digest()[1] % 2 else "report"


def _write(path: Path, rows: list[Row]) -> None:
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for row in rows:
            files = {k: _beside(path, row[k]) for k in ("image", "matte") if row.get(k)}
            writer.writerow({**row, **files})
    temporary.replace(path)


def _beside(path: Path, file: str) -> str:
    return os.path.relpath(Path(file).resolve(), path.parent.resolve())


def _told(folder: Path) -> Iterator[Row]:
    path = folder / "manifest.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _picture(folder: Path, name: str) -> Path | None:
    return next((p for e in PICTURES if (p := folder / f"{name}{e}").is_file()), None)


def _portraits(folder: Path) -> Iterator[Row]:
    for row in _told(folder):
        place = folder / row["split"]
        image, matte = _picture(place / "img", row["name"]), place / "mask" / f"{row['name']}.png"
        if image is None or not matte.is_file():
            continue
        group = row.get("group") or row["name"]
        yield {
            "image": str(image),
            "matte": str(matte),
            "split": "train" if row["split"] == "train" else half(group),
            "source": row["source"],
            "group": group,
            "licence": row["licence"],
            "made_by": f"by hand ({row.get('mask_kind', '')})",
        }


def _people(folder: Path) -> Iterator[Row]:
    for row in _told(folder):
        place = folder / row["set"]
        image, matte = _picture(place / "img", row["name"]), place / "mask" / f"{row['name']}.png"
        if image is None or not matte.is_file():
            continue
        source = row["source"]
        yield {
            "image": str(image),
            "matte": str(matte),
            "split": half(source) if source in KEPT_OUT["people"] else "train",
            "source": source,
            "group": source,
            "licence": row["licence"],
            "kind": row["set"],
            "made_by": MADE_BY.get(row.get("teachers", ""), "models"),
        }


def _rooms(folder: Path) -> Iterator[Row]:
    for row in _told(folder):
        image = _picture(folder, row["name"])
        if image is None:
            continue
        source = row["source"]
        number = re.match(r"(\d+)_", Path(row.get("source_path", "")).name)
        if source == HOUSES and number:
            group = f"house {number[1]}"
            kept_out = zlib.crc32(f"house{number[1]}".encode()) % HOUSE_KEPT_OUT == 0
        else:
            group, kept_out = source, source in KEPT_OUT["rooms2"]
        squashed = SQUASHED in row.get("kind", "")
        yield {
            "image": str(image),
            "split": half(group) if kept_out else "train",
            "source": source,
            "group": group,
            "licence": row.get("licence", "none stated"),
            "kind": row.get("kind", ""),
            "seen_as": SHAPES[zlib.crc32(image.stem.encode()) % 2] if squashed else "",
        }


def _unlisted(folder: Path) -> Iterator[Row]:
    """Backgrounds, of which nothing is stated."""
    for path in sorted((folder / "backgrounds").glob("*")):
        if path.suffix.lower() in PICTURES:
            yield {
                "image": str(path),
                "split": "train",
                "source": "backgrounds",
                "group": path.stem,
                "licence": "none stated",
            }
