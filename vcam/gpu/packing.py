"""Layouts of a camera's bytes, as the GPU takes them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from segmentation.planes import Planes


SAMPLE: Final = 4  # the guard judges every fourth pixel of every fourth row
HEADER: Final = 64  # bytes before a frame on its way up, and before an answer on its way down


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one plane lies in a frame's bytes."""

    offset: int
    line: int  # bytes from row to row
    step: int  # bytes from pixel to pixel
    height: int
    width: int

    def of(self, data: Tensor) -> Tensor:
        """Return the plane as a view of the frame's bytes, (height, width) uint8."""
        offset = data.storage_offset() + self.offset
        return data.as_strided((self.height, self.width), (self.line, self.step), offset)

    def put(self, data: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
        """Write the plane into the frame's bytes, from pixels at the luma's size.

        Shapes:
            pixels: (H, W) uint8; every second one of them where the plane is half as large
        """
        there = np.lib.stride_tricks.as_strided(
            data[self.offset :], (self.height, self.width), (self.line, self.step)
        )
        step_y, step_x = -(-pixels.shape[0] // self.height), -(-pixels.shape[1] // self.width)
        np.copyto(there, pixels[::step_y, ::step_x][: self.height, : self.width])

    @property
    def thinned(self) -> Plane:
        """Every second row of it."""
        return Plane(self.offset, 2 * self.line, self.step, -(-self.height // 2), self.width)


@dataclass(frozen=True, slots=True)
class Packing:
    """Layout of a frame's luma and chroma in memory; any format is three sets of strides."""

    y: Plane
    u: Plane
    v: Plane
    size: int  # bytes of the frame
    full_range: bool

    @property
    def seen(self) -> tuple[Plane, Plane, Plane]:
        """Y, U and V as the network's input is made from them; see `Segmenter.matte`."""
        if self.u.height < self.y.height:
            return self.y, self.u, self.v
        return self.y, self.u.thinned, self.v.thinned

    @classmethod
    def yuyv(cls, height: int, width: int) -> Packing:
        """YUYV 4:2:2 as a webcam sends it."""
        line = 2 * width
        u, v = (Plane(at, line, 4, height, width // 2) for at in (1, 3))
        return cls(Plane(0, line, 2, height, width), u, v, line * height, False)

    @classmethod
    def nv12(cls, height: int, width: int) -> Packing:
        """NV12 4:2:0 as a webcam sends it."""
        area = height * width
        u, v = (Plane(area + at, width, 2, height // 2, width // 2) for at in (0, 1))
        return cls(Plane(0, width, 1, height, width), u, v, area * 3 // 2, False)

    @classmethod
    def planar(cls, luma: tuple[int, ...], chroma: tuple[int, ...], *, full_range: bool) -> Packing:
        """Y, U and V one after the other, without padding."""
        (h, w), (ch, cw) = luma, chroma
        u, v = (Plane(at, cw, 1, ch, cw) for at in (h * w, h * w + ch * cw))
        return cls(Plane(0, w, 1, h, w), u, v, h * w + 2 * ch * cw, full_range)


def packing_of(planes: Planes) -> tuple[Packing, tuple[NDArray[np.uint8], ...]]:
    """Return how a frame lies in memory, and its bytes, to be put one after the other.

    Planes that are views of one packed picture are taken as that picture.
    """
    y, u, v = planes.each
    (h, w), start = y.shape, y.ctypes.data
    places = (u.ctypes.data - start, v.ctypes.data - start)
    strides, halves = (y.strides, u.strides, v.strides), (u.shape, v.shape)
    packing = None
    if places == (1, 3) and strides == ((2 * w, 2), (2 * w, 4), (2 * w, 4)):
        packing = Packing.yuyv(h, w) if halves == ((h, w // 2),) * 2 else None
    elif places == (w * h, w * h + 1) and strides == ((w, 1), (w, 2), (w, 2)):
        packing = Packing.nv12(h, w) if halves == ((h // 2, w // 2),) * 2 else None
    if packing is None or planes.full_range:
        return Packing.planar(y.shape, u.shape, full_range=planes.full_range), planes.each
    return packing, (np.lib.stride_tricks.as_strided(y, (packing.size,), (1,), writeable=False),)
