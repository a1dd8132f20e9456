"""Colours of the person and of the room near each pixel; and the room alone, blurred.

All of it is a normalised convolution, blur(colour * weight) / blur(weight), whose weight is
nothing where the other one is: so neither ever bleeds into the other. It happens at half the
model's size, where it costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE
from vcam.compose.constants import (
    BLUR_RAMP,
    LEAST_WEIGHT,
    PASSES,
    PERSON_RAMP,
    ROOM_RAMP,
    TRUST,
)
from vcam.compose.light import small as loops
from vcam.system.memory import blank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from vcam.compose.framing import Crop

    Floats = NDArray[np.float32]


class Colours:
    """The frame at half the model's size, limited range, and averages over parts of it.

    Owned by one thread; everything it returns is overwritten by the next frame.
    """

    def __init__(self, h: int, w: int) -> None:
        self.size = (h, w)
        self.half = half = (max(2, h // 2), max(2, w // 2))
        self._bytes = np.zeros(half, np.uint8)
        self.room_bytes = np.zeros((3, *half), np.uint8)  # the whole room, blurred
        self.planes = np.zeros((3, *half), np.float32)
        self.alpha = np.zeros(half, np.float32)
        self._weight, self._sum, self._near = (np.zeros(half, np.float32) for _ in range(3))
        self._work = np.zeros(half, np.float32)
        self._carried = np.zeros((3, *half), np.float32)
        self._scratch = loops.near_scratch(half)
        self._cross = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))

    def wipe(self) -> None:
        """Overwrite what is kept of the frame."""
        blank((
            self._bytes, self.room_bytes, self.planes,
            self.alpha, self._weight, self._sum, self._near, self._work,
            self._carried, *self._scratch,
        ))  # fmt: skip

    def take(self, matte: Matte, *, full_range: bool) -> None:
        """Look at the frame that `matte` belongs to."""
        h, w = self.half
        for channel in range(3):
            cv2.resize(matte.picture[channel], (w, h), self._bytes)
            plane = self.planes[channel]
            if not full_range:
                np.copyto(plane, self._bytes)
                continue
            slope, middle = (
                (LUMA_SLOPE, BLACK) if channel == 0 else (CHROMA_SLOPE, GREY - GREY * CHROMA_SLOPE)
            )
            np.multiply(self._bytes, np.float32(slope), out=plane)
            np.add(plane, np.float32(middle), out=plane)
        cv2.resize(matte.alpha, (w, h), self.alpha)

    def person(self, out: Floats) -> None:
        """Fill `out` (3, h, w) with the person's colours, carried a few pixels outwards."""
        self._carry(*PERSON_RAMP, out)

    def room(self, out: Floats) -> None:
        """Fill `out` (3, h, w) with the room's colours, carried a few pixels inwards."""
        self._carry(*ROOM_RAMP, out)

    def blurred(self, sigma: float, out: list[NDArray[np.uint8]], crop: Crop | None = None) -> None:
        """Fill the planes `out` with the room, blurred by `sigma` pixels of the model's size.

        With `crop`, it is that part of the room.

        Shapes:
            out: Y, U and V, uint8, each of its size in the output
        """
        # Soft edges hold some of the person: they count as little as the person does.
        cv2.dilate(self.alpha, self._cross, self._work)
        np.copyto(self._near, self.alpha)
        np.copyto(self.alpha, self._work)
        self._ramp(*BLUR_RAMP)
        np.copyto(self.alpha, self._near)
        # Three boxes of this width make a bell of that deviation.
        width = max(1, round((12 * (sigma / 2) ** 2 / PASSES + 1) ** 0.5)) | 1
        self._blur(self._weight, self._sum, width)
        trust = np.float32(TRUST)
        np.add(self._sum, trust, out=self._sum)
        total = max(float(self._weight.sum()), LEAST_WEIGHT)
        for channel, plane in enumerate(out):
            np.multiply(self.planes[channel], self._weight, out=self._near)
            mean = np.float32(float(self._near.sum()) / total)
            self._blur(self._near, self._work, width)
            np.add(self._work, mean * trust, out=self._work)
            np.divide(self._work, self._sum, out=self._work)
            np.add(self._work, np.float32(0.5), out=self._work)
            np.clip(self._work, 0, 255, out=self._work)
            room = self.room_bytes[channel]
            np.copyto(room, self._work, casting="unsafe")
            cv2.resize(room if crop is None else self._cut(room, crop), plane.shape[::-1], plane)

    def _cut(self, room: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
        """Enlarge a part of the room that was blurred."""
        h, w = self.half
        x, y = crop.left * w + (crop.width - 1) / 2, crop.top * h + (crop.height - 1) / 2
        place = np.array([[crop.width, 0, x], [0, crop.height, y]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(room, place, (w, h), self._bytes, how, cv2.BORDER_REPLICATE)
        return self._bytes

    def _ramp(self, start: float, end: float) -> None:
        """Set the weight to 0 where alpha is at `start` and to 1 where it is at `end`."""
        np.subtract(self.alpha, np.float32(start), out=self._weight)
        np.multiply(self._weight, np.float32(1 / (end - start)), out=self._weight)
        np.clip(self._weight, 0, 1, out=self._weight)

    def _carry(self, start: float, end: float, out: Floats) -> None:
        """Average colours where alpha is between `start`, which counts nothing, and `end`."""
        gain = 1 / (end - start)
        loops.near(self.planes, self.alpha, (start, gain), TRUST, self._carried, self._scratch)
        h, w = self.size
        for channel in range(3):
            cv2.resize(self._carried[channel], (w, h), out[channel])

    def _blur(self, source: Floats, out: Floats, width: int) -> None:
        cv2.blur(source, (width, width), out, borderType=cv2.BORDER_REPLICATE)
        for _ in range(PASSES - 1):
            cv2.blur(out, (width, width), out, borderType=cv2.BORDER_REPLICATE)
