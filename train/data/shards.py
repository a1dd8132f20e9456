"""Pairs in .tar files, for sets larger than memory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from train.data.datasets import Image, Pair, as_matte, decoded, read_matte_bytes, shrunk
from train.errors import DataError


def shards_of(entry: str, root: Path) -> list[Path]:
    """The .tar shards of one set of a recipe; none where it is a folder or a manifest.

    Raises:
        DataError: the pattern names shards and there are none.
    """
    if not entry.endswith(".tar"):
        return []
    found = sorted(root.glob(entry))
    if not found:
        raise DataError(
            f"{root / entry}: there are no such shards", hint="Pack some with `train prepare`."
        )
    return found


def read_shard(path: Path, longest: int) -> Iterator[tuple[Image, Image]]:
    """Every pair of a .tar shard, in order.

    Raises:
        DataError: damaged, or a picture without a matte.
    """
    try:
        with tarfile.open(path, "r|") as archive:
            pending: dict[str, Image] = {}
            seen = 0
            for member in archive:
                stem, _, kind = member.name.partition(".")
                file = archive.extractfile(member)
                if file is None:
                    continue
                data = np.frombuffer(file.read(), np.uint8)
                flags = cv2.IMREAD_UNCHANGED if kind == "matte.png" else cv2.IMREAD_COLOR
                picture = decoded(data, flags, f"{path}: {member.name}")
                if kind == "matte.png":
                    if stem not in pending:
                        continue
                    pair = Pair(path / f"{stem}", path / member.name)
                    seen += 1
                    yield shrunk(pending.pop(stem), as_matte(picture), longest, pair)
                else:
                    pending[stem] = np.ascontiguousarray(picture[..., ::-1])
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path}: damaged or not a shard: {error}", hint="Pack it again with `train prepare`."
        ) from error
    if seen == 0:
        raise DataError(
            f"{path}: holds no NAME.jpg followed by NAME.matte.png",
            hint="Pack it again with `train prepare`.",
        )


def write_shards(pairs: list[Pair], folder: Path, *, size: int = 1000) -> list[Path]:
    """Pack pairs into .tar files of `size` pairs each, each written whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for first in range(0, len(pairs), size):
            path = folder / f"{first // size:06d}.tar"
            temporary = path.with_suffix(".tar.tmp")
            with tarfile.open(temporary, "w") as archive:
                for number, pair in enumerate(pairs[first : first + size], first):
                    archive.add(pair.image, f"{number:08d}{pair.image.suffix.lower()}")
                    _, png = cv2.imencode(".png", read_matte_bytes(pair.matte))
                    info = tarfile.TarInfo(f"{number:08d}.matte.png")
                    info.size = len(png)
                    archive.addfile(info, io.BytesIO(png.tobytes()))
            temporary.replace(path)
            written.append(path)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}", hint="Make room on that disk."
        ) from error
    return written
