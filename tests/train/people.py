"""Pictures of an invented person, with exact mattes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def person(
    seed: int, height: int = 96, width: int = 128
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a head and shoulders before a patterned wall.

    Shapes:
        returns: image (H, W, 3) uint8 RGB, matte (H, W) uint8
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 90, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    x, y = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.5))
    size = int(height * rng.uniform(0.14, 0.2))
    matte = np.zeros((height, width), np.uint8)
    cv2.ellipse(matte, (x, y), (size, int(size * 1.3)), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(
        matte, (x, height), (int(size * 2.4), int(size * 2)), 0, 0, 360, 255, -1, cv2.LINE_AA
    )
    colour = np.array((225, 180, 150)) + rng.integers(-25, 25, 3)
    alpha = matte[..., None] / 255
    image = image * (1 - alpha) + colour * alpha + rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), matte


def write_folder(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Write `count` people to `folder`/img and `folder`/mask."""
    (folder / "img").mkdir(parents=True)
    (folder / "mask").mkdir()
    for i in range(count):
        image, matte = person(seed + i)
        cv2.imwrite(str(folder / "img" / f"{i:03d}.jpg"), image[..., ::-1])
        cv2.imwrite(str(folder / "mask" / f"{i:03d}.png"), matte)
    return folder
