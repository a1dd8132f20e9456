"""I420 pictures in the layouts that programs ask of a virtual camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of bytes: `fourcc` is the driver's name for it, `bits` what a pixel takes."""

    fourcc: str
    bits: int
    fill: Callable[[Bytes, Bytes], None] | None = None  # None: as it is

    def size(self, width: int, height: int) -> int:
        """Bytes of a picture."""
        return width * height * self.bits // 8

    def arranged(self, picture: Bytes, out: Bytes) -> Bytes:
        """A (height * 3 // 2, width) I420 picture as flat bytes of this layout.

        They lie in `out`, which has room for them, unless nothing is to be done.
        """
        if self.fill is None:
            return picture.reshape(-1)
        self.fill(picture, out)
        return out


def planes(picture: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """Y, U and V of an I420 picture, without a copy."""
    rows, width = picture.shape
    height = rows * 2 // 3
    flat, area = picture.reshape(-1), width * height
    half = (height // 2, width // 2)
    return (
        picture[:height],
        flat[area : area * 5 // 4].reshape(half),
        flat[area * 5 // 4 :].reshape(half),
    )


def _nv12(picture: Bytes, out: Bytes) -> None:
    y, u, v = planes(picture)
    out[: y.size] = y.reshape(-1)
    cv2.merge((u, v), out[y.size :].reshape(*u.shape, 2))


def _yuyv(picture: Bytes, out: Bytes) -> None:
    y, u, v = planes(picture)
    rows = cv2.merge((u, v)).reshape(u.shape[0], -1)  # as wide as a row of Y, half as many
    cv2.merge((y, np.repeat(rows, 2, axis=0)), out.reshape(*y.shape, 2))


LAYOUTS: Final = {
    "i420": Layout("YU12", 12),
    "nv12": Layout("NV12", 12, _nv12),
    "yuyv": Layout("YUYV", 16, _yuyv),
}
