"""Whole frames on an NVIDIA GPU, in the place of the segmenter and the compositor."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from segmentation.engines import answers, networks
from segmentation.errors import EngineError
from segmentation.matte import Matte
from segmentation.motion import temporal
from segmentation.motion.temporal import moved
from segmentation.sizes import input_size
from vcam.compose.scene import Scene
from vcam.gpu.packing import Packing, packing_of
from vcam.gpu.plan import AREA, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.motion.room import RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People
from segmentation.engines.cuda import (
    PRECISIONS,
    as_engine_error,
    first_line,
    open_device,
    read_weights,
    weights_path,
)

FROZEN: Final = 8  # answers in a row that stay the same although the picture moves
RELEASE: Final = 30.0  # seconds without a frame after which the GPU's memory is given back


class CudaSegmenter:
    """Mattes and composites of whole frames. Owned by one thread, closed by who opened it.

    With `device="cpu"` the same arithmetic runs on the processor, slowly, which is how it is
    tested where there is no GPU.

    Raises:
        ModelError: the weights are missing, damaged, or no BiSeNet.
        EngineError: the GPU cannot be used.
    """

    draws = True  # it wants to know the scene, and its mattes come with a composite

    def __init__(
        self,
        model: str = "auto",
        *,
        smoothing: float = 0.6,
        precision: str = "",
        device: str = "cuda",
        cache_dir: Path | None = None,
        network: str = "",
        kernels: str = "",
        area: int = AREA,
        examine: bool = True,
    ) -> None:
        self._examine = examine
        self.device = torch.device(device)
        self._gpu = self.device.type == "cuda"
        self.precision = precision or ("fp16" if self._gpu else "fp32")
        self.model = weights_path(model).stem
        self._weights = read_weights(weights_path(model))
        self._decay = temporal.Smoother(smoothing).decay
        self._area = area
        self._cache = cache_dir
        self.network = network  # which of `networks.KINDS`; "" until measured
        self.kernels = kernels  # "torch" or "triton", for the pixels; "" until measured
        self._plan: Plan | None = None
        self._built: Plan | Exception | None = None  # by the builder, for whoever runs frames
        self._builder: threading.Thread | None = None
        self._fresh = True
        self._last = time.monotonic()  # when a frame was last asked for
        self._same = 0
        self._known: tuple[NDArray[np.float32], NDArray[np.uint8]] | None = None
        self._spent = 0.0
        with as_engine_error("cannot be used"):
            self.name = open_device(self.device)

    def warm(self, width: int, height: int, scene: Scene) -> None:
        """Build what frames of this size need, so that the first one does not wait for it."""
        packing = Packing.planar((height, width), (height, width // 2), full_range=False)
        with as_engine_error("cannot be used"):
            self._plan = self._build(packing, scene)

    def matte(
        self,
        planes: Planes,
        *,
        seq: int,
        pts: float,
        scene: Scene | None = None,
    ) -> Matte | None:
        """Return the matte of a frame with its composite; None while the GPU is made ready.

        Raises:
            ValueError: there is no scene to draw.
            EngineError: the GPU failed, went away, or answers nonsense.
        """
        if scene is None:
            raise ValueError("a composite is drawn into a scene, and none is given")
        packing, parts = packing_of(planes)
        return self.run(packing, parts, seq=seq, pts=pts, scene=scene)

    def run(
        self,
        packing: Packing,
        parts: tuple[NDArray[np.uint8], ...],
        *,
        seq: int,
        pts: float,
        scene: Scene,
    ) -> Matte | None:
        """Return the matte of a frame whose bytes are `parts`, one after the other; see `matte`."""
        started = time.perf_counter()
        self._last = time.monotonic()
        plan = self._plan_for(packing, scene)
        if plan is None:
            return None
        with as_engine_error("failed"):
            plan.load(parts, seq, self._fresh, scene, self._decay)
            plan.run()
            self._fresh = False
            matte = plan.answer(seq, pts)
        self._watch(matte)
        self._spent += 0.05 * (time.perf_counter() - started - self._spent)
        return matte

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times for `vcam status`; times are moving averages in ms."""
        plan = self._plan
        return {
            "engine": "cuda",
            "device": f"CUDA, {self.name}" if self._gpu else self.name,
            "model": self.model,
            "precision": self.precision,
            "network": self.network,
            "kernels": self.kernels,
            "size": [plan.size[1], plan.size[0]] if plan else None,
            "quality": "high",
            "every": 1,
            "governed": False,
            "cpu_percent": None,
            "present": plan.present if plan else False,
            "gpu_memory_mb": self.memory >> 20,
            "stages_ms": {"gpu": round(self._spent * 1000, 2)},
        }

    @property
    def memory(self) -> int:
        """Bytes that torch holds on the GPU, the driver's own share not counted."""
        return torch.cuda.memory_reserved(self.device) if self._gpu else 0

    def tell_room(self, word: RoomWord) -> bool:
        """No room is learnt on the GPU."""
        return False

    @property
    def room_map(self) -> None:
        """No room is learnt on the GPU."""
        return

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength from the next frame on; any thread.

        Raises:
            ValueError: choosing among people takes the processor: open another engine.
        """
        if people != "everyone":
            raise ValueError(f"people is {people!r}, expected 'everyone' on the GPU")
        self._decay = temporal.Smoother(smoothing).decay

    def reset(self) -> None:
        """Forget the frames before; after a while without any, give the GPU's memory back."""
        self._known, self._same = None, 0
        if not self._fresh and self._plan is not None:
            self._fresh = True
            with contextlib.suppress(RuntimeError):
                self._plan.wipe()
        if self._plan is not None and time.monotonic() - self._last > RELEASE:
            self._release()

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them."""
        self.reset()

    def close(self) -> None:
        """Give everything on the GPU back."""
        if self._builder is not None:
            self._builder.join(30)
        self._release()

    def _release(self) -> None:
        self._plan = self._built = None
        if self._gpu:
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    def _plan_for(self, packing: Packing, scene: Scene) -> Plan | None:
        """The plan for such frames, the one in use until a changed look is ready, or None."""
        built, self._built = self._built, None
        if isinstance(built, Exception):
            raise EngineError(
                f"the GPU cannot be used: {first_line(built)}", hint='Set engine = "cpu".'
            ) from built
        plan = self._plan
        if built is not None:
            if plan is not None and plan.size == built.size:
                built.inherit(plan)
            else:
                self._fresh = True
            self._plan = plan = built
        if plan is not None and plan.fits(packing, scene):
            return plan
        if not self._gpu:
            fresh = self._build(packing, scene)
            if plan is not None and plan.size == fresh.size:
                fresh.inherit(plan)
            self._plan = fresh
            return fresh
        if self._builder is None or not self._builder.is_alive():
            self._builder = threading.Thread(
                target=self._build_aside, args=(packing, scene), name="gpu", daemon=True
            )
            self._builder.start()
        return plan if plan is not None and plan.may_stand_in(packing, scene) else None

    def _build_aside(self, packing: Packing, scene: Scene) -> None:
        try:
            self._built = self._build(packing, scene)
        except Exception as error:  # told to the thread that runs frames
            self._built = error

    def _build(self, packing: Packing, scene: Scene) -> Plan:
        full, _ = input_size(packing.y.height, packing.y.width, self._area)
        dtype = PRECISIONS[self.precision]
        if not self.network:
            self.network = networks.choose(self._weights, full, self.device, dtype, self._cache)
        network = networks.build(self.network, self._weights, full, self.device, dtype)
        plan = Plan(network, packing, scene, self.device, dtype, self._area)
        if self.kernels == "triton":
            with contextlib.suppress(RuntimeError, ImportError):  # too large a frame
                plan.use_triton()
        if self._gpu:
            plan.capture(measure=not self.kernels)
        self.kernels = self.kernels or plan.kernels
        if self._examine:
            self._ask(plan)
        return plan

    def _ask(self, plan: Plan) -> None:
        """Send two pictures through whose answer is known, from the camera's bytes on.

        Raises:
            UntrustedError: the answer is wrong.
        """
        with as_engine_error("failed"):
            fault = plan.fault()
            plan.wipe()
        if fault:
            raise answers.untrusted(self.model, f"{self.precision}, {plan.device.type}", fault)

    def _watch(self, matte: Matte) -> None:
        """Raise if the GPU gives the same matte again and again although the picture moves."""
        picture = matte.picture
        if self._known is None or not np.array_equal(self._known[0], matte.raw):
            self._known, self._same = (matte.raw.copy(), picture.copy()), 0
            return
        self._same = self._same + 1 if moved(self._known[1], picture) else 0
        if self._same >= FROZEN:
            raise EngineError("the GPU's matte stands still", hint='Set engine = "cpu".')
