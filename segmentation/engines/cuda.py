"""Whole frames on an NVIDIA GPU: one CUDA graph from the camera's bytes to the composite.

The GPU hands back two things for a frame: its matte, thinned out, which is what the guard judges,
and the composite, which nobody may see before the guard has said yes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from segmentation import temporal
from segmentation.bisenet import BiSeNet, load_weights
from segmentation.change import moved
from segmentation.engines import answers, gpu, networks
from segmentation.engines.gpu import HEADER, SAMPLE, Packing, Scene
from segmentation.engines.layout import Layout, weights_dir
from segmentation.errors import EngineError, ModelError
from segmentation.kernels import FULL, LIMITED
from segmentation.matte import Matte
from segmentation.sizes import input_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.refine import People

log = logging.getLogger(__name__)

SHIPPED: Final = "bisenet-r18"
AREA: Final = 512 * 512  # pixels of the network's input; its shape follows the frame
MEMORY: Final = 400 << 20  # bytes of the GPU's memory that are ours at most
PATIENCE: Final = 0.5  # seconds a frame may take before the GPU counts as lost
NAP: Final = 5e-5  # seconds between looks at whether the GPU is done
FROZEN: Final = 8  # answers in a row that stay the same although the picture moves
RELEASE: Final = 30.0  # seconds without a frame after which the GPU's memory is given back
STAGES: Final = ("upload", "prepare", "infer", "refine", "draw", "download")
PRECISIONS: Final = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


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
        with _as_engine_error("cannot be used"):
            self.name = open_device(self.device)

    def warm(self, width: int, height: int, scene: Scene) -> None:
        """Build what frames of this size need, so that the first one does not wait for it."""
        packing = Packing.planar((height, width), (height, width // 2), full_range=False)
        with _as_engine_error("cannot be used"):
            self._plan = self._build(packing, scene)

    def matte(
        self,
        y: NDArray[np.uint8],
        u: NDArray[np.uint8],
        v: NDArray[np.uint8],
        *,
        full_range: bool,
        seq: int,
        pts: float,
        scene: Scene,
    ) -> Matte | None:
        """Return the matte of a frame with its composite; None while the GPU is made ready.

        Shapes:
            y: (H, W) uint8; u, v: (H, W/2) or (H/2, W/2) uint8

        Raises:
            EngineError: the GPU failed, went away, or answers nonsense.
        """
        packing, parts = gpu.packing_of(y, u, v, full_range=full_range)
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
        with _as_engine_error("failed"):
            plan.load(parts, seq, self._fresh, scene, self._decay)
            plan.run()
            self._fresh = False
            matte = plan.answer(seq, pts)
        self._watch(matte)
        self._spent += 0.05 * (time.perf_counter() - started - self._spent)
        return matte

    @property
    def info(self) -> dict[str, Any]:
        """What runs, for `vcam status`; times are a moving average in milliseconds."""
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
                f"the GPU cannot be used: {_first_line(built)}", hint='Set engine = "cpu".'
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
        with _as_engine_error("failed"):
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


class Plan:
    """Everything between a frame's bytes and its composite, for frames of one shape in one scene.

    The stages are methods that read and write tensors of this object; `capture` records all of
    them into one CUDA graph for each of the two buffers.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        packing: Packing,
        scene: Scene,
        device: torch.device,
        dtype: torch.dtype,
        area: int = AREA,
    ) -> None:
        self.packing, self.scene, self.device = packing, replace(scene, backdrop=None), device
        self._pictured = scene.backdrop is not None
        self._network, self._dtype = network, dtype
        frame = packing.y
        self.full, self.size = input_size(frame.height, frame.width, area)
        h, w = self.size
        matrix = FULL if packing.full_range else LIMITED
        layout = Layout("bisenet")
        scale = [[1 / s, -m / s] for m, s in zip(layout.mean, layout.std, strict=True)]
        self._shapers: Any = None  # Triton's kernels, where they are used: `pixels.Shapers`
        self._matrix = torch.tensor(matrix, dtype=torch.float32, device=device)
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device)
        shapes = [(p.height, p.width) for p in packing.seen]
        self._shrinks = [gpu.Shrink(shape, (h, w), device) for shape in shapes]
        self._tidy = gpu.Tidy(h, w, device, settle=device.type == "cpu")
        self._smoother = gpu.Smoother(h, w, device)
        self._colours = gpu.Colours(h, w, device)
        self._fit = gpu.Fit(packing, scene, h, w, device)
        self._spill = gpu.Spill(self._fit, scene, (h, w), device)
        self._buffers(scene)
        self.present = False
        self._turn = 0
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._stream: torch.cuda.Stream | None = None
        self._done: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def _buffers(self, scene: Scene) -> None:
        h, w = self.size
        pixels = scene.width * scene.height * 3 // 2
        self._shape = (scene.height * 3 // 2, scene.width)
        self._thin = (-(-h // SAMPLE), -(-w // SAMPLE))
        n = self._thin[0] * self._thin[1]
        self._floats = slice(HEADER, HEADER + 16 * n)
        self._bytes = slice(HEADER + 16 * n, HEADER + 19 * n)
        self._pixels = slice(-(-(HEADER + 19 * n) // 64) * 64, None)
        up, down = HEADER + self.packing.size, self._pixels.start + pixels

        def host(size: int) -> list[Tensor]:
            pinned = self.device.type == "cuda"
            return [torch.zeros(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]

        def there(size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.uint8, device=self.device)

        self._up, self._down = host(up), host(down)
        self._above, self._answer = there(up), there(down)
        self._backdrop_up = host(pixels)[0]
        self._behind = there(pixels)
        self._backdrop: NDArray[np.uint8] | None = None
        self._raw = torch.zeros(self.size, device=self.device)

    def fits(self, packing: Packing, scene: Scene) -> bool:
        """True if frames packed so, in such a scene, are what this is made for."""
        return (
            packing == self.packing
            and replace(scene, backdrop=None) == self.scene
            and (scene.backdrop is not None) == self._pictured
        )

    def may_stand_in(self, packing: Packing, scene: Scene) -> bool:
        """True if only the look differs: the old one may be shown until the new one is ready.

        It must hide the room as well as the new one would: a picture does, a weaker blur does not.
        """
        same = (scene.width, scene.height) == (self.scene.width, self.scene.height)
        blurs_enough = scene.backdrop is None and self.scene.blur >= scene.blur
        return packing == self.packing and same and (self._pictured or blurs_enough)

    def inherit(self, other: Plan) -> None:
        """Go on where another plan of the same size stopped, so that nobody sees the change."""
        with self._on_stream():
            for mine, theirs in zip(self._state(), other._state(), strict=True):
                mine.copy_(theirs)

    def _state(self) -> list[Tensor]:
        smoother = self._smoother
        return [smoother.held, smoother.before, smoother.noise, self._tidy.present]

    def load(
        self,
        parts: tuple[NDArray[np.uint8], ...],
        seq: int,
        fresh: bool,
        scene: Scene,
        decay: float,
    ) -> None:
        """Put a frame where the GPU fetches it; a new backdrop goes up at once."""
        self._turn = 1 - self._turn
        place = self._up[self._turn].numpy()
        place[:16].view(np.int64)[:] = seq, fresh
        place[16:20].view(np.float32)[:] = decay
        at = HEADER
        for part in parts:
            np.copyto(place[at : at + part.size].reshape(part.shape), part)
            at += part.size
        if at != place.size:
            raise ValueError(f"a frame of {at - HEADER} bytes, expected {self.packing.size}")
        backdrop = scene.backdrop
        if not self._pictured or backdrop is None or backdrop is self._backdrop:
            return
        if backdrop.shape != self._shape or backdrop.dtype != np.uint8:
            raise ValueError(f"backdrop is {backdrop.dtype} {backdrop.shape}, not {self._shape}")
        np.copyto(self._backdrop_up.numpy().reshape(self._shape), backdrop)
        with self._on_stream():
            self._behind.copy_(self._backdrop_up, non_blocking=True)
        self._backdrop = backdrop

    def run(self) -> None:
        """Send the frame through, and return once the answer is here.

        Raises:
            EngineError: it took too long: the GPU is lost.
        """
        if self._stream is None:
            with torch.inference_mode():
                self.stages(self._turn)
            return
        with self._on_stream():
            self._graphs[self._turn].replay()
            self._done.record(self._stream)
        # Waiting in CUDA has no end if the GPU hangs, or spins. Looking now and then has neither.
        patience = time.monotonic() + PATIENCE
        while not self._done.query():
            if time.monotonic() > patience:
                raise EngineError(
                    f"the GPU took more than {PATIENCE:g} s for a frame", hint='Set engine = "cpu".'
                )
            time.sleep(NAP)

    def answer(self, seq: int, pts: float) -> Matte:
        """Return what came back; valid until the call after next.

        Raises:
            EngineError: it belongs to another frame.
        """
        back = self._down[self._turn].numpy()
        stamp, present, cut = (int(x) for x in back[:24].view(np.int64))
        if stamp != seq:
            raise EngineError(
                f"the GPU answered for frame {stamp}, expected {seq}", hint='Set engine = "cpu".'
            )
        self.present = bool(present)
        raw, alpha, a, b = back[self._floats].view(np.float32).reshape(4, *self._thin)
        picture = back[self._bytes].reshape(3, *self._thin)
        composite = back[self._pixels].reshape(self._shape)
        return Matte(alpha, a, b, seq, pts, raw, picture, bool(cut), self.present, composite)

    def fault(self) -> str:
        """Say what is wrong with the answers to the pictures of `answers`; nothing if right."""
        packing, mattes = self.packing, []
        height, width = packing.y.height, packing.y.width
        h, w = answers.part(height, width)
        if min(h, answers.part(*self.size)[0]) < answers.SMALLEST:
            return ""
        for seq, picture in enumerate(answers.pictures(h, w)):
            frame = cv2.copyMakeBorder(
                np.moveaxis(picture, 0, -1), 0, height - h, 0, width - w, cv2.BORDER_REPLICATE
            )
            self._turn = 1 - self._turn
            place = self._up[self._turn].numpy()
            place[:16].view(np.int64)[:] = seq, True
            place[16:20].view(np.float32)[:] = 0
            planes = zip((packing.y, packing.u, packing.v), np.moveaxis(frame, -1, 0), strict=True)
            for plane, pixels in planes:
                plane.put(place[HEADER:], pixels)
            self.run()
            mattes.append(self.answer(seq, 0.0).raw.copy())
        rows, columns = answers.part(*self.size)
        known = answers.person(rows, columns)[::SAMPLE, ::SAMPLE]
        before, alone = (matte[: known.shape[0], : known.shape[1]] for matte in mattes)
        return answers.fault_in(before, alone, known)

    def wipe(self) -> None:
        """Leave no picture of the room or of a person behind, here or on the GPU."""
        with self._on_stream():
            for buffer in (*self._up, *self._down, self._above, self._answer, *self._state()[:2]):
                buffer.zero_()
            if not self._pictured:
                self._behind.zero_()  # the room, blurred
            if self._shapers is not None:
                self._shapers.wipe()
        if self._stream is not None:
            self._stream.synchronize()

    def stages(self, turn: int) -> None:
        """Run every stage, in order, on the buffers of `turn`."""
        for name in STAGES:
            getattr(self, name)(turn)

    def upload(self, turn: int) -> None:
        """Fetch the frame's bytes, its number, whether it is the first, and how steady to be."""
        self._above.copy_(self._up[turn], non_blocking=True)
        self._decay = self._above[16:20].view(torch.float32)[0]
        self._seq, self._fresh = self._above[:16].view(torch.int64)
        self._data = self._above[HEADER:]

    def prepare(self, turn: int) -> None:
        """From the frame's planes to the network's input."""
        if self._shapers is not None:
            self._picture, self._x = self._shapers.prepare(self._data)
            return
        planes = [plane.of(self._data) for plane in self.packing.seen]
        self._picture = torch.stack(
            [shrink(plane) for shrink, plane in zip(self._shrinks, planes, strict=True)]
        )
        self._x = gpu.to_input(self._picture, self._matrix, self._scale, self.full, self._dtype)

    def infer(self, turn: int) -> None:
        """What the network says."""
        h, w = self.size
        logits = self._network(self._x)
        self._raw = torch.sigmoid(logits[0, 0, :h, :w].float())

    def refine(self, turn: int) -> None:
        """Islands and holes, steadiness, edges."""
        if self._shapers is not None:
            made = self._shapers.refine(self._raw, self._picture, self._above)
            self._alpha, self._a, self._b = made
            return
        fresh = self._fresh != 0
        self._tidy.present.logical_and_(~fresh)
        # What is no number shows the backdrop, and does not stay in the moving average.
        alpha = self._tidy(torch.nan_to_num(self._raw, nan=0.0))
        alpha, self._cut = self._smoother(alpha, self._picture, fresh, self._decay)
        self._alpha, self._a, self._b = gpu.guided(alpha, self._picture[0])

    def draw(self, turn: int) -> None:
        """Put the person in front of the backdrop, right where the answer is fetched from."""
        scene, fit, picture = self.scene, self._fit, self._picture
        full_range = self.packing.full_range
        out = self._answer[self._pixels]
        if self._shapers is not None:
            made = self._alpha, self._a, self._b
            self._shapers.draw(self._data, picture, made, self._behind, out, self._pictured)
            return
        purity = wrap = None
        if scene.decontaminate or not self._pictured:
            self._colours.take(picture, self._alpha, full_range=full_range)
        if not self._pictured:
            small = self._colours.blurred(gpu.sigma(scene, self.size))
            gpu.blur(self._behind, small, fit, scene)
        if scene.decontaminate:
            purity = self._colours.near()
        if scene.light_wrap > 0:
            wrap = self._spill(self._alpha, self._behind)
        a, b = self._a, self._b
        planes = fit.planes(self.packing, self._data)
        if scene.mirror:
            planes = [plane.flip(-1) for plane in planes]
            a, b = a.flip(-1), b.flip(-1)
            purity = None if purity is None else purity.flip(-1)
        gpu.draw(planes, a, b, purity, wrap, self._behind, out, fit, scene, full_range=full_range)

    def download(self, turn: int) -> None:
        """Hand back the composite, and of the matte as much as the guard needs."""
        if self._shapers is not None:
            self._shapers.answer(self._raw, self._picture, self._above, self._answer)
            self._down[turn].copy_(self._answer, non_blocking=True)
            return
        self._answer[:24].view(torch.int64).copy_(
            torch.stack((self._seq, self._tidy.present.long(), self._cut.long()))
        )
        thin = torch.stack((self._raw, self._alpha, self._a, self._b))
        # One pixel that is no number, sampled or not, makes all of them so: the guard must see it.
        poison = thin.sum() * 0
        samples = thin[:, ::SAMPLE, ::SAMPLE] + poison
        self._answer[self._floats].view(torch.float32).copy_(samples.reshape(-1))
        picture = self._picture[:, ::SAMPLE, ::SAMPLE]
        self._answer[self._bytes].copy_(picture.reshape(-1))
        self._down[turn].copy_(self._answer, non_blocking=True)

    def use_triton(self) -> None:
        """Let Triton's kernels do everything but the network from now on.

        Raises:
            RuntimeError, ImportError: Triton or a compiler is missing, or frames are too large.
        """
        from segmentation.engines import pixels

        self._shapers = pixels.Shapers(
            pixels.Prepare(
                self.packing,
                self._shrinks,
                self._matrix,
                self._scale,
                self.full,
                self.size,
                self._dtype,
            ),
            pixels.Refine(self._tidy, self._smoother),
            pixels.Colours(self._colours, self._fit, self.scene, self.size),
            pixels.Spill(self._spill, self._fit, self.scene, self.size),
            pixels.Draw(self.packing, self._fit, self.scene, self.device),
        )

    @property
    def kernels(self) -> str:
        """Whose kernels do everything but the network: "torch" or "triton"."""
        return "torch" if self._shapers is None else "triton"

    def try_triton(self) -> None:
        """Take Triton's kernels if here they do the same, and do it faster."""
        for buffer in (self._up[0][HEADER:], self._behind):
            buffer.random_(0, 256)
        self._up[0][16:20].view(torch.float32)[:] = 0.9  # decay
        matte = gpu.trial_matte(*self.size, self.device)

        def all_but_network(x: Tensor) -> Tensor:
            self.prepare(0)
            self.refine(0)
            self.draw(0)
            return x

        found, spent = [], []
        try:
            for _ in range(2):
                made = []
                # A first frame, on which nothing before has any influence, and one that follows.
                for first, self._raw in ((1, matte), (0, matte.roll(2, 1))):
                    self._up[0][8] = first
                    self.upload(0)
                    all_but_network(self._above)
                    shown = self._answer[self._pixels]
                    made += [x.float().clone() for x in (self._picture, self._x, shown)]
                found.append(made)
                spent.append(networks.time_of(all_but_network, self._above))
                if self._shapers is None:
                    self.use_triton()
        except Exception as problem:  # of a compiler that is missing, of a kernel that is refused
            log.info("Triton's kernels are not used: %s", _first_line(problem))
            self._shapers = None
            return
        apart = [float((theirs - ours).abs().max()) for ours, theirs in zip(*found, strict=True)]
        same = all(x <= most for x, most in zip(apart, (1, 0.05, 2) * 2, strict=True))
        if not same:
            log.warning("Triton's kernels compute something else here, and are not used.")
        if not same or spent[1] >= spent[0]:
            self._shapers = None

    def capture(self, *, measure: bool = False) -> None:
        """Record the stages, once for each buffer, after running them so that nothing is new."""
        assert self._stream is not None
        # What was made so far was made on another stream.
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            if measure:
                self.try_triton()
                self._stream.synchronize()
            self._up[0][8] = 1  # a first frame: the moving averages learn nothing from it
            for _ in range(3):
                self.stages(0)
            self._stream.synchronize()
            pool = torch.cuda.graph_pool_handle()
            for turn in range(2):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
                ):
                    self.stages(turn)
                self._graphs.append(graph)
            self._behind.zero_()
        self.wipe()

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        with torch.inference_mode():
            if self._stream is None:
                yield
            else:
                with torch.cuda.stream(self._stream):
                    yield


class CudaEngine:
    """The network alone on the GPU, for `Segmenter`: stills, and everything that needs the host.

    Raises:
        ModelError: the weights are missing, damaged, or no BiSeNet.
        EngineError: the GPU cannot be used.
    """

    name = "cuda"

    def __init__(
        self,
        model: str = "auto",
        *,
        device: str = "cuda",
        precision: str = "",
        examine: bool = True,
    ) -> None:
        self.notes: list[str] = []
        self._examine = examine
        self._ready: set[tuple[int, ...]] = set()  # sizes it was asked at
        self._device = torch.device(device)
        self.precision = precision or ("fp16" if self._device.type == "cuda" else "fp32")
        self._dtype = PRECISIONS[self.precision]
        self.model = weights_path(model).stem
        self.layout = Layout("bisenet")
        weights = read_weights(weights_path(model))
        with _as_engine_error("cannot be used"):
            self.device = open_device(self._device)
            self._used: set[tuple[int, ...]] = set()  # shapes of pictures since it was wiped
            self._network: nn.Module | None = networks.placed(weights, self._device, self._dtype)

    def prepare(self, h: int, w: int) -> None:
        """Ask it at h x w, where cuDNN looks for its fastest kernels.

        Raises:
            UntrustedError: it answers wrongly.
        """
        if (h, w) in self._ready:
            return
        self._ready.add((h, w))  # so that it answers
        try:
            if self._examine:
                answers.examine(self, h, w)
            else:
                self.infer(np.zeros((1, 3, h, w), np.float32))
        except Exception:
            self._ready.discard((h, w))
            raise

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the person's alpha; see `Engine.infer`."""
        if self._network is None:
            raise EngineError("the engine is closed", hint="Open another.")
        if x.shape[2:] not in self._ready:
            self.prepare(*x.shape[2:])
        self._used.add(x.shape)
        with _as_engine_error("failed"), torch.inference_mode():
            there = torch.from_numpy(x).to(self._device)
            there = there.to(self._dtype, memory_format=torch.channels_last)
            alpha: NDArray[np.float32] = (
                torch.sigmoid(self._network(there)[0, 0].float()).cpu().numpy()
            )
        return alpha

    def reset(self) -> None:
        """Nothing is remembered."""

    def wipe(self) -> None:
        """Run on nothing: the same memory is taken again, and overwritten."""
        used, self._used = self._used, set()
        for shape in used:
            self.infer(np.zeros(shape, np.float32))
        self._used = set()

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._network = None
        if self._device.type == "cuda":
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()


def weights_path(model: str) -> Path:
    """Return the file that `model` names: "auto" is the shipped network at full width.

    Raises:
        ModelError: it is a model that only the CPU engine reads.
    """
    if model == "auto":
        return weights_dir() / f"{SHIPPED}.safetensors"
    path = Path(model)
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is no .safetensors file, and the GPU runs nothing else",
            hint='Set engine = "cpu", or model = "auto".',
        )
    return path


def read_weights(path: Path) -> BiSeNet:
    """Return the network in `path`, on the CPU, in float32.

    Raises:
        ModelError: missing, damaged, or no BiSeNet.
    """
    if not path.is_file():
        raise ModelError(
            f"the weights {path.name} are missing from {path.parent}",
            hint='Install the program again, or set engine = "cpu".',
        )
    try:
        return load_weights(path)
    except ValueError as error:
        raise ModelError(str(error), hint='Set model = "auto", or fetch the file again.') from error


def open_device(device: torch.device) -> str:
    """Make the GPU ready, its memory bounded, and return its name.

    Raises:
        RuntimeError: torch cannot use it.
    """
    if device.type != "cuda":
        return device.type.upper()
    torch.cuda.init()  # type: ignore[no-untyped-call]
    properties = torch.cuda.get_device_properties(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, MEMORY / properties.total_memory), device)
    torch.backends.cudnn.benchmark = True
    return str(properties.name)


@contextlib.contextmanager
def _as_engine_error(what: str) -> Iterator[None]:
    """Turn what torch raises into the engine's own error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            "the GPU's memory is full", hint='Close what uses it, or set engine = "cpu".'
        ) from error
    except (RuntimeError, AssertionError) as error:
        raise EngineError(
            f"the GPU {what}: {_first_line(error)}", hint='Set engine = "cpu".'
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
