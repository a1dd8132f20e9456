"""A segmenter on OpenVINO's GPU or NPU, beside the processor's, which serves until it is ready."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from segmentation.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomCopy, RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People
    from segmentation.segmenter import Segmenter
    from vcam.compose.scene import Scene

log = logging.getLogger(__name__)

PATIENCE: Final = 1.0  # seconds for an answer about a frame, as the GPU's process has
LEAVING: Final = 2.0  # seconds to end in, before it is left alone


class _Job:
    """Something for the device's thread to do, and what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self.done = function, threading.Event()
        self._value: Any = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Do it."""
        try:
            self._value = self._function()
        except Exception as error:  # told to the thread that asked
            self._error = error
        self.done.set()

    def result(self) -> Any:
        """Return its value, or raise its error, once it is done."""
        if self._error is not None:
            raise self._error
        return self._value


class Beside:
    """Compiles for frames of a new shape aside, and makes no mattes meanwhile.

    Everything the device does it does on a thread of its own: a driver that hangs holds that one,
    and whoever asked goes on after `PATIENCE`. Owned by one thread otherwise; see
    `vcam.gpu.mattes.Aside`.
    """

    draws = False

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._ready: tuple[int, ...] = ()  # shape of the luma
        self._compiling: tuple[tuple[int, ...], _Job] | None = None
        self._lost = ""  # reason that it is asked nothing any more
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def prepare(self, planes: Planes, scene: Scene) -> bool:
        """Have what such frames need compiled aside; true once it is ready.

        Raises:
            SegmentationError: the device cannot do it.
        """
        if self._compiling is not None:
            shape, job = self._compiling
            if not job.done.is_set():
                return False
            job.result()
            self._ready, self._compiling = shape, None
        shape = planes.y.shape
        if shape == self._ready:
            return True
        segmenter = self._segmenter
        self._compiling = shape, self._order(lambda: segmenter.prepare(shape[0], shape[1]))
        return False

    def matte(
        self, planes: Planes, *, seq: int, pts: float, scene: Scene | None = None
    ) -> Matte | None:
        """Return the matte of a frame; None while another shape is made ready.

        Raises:
            SegmentationError: the device failed, or did not answer in time.
        """
        if self._compiling is not None or planes.y.shape != self._ready:
            return None
        made: Matte | None = self._ask(
            "frame", lambda: self._segmenter.matte(planes, seq=seq, pts=pts)
        )
        return made

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

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        self._segmenter.recall_room(kept)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another."""
        return self._segmenter.copy_room()

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now, for an engine that goes on.

        Raises:
            SegmentationError: the device failed, or did not answer in time.
        """
        if self._compiling is not None:
            return None
        kept: RoomCopy | None = self._ask("room", self._segmenter.lend_room)
        return kept

    @property
    def room_map(self) -> NDArray[np.uint8]:
        """Where the room is known, (h, w) uint8, 255 where it is; any thread."""
        return self._segmenter.room_map

    def reset(self) -> None:
        """Forget the frames before.

        Raises:
            SegmentationError: the device failed, or did not answer in time.
        """
        if self._compiling is None:
            self._ask("reset", self._segmenter.reset)

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them.

        Raises:
            SegmentationError: the device failed, or did not answer in time.
        """
        if self._compiling is None:
            self._ask("wipe", self._segmenter.wipe)

    def close(self) -> None:
        """Give the device back, once it is done; a device that hangs is left to its thread."""
        self._jobs.put(None)
        self._thread.join(LEAVING)
        if self._thread.is_alive():
            log.warning("the device has not ended after %g s, and is left alone", LEAVING)

    def _order(self, function: Callable[[], Any]) -> _Job:
        job = _Job(function)
        self._jobs.put(job)
        return job

    def _ask(self, what: str, function: Callable[[], Any]) -> Any:
        """Have the device do something, and return its value."""
        if not self._lost:
            job = self._order(function)
            if job.done.wait(PATIENCE):
                return job.result()
            self._lost = f"the device has not answered for {PATIENCE:g} s ({what})"
        raise EngineError(self._lost, hint='Set engine = "cpu".')

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job  # with the picture that it was about
        try:
            self._segmenter.close()
        except Exception as error:  # of a driver: there is nothing left to do
            log.warning("the device: %s", error)
