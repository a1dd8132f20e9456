"""Pictures and their mattes on disk and in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.errors import DataError

Image = NDArray[np.uint8]  # (H, W, 3) RGB; a matte is (H, W)
Alpha = NDArray[np.float32]  # (H, W) in 0..1, 1 = person

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
    return as_matte(_decode(path, cv2.IMREAD_UNCHANGED))


def _decode(path: Path, flags: int) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", hint="Run `train prepare` again."
        ) from error
    return decoded(data, flags, str(path))


def decoded(data: NDArray[np.uint8], flags: int, name: str) -> Image:
    picture = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise DataError(
            f"{name}: {data.size} bytes that are not a picture",
            hint="Run `train prepare` again; it leaves out what cannot be read.",
        )
    return np.asarray(picture)


def as_matte(picture: NDArray[Any]) -> Image:
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 4:
        return np.ascontiguousarray(picture[..., 3])
    if picture.ndim == 3:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(picture, np.uint8)


class Pictures:
    """Pictures and mattes by number, decoded once and kept where they fit in memory."""

    def __init__(self, pairs: list[Pair], *, longest: int, memory: float) -> None:
        self.pairs = pairs
        self._longest = longest
        self._kept: list[tuple[Image, Image]] | None = None
        sample = [self._read(pair) for pair in pairs[:16]]
        need = sum(a.nbytes + b.nbytes for a, b in sample) / max(len(sample), 1) * len(pairs)
        if need <= memory:
            self._kept = sample + [self._read(pair) for pair in pairs[16:]]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def kept(self) -> bool:
        """True if all of them are in memory."""
        return self._kept is not None

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        return self._kept[index] if self._kept else self._read(self.pairs[index])

    def _read(self, pair: Pair) -> tuple[Image, Image]:
        return shrunk(read_image(pair.image), read_matte_bytes(pair.matte), self._longest, pair)


def shrunk(image: Image, matte: Image, longest: int, pair: Pair) -> tuple[Image, Image]:
    """Shrink a picture and its matte until the longer side is at most `longest`.

    Raises:
        DataError: they differ in size.
    """
    if image.shape[:2] != matte.shape:
        raise DataError(
            f"{pair.matte}: {matte.shape[1]}x{matte.shape[0]}, its picture is "
            f"{image.shape[1]}x{image.shape[0]}",
            hint="Run `train prepare`, which leaves such pairs out.",
        )
    scale = longest / max(matte.shape)
    if scale >= 1:
        return image, matte
    size = (max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale)))
    return (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(cv2.resize(matte, size, interpolation=cv2.INTER_AREA), np.uint8),
    )
