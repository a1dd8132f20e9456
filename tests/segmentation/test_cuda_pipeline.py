# ruff: noqa: E402
"""The camera loop with the GPU's engine in it, on the processor: card, composite, hand-over."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.engines import networks, nvidia
from segmentation.engines.layout import weights_dir
from segmentation.errors import EngineError, UntrustedError
from segmentation.segmenter import Machine, Segmenter
from segmentation.sizes import AREAS
from tests.fakes import ListSink, Slot, outlet, room, settings
from vcam.compose.backdrops import open_backdrop
from vcam.compose.scene import Blur, Look, Scene
from vcam.gpu.packing import Packing
from vcam.gpu.rig import AREA
from vcam.gpu.segmenter import CudaSegmenter, Form
from vcam.guard import Fault
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.sinks.demand import Demand
from vcam.sources.still import StillSource

W, H = 640, 360
PICTURE = np.full((H * 3 // 2, W), 128, np.uint8)
GREEN = (0x91, 0x36, 0x22)  # #00ff00 in Y, U and V


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Folder in which the processor's engine keeps what it compiled, for the next test."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def gpu(monkeypatch, compiled):
    """A machine whose GPU is the processor, and that says what it was asked to open."""
    made = SimpleNamespace(opened=[], last=None, fails=None)

    def opener(wanted, cache_dir):
        made.opened.append(wanted.engine)
        if wanted.engine == "cpu":
            return Segmenter(quality="balanced", machine=Machine(cache_dir=compiled))
        if made.fails is not None:
            raise made.fails
        path = weights_dir() / "bisenet-small.safetensors"
        made.last = CudaSegmenter(str(path), device="cpu", form=Form(area=AREAS["balanced"]))
        return made.last

    made.opener = opener
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(nvidia, "present", lambda: "NVIDIA H100")
    monkeypatch.setattr("vcam.matting.on_battery", lambda: False)
    return made


@pytest.fixture
def loop(gpu):
    """Start a loop of `count` frames of the portrait before green; returns it with its sink."""
    opened = []

    def start(count, **changes):
        look = {"light": "off"}  # with it on the engine leaves the drawing to the compositor
        chosen = settings(output={"width": W, "height": H}, look=look, **changes)
        with StillSource(width=W, height=H, realtime=False) as source:
            frames = [source.read(0.0) for _ in range(count)]
        sink = ListSink(W, H)
        shown = outlet(sink)
        demand = Demand(shown, on_demand=False, idle_after=0.2)
        matting = Matting(chosen.current.matte, None, gpu.opener).__enter__()
        opened.append(matting)
        wait(lambda: matting.ready and (settled(matting) or not nvidia.present()))
        backdrop = open_backdrop("#00ff00", W, H)
        slot = Slot(frames)
        # Frames of a moment ago are late on a slow machine; the clock of this test never is.
        pipe = Pipeline(slot, matting, backdrop, shown, chosen, demand, clock=lambda: slot.now)
        slot.now = 0.0
        read = slot.read

        def tick(timeout):
            frame = read(timeout)
            slot.now = frame.pts if frame is not None else slot.now
            return frame

        slot.read = tick
        return pipe, sink

    yield start
    for matting in opened:
        matting.__exit__()


def test_the_engines_composite_is_shown_once_the_guard_trusts_it(loop, gpu):
    pipe, sink = loop(8)

    drain(pipe, 8)

    assert sorted(gpu.opened) == ["cpu", "cuda"]
    assert pipe.matting.info["engine"] == "cuda"
    assert pipe.matting.info["problem"] is None
    assert [frame.is_card for frame in sink.frames[:2]] == [True, True]
    assert not any(frame.is_card for frame in sink.frames[3:])
    for frame in sink.frames[3:]:
        assert np.abs(corner(frame) - np.array(GREEN)).max() <= 1
        assert frame.data[:H].std() > 10, "nobody stands before the green"


def test_a_matte_that_is_no_number_ends_in_the_card_though_a_composite_was_drawn(loop, gpu):
    pipe, sink = loop(8)
    drain(pipe, 5)
    assert not sink.frames[-1].is_card
    gpu.last._plan._network = lambda x: torch.full((1, 1, *x.shape[2:]), float("nan"))

    drain(pipe, 2)

    assert [frame.is_card for frame in sink.frames[-2:]] == [True, True]
    assert pipe.verdict.reason == "matte is not a number"


def test_a_freeze_after_refused_frames_shows_the_last_one_that_was_trusted(loop, gpu):
    pipe, sink = loop(10)
    drain(pipe, 5)
    trusted = sink.frames[-1].data.copy()
    # Everything is person: the composite is the bare room, which the guard refuses.
    gpu.last._plan._network = lambda x: torch.full((1, 1, *x.shape[2:]), 20.0)
    drain(pipe, 3)
    assert all(frame.is_card for frame in sink.frames[-3:])

    pipe.settings.set_mode("frozen")
    drain(pipe, 1)

    assert not sink.frames[-1].is_card
    assert np.array_equal(sink.frames[-1].data, trusted)


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        (Scene(W, H, Blur()), Scene(W, H, PICTURE), False),  # a blurred room for a picture
        (Scene(W, H, Blur(20.0)), Scene(W, H, Blur(80.0)), False),
        (Scene(W, H, Blur(80.0)), Scene(W, H, Blur(20.0)), True),
        (Scene(W, H, PICTURE), Scene(W, H, Blur(80.0)), True),
        (Scene(W, H, PICTURE), Scene(W, H, PICTURE, Look(mirror=True)), True),
    ],
)
def test_until_a_new_look_is_ready_only_one_that_hides_as_much_stands_in(gpu, old, new, may):
    segmenter = gpu.opener(SimpleNamespace(engine="cuda"), None)
    segmenter.warm(Packing.yuyv(H, W), old)

    assert segmenter._plan.may_stand_in(segmenter._plan.packing, new) is may


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: device lost")],
    ids=["memory", "lost"],
)
def test_a_gpu_that_fails_hands_over_to_the_processor(loop, gpu, error):
    pipe, sink = loop(30)
    drain(pipe, 5)
    assert not sink.frames[-1].is_card
    assert pipe.capture.packed

    def broken(turn):
        raise error

    gpu.last._plan.stages = broken
    shown = len(sink.frames)
    drain(pipe, 6)

    assert sorted(gpu.opened) == ["cpu", "cuda"]
    assert not pipe.capture.packed
    # The processor's engine is open all along: the very frame that the GPU failed on is shown.
    assert not any(frame.is_card for frame in sink.frames[shown:])
    assert pipe.matting.info["engine"] == "openvino"
    assert "the processor does the work" in pipe.matting.info["problem"]
    # What is shown is never the room: where nobody is, it is green throughout.
    for frame in sink.frames:
        assert frame.is_card or np.abs(corner(frame) - np.array(GREEN)).max() <= 1


def test_a_slider_opens_no_model_and_choosing_one_person_takes_the_processor(loop, gpu):
    pipe, _ = loop(9)
    drain(pipe, 3)
    first = pipe.settings.current.matte

    pipe.matting.apply(first.model_copy(update={"smoothing": 0.1}))
    time.sleep(0.2)
    drain(pipe, 1)
    assert pipe.matting.info["engine"] == "cuda"

    pipe.matting.apply(first.model_copy(update={"people": "only-me"}))
    drain(pipe, 1)
    assert pipe.matting.info["engine"] == "openvino"
    assert pipe.matting.info["waits"] == "choosing one person takes the processor"

    pipe.matting.apply(first)
    drain(pipe, 1)
    assert pipe.matting.info["engine"] == "cuda"
    assert sorted(gpu.opened) == ["cpu", "cuda"]


def test_a_gpu_that_cannot_be_opened_leaves_the_reason(loop, gpu):
    gpu.fails = EngineError("the GPU's memory is full", hint="")
    pipe, sink = loop(6)

    drain(pipe, 6)

    assert sorted(gpu.opened) == ["cpu", "cuda"]
    assert not sink.frames[-1].is_card
    assert pipe.matting.info["problem"].startswith("the GPU's memory is full")


@pytest.mark.parametrize(("engine", "says"), [("auto", None), ("cuda", "there is no NVIDIA")])
def test_without_a_card_the_processor_works_and_says_so_where_asked(
    loop, gpu, monkeypatch, engine, says
):
    monkeypatch.setattr(nvidia, "why_not", lambda: "there is no NVIDIA driver")
    monkeypatch.setattr(nvidia, "present", lambda: "")

    pipe, _ = loop(1, matte={"engine": engine})
    drain(pipe, 1)
    if says:
        wait(lambda: pipe.matting.problem)

    problem = pipe.matting.info["problem"]
    assert gpu.opened == ["cpu"]
    assert problem is None if says is None else problem.startswith(says)


def test_the_network_sees_half_a_megapixel_and_less():
    assert AREA == 512 * 512


def corner(frame):
    """Y, U and V of the picture's upper right, where nobody is."""
    flat = frame.data.reshape(-1)
    places = (W - 1, W * H + W // 2 - 1, W * H * 5 // 4 + W // 2 - 1)
    return np.array([flat[place] for place in places]).astype(int)


def drain(pipe, steps):
    for _ in range(steps):
        pipe.step(threading.Event())


def settled(matting):
    """True once the GPU is open, or it is known why not."""
    return matting._gpus.waiting or matting._gpu_problem


def wait(ready, timeout=240.0):
    until = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["yuyv", "nv12", "422", "420", "full range"])
@pytest.mark.parametrize("spoil", ["", "inverted", "nobody", "no number"])
def test_a_plan_is_asked_in_every_packing_and_a_wrong_one_refused(kind, spoil, monkeypatch):
    h, w = 480, 640
    packing = {
        "yuyv": Packing.yuyv(h, w),
        "nv12": Packing.nv12(h, w),
        "422": Packing.planar((h, w), (h, w // 2), full_range=False),
        "420": Packing.planar((h, w), (h // 2, w // 2), full_range=False),
        "full range": Packing.planar((h, w), (h, w // 2), full_range=True),
    }[kind]
    path = weights_dir() / "bisenet-small.safetensors"
    segmenter = CudaSegmenter(str(path), device="cpu", form=Form(area=AREAS["balanced"]))
    build = networks.build
    change = {
        "": lambda logits: logits,
        "inverted": lambda logits: -logits,
        "nobody": lambda logits: logits - 100,
        "no number": lambda logits: logits / (logits * 0),
    }[spoil]

    def spoiled(*args):
        network = build(*args)

        def made(x):
            return change(network(x))

        made.inputs, made.room = network.inputs, network.room
        return made

    monkeypatch.setattr(networks, "build", spoiled)
    scene = Scene(W, H, PICTURE)

    if spoil:
        with pytest.raises(UntrustedError, match=r"bisenet-small \(fp32, cpu\)"):
            segmenter._build(packing, scene)
        return
    plan = segmenter._build(packing, scene)
    kept = [*plan.buffers.each, plan._above, plan._answer, *plan._state()[:2]]
    kept += plan.compared.pictures
    assert not any(buffer.any() for buffer in kept)


def test_a_gpu_that_answers_wrongly_makes_place_for_the_processor(gpu, monkeypatch):
    gpu.fails = UntrustedError("the model bisenet-r18 (fp16, cuda) is not used", hint="")

    with Matting(settings().current.matte, None, gpu.opener) as matting:
        wait(lambda: matting.ready and settled(matting))

        assert sorted(gpu.opened) == ["cpu", "cuda"]
        assert "not used; the processor does the work" in matting.info["problem"]


def test_weights_for_the_gpu_that_answer_wrongly_end_in_the_card_with_their_name(gpu):
    gpu.fails = UntrustedError("the model mine (fp16, cuda) is not used", hint="")

    with Matting(
        settings(matte={"model": "mine.safetensors"}).current.matte, None, gpu.opener
    ) as m:
        wait(lambda: m.problem)

        assert set(gpu.opened) == {"cuda"}
        assert m.info["problem"] == "the model mine (fp16, cuda) is not used"
        assert m.matte(room(1)) == Fault("model cannot be used")
