"""One look's recorded work: a CUDA graph from the camera's bytes to the composite."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor

from segmentation.engines import answers, networks
from segmentation.engines.cuda import first_line
from segmentation.engines.layout import Layout
from segmentation.errors import EngineError
from segmentation.kernels import FULL, LIMITED
from segmentation.matte import Matte
from segmentation.sizes import input_size
from vcam.compose.scene import Blur, Scene
from vcam.gpu import resample, torch_draw, torch_matte
from vcam.gpu.exchange import Exchange, bare
from vcam.gpu.packing import HEADER, Packing
from vcam.gpu.rig import Rig
from vcam.gpu.room.compared import Compared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.gpu.room.learner import Learner

log = logging.getLogger(__name__)

PATIENCE: Final = 0.5  # seconds a frame may take before the GPU counts as lost
NAP: Final = 5e-5  # seconds between looks at whether the GPU is done
STAGES: Final = ("upload", "prepare", "infer", "refine", "draw", "download")


class Plan:
    """Everything between a frame's bytes and its composite, for frames of one shape in one scene.

    The stages are methods that read and write tensors of this object; `capture` records all of
    them into one CUDA graph for each of the two buffers.
    """

    def __init__(self, rig: Rig, packing: Packing, scene: Scene) -> None:
        self.rig, self.packing, device = rig, packing, rig.device
        self._pictured = scene.blur is None
        self.scene = bare(scene)  # the picture comes with each frame
        frame = packing.y
        self.full, self.size = input_size(frame.height, frame.width, rig.area)
        h, w = self.size
        matrix = FULL if packing.full_range else LIMITED
        layout = Layout("bisenet")
        scale = [[1 / s, -m / s] for m, s in zip(layout.mean, layout.std, strict=True)]
        self._network = rig.network
        self._shapers: Any = (
            None  # Triton's kernels, where they are used: `kernels.shapers.Shapers`
        )
        self._matrix = torch.tensor(matrix, dtype=torch.float32, device=device)
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device)
        shapes = [(p.height, p.width) for p in packing.seen]
        self._shrinks = [resample.Shrink(shape, (h, w), device) for shape in shapes]
        self._tidy = torch_matte.Tidy(h, w, device, settle=device.type == "cpu")
        self._smoother = torch_matte.Smoother(h, w, device)
        self.compared = Compared(self.size, self._matrix, self._scale, told=rig.told)
        self._colours = torch_draw.Colours(h, w, device)
        self._fit = torch_draw.Fit(packing, scene, h, w, device)
        self._spill = torch_draw.Spill(self._fit, scene, (h, w), device)
        self.exchange = Exchange(
            packing, self.size, scene.width, scene.height, alone=scene.look.lit
        )
        self.buffers = rig.host.take(self.exchange)
        self._above = torch.zeros(self.exchange.up, dtype=torch.uint8, device=device)
        self._answer = torch.zeros(self.exchange.down, dtype=torch.uint8, device=device)
        self._behind = torch.zeros(self.exchange.backdrop, dtype=torch.uint8, device=device)
        self._backdrop: NDArray[np.uint8] | None = None
        self._raw = torch.zeros(self.size, device=device)
        self.present = False
        self._turn = 0
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._stream = rig.running
        self._done: Any = None
        if self._stream is not None:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Give the buffers back; the plan cannot run any more."""
        self._graphs.clear()
        # What it knows of the room must not lie in memory that nobody overwrites.
        with contextlib.suppress(RuntimeError), self.rig.on(self._stream):
            if self.compared.version:
                self.compared.wipe()
                if self._stream is not None:
                    self._stream.synchronize()  # before others use that memory
        self.rig.host.give_back(self.buffers)

    def fits(self, packing: Packing, scene: Scene) -> bool:
        """True if frames packed so, in such a scene, are what this is made for."""
        mine = self.scene
        same = (scene.width, scene.height) == (mine.width, mine.height)
        return (
            packing == self.packing and same and (scene.look, scene.blur) == (mine.look, mine.blur)
        )

    def may_stand_in(self, packing: Packing, scene: Scene) -> bool:
        """True if only the look differs: the old one may be shown until the new one is ready.

        It must hide the room as well as the new one would: a picture does, a weaker blur does not.
        """
        same = (scene.width, scene.height) == (self.scene.width, self.scene.height)
        mine, wanted = self.scene.blur, scene.blur
        blurs_enough = mine is not None and wanted is not None and mine.strength >= wanted.strength
        if self.exchange.alone or scene.look.lit:
            return packing == self.packing and same and self.exchange.alone
        return packing == self.packing and same and (self._pictured or blurs_enough)

    def inherit(self, other: Plan) -> None:
        """Go on where another plan of the same size stopped, so that nobody sees the change."""
        with self.rig.on(self._stream):
            for mine, theirs in zip(self._state(), other._state(), strict=True):
                mine.copy_(theirs)
            self.compared.inherit(other.compared)

    def _state(self) -> list[Tensor]:
        smoother = self._smoother
        return [smoother.held, smoother.before, smoother.noise, self._tidy.present]

    def teach(self, learner: Learner, pts: float) -> None:
        """Have the room learnt from the frame that went through last, taken at `pts` seconds."""
        _, present, cut = (
            int(x) for x in self.buffers.down[self._turn].numpy()[:24].view(np.int64)
        )
        with self.rig.on(self._stream):
            learner.follow(self.compared, pts, present=bool(present), cut=bool(cut))

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
        self.exchange.put(self.buffers.up[self._turn].numpy(), parts, seq, fresh, decay)
        backdrop = scene.behind
        if not self._pictured or isinstance(backdrop, Blur) or backdrop is self._backdrop:
            return
        self.exchange.put_backdrop(self.buffers.backdrop.numpy(), backdrop)
        self.fetch_backdrop()
        self._backdrop = backdrop

    def fetch_backdrop(self) -> None:
        """Have the GPU take the backdrop that lies in its buffer."""
        with self.rig.on(self._stream):
            self._behind.copy_(self.buffers.backdrop, non_blocking=True)

    def run(self, turn: int | None = None) -> None:
        """Send a frame through, that of buffer `turn` or the last, and return once it is back.

        Raises:
            EngineError: it took too long: the GPU is lost.
        """
        self._turn = self._turn if turn is None else turn
        if self._stream is None:
            with torch.inference_mode():
                self.stages(self._turn)
            return
        with self.rig.on(self._stream):
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
        matte = self.exchange.read(self.buffers.down[self._turn].numpy(), seq, pts)
        self.present = matte.present
        return matte

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
            place = self.buffers.up[self._turn].numpy()
            place[:16].view(np.int64)[:] = seq, True
            place[16:20].view(np.float32)[:] = 0
            planes = zip((packing.y, packing.u, packing.v), np.moveaxis(frame, -1, 0), strict=True)
            for plane, pixels in planes:
                plane.put(place[HEADER:], pixels)
            self.run()
            mattes.append(self.answer(seq, 0.0).raw.copy())
        rows, columns = answers.part(*self.size)
        step = self.exchange.step
        known = answers.person(rows, columns)[::step, ::step]
        before, alone = (matte[: known.shape[0], : known.shape[1]] for matte in mattes)
        return answers.fault_in(before, alone, known)

    def wipe(self) -> None:
        """Leave no picture of the room or of a person behind, here or on the GPU."""
        with self.rig.on(self._stream):
            for buffer in (*self.buffers.each, self._above, self._answer, *self._state()[:2]):
                buffer.zero_()
            if not self._pictured:
                self._behind.zero_()  # the room, blurred
            self.compared.wipe()
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
        self._above.copy_(self.buffers.up[turn], non_blocking=True)
        self._decay = self._above[16:20].view(torch.float32)[0]
        self._seq, self._fresh = self._above[:16].view(torch.int64)
        self._data = self._above[HEADER:]

    def prepare(self, turn: int) -> None:
        """From the frame's planes to the network's input."""
        if self._shapers is not None:
            self._picture, self._x = self._shapers.prepare(self._data)
        else:
            self._picture, self._x = self._prepared()
        self.compared.tell(self._picture, self._x)

    def _prepared(self) -> tuple[Tensor, Tensor]:
        planes = [plane.of(self._data) for plane in self.packing.seen]
        picture = torch.stack(
            [shrink(plane) for shrink, plane in zip(self._shrinks, planes, strict=True)]
        )
        x = torch_matte.to_input(picture, self._matrix, self._scale, self.full, self.rig.dtype)
        return picture, networks.widened(x, self.rig.inputs)

    def infer(self, turn: int) -> None:
        """Run the network; what it says of the room that is known has to be so."""
        h, w = self.size
        made, head = self._network(self._x), self.rig.head
        if made.shape[1] == 1 or head is None:
            self._raw = torch.sigmoid(made[0, 0, :h, :w].float())
        elif self._shapers is not None:
            self._raw = self._shapers.alpha(made)
        else:
            self._raw = torch.sigmoid(head(made)[0, 0, :h, :w].float())
        self._raw = self.compared.object_to(self._raw)

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
        self._alpha, self._a, self._b = torch_matte.guided(alpha, self._picture[0])

    def draw(self, turn: int) -> None:
        """Put the person in front of the backdrop, right where the answer is fetched from."""
        if self.exchange.alone:
            return
        scene, fit, picture = self.scene, self._fit, self._picture
        full_range = self.packing.full_range
        out = self._answer[self.exchange.pixels]
        if self._shapers is not None:
            made = self._alpha, self._a, self._b
            self._shapers.draw(self._data, picture, made, self._behind, out, self._pictured)
            return
        purity = wrap = None
        if scene.look.decontaminate or not self._pictured:
            self._colours.take(picture, self._alpha, full_range=full_range)
        if not self._pictured:
            small = self._colours.blurred(torch_draw.sigma(scene, self.size))
            torch_draw.blur(self._behind, small, fit, scene)
        if scene.look.decontaminate:
            purity = self._colours.near()
        if scene.look.light_wrap > 0:
            wrap = self._spill(self._alpha, self._behind)
        person = torch_draw.Person(self._a, self._b, purity, wrap)
        planes = fit.planes(self.packing, self._data)
        if scene.look.mirror:
            planes = [plane.flip(-1) for plane in planes]
            person = person.mirrored
        torch_draw.draw(planes, person, self._behind, out, fit, scene, full_range=full_range)

    def download(self, turn: int) -> None:
        """Hand back the composite, and of the matte as much as the guard needs."""
        if self._shapers is not None:
            self._shapers.answer(
                self._raw, self._picture, self._above, self._answer, self.exchange.step
            )
            self.buffers.down[turn].copy_(self._answer, non_blocking=True)
            return
        self._answer[:24].view(torch.int64).copy_(
            torch.stack((self._seq, self._tidy.present.long(), self._cut.long()))
        )
        thin = torch.stack((self._raw, self._alpha, self._a, self._b))
        # One pixel that is no number, sampled or not, makes all of them so: the guard must see it.
        poison = thin.sum() * 0
        step = self.exchange.step
        samples = thin[:, ::step, ::step] + poison
        self._answer[self.exchange.floats].view(torch.float32).copy_(samples.reshape(-1))
        picture = self._picture[:, ::step, ::step]
        self._answer[self.exchange.bytes].copy_(picture.reshape(-1))
        self.buffers.down[turn].copy_(self._answer, non_blocking=True)

    def use_triton(self) -> None:
        """Let Triton's kernels do everything but the network from now on.

        Raises:
            RuntimeError, ImportError: Triton or a compiler is missing, or frames are too large.
        """
        from vcam.gpu.kernels import shapers

        twins = shapers.Twins(
            self.packing,
            self.scene,
            (self.full, self.size),
            (self._matrix, self._scale),
            self._shrinks,
            self._tidy,
            self._smoother,
            self._colours,
            self._fit,
            self._spill,
        )
        self._use(shapers.follow(twins, self.rig))

    def _use(self, shapers: Any) -> None:
        self._shapers, self._network = shapers, shapers.body or self.rig.network

    def _use_torch(self) -> None:
        self._shapers, self._network = None, self.rig.network

    @property
    def kernels(self) -> str:
        """Maker of the kernels that do everything but the network: "torch" or "triton"."""
        return "torch" if self._shapers is None else "triton"

    def try_triton(self, shapers: Any) -> None:
        """Take Triton's kernels if here they do the same, and do it faster."""
        self._use_torch()
        for buffer in (self.buffers.up[0][HEADER:], self._behind):
            buffer.random_(0, 256)
        self.buffers.up[0][16:20].view(torch.float32)[:] = 0.9  # decay
        matte = torch_matte.trial_matte(*self.size, self.rig.device)

        def all_but_network(x: Tensor) -> Tensor:
            self.prepare(0)
            self.refine(0)
            self.draw(0)
            return x

        found: list[list[Tensor]] = []
        spent = []
        try:
            for _ in range(2):
                self.upload(0)
                self.prepare(0)
                if found:
                    self._x.copy_(found[0][1])  # the same input for both
                self.infer(0)
                made = [self._raw.clone(), self._x.clone()]
                # A first frame, on which nothing before has any influence, and one that follows.
                for first, self._raw in ((1, matte), (0, matte.roll(2, 1))):
                    self.buffers.up[0][8] = first
                    self.upload(0)
                    all_but_network(self._above)
                    shown = self._answer[self.exchange.pixels]
                    made += [x.float().clone() for x in (self._picture, self._x, shown)]
                found.append(made)
                spent.append(networks.time_of(all_but_network, self._above))
                self._use(shapers)
        except Exception as problem:  # of a compiler that is missing, of a kernel that is refused
            log.info("Triton's kernels are not used: %s", first_line(problem))
            self._use_torch()
            return
        apart = [float((theirs - ours).abs().max()) for ours, theirs in zip(*found, strict=True)]
        same = all(x <= most for x, most in zip(apart, (0.01, 0, *(1, 0.05, 2) * 2), strict=True))
        if not same:
            log.warning("Triton's kernels compute something else here, and are not used.")
        if not same or spent[1] >= spent[0]:
            self._use_torch()

    def capture(self, *, measure: bool = False) -> None:
        """Record the stages, once for each buffer, after running them so that nothing is new."""
        rig, stream = self.rig, self.rig.recording
        assert stream is not None
        if measure:
            self._want_triton()
        torch.cuda.empty_cache()  # whoever worked on another stream left memory that this one lacks
        # What was made so far was made on another stream.
        stream.wait_stream(torch.cuda.current_stream(rig.device))
        with rig.on(stream):
            if self._shapers is not None and measure:
                self.try_triton(self._shapers)
                stream.synchronize()
            self._warm_up()
            stream.synchronize()
            for turn in range(2):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph, pool=rig.pool, stream=stream, capture_error_mode="thread_local"
                ):
                    self.stages(turn)
                self._graphs.append(graph)
            self._behind.zero_()
            stream.synchronize()
        self.wipe()

    def _want_triton(self) -> None:
        try:
            self.use_triton()
        except Exception as problem:  # of a compiler that is missing, of too large a frame
            log.info("Triton's kernels are not used: %s", first_line(problem))

    def _warm_up(self) -> None:
        """Run the stages that something is new in; the network only where it has not run so.

        It takes its memory anew: that of the graphs before is what the frames on show are made in.
        """
        known = (self.full, self.size, self.kernels)
        names = [name for name in STAGES if name != "infer" or known not in self.rig.ran]
        self.buffers.up[0][8] = 1  # a first frame: the moving averages learn nothing from it
        for _ in range(3):
            for name in names:
                getattr(self, name)(0)
        self.rig.ran.add(known)
