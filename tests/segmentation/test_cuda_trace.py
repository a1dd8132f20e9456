# ruff: noqa: E402
"""The captured region on the meta device: nothing in it asks the GPU, or touches the processor.

And `open_device` through torch's real Python, of which only the calls into C are replaced.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.bisenet import BiSeNet
from segmentation.engines import cuda
from segmentation.engines.weights_file import fold
from vcam.compose.scene import Blur, Look, Scene
from vcam.gpu import torch_matte
from vcam.gpu.packing import Packing
from vcam.gpu.plan import Plan
from vcam.gpu.rig import Buffers, Pinned, Rig

META = torch.device("meta")
# Operations that wait for the GPU: they ask for a number, or for a shape that depends on one.
ASKS = {
    "_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique2", "equal",
    "is_nonzero", "repeat_interleave",
}  # fmt: skip


class Recording(TorchDispatchMode):
    """Notes what a CUDA graph cannot record."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[tuple[str, str]] = []
        self.copies = 0  # between pinned memory and the GPU

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.__name__.split(".")[0]
        given = [x for each in args for x in (each if isinstance(each, (list, tuple)) else [each])]
        devices = {x.device.type for x in given if isinstance(x, torch.Tensor)}
        made = torch.device((kwargs or {}).get("device") or "meta")
        if name in ASKS:
            self.wrong.append((name, "waits for the GPU"))
        elif name == "lift_fresh":
            self.wrong.append((name, "hands a number over as a tensor"))
        elif name == "copy_" and devices == {"cpu", "meta"}:
            self.copies += 1
        elif "cpu" in devices:
            self.wrong.append((name, "touches memory of the processor"))
        elif made.type == "cpu":
            self.wrong.append((name, "takes memory of the processor"))
        return op(*args, **(kwargs or {}))


class Up:
    """Host memory whose way up can be traced; what comes down has nowhere to go on this device."""

    def take(self, exchange):
        made = Pinned(torch.device("cpu")).take(exchange)
        return Buffers(made.up, tuple(x.to(META) for x in made.down), made.backdrop)

    def give_back(self, buffers):
        pass


@pytest.fixture(scope="module", params=[False, True], ids=["", "told of the room"])
def network(request):
    with META:
        made = fold(BiSeNet(1.0, room=request.param))
        return made.eval().requires_grad_(False).to(torch.float16)


PACKINGS = {
    "yuyv": Packing.yuyv(720, 1280),
    "nv12": Packing.nv12(720, 1280),
    "jpeg 4:2:2": Packing.planar((720, 1280), (720, 640), full_range=True),
    "jpeg 4:2:0": Packing.planar((1080, 1920), (540, 960), full_range=True),
    "vga": Packing.yuyv(480, 640),
}
PICTURE = np.zeros((1080, 1280), np.uint8)
SCENES = {
    "picture": Scene(1280, 720, PICTURE),
    "plain": Scene(1280, 720, PICTURE, Look(decontaminate=False)),
    "mirrored": Scene(1280, 720, PICTURE, Look(mirror=True, light_wrap=0.7)),
    "blur": Scene(1280, 720, Blur(60.0)),
    "bars": Scene(1280, 760, Blur(30.0), Look(mirror=True, light_wrap=0.5)),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_a_graph_can_record_every_look_of_every_frame(network, packing, scene):
    plan = Plan(Rig(network, META, torch.float16, host=Up()), packing, scene)
    plan._tidy.pieces = torch_matte.pieces

    with torch.inference_mode(), Recording() as seen:
        plan.stages(0)

    assert seen.wrong == []
    assert seen.copies == 1
    assert plan._x.shape[1] == network.inputs
    assert plan._raw.shape == plan.size
    assert plan._answer.device.type == "meta"


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lambda x: x + torch.ones(4), "touches memory of the processor"),
        (lambda x: torch.where(x > 0, x, torch.tensor(0.0)), "hands a number over"),
        (lambda x: torch.zeros(4, device="cpu"), "takes memory of the processor"),
        (lambda x: torch.equal(x, x), "waits for the GPU"),
    ],
)
def test_the_trace_knows_what_a_graph_cannot_record(spoil, wrong):
    x = torch.ones(4, device=META)

    # A tensor without data cannot give a number, nor be joined with one of the processor.
    unable = contextlib.suppress(RuntimeError)
    with torch.inference_mode(), Recording() as seen, unable:
        spoil(x)

    assert any(wrong in why for _, why in seen.wrong), seen.wrong


@pytest.fixture
def driver(monkeypatch):
    """A driver for one card: torch's Python is its own, calls into C note what they were given."""
    asked = SimpleNamespace(fraction=None, device=None)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    properties = SimpleNamespace(total_memory=139 << 30, name="H200")
    monkeypatch.setattr(torch.cuda, "_get_device_properties", lambda i: properties, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def limit(fraction, device):
        asked.fraction, asked.device = fraction, device

    def use(device):
        asked.used = device

    for name, function in (
        ("_cuda_setMemoryFraction", limit), ("_cuda_setDevice", use),
        ("_cuda_getDevice", lambda: 0),
    ):  # fmt: skip
        monkeypatch.setattr(torch._C, name, function, raising=False)
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    yield asked
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_opens_by_its_kind_alone_and_by_its_number(driver, device):
    assert cuda.open_device(torch.device(device)) == "H200"

    assert (driver.used, driver.device) == (0, 0)
    assert driver.fraction == pytest.approx((400 << 20) / (139 << 30))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
