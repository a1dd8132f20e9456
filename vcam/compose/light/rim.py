"""Light of a bright backdrop that spills over the person's rim, inside and outside.

It is soft, so all of it happens at half the model's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from vcam.compose.arrays import RIM
from vcam.compose.constants import SPILL, SPILL_MOST
from vcam.compose.framing import Crop
from vcam.compose.light import small
from vcam.system.memory import blank

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

WHOLE: Final = Crop(0.0, 0.0, 1.0, 1.0)


class Rim:
    """The spill before mattes of one size. Owned by one thread."""

    def __init__(self, h: int, w: int) -> None:
        self.size = half = (max(1, h // 2), max(1, w // 2))
        reach = max(3, round(SPILL * h)) | 1
        self._bell, self._reach = _bell(reach), (reach // 2) | 1
        self.planes = np.zeros((RIM, *half), np.float32)  # for the loop that enlarges them
        self._around = np.zeros(half, np.float32)
        self._lights = np.zeros((3, *half), np.float32)
        # Of a backdrop that stays: which it is, itself, so that no other takes its place
        self._lit_by: tuple[Hashable, object] | None = None

    def wipe(self) -> None:
        """Overwrite what is kept of the frame."""
        blank((self.planes, self._around, self._lights))
        self._lit_by = None

    def look(
        self, behind: Bytes, planes: Sequence[Bytes], crop: Crop | None, *, mirror: bool
    ) -> None:
        """Find the backdrop's light, where `planes` of `behind` lie behind that part of the frame.

        The same one is looked at once.
        """
        key = id(behind), mirror, crop
        if self._lit_by is not None and self._lit_by[0] == key:
            return
        reach = (self._reach, self._reach)
        for light, plane in zip(self._lights, planes, strict=True):
            placed = self._placed(plane, crop or WHOLE, mirror=mirror)
            np.copyto(light, cv2.blur(placed, reach))
        self._lit_by = key, behind

    def follow(self, room: Bytes) -> None:
        """Find the light of a room that is blurred anyhow, (3, h, w), as it lies in the frame."""
        for light, plane in zip(self._lights, room, strict=True):
            np.copyto(light, plane if plane.shape == self.size else self._placed(plane, WHOLE))
        self._lit_by = None

    def fill(self, alpha: Floats, strength: float, *, mirror: bool) -> None:
        """Fill `planes` with how much of it spills over each pixel, and what."""
        around = self._around
        cv2.resize(alpha, self.size[::-1], around, interpolation=cv2.INTER_AREA)
        np.subtract(np.float32(1), around, out=around)
        cv2.sepFilter2D(around, -1, self._bell, self._bell, around)
        small.spilt(around, self._lights, SPILL_MOST * strength, self.planes)
        if mirror:
            for plane in self.planes:
                cv2.flip(plane, 1, plane)

    def _placed(self, plane: Bytes, crop: Crop, *, mirror: bool = False) -> Bytes:
        """A plane of the backdrop, lying where the person stands before it."""
        h, w = self.size
        x, across = round(crop.left * w), max(1, round(crop.width * w))
        y, down = round(crop.top * h), max(1, round(crop.height * h))
        shown = _shrunk(plane, across, down)
        if mirror:
            shown = np.ascontiguousarray(shown[:, ::-1])
        if (across, down) == (w, h):
            return shown
        right, bottom = max(0, w - x - across), max(0, h - y - down)
        placed = cv2.copyMakeBorder(shown, y, bottom, x, right, cv2.BORDER_REPLICATE)
        return np.asarray(placed[:h, :w])


def _shrunk(plane: Bytes, w: int, h: int) -> Bytes:
    """Shrink a plane to its averages; by a whole number first, which takes a tenth of the time."""
    rows, columns = plane.shape
    whole = (n for n in range(min(rows // h, columns // w), 1, -1) if not (rows % n or columns % n))
    if (n := next(whole, 1)) > 1:
        part = (columns // n, rows // n)
        plane = np.asarray(cv2.resize(plane, part, interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(plane, (w, h), interpolation=cv2.INTER_AREA))


def _bell(reach: int) -> Floats:
    """Weights of two boxes of `reach` pixels, one after the other, at half the size."""
    away = np.abs(np.arange(-(reach // 2), reach // 2 + 1))
    box = np.clip(reach / 4 + 0.5 - away, 0, 1) / (reach / 2)
    box = box[box > 0]
    bell: Floats = np.convolve(box, box).astype(np.float32)
    return bell
