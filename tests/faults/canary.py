"""A room made of recognisable texture, and a detector that finds any 16x16 patch of it."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from segmentation.planes import Planes
from vcam.compose.framing import Crop
from vcam.frame import Frame

W, H = 192, 112
PATCH = 16
PERSON = 64  # columns of the person, at the left; soft up to 80, all room from there
ALIKE = 0.7  # correlation above which a patch is the room's; by chance it is 0.0 ± 0.13
WHOLE = Crop(0.0, 0.0, 1.0, 1.0)
_CHROMA = np.full((H // 2, W // 2), 128, np.uint8)


def frame(seq: int, pts: float, *, size: tuple[int, int] = (W, H)) -> Frame:
    """A frame: a plain person at the left, fresh texture of 2x2 cells everywhere else."""
    width, height = size
    rng = np.random.default_rng(seq * 7919 + width)
    cells = rng.integers(0, 2, (height // 2, width // 2)) * 150 + 50
    y = np.kron(cells, np.ones((2, 2))).astype(np.uint8)
    y[:, : PERSON * width // W] = 120 + seq % 5
    chroma = _CHROMA if size == (W, H) else np.full((height // 2, width // 2), 128, np.uint8)
    y.setflags(write=False)
    return Frame(Planes(y, chroma, chroma), pts, seq)


def seen(
    shown: np.ndarray,
    frames: list[Frame],
    *,
    blurred: bool = False,
    crops: Iterable[Crop] = (WHOLE,),
) -> int:
    """Count the 16x16 patches of the room of any of `frames` that appear in `shown`.

    They are looked for as each of `crops` shows them, a part of the frame that is enlarged.

    With `blurred` the room's coarse shapes are the user's choice, and only detail counts: what is
    left of both after everything coarser than 8 pixels is taken away.

    Shapes:
        shown: (H * 3 // 2, W) uint8 I420
    """
    return sum(
        _patches(shown[:H], f.planes.y, crop, blurred=blurred)
        for f in frames
        if f.planes.y.shape == (H, W)
        for crop in crops
    )


def _patches(shown: np.ndarray, room: np.ndarray, crop: Crop, *, blurred: bool) -> int:
    inside = np.ones_like(room)
    if crop != WHOLE:
        shown, inside = _put_back(shown, crop), _put_back(inside, crop)
    a, b, there = (_blocks(p[:, 80:].astype(np.float32)) for p in (shown, room, inside))
    if blurred:
        # Fine texture that survives a blur would correlate however faint it is, so strength counts.
        a, b = (x - _coarse(x) for x in (a, b))
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    power = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    alike = (a * b).sum((1, 2)) / np.maximum(power, 1)
    strong = a.std((1, 2)) > (4.0 if blurred else 1.5)
    return int(np.count_nonzero((alike > ALIKE) & strong & there.all((1, 2))))


def _put_back(shown: np.ndarray, crop: Crop) -> np.ndarray:
    """An enlarged part of a frame, small again and where it lay; nothing beside it."""
    x, y = (0.5 / crop.width - 0.5), (0.5 / crop.height - 0.5)
    place = np.array(
        [
            [1 / crop.width, 0, x - crop.left / crop.width * W],
            [0, 1 / crop.height, y - crop.top / crop.height * H],
        ]
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(shown, place, (W, H), flags=how)


def _blocks(plane: np.ndarray) -> np.ndarray:
    h, w = plane.shape
    cut = plane[: h // PATCH * PATCH, : w // PATCH * PATCH]
    grid = cut.reshape(h // PATCH, PATCH, w // PATCH, PATCH).swapaxes(1, 2)
    return grid.reshape(-1, PATCH, PATCH)


def _coarse(blocks: np.ndarray) -> np.ndarray:
    """The mean of each 4x4 cell: everything slower than about 8 pixels."""
    n = blocks.shape[0]
    means = blocks.reshape(n, 4, 4, 4, 4).mean(axis=(2, 4))
    return np.kron(means, np.ones((1, 4, 4))).astype(np.float32)
