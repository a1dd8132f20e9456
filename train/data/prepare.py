"""From folders of photographs and mattes to one manifest: every pair checked, split without leaks.

What comes out is a CSV that `train fit` reads. Beside it lie `NAME.checked.csv`, a line for each
pair looked at, which makes an interrupted run go on where it stopped, and `NAME.left-out.csv`.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from train.data.datasets import PICTURES, Pair, read_image, read_matte_bytes
from train.errors import DataError

ALIKE = 0.8  # part of the fingerprint's bits that two copies of one photograph share
BITS = 256  # of a fingerprint
SAVE_EVERY = 200  # pairs; at most this many are looked at again after an interruption
COLUMNS = ("image", "matte", "split", "group", "width", "height", "cover")


@dataclass(frozen=True, slots=True)
class Checked:
    """Findings about one pair."""

    image: str  # paths relative to the manifest's folder
    matte: str
    stamp: str  # sizes and times of both files; when they change, the pair is looked at again
    why: str = ""  # it was left out; empty: it is used
    width: int = 0  # pixels
    height: int = 0
    cover: str = ""  # part of the picture that is person
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The outcome of `prepare`."""

    manifest: Path
    splits: dict[str, int]
    left_out: list[Checked]
    groups: int


def prepare(
    sources: list[Path],
    manifest: Path,
    *,
    validation: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Check every pair under `sources`, split them, and write `manifest`.

    A source is an AISegment tree (`clip_img/…/NAME.jpg` and `matting/…/NAME.png`), a folder with
    `img/` and `mask/`, or a CSV whose first two columns are the paths of pictures and mattes.
    `progress` is called with how many pairs are done and how many there are.

    Raises:
        DataError: a source is none of these, no usable pair is left, or the disk is full.
    """
    found: dict[Path, Pair] = {}
    lonely: list[Checked] = []
    root = manifest.resolve().parent
    for source in sources:
        pairs, alone = find(source)
        found.update((pair.image, pair) for pair in pairs)
        lonely += [
            Checked(_relative(path, root), "", "", why=f"no {missing}") for path, missing in alone
        ]
    try:
        root.mkdir(parents=True, exist_ok=True)
        checked = _check_all(list(found.values()), manifest, root, progress)
        used = [row for row in checked if not row.why]
        left_out = lonely + [row for row in checked if row.why]
        _write(
            manifest.with_suffix(".left-out.csv"),
            ("image", "matte", "why"),
            ({"image": row.image, "matte": row.matte, "why": row.why} for row in left_out),
        )
        if not used:
            raise DataError(
                f"{', '.join(map(str, sources))}: none of {len(left_out)} pictures can be used: "
                + _reasons(left_out),
                hint=f"Look into {manifest.with_suffix('.left-out.csv')}.",
            )
        groups = group(used)
        splits = split(groups, validation)
        _write(manifest, COLUMNS, _rows(used, groups, splits))
    except OSError as error:
        raise DataError(
            f"{error.filename or manifest}: cannot be written: {error.strerror}",
            hint="Make room on that disk, then run the same command again: it goes on.",
        ) from error
    return Prepared(manifest, dict(Counter(splits)), left_out, len(set(groups)))


def find(source: Path) -> tuple[list[Pair], list[tuple[Path, str]]]:
    """Return the pairs of a source and the files that lack their other half.

    Raises:
        DataError: the source is nothing that is understood.
    """
    if source.suffix == ".csv":
        return _from_csv(source), []
    for images, mattes, renamed in (
        ("clip_img", "matting", lambda part: part.replace("clip_", "matting_")),
        ("img", "mask", lambda part: part),
    ):
        if (source / images).is_dir() and (source / mattes).is_dir():
            return _from_tree(source / images, source / mattes, renamed)
    what = "there is no such folder" if not source.exists() else "holds neither of these"
    raise DataError(
        f"{source}: {what}, expected clip_img/ and matting/ (AISegment), img/ and mask/, or a .csv",
        hint="Give the folder that holds these two.",
    )


def fingerprint(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Describe a picture so that copies of other size, quality or exposure have the same bits.

    The signs of the lowest frequencies, as in "Rihamark: perceptual image hash benchmarking"
    (Zauner et al., 2011). Differs: 256 bits, because portraits are alike at 64.

    Shapes:
        image: (H, W, 3) uint8 RGB
        returns: (256,) bool
    """
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(grey)[:16, :16].ravel()
    return np.asarray(low > np.median(low[1:]))


def group(rows: list[Checked]) -> list[int]:
    """Number the rows so that near-duplicates, mirrored ones too, share a number."""
    bits = np.array([_bits(row.fingerprint) for row in rows], np.float32) * 2 - 1
    odd = np.tile(np.arange(16) % 2, 16) * -2.0 + 1  # mirroring negates odd horizontal frequencies
    mirrored = (bits * odd).astype(np.float32)
    parent = list(range(len(rows)))

    def root_of(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    wanted = BITS * (2 * ALIKE - 1)
    for first in range(0, len(rows), 1024):
        block = slice(first, first + 1024)
        for other in (bits, mirrored):
            for i, j in np.argwhere(bits[block] @ other.T >= wanted):
                a, b = root_of(first + int(i)), root_of(int(j))
                parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root_of(i), len(numbers)) for i in range(len(rows))]


def split(groups: list[int], validation: float) -> list[str]:
    """Say "train" or "val" for each row, whole groups at a time, by a fixed shuffle."""
    sizes = Counter(groups)
    shuffled = sorted(sizes, key=lambda g: hashlib.sha256(f"group {g}".encode()).digest())
    chosen: set[int] = set()
    count = 0
    for number in shuffled:
        if count + sizes[number] <= validation * len(groups) or (not chosen and validation > 0):
            if len(chosen) + 1 == len(sizes):
                break  # something has to be left to train on
            chosen.add(number)
            count += sizes[number]
    return ["val" if number in chosen else "train" for number in groups]


def check(pair: Pair, root: Path) -> Checked:
    """Look at one pair: both readable, of one size, with a person and with a room."""
    image, matte = _relative(pair.image, root), _relative(pair.matte, root)
    stamp = _stamp(pair)
    try:
        picture, alpha = read_image(pair.image), read_matte_bytes(pair.matte)
    except DataError as error:
        why = error.message.removeprefix(f"{pair.image}: ").removeprefix(f"{pair.matte}: ")
        which = "picture" if error.message.startswith(str(pair.image)) else "matte"
        return Checked(image, matte, stamp, why=f"{which}: {why}")
    height, width = picture.shape[:2]
    cover = float((alpha > 127).mean())
    why = ""
    if alpha.shape != (height, width):
        why = f"matte is {alpha.shape[1]}x{alpha.shape[0]}, picture {width}x{height}"
    elif cover < 0.001:
        why = "matte is empty"
    elif cover > 0.999:
        why = "matte covers everything"
    bits = np.packbits(fingerprint(picture)).tobytes().hex()
    return Checked(image, matte, stamp, why, width, height, f"{cover:.4f}", bits)


def _check_all(
    pairs: list[Pair], manifest: Path, root: Path, progress: Callable[[int, int], None] | None
) -> list[Checked]:
    """Check the pairs in parallel, keeping what an earlier run found out about the same files."""
    journal = manifest.with_suffix(".checked.csv")
    known = {row.image: row for row in _read_journal(journal)}
    done: dict[Path, Checked] = {}
    for pair in pairs:
        row = known.get(_relative(pair.image, root))
        if row and row.matte == _relative(pair.matte, root) and row.stamp == _stamp(pair):
            done[pair.image] = row
    waiting = iter([pair for pair in pairs if pair.image not in done])
    names = [field.name for field in fields(Checked)]
    with ThreadPoolExecutor() as pool, journal.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        if file.tell() == 0:
            writer.writeheader()
        while batch := list(islice(waiting, SAVE_EVERY)):
            for pair, row in zip(batch, pool.map(lambda p: check(p, root), batch), strict=True):
                done[pair.image] = row
                writer.writerow(asdict(row))
            _flush(file)
            if progress:
                progress(len(done), len(pairs))
    if progress:
        progress(len(pairs), len(pairs))
    return [done[pair.image] for pair in pairs]


def _read_journal(path: Path) -> Iterator[Checked]:
    """Lines of an earlier run; one cut short by a crash is passed over."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            values = {field.name: row.get(field.name) or "" for field in fields(Checked)}
            width, height = values.pop("width"), values.pop("height")
            whole = values["why"] or len(values["fingerprint"]) == BITS // 4
            if whole and width.isdigit() and height.isdigit():
                yield Checked(**values, width=int(width), height=int(height))


def _from_tree(
    images: Path, mattes: Path, renamed: Callable[[str], str]
) -> tuple[list[Pair], list[tuple[Path, str]]]:
    by_name = {
        path.relative_to(mattes).with_suffix(""): path
        for path in sorted(mattes.rglob("*"))
        if path.suffix.lower() in PICTURES and not path.name.startswith(".")
    }
    pairs, alone = [], []
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() not in PICTURES or path.name.startswith("."):
            continue  # AISegment's archive carries macOS's ._NAME.jpg beside each picture
        parts = path.relative_to(images).with_suffix("").parts
        matte = by_name.pop(Path(*map(renamed, parts[:-1]), parts[-1]), None)
        if matte is None:
            alone.append((path, "matte"))
        else:
            pairs.append(Pair(path, matte))
    return pairs, alone + [(path, "picture") for path in by_name.values()]


def _from_csv(path: Path) -> list[Pair]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="Check the path.") from error
    short = next((i for i, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None:
        raise DataError(
            f"{path}: line {short} has one column, expected a picture's path and its matte's",
            hint="Mend that line.",
        )
    if rows and Path(rows[0][0]).suffix.lower() not in PICTURES:
        rows = rows[1:]  # a heading
    return [Pair(path.parent / row[0].strip(), path.parent / row[1].strip()) for row in rows]


def _rows(
    used: list[Checked], groups: list[int], splits: list[str]
) -> Iterator[dict[str, str | int]]:
    for row, number, part in zip(used, groups, splits, strict=True):
        yield {
            "image": row.image,
            "matte": row.matte,
            "split": part,
            "group": number,
            "width": row.width,
            "height": row.height,
            "cover": row.cover,
        }


def _write(path: Path, names: Iterable[str], rows: Iterable[dict[str, str | int]]) -> None:
    """Write a CSV whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(rows)
            _flush(file)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _flush(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path.resolve(), root)).as_posix()


def _stamp(pair: Pair) -> str:
    stats = [path.stat() if path.exists() else None for path in (pair.image, pair.matte)]
    return " ".join(f"{s.st_size}@{s.st_mtime_ns}" if s else "none" for s in stats)


def _bits(text: str) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


def _reasons(rows: list[Checked]) -> str:
    """Say how often each reason came up, the common ones first."""
    counts = Counter(row.why.split(" is ")[0].split(":")[0] for row in rows)
    return ", ".join(f"{why} ({n})" for why, n in counts.most_common(3)) or "it is empty"
