"""Owns the segmenter: opens it off the frame loop, swaps it when settings change, turns its
failures into faults."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from segmentation.engines import nvidia
from segmentation.errors import EngineError, SegmentationError, UntrustedError
from segmentation.planes import Planes
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Blur, Look, Scene
from vcam.frame import Frame
from vcam.guard import Fault
from vcam.system.reopener import BackOff, Reopener

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomWord
    from segmentation.refine import People
    from segmentation.segmenter import Segmenter
    from vcam.gpu.segmenter import CudaSegmenter
    from vcam.settings.config import MatteSettings

log = logging.getLogger(__name__)

FAILURES = 3  # in a row before the engine is opened anew
BACK_OFF = BackOff(0.25, 1.0)  # between tries to open it; a mended model waits the last at most


class Mattes(Protocol):
    """An engine that makes mattes. Owned by one thread, closed by who opened it."""

    draws: bool  # it sets the person into the scene as well: its mattes come with a composite

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times, for the status."""
        ...

    def matte(
        self, planes: Planes, *, seq: int, pts: float, scene: Scene | None = None
    ) -> Matte | None:
        """Return the matte of the frame of these planes; None while the engine is made ready."""
        ...

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength and show other people from the next frame on; any thread."""
        ...

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone now, or forget it; any thread. False where none is learnt."""
        ...

    @property
    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        ...

    def reset(self) -> None:
        """Forget the frames before."""
        ...

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them."""
        ...

    def close(self) -> None:
        """Give the engine back."""
        ...


Opener = Callable[["MatteSettings", Path | None], Mattes]


def open_segmenter(settings: MatteSettings, cache_dir: Path | None) -> Mattes:
    """Open the segmenter that `settings` ask for, and warm the pixel kernels.

    Choosing one person among several needs the processor: then only the network runs on the GPU.

    Raises:
        SegmentationError: the model or the engine cannot be used.
    """
    cuda = settings.engine == "cuda"
    if cuda and settings.people == "everyone":
        return _open_cuda(settings, cache_dir)
    from segmentation.segmenter import Machine, Segmenter  # OpenVINO takes a third of a second

    segmenter = Segmenter(
        settings.model,
        Machine(settings.engine, settings.threads, settings.max_cpu_percent, cache_dir),
        quality="high" if cuda else settings.quality,
        smoothing=settings.smoothing,
        people=settings.people,
    )
    _warm(segmenter)
    return segmenter


def _open_cuda(settings: MatteSettings, cache_dir: Path | None) -> CudaSegmenter:
    """Open the GPU and send nothing through it yet, of the most usual size."""
    reason = nvidia.why_not()
    if reason:
        raise EngineError(f"CUDA cannot be used: {reason}", hint='Set engine = "cpu".')
    from vcam.gpu.segmenter import CudaSegmenter  # torch takes seconds

    segmenter = CudaSegmenter(settings.model, smoothing=settings.smoothing, cache_dir=cache_dir)
    segmenter.warm(1280, 720, Scene(1280, 720, np.full((1080, 1280), 128, np.uint8)))
    return segmenter


def _warm(segmenter: Segmenter) -> None:
    """Run every kernel once, so that none is compiled while a call is on."""
    segmenter.prepare(144, 256)  # as wide as nearly every webcam's
    luma, chroma = np.full((144, 256), 90, np.uint8), np.full((72, 128), 128, np.uint8)
    backdrop = np.full((216, 256), 128, np.uint8)
    compositor = Compositor(256, 144)
    for seq, full_range in enumerate((False, True)):
        frame = Frame(Planes(luma, chroma, chroma, full_range), 0.0, seq)
        matte = segmenter.matte(frame.planes, seq=seq, pts=0.0)
        compositor.compose(frame, matte, backdrop, Look())
        compositor.compose(frame, matte, Blur(50), Look())
    segmenter.reset()


class Matting:
    """Makes the matte of each frame, or says why there is none. Opened on entry, closed on exit.

    `matte`, `reset` and `wipe` belong to the pipeline thread; `apply` may be called from any.
    """

    def __init__(
        self, settings: MatteSettings, cache_dir: Path | None, opener: Opener = open_segmenter
    ) -> None:
        self._settings = settings  # replaced as a whole, by any thread
        self._adjusted: MatteSettings | None = None  # what the segmenter in use was told last
        self._cache_dir = cache_dir
        self._opener = opener
        self._segmenter: Mattes | None = None  # the loop's own
        self._models: Reopener[Mattes] = Reopener(
            "model",
            self._open_wanted,
            lambda segmenter: segmenter.close(),
            back_off=BACK_OFF,
            # A model in use that works goes on: what was asked for instead stays away.
            retry=lambda error: self._segmenter is None or self._failures >= FAILURES,
        )
        self._failures = 0  # in a row
        self._gpu_words: deque[str] = deque()  # reasons to leave the GPU, "" to try it once more
        # Why the GPU is not used, although there is one or it was asked for; the model thread's own
        self._gpu_problem = ""
        self._misfit = ""  # why the model in use cannot serve this camera; the loop's own

    def __enter__(self) -> Matting:
        self._models.now()
        self._models.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._models.close()
        if self._segmenter is not None:
            self._segmenter.close()

    @property
    def problem(self) -> str:
        """Reason that the model that was asked for is not in use; "" while it is."""
        return self._models.problem or self._misfit or self._gpu_problem

    @property
    def ready(self) -> bool:
        """True if a model is open and will be in use with the next frame."""
        return self._models.waiting

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times, for the status."""
        segmenter = self._segmenter
        found = {} if segmenter is None else segmenter.info
        return {"engine": None, **found, "problem": self.problem or None}

    @property
    def packed(self) -> bool:
        """True if the engine takes a camera's packed pictures apart itself."""
        return self._segmenter is not None and self._segmenter.draws

    def apply(self, settings: MatteSettings) -> None:
        """Open what `settings` ask for; the matte in use goes on until the new one is ready."""
        before, self._settings = self._settings, settings
        # A dragged slider must not open the model again. Choosing one person takes another engine
        # where there is a GPU.
        light = {"smoothing": settings.smoothing, "people": settings.people}
        moves = self.info["engine"] == "cuda" and before.people != settings.people
        if self._segmenter is None or moves or before.model_copy(update=light) != settings:
            self._gpu_words.append("")  # whoever changes settings gets another try
            self._models.now()

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone now, or forget it; any thread. False where none is learnt."""
        segmenter = self._segmenter
        return segmenter is not None and segmenter.tell_room(word)

    @property
    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        segmenter = self._segmenter
        return None if segmenter is None else segmenter.room_map

    def reset(self) -> None:
        """Forget the frames before. Pipeline thread only."""
        if self._segmenter is not None:
            self._segmenter.reset()

    def wipe(self) -> None:
        """Overwrite all that is kept of the frames before. Pipeline thread only."""
        if self._segmenter is not None:
            self._segmenter.wipe()

    def _follow(self) -> None:
        """Tell the segmenter what the settings say now and it can do without being opened anew."""
        settings, self._adjusted = self._settings, self._settings
        if self._segmenter is not None:
            self._segmenter.adjust(smoothing=settings.smoothing, people=settings.people)

    def matte(self, frame: Frame | Fault | None, scene: Scene | None = None) -> Matte | Fault:
        """Return the matte of `frame`, or the reason why there is none.

        An engine that draws puts the person into `scene` as well, for the guard to judge.
        """
        if (opened := self._models.take()) is not None:
            old, self._segmenter = self._segmenter, opened
            self._failures, self._adjusted, self._misfit = 0, None, ""
            if old is not None:
                self._models.give_back(old)
        if self._adjusted is not self._settings:
            self._follow()
        if frame is None or isinstance(frame, Fault):
            return Fault("no frame")
        if self._segmenter is None:
            return Fault("model cannot be used" if self._models.problem else "starting")
        try:
            matte = self._segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts, scene=scene)
        except Exception as error:  # whatever it is, the answer is the card
            if self._segmenter.draws:
                return self._leave_gpu(error)
            self._failures += 1
            if isinstance(error, UntrustedError):  # at the size of this camera, not when opened
                self._misfit = str(error)
            if self._failures == 1:
                log.warning("engine: %s", error, exc_info=not isinstance(error, SegmentationError))
            if self._failures >= FAILURES:
                self._models.again()
            return Fault("engine failed")
        self._failures = 0
        return Fault("starting") if matte is None else matte

    def _leave_gpu(self, error: Exception) -> Fault:
        """Give the GPU up, and have the processor take over; the card is shown until it does."""
        log.warning("GPU: %s", error, exc_info=not isinstance(error, SegmentationError))
        self._gpu_words.append(f"{error}; the processor does the work")
        lost, self._segmenter = self._segmenter, None
        if lost is not None:
            # A GPU that hangs does not answer to this either, and the loop must go on.
            threading.Thread(target=lost.close, name="gpu", daemon=True).start()
        self._models.now()
        return Fault("engine failed")

    def _open(self, settings: MatteSettings) -> Mattes:
        """Open on the GPU where there is a usable one, else on the processor, noting why."""
        only_gpu = settings.model.endswith(".safetensors")
        if settings.engine == "auto" and settings.model != "auto" and not only_gpu:
            return self._opener(settings, self._cache_dir)
        if settings.engine != "cpu" and not self._gpu_problem:
            reason = nvidia.why_not()
            try:
                if not reason:
                    return self._opener(
                        settings.model_copy(update={"engine": "cuda"}), self._cache_dir
                    )
            except SegmentationError as error:
                if only_gpu:
                    raise
                reason = str(error)
                log.warning("GPU: %s %s", error, error.hint)
            if settings.engine == "cuda" or not nvidia.why_not() or nvidia.card()[0]:
                self._gpu_problem = f"{reason}; the processor does the work"
        return self._opener(settings.model_copy(update={"engine": "cpu"}), self._cache_dir)

    def _open_wanted(self) -> Mattes:
        while self._gpu_words:
            self._gpu_problem = self._gpu_words.popleft()
        started = time.monotonic()
        opened = self._open(self._settings)
        log.info("model: ready after %.1f s", time.monotonic() - started)
        return opened
