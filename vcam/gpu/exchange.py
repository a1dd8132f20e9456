"""Bytes that go up to the GPU with a frame and come down with its answer; needs no torch."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.errors import EngineError
from segmentation.matte import Matte
from segmentation.motion.temporal import moved
from segmentation.planes import i420_shape
from vcam.compose.scene import Blur, Scene
from vcam.gpu.packing import HEADER, SAMPLE, Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE: Final = mmap.ALLOCATIONGRANULARITY  # bytes; each buffer starts at a page of its own
FROZEN: Final = 8  # answers in a row that stay the same although the picture moves
NO_PICTURE: Final = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True)
class Exchange:
    """Layout of the buffers of frames of one packing in a scene of one size."""

    packing: Packing
    size: tuple[int, int]  # (h, w) of the matte
    width: int  # of the output
    height: int
    alone: bool = False  # the matte is all that is asked for, and comes down whole

    @property
    def step(self) -> int:
        """Rows and columns of the matte of which one comes down."""
        return 1 if self.alone else SAMPLE

    @cached_property
    def thin(self) -> tuple[int, int]:
        """Rows and columns of the matte that comes down."""
        return -(-self.size[0] // self.step), -(-self.size[1] // self.step)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the composite, I420."""
        return i420_shape(self.width, self.height)

    @cached_property
    def floats(self) -> slice:
        """Place of raw, alpha, a and b in an answer, float32."""
        return slice(HEADER, HEADER + 16 * self.thin[0] * self.thin[1])

    @cached_property
    def bytes(self) -> slice:
        """Place of the thinned picture in an answer, uint8."""
        start = self.floats.stop
        return slice(start, start + 3 * self.thin[0] * self.thin[1])

    @cached_property
    def pixels(self) -> slice:
        """Place of the composite in an answer."""
        start = -(-self.bytes.stop // 64) * 64
        return slice(start, start + (0 if self.alone else self.backdrop))

    @cached_property
    def up(self) -> int:
        """Bytes of a frame on its way up."""
        return HEADER + self.packing.size

    @cached_property
    def down(self) -> int:
        """Bytes of an answer."""
        return int(self.pixels.stop)

    @cached_property
    def backdrop(self) -> int:
        """Bytes of a backdrop."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Places of two frames, two answers and a backdrop in one block of memory."""
        found, at = [], 0
        for size in (self.up, self.up, self.down, self.down, self.backdrop):
            found.append(slice(at, at + size))
            at += -(-size // PAGE) * PAGE
        return tuple(found)

    @cached_property
    def total(self) -> int:
        """Bytes of such a block, in whole pages."""
        return -(-int(self.places[-1].stop) // PAGE) * PAGE

    def put(
        self,
        place: NDArray[np.uint8],
        parts: tuple[NDArray[np.uint8], ...],
        seq: int,
        fresh: bool,
        decay: float,
    ) -> None:
        """Write a frame where the GPU fetches it.

        Shapes:
            place: (up) uint8; parts: the frame's bytes, one after the other

        Raises:
            ValueError: the frame is not as its packing says.
        """
        size = sum(part.size for part in parts)
        if size != self.packing.size:
            raise ValueError(f"a frame of {size} bytes, expected {self.packing.size}")
        place[:16].view(np.int64)[:] = seq, fresh
        place[16:20].view(np.float32)[:] = decay
        at = HEADER
        for part in parts:
            np.copyto(place[at : at + part.size].reshape(part.shape), part)
            at += part.size

    def put_backdrop(self, place: NDArray[np.uint8], backdrop: NDArray[np.uint8]) -> None:
        """Write a backdrop where the GPU fetches it.

        Shapes:
            place: (backdrop) uint8; backdrop: (height * 3 // 2, width) uint8 I420

        Raises:
            ValueError: it is of another size.
        """
        if backdrop.shape != self.shape or backdrop.dtype != np.uint8:
            raise ValueError(f"backdrop is {backdrop.dtype} {backdrop.shape}, not {self.shape}")
        np.copyto(place.reshape(self.shape), backdrop)

    def read(self, back: NDArray[np.uint8], seq: int, pts: float) -> Matte:
        """Return the answer in `back` as views of it.

        Shapes:
            back: (down) uint8

        Raises:
            EngineError: it belongs to another frame.
        """
        stamp, present, cut = (int(x) for x in back[:24].view(np.int64))
        if stamp != seq:
            raise EngineError(
                f"the GPU answered for frame {stamp}, expected {seq}", hint='Set engine = "cpu".'
            )
        raw, alpha, a, b = back[self.floats].view(np.float32).reshape(4, *self.thin)
        picture = back[self.bytes].reshape(3, *self.thin)
        composite = None if self.alone else back[self.pixels].reshape(self.shape)
        return Matte(alpha, a, b, seq, pts, raw, picture, bool(cut), bool(present), composite)


class Stillness:
    """Tells a GPU that gives the same matte again and again although the picture moves."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start over."""
        self._same = 0
        self._known: tuple[NDArray[np.float32], NDArray[np.uint8]] | None = None

    def watch(self, matte: Matte) -> None:
        """Take note of a matte.

        Raises:
            EngineError: it has stood still for too long.
        """
        picture = matte.picture
        if self._known is None or not np.array_equal(self._known[0], matte.raw):
            self._known, self._same = (matte.raw.copy(), picture.copy()), 0
            return
        self._same = self._same + 1 if moved(self._known[1], picture) else 0
        if self._same >= FROZEN:
            raise EngineError("the GPU's matte stands still", hint='Set engine = "cpu".')


def bare(scene: Scene) -> Scene:
    """Return the scene without its picture, which comes with each frame."""
    behind = scene.behind if isinstance(scene.behind, Blur) else NO_PICTURE
    return Scene(scene.width, scene.height, behind, scene.look)
