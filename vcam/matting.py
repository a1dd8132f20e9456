"""Owns the segmenter: opens it off the frame loop, swaps it when settings change, turns its
failures into faults. A GPU takes over from the processor when it is ready, and hands back when it
fails."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from segmentation.engines import devices, nvidia
from segmentation.engines.layout import is_device
from segmentation.errors import EngineError, SegmentationError, UntrustedError
from segmentation.planes import Planes
from vcam.compose.compositor import Compositor, crops
from vcam.compose.scene import Blur, Look, Scene
from vcam.frame import Frame
from vcam.gpu.beside import Beside
from vcam.gpu.child import GpuChild
from vcam.guard import Fault
from vcam.system.memory import let_go_of_libraries, scrub
from vcam.system.power import on_battery
from vcam.system.reopener import BackOff, Reopener
from vcam.system.systemd import give_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomCopy, RoomWord
    from segmentation.refine import People
    from segmentation.segmenter import Segmenter
    from vcam.gpu.mattes import Aside, Mattes
    from vcam.settings.config import MatteSettings

log = logging.getLogger(__name__)

FAILURES = 3  # in a row before the engine is opened anew
BACK_OFF = BackOff(0.25, 1.0)  # between tries to open it; a mended model waits the last at most
RELEASE = 60.0  # seconds without a frame for it after which an engine is closed
GPU_ONLY: Final = ".safetensors"  # weights that OpenVINO does not read
LOOK = 10.0  # seconds between looks at where the power comes from
HEARD: Final = 1.0  # seconds for which a word to learn the room waits for an engine


Opener = Callable[["MatteSettings", Path | None], "Mattes"]


def open_segmenter(settings: MatteSettings, cache_dir: Path | None) -> Mattes:
    """Open the segmenter that `settings` ask for, and warm the pixel kernels.

    Choosing one person among several needs the processor: of weights that only a GPU runs, the
    network alone runs there then.

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
    if is_device(settings.engine):
        return Beside(segmenter)
    _warm(segmenter)
    return segmenter


def _open_cuda(settings: MatteSettings, cache_dir: Path | None) -> GpuChild:
    """Open the GPU, in a process of its own."""
    reason = nvidia.why_not()
    if reason:
        raise EngineError(f"CUDA cannot be used: {reason}", hint='Set engine = "cpu".')
    return GpuChild(settings.model, smoothing=settings.smoothing, cache_dir=cache_dir)


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


def _hand_room_over(giver: Mattes | None, taker: Mattes) -> None:
    """Have `taker` know the room that `giver` knows."""
    with contextlib.suppress(SegmentationError):  # its next frame tells of it
        if giver is not None and (kept := giver.lend_room()) is not None:
            taker.recall_room(kept)


class Matting:
    """Makes the matte of each frame, or says why there is none. Opened on entry, closed on exit.

    While frames come the processor's engine is open, and serves while there is no GPU, while the
    GPU is made ready, and from the very frame on which it fails. Only weights that no processor
    runs stand alone. Without frames for `RELEASE` both are closed: their graphs take more memory
    than all the rest.

    `matte`, `reset` and `wipe` belong to the pipeline thread; `apply` and `tend` to any other.
    """

    def __init__(
        self, settings: MatteSettings, cache_dir: Path | None, opener: Opener = open_segmenter
    ) -> None:
        self._settings = settings  # replaced as a whole, by any thread
        self._adjusted: MatteSettings | None = None  # what the segmenters in use were told last
        self._cache_dir = cache_dir
        self._opener = opener
        self._segmenter: Mattes | None = None  # the loop's own, as is the next
        self._gpu: Aside | None = None
        self._gpu_now = False  # the last matte came from it
        self._models: Reopener[Mattes] = Reopener(
            "model",
            self._open,
            self._close,
            back_off=BACK_OFF,
            # A model in use that works goes on: what was asked for instead stays away.
            retry=lambda error: self._segmenter is None or self._failures >= FAILURES,
        )
        self._gpus: Reopener[Mattes | None] = Reopener(
            "GPU",
            self._open_gpu,
            lambda segmenter: segmenter.close() if segmenter else None,
            back_off=BACK_OFF,
            retry=lambda error: False,  # settings that change give it another try
            failed=self._gpu_failed,
        )
        self._failures = 0  # in a row
        self._used = time.monotonic()  # when a matte was asked for last
        self._rests: dict[str, Any] | None = None  # `info` of the engine that was closed till then
        self._left = False  # memory of the engine that was closed is still to be given back
        self._lesson = float("-inf")  # when the room was to be learnt, and no engine was there
        # Why the GPU is not used, although there is one or it was asked for; replaced as a whole
        self._gpu_problem = ""
        self._gpu_rests = False  # it ended because nobody watched
        self._gpu_used = self._looked = time.monotonic()
        self._retry_at = float("inf")  # when a GPU that failed gets another try
        self._battery = on_battery()
        self._cropped = False  # the last scene shows a part of the frame, which no engine draws
        self._misfit = ""  # why the model in use cannot serve this camera; the loop's own

    def __enter__(self) -> Matting:
        self._models.now()
        self._models.__enter__()
        self._gpus.__enter__()
        if self._wants_gpu(self._settings):
            self._gpus.now()
        return self

    def __exit__(self, *_: object) -> None:
        self._gpus.close()
        self._models.close()
        for engine in (self._gpu, self._segmenter):
            if engine is not None:
                engine.close()

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
        engine = self._gpu if self._gpu_now else self._segmenter
        found = self._rests or {} if engine is None else engine.info
        return {"engine": None, **found, "waits": self._waits, "problem": self.problem or None}

    @property
    def _waits(self) -> str | None:
        """Reason that a GPU which works is not in use now; None while it is, or there is none."""
        settings, gpu = self._settings, self._gpu
        if self._gpu_now or self._gpu_problem or settings.engine == "cpu":
            return None
        if settings.people != "everyone" and gpu is not None and gpu.draws:
            return "choosing one person takes the processor"
        if self._cropped and gpu is not None and gpu.draws:
            return "framing takes the processor"
        if settings.engine == "auto" and self._battery and nvidia.present():
            return "on a battery the NVIDIA GPU rests"
        return None if gpu is None else "the GPU is being made ready"

    @property
    def packed(self) -> bool:
        """True if the engine takes a camera's packed pictures apart itself."""
        if self._gpu is not None and self._gpu.draws:
            return self._may_use_gpu()
        return self._segmenter is not None and self._segmenter.draws

    def apply(self, settings: MatteSettings) -> None:
        """Open what `settings` ask for; the matte in use goes on until the new one is ready."""
        before, self._settings = self._settings, settings
        if settings == before:
            return
        # A dragged slider must not open the model again, nor does choosing one person.
        light = {"smoothing": settings.smoothing, "people": settings.people}
        missing = self._segmenter is None and self._rests is None
        heavy = missing or before.model_copy(update=light) != settings
        if heavy:
            self._models.now()
        if heavy or before.people != settings.people:
            self._gpu_problem = ""  # whoever changes settings gets another try
            gone = self._gpu is None and not self._gpu_rests
            if self._wants_gpu(settings) and (heavy or gone):
                self._gpus.now()

    def tend(self) -> None:
        """Look now and then where the power comes from: on a battery the processor does it.

        And give back what an engine that rests had of memory, once nobody holds it any more.
        """
        if self._left:
            self._left = False
            if self._rests is not None:  # else frames come again, which would wait
                give_back()
                let_go_of_libraries()
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        if now >= self._retry_at:
            self._retry_at, self._gpu_problem = float("inf"), ""
            if self._gpu is None and self._wants_gpu(self._settings):
                self._gpus.now()
        before, self._battery = self._battery, on_battery()
        turned = before != self._battery and self._settings.engine == "auto"
        if turned and self._wants_gpu(self._settings):
            self._gpus.now()

    def woke_up(self) -> None:
        """Give the GPU another try soon: many drivers lose it in a suspend, and find it again."""
        self._retry_at = time.monotonic() + LOOK

    @property
    def _serves(self) -> Mattes | None:
        """The engine in use, which has the room; None while none is open. Any thread."""
        gpu = self._gpu
        return gpu if self._gpu_now and gpu is not None else self._segmenter

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone now, or forget it; any thread. False where none is learnt."""
        engine, rests = self._serves, self._rests
        if engine is not None:
            return engine.tell_room(word)
        if word == "learn":
            self._lesson = time.monotonic()
            return rests is not None and rests.get("room") is not None
        return True  # there is nothing to forget

    @property
    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        engine = self._serves
        return None if engine is None else engine.room_map

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        if (engine := self._serves) is not None:
            engine.recall_room(kept)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread."""
        engine = self._serves
        return None if engine is None else engine.copy_room()

    def reset(self) -> None:
        """Forget the frames before. Pipeline thread only."""
        self._forget("reset")

    def wipe(self) -> None:
        """Overwrite all that is kept of the frames before. Pipeline thread only."""
        self._forget("wipe")

    def _forget(self, how: str) -> None:
        if self._gpu is not None:
            try:
                getattr(self._gpu, how)()
            except Exception as error:
                self._leave_gpu(error)
        self._rest_gpu()
        if self._segmenter is not None:
            getattr(self._segmenter, how)()
        self._rest_model()

    def _follow(self) -> None:
        """Tell the segmenters what the settings say now and they can do without being reopened."""
        settings, self._adjusted = self._settings, self._settings
        if self._segmenter is not None:
            self._segmenter.adjust(smoothing=settings.smoothing, people=settings.people)
        if self._gpu is not None:
            people: People = "everyone" if self._gpu.draws else settings.people
            self._gpu.adjust(smoothing=settings.smoothing, people=people)

    def matte(self, frame: Frame | Fault | None, scene: Scene | None = None) -> Matte | Fault:
        """Return the matte of `frame`, or the reason why there is none.

        An engine that draws puts the person into `scene` as well, for the guard to judge, where it
        knows how.
        """
        if self._rests is not None:
            self._models.soon()  # while the camera is being opened
        self._used = time.monotonic()
        self._take()
        if self._adjusted is not self._settings:
            self._follow()
        if frame is None or isinstance(frame, Fault):
            return Fault("no frame")
        self._cropped = scene is not None and crops(scene.look)
        scene = None if scene is None else scene.drawable
        if scene is not None and self._may_use_gpu():
            drawn = self._by_gpu(frame, scene)
            if drawn is not None:
                return drawn
        else:
            self._rest_gpu()
        if self._segmenter is None:
            return Fault("model cannot be used" if self._models.problem else "starting")
        self._hand_back()
        return self._by_segmenter(self._segmenter, frame, scene)

    def _by_segmenter(self, segmenter: Mattes, frame: Frame, scene: Scene | None) -> Matte | Fault:
        try:
            matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts, scene=scene)
        except Exception as error:  # whatever it is, the answer is the card
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

    def _take(self) -> None:
        """Use what was opened since the last frame."""
        if (opened := self._models.take()) is not None:
            old, self._segmenter, self._rests = self._segmenter, opened, None
            self._failures, self._adjusted, self._misfit = 0, None, ""
            if time.monotonic() - self._lesson < HEARD:
                opened.tell_room("learn")
            if old is not None:
                self._models.give_back(old)
        if (opened := self._gpus.take()) is not None:
            lost, self._gpu = self._gpu, cast("Aside", opened)
            self._adjusted, self._gpu_used = None, time.monotonic()
            if lost is not None:
                self._gpus.give_back(lost)

    def _by_gpu(self, frame: Frame, scene: Scene) -> Matte | None:
        """Return the GPU's matte of `frame`; None where the processor has to make one."""
        if self._gpu is None:
            if self._gpu_rests:
                self._gpu_rests = False
                self._gpus.now()
            return None
        self._gpu_used = time.monotonic()
        try:
            if not self._gpu_now:
                if not self._gpu.prepare(frame.planes, scene):
                    return None
                self._gpu.reset()
                _hand_room_over(self._segmenter, self._gpu)
            matte = self._gpu.matte(frame.planes, seq=frame.seq, pts=frame.pts, scene=scene)
        except Exception as error:  # whatever it is, the processor has this very frame, too
            self._leave_gpu(error)
            return None
        if matte is not None:
            if not self._gpu_now and self._segmenter is not None:
                self._segmenter.reset()  # it has a room, too, that no word reaches from now on
            self._gpu_now = True
        return matte

    def _leave_gpu(self, error: Exception) -> None:
        """Give the GPU up; the processor's engine, which is open, takes over."""
        log.warning("GPU: %s", error, exc_info=not isinstance(error, SegmentationError))
        self._gpu_problem = f"{error or type(error).__name__}; the processor does the work"
        lost, self._gpu = self._gpu, None
        self._hand_back()
        if lost is not None:
            self._gpus.give_back(lost)  # a GPU that hangs does not answer to this either

    def _rest_gpu(self) -> None:
        """End the GPU's process where it had no frame for long: a laptop's GPU can sleep then."""
        if self._gpu is not None and time.monotonic() - self._gpu_used > RELEASE:
            idle, self._gpu, self._gpu_rests = self._gpu, None, True
            self._hand_back()
            self._gpus.give_back(idle)

    def _rest_model(self) -> None:
        """Close the processor's engine where it had no frame for long.

        One that goes on although others were asked for is kept: it is the only one that works.
        """
        if time.monotonic() - self._used <= RELEASE or self._models.problem:
            return
        self._take()  # what settings that changed since have opened
        if (idle := self._segmenter) is not None:
            self._rests, self._segmenter = idle.info, None
            try:
                idle.wipe()  # now: the thread that closes it may have another one to open first
            finally:
                self._models.give_back(idle)

    def _hand_back(self) -> None:
        """Have the processor go on, which remembers nothing of what was before but the room."""
        if self._gpu_now and self._segmenter is not None:
            self._segmenter.reset()
            _hand_room_over(self._gpu, self._segmenter)
        self._gpu_now = False

    def _wants_gpu(self, settings: MatteSettings) -> bool:
        """True if something else than the processor may do the work, once it is ready."""
        if settings.model.endswith(GPU_ONLY) or self._gpu_problem:
            return False
        return settings.engine == "cuda" or (settings.engine, settings.model) == ("auto", "auto")

    def _may_use_gpu(self) -> bool:
        """True if it may do so now."""
        settings, gpu = self._settings, self._gpu
        if gpu is not None and gpu.draws:
            tired = settings.engine == "auto" and self._battery
            if settings.people != "everyone" or tired or self._cropped:
                return False
        return self._wants_gpu(settings)

    def _open(self) -> Mattes:
        """Open what serves always: the processor's engine, but for weights that only a GPU runs."""
        settings, started = self._settings, time.monotonic()
        alone = settings.model.endswith(GPU_ONLY) and settings.engine != "cpu"
        engine = "cuda" if alone else "cpu"
        opened = self._opener(settings.model_copy(update={"engine": engine}), self._cache_dir)
        log.info("model: ready after %.1f s", time.monotonic() - started)
        return opened

    def _close(self, segmenter: Mattes) -> None:
        """Close the processor's engine; while none is to follow, give its memory to the system."""
        segmenter.close()
        if self._rests is not None:
            scrub()
            self._left = True

    def _open_gpu(self) -> Mattes | None:
        """Open the GPU; None where there is no usable one.

        Raises:
            SegmentationError: it does not work.
        """
        settings = self._settings
        auto = settings.engine == "auto"
        reason = "" if auto and self._battery else nvidia.why_not()
        engine = "cuda"
        if reason or (auto and self._battery):
            if reason and (not auto or nvidia.present()):
                self._gpu_problem = f"{reason}; the processor does the work"
            engine = self._device() if auto else ""
        if not engine:
            return None
        opened = self._opener(settings.model_copy(update={"engine": engine}), self._cache_dir)
        self._gpu_problem = ""  # of a try before
        return opened

    def _device(self) -> str:
        """The device of OpenVINO that is faster than the processor here; "" if none."""
        return devices.fastest(threads=self._settings.threads, cache_dir=self._cache_dir)

    def _gpu_failed(self, error: Exception) -> None:
        self._gpu_problem = f"{error or type(error).__name__}; the processor does the work"
