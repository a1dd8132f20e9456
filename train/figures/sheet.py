"""A sheet of pictures with their mattes, to see with one's own eyes what goes wrong."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from train.errors import DataError

TILE = 192  # pixels high
ACROSS = 4
WRONG = {"leak": (220, 40, 40), "cut": (40, 90, 230)}  # colours of room shown and person lost


def write_sheet(
    rows: Iterable[tuple[str, NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]],
    path: Path,
) -> None:
    """Write each (caption, image, alpha, truth) as the picture with what is wrong coloured.

    Red is room that is shown, blue is person that is lost.

    Shapes:
        image: (H, W, 3) uint8 RGB; alpha, truth: (H, W) float32 in 0..1

    Raises:
        DataError: the sheet cannot be written.
    """
    tiles = [_tile(caption, image, alpha, truth) for caption, image, alpha, truth in rows]
    if not tiles:
        return
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % min(ACROSS, len(tiles)))
    across = min(ACROSS, len(tiles))
    lines = [np.hstack(tiles[i : i + across]) for i in range(0, len(tiles), across)]
    coded, data = cv2.imencode(path.suffix or ".jpg", np.vstack(lines)[..., ::-1])
    try:
        assert coded
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror}", hint="Make room on that disk."
        ) from error


def _tile(
    caption: str, image: NDArray[np.uint8], alpha: NDArray[np.float32], truth: NDArray[np.float32]
) -> NDArray[np.uint8]:
    seen = image * (0.35 + 0.65 * alpha[..., None])
    for kind, colour in WRONG.items():
        apart = alpha - truth if kind == "leak" else truth - alpha
        weight = np.clip(apart, 0, 1)[..., None] * 0.8
        seen = seen * (1 - weight) + np.array(colour) * weight
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(seen.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    tile = np.zeros((TILE + 18, TILE, 3), np.uint8)
    tile[: size[1], : size[0]] = small
    at, white = (2, TILE + 13), (255, 255, 255)
    cv2.putText(tile, caption[:30], at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, white, 1, cv2.LINE_AA)
    return tile
