# ruff: noqa: E402
"""The GPU's arithmetic, on the processor: the same code with another device."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from torch.utils._python_dispatch import TorchDispatchMode

from segmentation import refine
from segmentation.bisenet import BiSeNet
from segmentation.engines import networks
from segmentation.engines.cuda import CudaEngine
from segmentation.engines.layout import weights_dir
from segmentation.engines.weights_file import fold
from segmentation.errors import EngineError, ModelError
from segmentation.governor import Level
from segmentation.planes import Planes, Shrink
from segmentation.segmenter import Segmenter
from segmentation.sizes import AREAS
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Blur, Look, Scene
from vcam.frame import Frame
from vcam.gpu import resample, torch_matte
from vcam.gpu.packing import SAMPLE, Packing, packing_of
from vcam.gpu.plan import Plan
from vcam.gpu.segmenter import CudaSegmenter, Form
from vcam.sources.still import StillSource

CPU = torch.device("cpu")
W, H = 640, 360
AREA = AREAS["balanced"]


@pytest.mark.parametrize("before", [(180, 320), (720, 1280), (101, 67), (90, 160), (1080, 1920)])
def test_shrinking_gives_what_opencv_gives(before):
    plane = cv2.GaussianBlur(noise(*before), (3, 3), 0)
    wanted = np.zeros((96, 160), np.uint8)

    Shrink(before, (96, 160))(plane, wanted)
    found = resample.Shrink(before, (96, 160), CPU)(torch.from_numpy(plane)).numpy()

    assert np.abs(found - wanted).max() <= 1
    assert np.abs(found - wanted).mean() < 0.15


@pytest.mark.parametrize("make", [Packing.yuyv, Packing.nv12])
def test_packed_pictures_are_read_in_place(make):
    from vcam.sources.decode import Unpacker

    packing = make(12, 16)
    data = np.random.default_rng(0).integers(0, 256, packing.size, np.uint8)
    unpack = Unpacker(16, 12).yuyv if make == Packing.yuyv else Unpacker(16, 12).nv12

    wanted = unpack(data).each

    for plane, expected in zip((packing.y, packing.u, packing.v), wanted, strict=True):
        assert np.array_equal(plane.of(torch.from_numpy(data)).numpy(), expected)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("picture", ["noise", "spiral", "empty", "full"])
def test_pieces_are_those_of_opencv(corners, picture):
    mask = {
        "noise": np.random.default_rng(1).random((94, 168)) > 0.55,
        "spiral": spiral(95),
        "empty": np.zeros((20, 30), bool),
        "full": np.ones((20, 30), bool),
    }[picture]
    count, wanted = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8 if corners else 4)

    # Without `settle`, as in a CUDA graph: the fixed number of rounds has to be enough.
    found = torch_matte.pieces(torch.from_numpy(mask), corners=corners).numpy()

    pairs = set(zip(wanted.ravel().tolist(), found.tolist(), strict=True))
    assert len(pairs) == count - (1 if mask.all() else 0)
    assert len({f for _, f in pairs}) == len(pairs)


def test_islands_and_holes_go_as_on_the_processor():
    theirs, mine = refine.Tidy(), torch_matte.Tidy(96, 160, CPU, settle=False)

    for seed in range(12):
        alpha = blobs(seed)
        wanted = alpha.copy()
        theirs(wanted)
        found = mine(torch.from_numpy(alpha)).numpy()

        assert np.abs(found - wanted).max() < 1e-6, seed
        assert bool(mine.present) == theirs.present
        changed = np.abs(wanted - alpha).max()
        assert changed > 0.1, "nothing was tidied: the test shows nothing"
    mine = torch_matte.Tidy(216, 384, CPU, settle=False)
    for alpha in torn():
        wanted = alpha.copy()
        theirs(wanted)
        assert np.abs(mine(torch.from_numpy(alpha)).numpy() - wanted).max() < 1e-6


def test_coefficients_are_those_of_the_guided_filter():
    alpha, luma = blobs(3), cv2.GaussianBlur(noise(96, 160), (5, 5), 0)
    stretched, a, b = alpha.copy(), np.zeros_like(alpha), np.zeros_like(alpha)

    refine.Guided()(stretched, luma, a, b)
    found = torch_matte.guided(torch.from_numpy(alpha), torch.from_numpy(luma).float())

    for tensor, wanted in zip(found, (stretched, a, b), strict=True):
        assert np.abs(tensor.numpy() - wanted).max() < 2e-4


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"decontaminate": False},
        {"mirror": True},
        {"light_wrap": 0.7},
        {"light_wrap": 0.7, "mirror": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("blur", [None, 60.0])
def test_composites_are_those_of_the_processor(weights, look, blur):
    scene = Scene(W, H, Blur(blur) if blur else backdrop(W, H), Look(**look))

    worst = compare(weights, scene, [moving(seq) for seq in range(6)])

    # The processor looks for light that spills at half the model's size.
    assert worst <= (8 if look.get("light_wrap") else 2)


def test_of_a_person_in_another_light_the_matte_alone_comes_down_whole(weights):
    lit = Scene(W, H, backdrop(W, H), Look(light=40.0, light_wrap=0.4))
    frame, found = moving(0), []
    for scene in (lit.drawable, Scene(W, H, lit.behind).drawable):
        segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
        with contextlib.closing(segmenter):
            found.append(matte(segmenter, frame, scene))
    whole, thin = found

    assert whole.composite is None
    assert whole.picture.shape[1:] == whole.alpha.shape
    assert thin.composite is not None
    assert np.array_equal(whole.alpha[::SAMPLE, ::SAMPLE], thin.alpha)


@pytest.mark.parametrize(
    ("size", "halves", "full_range"),
    [((640, 360), 1, True), ((640, 360), 2, True), ((480, 360), 2, False), ((960, 540), 1, False)],
)
def test_every_kind_of_frame_gives_the_processors_composite(weights, size, halves, full_range):
    frames = [moving(seq, *size, halves=halves, full_range=full_range) for seq in range(3)]

    worst = compare(weights, Scene(W, H, backdrop(W, H)), frames)

    assert worst <= 2


@pytest.mark.parametrize("kind", ["yuyv", "nv12"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_packed_picture_goes_up_as_it_is_and_planes_as_planes(kind, packed):
    from vcam.sources.decode import Unpacker

    wanted = getattr(Packing, kind)(12, 16)
    data = np.random.default_rng(0).integers(0, 256, wanted.size, np.uint8)
    unpack = Unpacker(16, 12)
    unpack.packed = packed
    planes = getattr(unpack, kind)(data)

    packing, parts = packing_of(planes)

    assert (packing == wanted) is packed
    whole = np.concatenate([part.reshape(-1) for part in parts])
    assert whole.size == packing.size
    for plane, there in zip(planes.each, (packing.y, packing.u, packing.v), strict=True):
        assert np.array_equal(there.of(torch.from_numpy(whole)).numpy(), plane)


@pytest.mark.parametrize(
    "change",
    [
        lambda y, u, v: (y, v, u),
        lambda y, u, v: (y, u, v.copy()),
        lambda y, u, v: (y[:-2], u[:-2], v[:-2]),
        lambda y, u, v: (y[:, 2:], u[:, 1:], v[:, 1:]),
        lambda y, u, v: (y[:, ::-1], u, v),
    ],
)
def test_what_only_looks_packed_goes_up_as_planes(change):
    data = np.random.default_rng(0).integers(0, 256, (12, 8, 4), np.uint8)
    y, u, v = change(data.reshape(12, 16, 2)[..., 0], data[..., 1], data[..., 3])

    packing, parts = packing_of(Planes(y, u, v))

    whole = np.concatenate([part.reshape(-1) for part in parts])
    for plane, there in zip((y, u, v), (packing.y, packing.u, packing.v), strict=True):
        assert np.array_equal(there.of(torch.from_numpy(whole)).numpy(), plane)


def test_a_cut_and_a_return_are_smoothed_alike(weights):
    frames = [moving(seq) for seq in range(3)] + [moving(seq, shift=W // 2) for seq in range(3, 6)]

    assert compare(weights, Scene(W, H, backdrop(W, H)), frames) <= 2


@pytest.mark.parametrize(("kind", "halves"), [("yuyv", 1), ("nv12", 2)])
def test_packed_frames_as_they_come_give_the_same_as_their_planes(weights, kind, halves):
    frame = moving(0, halves=halves)
    packing, parts = parts_of(frame, kind)
    scene = Scene(W, H, backdrop(W, H))
    planar, whole = (
        CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA)) for _ in range(2)
    )

    wanted = matte(planar, frame, scene).composite
    found = whole.run(packing, parts, seq=0, pts=0.0, scene=scene).composite

    assert np.array_equal(found, wanted)


def test_a_matte_that_is_no_number_anywhere_is_none_everywhere_the_guard_looks(weights):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    scene = Scene(W, H, backdrop(W, H))
    first = matte(segmenter, moving(0), scene)
    assert np.isfinite(first.raw).all()
    plan = segmenter._plan
    network = plan._network

    def broken(x):
        out = network(x)
        out[0, 0, 1, 1] = float("nan")
        return out

    plan._network = broken
    second = matte(segmenter, moving(1), scene)

    assert np.isnan(second.raw).all()
    assert torch.isfinite(plan._smoother.held).all()  # or it would stay so for ever


def test_an_answer_for_another_frame_is_refused(weights):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    scene = Scene(W, H, backdrop(W, H))
    matte(segmenter, moving(0), scene)
    segmenter._plan.stages = lambda turn: None  # a GPU that does nothing and says it is done

    with pytest.raises(EngineError, match="answered for frame"):
        matte(segmenter, moving(1), scene)


def test_a_gpu_that_does_not_finish_is_given_up(weights, monkeypatch):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    scene = Scene(W, H, backdrop(W, H))
    matte(segmenter, moving(0), scene)
    plan, sent = segmenter._plan, []
    graph = SimpleNamespace(replay=lambda: sent.append(plan._turn))
    plan._graphs, plan._stream = [graph, graph], object()
    plan._done = SimpleNamespace(record=lambda stream: None, query=lambda: False)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr("vcam.gpu.plan.PATIENCE", 0.05)

    with pytest.raises(EngineError, match=r"more than 0\.05 s"):
        matte(segmenter, moving(1), scene)

    assert len(sent) == 1


def test_a_matte_that_stands_still_is_given_up(weights):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    scene = Scene(W, H, backdrop(W, H))
    stuck = matte(segmenter, moving(0), scene) and segmenter._plan
    said = stuck._network(stuck._x).clone()
    stuck._network = lambda x: said

    def go_on():
        for seq in range(1, 30):
            matte(segmenter, moving(seq), scene)

    with pytest.raises(EngineError, match="stands still"):
        go_on()


def test_another_smoothing_counts_from_the_next_frame_on(weights):
    scene = Scene(W, H, backdrop(W, H))
    firm, changed = (
        CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA), smoothing=0.9)
        for _ in range(2)
    )
    for seq in range(2):
        for segmenter in (firm, changed):
            matte(segmenter, moving(seq), scene)
    plan = changed._plan

    changed.adjust(smoothing=0.0, people="everyone")
    kept, found = (matte(segmenter, moving(2), scene) for segmenter in (firm, changed))

    assert changed._plan is plan
    assert np.abs(kept.alpha - found.alpha).max() > 0.05
    # Without smoothing a frame does not depend on those before.
    alone = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA), smoothing=0.0)
    wanted = matte(alone, moving(2), scene)
    assert np.array_equal(found.composite, wanted.composite)
    with pytest.raises(ValueError, match="only-me"):
        changed.adjust(smoothing=0.5, people="only-me")


def test_nothing_of_a_person_is_left_after_a_reset(weights):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    shown = matte(segmenter, moving(0), Scene(W, H, backdrop(W, H)))
    plan = segmenter._plan

    segmenter.reset()

    assert not shown.composite.any()
    for buffer in (*plan.buffers.each, plan._above, plan._answer, plan._smoother.before):
        assert not buffer.any()


def test_a_wipe_that_the_gpu_refuses_is_told(weights):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    matte(segmenter, moving(0), Scene(W, H, backdrop(W, H)))

    def lost():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    segmenter._plan.wipe = lost

    with pytest.raises(EngineError, match="illegal memory access"):
        segmenter.wipe()


def test_memory_is_given_back_when_nobody_has_watched_for_long(weights, monkeypatch):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    matte(segmenter, moving(0), Scene(W, H, backdrop(W, H)))
    now = time.monotonic()

    monkeypatch.setattr(time, "monotonic", lambda: now + 100)
    segmenter.reset()

    assert segmenter._plan is None
    assert matte(segmenter, moving(1), Scene(W, H, backdrop(W, H))).composite.any()


def test_memory_that_is_full_is_said_in_words(weights, monkeypatch):
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Plan, "run", full)
    with pytest.raises(EngineError, match="memory is full"):
        matte(segmenter, moving(0), Scene(W, H, backdrop(W, H)))


def test_the_network_alone_answers_as_its_weights_say(weights):
    from segmentation.engines.weights_file import load_weights

    engine = CudaEngine(str(weights), device="cpu")
    x = np.random.default_rng(0).normal(0, 1, (1, 7, 64, 96)).astype(np.float32)

    engine.prepare(64, 96)
    found = engine.infer(x)

    with torch.no_grad():
        wanted = torch.sigmoid(load_weights(weights)(torch.from_numpy(x)))[0, 0].numpy()
    assert engine.layout.inputs == 7
    assert np.abs(found - wanted).max() < 1e-5


def test_a_network_without_its_last_layers_and_those_answer_as_the_whole():
    torch.manual_seed(0)
    network = networks.placed(fold(BiSeNet(1.0)).eval(), CPU, torch.float32)
    x = networks.trial((64, 96), CPU)

    with torch.inference_mode():
        wanted = network(x)
        body, head = networks.split(network)
        made = body(x)
        found = head(made)

    assert made.shape == (1, 24, 32, 48)
    assert torch.equal(found, wanted)
    whole = lambda x: x  # noqa: E731
    assert networks.split(whole) == (whole, None)


@pytest.mark.parametrize("make", [{"width": 1.0}, {"width": 0.5, "lean": True}], ids=str)
def test_joined_convolutions_answer_as_separate_ones(make):
    torch.manual_seed(0)
    network = fold(BiSeNet(**make)).eval()
    x = networks.trial((64, 96), CPU)

    with torch.inference_mode():
        wanted = network(x)
        found = networks.build("fused", network, (64, 96), CPU, torch.float32)(x)

    assert torch.allclose(found, wanted, atol=1e-4)


def test_the_fastest_kind_that_is_exact_enough_wins(tmp_path):
    report = {
        "eager": {"ms": 1.0, "logits": 0.002},
        "fused": {"ms": 0.4, "logits": 0.004},
        "compile": {"ms": 0.2, "logits": 0.05},
        "broken": {"ms": 0.1, "logits": float("nan")},
        "tensorrt": {"problem": "not installed"},
    }

    networks.remember(report, CPU, torch.float16, tmp_path)

    assert networks.fastest(report) == "fused"
    assert networks._recall(tmp_path, networks._key(CPU, torch.float16)) == "fused"
    assert networks._recall(tmp_path, "another card") is None


@pytest.mark.parametrize(
    ("spoil", "right"),
    [
        (lambda x: x * 1.002, True),
        (lambda x: x * 0, False),
        (lambda x: x + 1, False),
        (lambda x: x / (x * 0), False),
        (lambda x: x.index_fill(3, torch.tensor([5]), float("nan")), False),
    ],
    ids=["rounded", "zeros", "shifted", "no number", "one column no number"],
)
def test_a_kind_that_computes_something_else_is_never_taken(weights, monkeypatch, spoil, right):
    network = CudaEngine(str(weights), device="cpu", examine=False)._network
    kinds = {"eager": network, "fused": lambda x: spoil(network(x))}
    monkeypatch.setattr(networks, "build", lambda kind, *_: kinds[kind])
    times = iter((1.0, 0.5))
    monkeypatch.setattr(networks, "time_of", lambda *_: next(times))

    report = networks.compare(network, (96, 160), CPU, torch.float32, kinds=networks.QUICK)

    assert networks.fastest(report) == ("fused" if right else "eager")


def test_the_picture_that_kinds_are_tried_on_shows_a_person(weights):
    network = CudaEngine(str(weights), device="cpu", examine=False)._network

    with torch.inference_mode():
        alpha = torch.sigmoid(network(networks.trial((160, 288), CPU, network.inputs)))

    assert 0.1 < float((alpha > 0.9).float().mean()) < 0.7


def test_weights_that_are_missing_or_foreign_are_named(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")

    with pytest.raises(ModelError, match="missing"):
        CudaSegmenter(str(tmp_path / "none.safetensors"), device="cpu")
    with pytest.raises(ModelError, match="not a weights file"):
        CudaSegmenter(str(tmp_path / "broken.safetensors"), device="cpu")
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        CudaSegmenter("other.onnx", device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and torch for CUDA")
@pytest.mark.parametrize("kernels", ["torch", "triton"])
@pytest.mark.parametrize("blur", [None, 60.0])
def test_a_real_gpu_gives_the_processors_composite(weights, blur, kernels):
    scene = Scene(W, H, Blur(blur) if blur else backdrop(W, H))
    frames = [moving(seq) for seq in range(6)]

    assert compare(weights, scene, frames, device="cuda", kernels=kernels) <= 2


class OnTheHost(TorchDispatchMode):
    """Notes what a CUDA graph cannot record: numbers handed over as tensors, or asked for."""

    ASKS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "equal")

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.__name__.split(".")[0]
        scalar = op in (torch.ops.aten.where.ScalarOther, torch.ops.aten.where.ScalarSelf)
        if scalar or op == torch.ops.aten.where.Scalar or name in (*self.ASKS, "lift_fresh"):
            self.seen.add(str(op))
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("blur", [None, 60.0])
def test_a_graph_can_record_every_stage(weights, blur):
    scene = Scene(W, H + 40, Blur(blur) if blur else backdrop(W, H + 40), Look(light_wrap=0.5))
    segmenter = CudaSegmenter(str(weights), device="cpu", form=Form(area=AREA))
    matte(segmenter, moving(0), scene)
    plan = segmenter._plan
    plan._tidy.pieces = torch_matte.pieces

    with torch.inference_mode(), OnTheHost() as host:
        plan.stages(0)

    assert not host.seen


def test_the_check_knows_what_a_graph_cannot_record():
    x = torch.ones(4)

    with torch.inference_mode(), OnTheHost() as host:
        x[0] = 0
        torch.where(x > 0, x, 0)
        int(x[1])

    assert len(host.seen) == 3


def interpreted(*names, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "tests.segmentation.interpreted", *names],
        env={**os.environ, "TRITON_INTERPRET": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout).values()


needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="needs Triton: pip install triton"
)


@needs_triton
@pytest.mark.parametrize(
    "names",
    [
        ("nv12", "jpeg"),
        pytest.param(("yuyv", "bars", "narrow", "large"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_tritons_kernels_give_what_torchs_give(names):
    for name, worst in zip(names, interpreted(*names), strict=True):
        assert worst["picture"] <= 1, name
        assert worst["input"] < 0.05, name
        assert worst["colours"] < 0.02, name
        assert worst["composite"] <= 1, name
        assert worst["apart_from_backdrop"] > 3, name


@needs_triton
def test_tritons_kernels_tidy_and_steady_as_torchs_do():
    tidied, moved, tail, steadied = interpreted("tidied", "moving", "tail", "steadied")

    assert tidied["apart"] < 1e-5
    assert tidied["changed"] > 0.1
    assert tidied["present"] == 2, "somebody was always there, or never"
    assert moved["far"] < 2e-3
    assert moved["level"] <= 1
    assert moved["cuts"] == 1
    assert moved["noise"] < 1e-4 < moved["known"]
    # Of a fall of 0.12 nine tenths stay away, far fewer where the picture moved; of 1, nothing.
    assert steadied["still"] == pytest.approx([0.988, 0.988], abs=1e-4)
    assert steadied["moving"] == pytest.approx([0.8811, 0.8811], abs=1e-4)
    assert steadied["far"] == pytest.approx([0, 0], abs=1e-4)
    assert tail["apart"] < 1e-3  # its weights are rounded to half precision, too
    assert tail["spread"] > 0.1


@needs_triton
def test_tritons_pieces_are_those_of_opencv_however_blocks_part_them():
    (found,) = interpreted("joined")

    assert found["wrong"] == 0
    assert found["named"] > 5000
    assert found["pieces"] > 500


@needs_triton
def test_between_its_convolutions_the_network_computes_what_torch_does():
    body, wide = interpreted("body", "wide")

    assert body["apart"] < 1e-5
    assert body["halves"] < 2e-3
    assert body["spread"] > 0.05
    assert wide["channels"] == 8
    assert wide["input"] < 1e-4
    assert wide["composite"] <= 1


@needs_triton
@pytest.mark.slow
def test_with_tritons_kernels_one_pixel_that_is_no_number_makes_all_so():
    (broken,) = interpreted("broken")

    assert (broken["broken"], broken["mended"], broken["held"]) == (broken["all"], 0, 0)


@needs_triton
@pytest.mark.slow
def test_tritons_kernels_are_taken_where_they_are_right_and_faster():
    (found,) = interpreted("chosen")

    wrong = {"slower": "torch", "wrong": "torch", "unsteady": "torch"}
    assert found == {"faster": "triton", **wrong}


class Torch:
    """The network in float32 on the processor, as the engine of a `Segmenter`."""

    name, device, model, precision = "torch", "CPU", "test", "fp32"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._engine = CudaEngine(str(path), device="cpu")
        self.layout = self._engine.layout

    def infer(self, x):
        return self._engine.infer(x)

    def reset(self) -> None:
        pass

    close = reset


@pytest.fixture(scope="module")
def weights() -> Path:
    """The small network that is shipped: it knows a person when it sees one."""
    return weights_dir() / "bisenet-small.safetensors"


def compare(path, scene, frames, *, device="cpu", kernels="") -> int:
    """Return the greatest difference between the two paths' composites, in levels."""
    theirs = reference(path)
    mine = CudaSegmenter(
        str(path),
        device=device,
        form=Form("fp32", "eager", kernels, AREA),
        smoothing=0.6,
    )
    if device == "cuda":
        packing, _ = packing_of(frames[0].planes)
        mine.warm(packing, scene)
    compositor = Compositor(scene.width, scene.height)
    worst = 0
    for frame in frames:
        wanted = theirs.matte(frame.planes, seq=frame.seq, pts=frame.pts)
        shown = compositor.compose(frame, wanted, scene.behind, scene.look).data
        found = matte(mine, frame, scene)
        assert found.present == wanted.present
        assert found.cut == wanted.cut
        assert wanted.alpha.std() > 0.1, "nobody was found: the test shows nothing"
        worst = max(worst, int(np.abs(found.composite.astype(int) - shown).max()))
    mine.close()
    return worst


def reference(path) -> Segmenter:
    """The processor's path, with the same network and the same input size."""
    import segmentation.segmenter as module

    before = module.open_engine
    module.open_engine = lambda *args, **options: Torch(path)
    try:
        made = Segmenter(smoothing=0.6)
    finally:
        module.open_engine = before
    made.level = Level("balanced", 1, 1.0)  # a GPU looks at every frame
    return made


def matte(segmenter, frame, scene):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        made = segmenter.matte(
            frame.planes,
            seq=frame.seq,
            pts=frame.pts,
            scene=scene,
        )
        if made is not None:
            return made
        time.sleep(0.01)
    raise AssertionError("the GPU was never ready")


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w), np.uint8)


def blobs(seed):
    """A person, an island, a hole, some faint fog."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((96, 160), np.float32)
    cv2.ellipse(alpha, (80 + int(rng.integers(-20, 20)), 60), (30, 45), 0, 0, 360, 1.0, -1)
    cv2.circle(alpha, (80, 55), 2, 0.0, -1)
    cv2.circle(alpha, (int(rng.integers(5, 30)), int(rng.integers(5, 30))), 3, 0.9, -1)
    cv2.circle(alpha, (140, 20), 12, 0.2, -1)
    return cv2.GaussianBlur(alpha, (3, 3), 0)


def torn():
    """A body with an island beside it, gaps inside and at the border; and one with a single gap."""
    body = np.zeros((216, 384), np.float32)
    body[90:, 120:264] = 1
    beside = body.copy()
    beside[120:127, 268:273] = 0.9
    beside[213:, 180:184] = 0
    beside[150:155, 156:161] = 0
    single = np.ones_like(body)
    single[60:65, 60:65] = 0
    ghost = body.copy()
    ghost[:84, 120:264] = 0.3
    return [beside, single, ghost]


def spiral(n):
    """One long winding line: the worst that naming pieces can meet."""
    mask = np.zeros((n, n), bool)
    x = y = 0
    dx, dy = 1, 0
    mask[y, x] = True
    for _ in range(n * n):
        ax, ay = x + dx, y + dy
        bx, by = x + 2 * dx, y + 2 * dy
        inside = 0 <= ax < n and 0 <= ay < n
        if not inside or mask[ay, ax] or (0 <= bx < n and 0 <= by < n and mask[by, bx]):
            dx, dy = -dy, dx
            ax, ay = x + dx, y + dy
            bx, by = x + 2 * dx, y + 2 * dy
            if not (0 <= ax < n and 0 <= ay < n) or mask[ay, ax]:
                break
            if 0 <= bx < n and 0 <= by < n and mask[by, bx]:
                break
        x, y = ax, ay
        mask[y, x] = True
    return mask


@cache
def portraits() -> list[np.ndarray]:
    """The bundled portrait in motion: RGB, of the tests' size."""
    with StillSource(width=W, height=H, realtime=False) as source:
        frames = [source.read(0.0) for _ in range(30)]
    return [np.concatenate([p.reshape(-1) for p in f.planes.each]) for f in frames]


def moving(seq, width=W, height=H, *, halves=2, full_range=False, shift=0) -> Frame:
    """The portrait, as a camera of this size and kind sends it; `shift` moves it aside."""
    data = portraits()[3 * seq % 30]
    parts = (data[: W * H], data[W * H : W * H * 5 // 4], data[W * H * 5 // 4 :])
    planes = [
        np.roll(p.reshape(H // n, W // n), shift // n, 1)
        for p, n in zip(parts, (1, 2, 2), strict=True)
    ]
    chroma = (width // 2, height // 2 if halves == 2 else height)
    y, u, v = (
        cv2.resize(p, size)
        for p, size in zip(planes, ((width, height), chroma, chroma), strict=True)
    )
    return Frame(Planes(y, u, v, full_range), seq / 30, seq)


def parts_of(frame, kind):
    """The frame as a camera of this kind packs it, and how."""
    planes = frame.planes
    h, w = planes.y.shape
    if kind == "yuyv":
        packed = np.empty((h, w // 2, 4), np.uint8)
        packed[..., 0::2] = planes.y.reshape(h, w // 2, 2)
        packed[..., 1], packed[..., 3] = planes.u, planes.v
        return Packing.yuyv(h, w), (packed,)
    if kind == "nv12":
        return Packing.nv12(h, w), (planes.y, np.stack((planes.u, planes.v), axis=-1))
    parts = planes.each
    return Packing.planar(planes.y.shape, planes.u.shape, full_range=planes.full_range), parts


def backdrop(width, height):
    rng = np.random.default_rng(5)
    small = rng.integers(20, 230, (height * 3 // 2 // 10, width // 10), np.uint8)
    return cv2.resize(small, (width, height * 3 // 2), interpolation=cv2.INTER_CUBIC)
