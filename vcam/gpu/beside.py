"""A segmenter on OpenVINO's GPU or NPU, beside the processor's, which serves until it is ready."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People
    from segmentation.segmenter import Segmenter
    from vcam.compose.scene import Scene


class Beside:
    """Compiles for frames of a new shape on a thread of its own, and makes no mattes meanwhile.

    Owned by one thread otherwise; see `vcam.matting.Aside`.
    """

    draws = False

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._ready: tuple[int, ...] = ()  # shape of the luma
        self._compiling: threading.Thread | None = None
        self._problem: Exception | None = None

    def prepare(self, planes: Planes, scene: Scene) -> bool:
        """Have what such frames need compiled aside; true once it is ready.

        Raises:
            SegmentationError: the device cannot do it.
        """
        if self._compiling is not None:
            if self._compiling.is_alive():
                return False
            self._compiling = None
        if self._problem is not None:
            raise self._problem
        if planes.y.shape == self._ready:
            return True
        self._compiling = threading.Thread(
            target=self._compile, args=(planes.y.shape,), name="device", daemon=True
        )
        self._compiling.start()
        return False

    def matte(
        self, planes: Planes, *, seq: int, pts: float, scene: Scene | None = None
    ) -> Matte | None:
        """Return the matte of a frame; None while another shape is made ready."""
        if planes.y.shape != self._ready:
            return None
        return self._segmenter.matte(planes, seq=seq, pts=pts)

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times, for the status."""
        return self._segmenter.info

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength and show other people from the next frame on; any thread."""
        self._segmenter.adjust(smoothing=smoothing, people=people)

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone now, or forget it; any thread."""
        return self._segmenter.tell_room(word)

    @property
    def room_map(self) -> NDArray[np.uint8]:
        """Where the room is known, (h, w) uint8, 255 where it is; any thread."""
        return self._segmenter.room_map

    def reset(self) -> None:
        """Forget the frames before."""
        if self._compiling is None:
            self._segmenter.reset()

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them."""
        if self._compiling is None:
            self._segmenter.wipe()

    def close(self) -> None:
        """Give the device back, once nothing is compiled any more."""
        if self._compiling is not None:
            self._compiling.join()
        self._segmenter.close()

    def _compile(self, shape: tuple[int, ...]) -> None:
        try:
            self._segmenter.prepare(shape[0], shape[1])
            self._ready = shape
        except Exception as error:  # told to the thread that runs frames
            self._problem = error
