"""Whole frames on an NVIDIA GPU, in the place of the segmenter and the compositor."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from segmentation.engines import answers, networks
from segmentation.engines.cuda import (
    PRECISIONS,
    as_engine_error,
    engine_error,
    first_line,
    open_device,
    read_weights,
    weights_path,
)
from segmentation.errors import SegmentationError
from segmentation.matte import Matte
from segmentation.motion import temporal
from segmentation.sizes import input_size
from vcam.compose.scene import Scene
from vcam.gpu.exchange import Stillness
from vcam.gpu.packing import Packing, packing_of
from vcam.gpu.plan import Plan
from vcam.gpu.rig import AREA, Host, Rig
from vcam.gpu.room.learner import Learner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.motion.room import RoomCopy, RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People

log = logging.getLogger(__name__)

RELEASE: Final = 30.0  # seconds without a frame after which the GPU's memory is given back
SIZED: Final = ("compile", "tensorrt")  # kinds of network that are built for one input size


@dataclass(frozen=True)
class Form:
    """Ways to compute; "" is measured, or the one that suits the device."""

    precision: str = ""  # one of `PRECISIONS`
    network: str = ""  # one of `networks.KINDS`
    kernels: str = ""  # "torch" or "triton", for the pixels
    area: int = AREA  # pixels of the network's input


class CudaSegmenter:
    """Mattes and composites of whole frames. Owned by one thread, closed by who opened it.

    Plans are built on one more thread, which lives as long: cuDNN keeps what it measured a thread.
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
        device: str = "cuda",
        cache_dir: Path | None = None,
        form: Form = Form(),
        host: Host | None = None,
        examine: bool = True,
    ) -> None:
        self._examine, self._host, self._cache = examine, host, cache_dir
        self.device = torch.device(device)
        self._gpu = self.device.type == "cuda"
        self.precision = form.precision or ("fp16" if self._gpu else "fp32")
        self.model = weights_path(model).stem
        self._weights = read_weights(weights_path(model))
        self._decay = temporal.Smoother(smoothing).decay
        self.form = replace(form, precision=self.precision)  # filled in as it is measured
        self._rig: tuple[object, Rig] | None = None
        self._plan: Plan | None = None
        self._built: Plan | Exception | None = None  # by the builder, for whoever runs frames
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._builder: threading.Thread | None = None
        self._building = False
        self._fresh = True
        self._last = time.monotonic()  # when a frame was last asked for
        self._stillness = Stillness()
        self._learner = Learner(pinned=self._gpu)
        self._spent = 0.0
        with as_engine_error("cannot be used"):
            self.name = open_device(self.device)

    def warm(self, packing: Packing, scene: Scene) -> None:
        """Build what such frames need, so that the first one does not wait for it."""
        done = threading.Event()
        found: list[Plan | Exception] = []

        def order() -> None:
            try:
                found.append(self._build(packing, scene))
            except Exception as error:
                found.append(error)
            done.set()

        self._order(order)
        done.wait()
        if isinstance(found[0], Exception):
            raise engine_error(found[0], "cannot be used") from found[0]
        self._plan = found[0]

    def prepare(self, planes: Planes, scene: Scene) -> bool:
        """Have what such frames need built aside; true once it is ready.

        Raises:
            EngineError: it cannot be built.
        """
        packing, _ = packing_of(planes)
        plan = self.plan_for(packing, scene)
        return plan is not None and plan.fits(packing, scene)

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
        plan = self.plan_for(packing, scene)
        if plan is None:
            return None
        with as_engine_error("failed"):
            plan.load(parts, seq, self._fresh, scene, self._decay)
            plan.run()
            self.began()
            matte = plan.answer(seq, pts)
        self.teach(plan, pts)
        self._stillness.watch(matte)
        self._spent += 0.05 * (time.perf_counter() - started - self._spent)
        return matte

    def teach(self, plan: Plan, pts: float) -> None:
        """Learn the room from the frame that went through `plan` last.

        Raises:
            EngineError: the GPU failed, or went away.
        """
        with as_engine_error("failed"):
            plan.teach(self._learner, pts)

    @property
    def network(self) -> str:
        """Kind of network in use; "" until one was measured."""
        return self.form.network

    @property
    def kernels(self) -> str:
        """Maker of the pixels' kernels; "" until they were measured."""
        return self.form.kernels

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
            "room": self.room,
            "gpu_memory_mb": self.memory >> 20,
            "stages_ms": {"gpu": round(self._spent * 1000, 2)},
        }

    @property
    def memory(self) -> int:
        """Bytes that torch holds on the GPU, the driver's own share not counted."""
        return torch.cuda.memory_reserved(self.device) if self._gpu else 0

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength from the next frame on; any thread.

        Raises:
            ValueError: choosing among people takes the processor: open another engine.
        """
        if people != "everyone":
            raise ValueError(f"people is {people!r}, expected 'everyone' on the GPU")
        self._decay = temporal.Smoother(smoothing).decay

    @property
    def room(self) -> dict[str, Any]:
        """State of the learned room, for the status; see `segmentation.motion.room.Room.info`."""
        return self._learner.info

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone from the next look on, or forget it; any thread."""
        self._learner.words.tell(word)
        return True

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        self._learner.words.recall(kept)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread."""
        return self._learner.words.copy()

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now; None while it is little."""
        return self._learner.room.copy()

    @property
    def room_map(self) -> NDArray[np.uint8]:
        """Where the room is known: (h, w) uint8, 255 where it is; any thread."""
        return self._learner.room.map

    def reset(self) -> None:
        """Forget the frames before; after a while without any, give the GPU's memory back.

        Raises:
            EngineError: the GPU is lost, and what lies there is not overwritten.
        """
        self._stillness.forget()
        self._learner.wipe()
        if not self._fresh and self._plan is not None:
            self._fresh = True
            with as_engine_error("failed"):
                self._plan.wipe()
        if self._plan is not None and time.monotonic() - self._last > RELEASE:
            self._release()

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them; see `reset`."""
        self.reset()

    def close(self) -> None:
        """Give everything on the GPU back."""
        if self._builder is not None:
            self._orders.put(None)
            self._builder.join(30)
            self._builder = None
        self._release()
        self._learner.wipe()

    def _release(self) -> None:
        if isinstance(self._built, Plan):
            self._built.close()
        self._built = self._rig = None
        self._release_plan()

    def _release_plan(self) -> None:
        if self._plan is not None:
            self._plan.close()
            self._plan = None
        if self._gpu:
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    def plan_for(self, packing: Packing, scene: Scene) -> Plan | None:
        """The plan for such frames, the one in use until a changed look is ready, or None.

        Raises:
            EngineError: none can be built.
        """
        self._last = time.monotonic()
        self.take_built()
        plan = self._plan
        if plan is not None and plan.fits(packing, scene):
            return plan
        if not self._gpu:
            self._built = self._build(packing, scene)
            self.take_built()
            return self._plan
        if not self._building:
            if plan is not None and plan.packing != packing:
                # It cannot stand in, and there may be no room for the network at two sizes.
                self._release_plan()
                plan = None
            self._building = True
            self._order(lambda: self._build_aside(packing, scene))
        return plan if plan is not None and plan.may_stand_in(packing, scene) else None

    @property
    def has_built(self) -> bool:
        """True if a plan waits to be taken into use, or the reason why there is none."""
        return self._built is not None

    def take_built(self) -> None:
        """Use the plan that was built aside from now on, where there is one.

        Raises:
            EngineError: it could not be built.
        """
        built, self._built = self._built, None
        if isinstance(built, Exception):
            raise engine_error(built, "cannot be used") from built
        if built is None:
            return
        plan, self._plan = self._plan, built
        if plan is None or plan.size != built.size:
            self._fresh = True
        else:
            with as_engine_error("failed"):
                built.inherit(plan)
        if plan is not None:
            plan.close()

    @property
    def fresh(self) -> bool:
        """True if the next frame is a first one: nothing before it counts."""
        return self._fresh

    def began(self) -> None:
        """Take note that a frame went through: it counts for those that come."""
        self._fresh, self._last = False, time.monotonic()

    def _order(self, order: Callable[[], None]) -> None:
        """Have the builder do something."""
        if self._builder is None:
            self._builder = threading.Thread(target=self._build_all, name="gpu", daemon=True)
            self._builder.start()
        self._orders.put(order)

    def _build_all(self) -> None:
        while (order := self._orders.get()) is not None:
            order()

    def _build_aside(self, packing: Packing, scene: Scene) -> None:
        try:
            self._built = self._build(packing, scene)
        except Exception as error:  # told to the thread that runs frames
            self._built = error
        self._building = False

    def _build(self, packing: Packing, scene: Scene) -> Plan:
        """Return a plan, by torch's kernels where Triton's fail."""
        rig = self._rig_for(packing)
        with_triton = self.kernels == "triton"
        try:
            return self._made(rig, packing, scene, with_triton=with_triton)
        except SegmentationError:
            raise
        except Exception as error:
            if not with_triton or isinstance(error, torch.OutOfMemoryError):
                raise
            log.warning("Triton's kernels fail, torch's are used: %s", first_line(error))
            self.form = replace(self.form, kernels="torch")
            return self._made(rig, packing, scene, with_triton=False)

    def _made(self, rig: Rig, packing: Packing, scene: Scene, *, with_triton: bool) -> Plan:
        plan = Plan(rig, packing, scene)
        try:
            if with_triton:
                with contextlib.suppress(RuntimeError, ImportError):  # too large a frame
                    plan.use_triton()
            if self._gpu:
                plan.capture(measure=not self.kernels)
            if self._examine:
                self._ask(plan)
        except Exception:
            plan.close()
            raise
        self.form = replace(self.form, kernels=self.kernels or plan.kernels)
        return plan

    def _rig_for(self, packing: Packing) -> Rig:
        """Return the network for such frames: one for all, but where its kind knows one size."""
        full, _ = input_size(packing.y.height, packing.y.width, self.form.area)
        dtype = PRECISIONS[self.precision]
        if not self.network:
            kind = networks.choose(self._weights, full, self.device, dtype, self._cache)
            self.form = replace(self.form, network=kind)
        key = full if self.network in SIZED else None
        if self._rig is None or self._rig[0] != key:
            network = networks.build(
                self.network, self._weights, full, self.device, dtype, self._cache
            )
            made = Rig(network, self.device, dtype, area=self.form.area, host=self._host)
            self._rig = key, made
        return self._rig[1]

    def _ask(self, plan: Plan) -> None:
        """Send two pictures through whose answer is known, from the camera's bytes on.

        Raises:
            UntrustedError: the answer is wrong.
        """
        with as_engine_error("failed"):
            fault = plan.fault()
            plan.wipe()
        if fault:
            raise answers.untrusted(self.model, f"{self.precision}, {plan.rig.device.type}", fault)
