"""Pictures and their mattes on disk, in memory, and in shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from train.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its matte."""

    image: Path
    matte: Path


def find_pairs(folder: Path) -> list[Pair]:
    """Every picture in `folder`/img that has a matte of the same name in `folder`/mask.

    Raises:
        DataError: there is not a single pair.
    """
    mattes = {path.stem: path for path in sorted((folder / "mask").glob("*.png"))}
    pictures = [p for p in sorted((folder / "img").glob("*")) if p.suffix.lower() in PICTURES]
    pairs = [Pair(p, mattes[p.stem]) for p in pictures if p.stem in mattes]
    if not pairs:
        raise DataError(
            f"{folder}: {len(pictures)} pictures in img/, {len(mattes)} mattes in mask/, "
            "expected at least one pair of the same name",
            hint="Give a folder with img/NAME.jpg and mask/NAME.png.",
        )
    return pairs


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture.

    Shapes:
        returns: (H, W, 3) uint8 RGB

    Raises:
        DataError: missing, corrupt, or not a picture.
    """
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def read_matte(path: Path) -> NDArray[np.float32]:
    """Read a matte: the alpha channel of a transparent picture, else its brightness.

    Shapes:
        returns: (H, W) float32 in 0..1

    Raises:
        DataError: missing, corrupt, or not a picture.
    """
    return read_matte_bytes(path).astype(np.float32) / np.float32(255)


def read_matte_bytes(path: Path) -> NDArray[np.uint8]:
    """Read a matte as `read_matte` does, as (H, W) uint8."""
    picture = _decode(path, cv2.IMREAD_UNCHANGED)
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 4:
        return np.ascontiguousarray(picture[..., 3])
    if picture.ndim == 3:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(picture, np.uint8)


def _decode(path: Path, flags: int) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", hint="Run `train prepare` again."
        ) from error
    picture = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise DataError(
            f"{path}: {data.size} bytes that are not a picture",
            hint="Run `train prepare` again; it leaves out what cannot be read.",
        )
    return np.asarray(picture)
