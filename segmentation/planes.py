"""A picture as planes of luma and chroma, as cameras send it and as every stage takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SLOPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Luma = tuple[Bytes, int]  # a plane's memory and its bytes per line; see `flat`
    Chroma = tuple[
        Bytes, Bytes, int, int
    ]  # U, V, their bytes per line, rows of them to one of 4:2:0


@dataclass(frozen=True, slots=True)
class Planes:
    """Luma and chroma of one picture, BT.601. Nobody writes to those of a frame.

    Shapes:
        y: (H, W) uint8 luma; rows may be padded; pixels in a row are adjacent unless packed
            pictures were asked for
        u, v: (H, W/2) for 4:2:2 or (H/2, W/2) for 4:2:0, uint8, centred on 128
    Luma and chroma span 16..235/240 (limited) or 0..255 when `full_range`.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    full_range: bool = False

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    @property
    def each(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Y, U and V."""
        return self.y, self.u, self.v

    @property
    def chroma_rows(self) -> int:
        """Rows of chroma to two of luma: 1 for 4:2:0, 2 for 4:2:2."""
        return int(2 * self.u.shape[0] // self.y.shape[0])


def fold(planes: Planes) -> None:
    """Turn planes of full range into those of limited range, in place."""
    cv2.convertScaleAbs(planes.y, planes.y, LUMA_SLOPE, BLACK)
    for plane in (planes.u, planes.v):
        chroma = (plane.astype(np.float32) - GREY) * CHROMA_SLOPE + (GREY + 0.5)
        np.copyto(plane, np.clip(chroma, 0, 255), casting="unsafe")


def i420_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of a 4:2:0 picture that is kept as one array, chroma below luma."""
    return height * 3 // 2, width


def i420(data: NDArray[np.uint8], *, full_range: bool = False) -> Planes:
    """Return the planes of an I420 picture, as views.

    Shapes:
        data: (H * 3 // 2, W) uint8, contiguous
    """
    height, width = data.shape[0] * 2 // 3, data.shape[1]
    flat, area, half = data.reshape(-1), height * width, (height // 2, width // 2)
    u, v = flat[area : area + area // 4], flat[area + area // 4 :]
    return Planes(data[:height], u.reshape(half), v.reshape(half), full_range)


def tall(data: NDArray[np.uint8], width: int, height: int) -> Planes:
    """Return the planes of a 4:2:2 picture that lie one after the other in a row of bytes."""
    area, half = width * height, (height, width // 2)
    u, v = data[area : area + area // 2], data[area + area // 2 :]
    return Planes(data[:area].reshape(height, width), u.reshape(half), v.reshape(half))


def flat(plane: NDArray[np.uint8]) -> Luma:
    """Return a plane's memory as one row of bytes, padding included, and its bytes per line.

    The pixels of a row must be adjacent; otherwise the plane is copied first.
    """
    h, w = plane.shape
    line = plane.strides[0]
    if plane.strides[1] != 1 or line < w:
        plane = np.ascontiguousarray(plane)
        line = w
    if plane.flags.c_contiguous:
        return plane.reshape(-1), w
    size = (h - 1) * line + w
    bytes_: Bytes = np.lib.stride_tricks.as_strided(plane, (size,), (1,), writeable=False)
    return bytes_, line


def flat_chroma(planes: Planes) -> Chroma:
    """Return a frame's chroma in the form the loops take."""
    (u, line), (v, v_line) = flat(planes.u), flat(planes.v)
    if v_line != line:
        u, line = flat(np.ascontiguousarray(planes.u))
        v, _ = flat(np.ascontiguousarray(planes.v))
    return u, v, line, planes.chroma_rows


class Shrink:
    """Scales planes of one shape down to another: by halves first, then linearly.

    Halving is a tenth of the cost of any other exact area average.
    """

    def __init__(self, shape: tuple[int, ...], small: tuple[int, int]) -> None:
        self.shape = shape
        self._small = small
        self._halves: list[NDArray[np.uint8]] = []
        height, width = shape[:2]
        h, w = small
        while height % 2 == 0 and width % 2 == 0 and height >= 2 * h and width >= 2 * w:
            height, width = height // 2, width // 2
            self._halves.append(np.zeros((height, width), np.uint8))
        # Linear weights look at two pixels only: beyond twice the size they would skip some.
        far = height > 2.5 * h or width > 2.5 * w
        self._last = cv2.INTER_AREA if far else cv2.INTER_LINEAR

    def wipe(self) -> None:
        """Overwrite the halves of the last plane."""
        for half in self._halves:
            half.fill(0)

    def __call__(self, plane: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Fill `out` with the plane at the smaller size."""
        for half in self._halves:
            cv2.resize(plane, half.shape[::-1], half, interpolation=cv2.INTER_AREA)
            plane = half
        cv2.resize(plane, out.shape[::-1], out, interpolation=self._last)
