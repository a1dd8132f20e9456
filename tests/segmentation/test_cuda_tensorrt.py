# ruff: noqa: E402
"""TensorRT's engine is built once, kept, checked, and run on memory as TensorRT reads it.

TensorRT is a stand-in of the same functions, which computes on the processor.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation import store
from segmentation.bisenet import BiSeNet
from segmentation.engines import networks
from segmentation.engines.weights_file import fold

CPU = torch.device("cpu")
SIZE = 64, 96


class Engine:
    """Name of an exported network, which the stand-in reads from bytes and runs."""

    num_io_tensors = 2

    def __init__(self, exported):
        self.run = exported.module()
        self.inputs = self.run.inputs
        self.at = {}

    def get_tensor_name(self, i):
        return ("output0", "x")[i]

    def get_tensor_mode(self, name):
        return "in" if name == "x" else "out"

    def get_tensor_shape(self, name):
        return (1, self.inputs, *SIZE) if name == "x" else (1, 1, *SIZE)

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, at):
        self.at[name] = at

    def execute_async_v3(self, stream):
        x, made = (
            np.ctypeslib.as_array(
                ctypes.cast(self.at[name], ctypes.POINTER(ctypes.c_float)),
                self.get_tensor_shape(name),
            )
            for name in ("x", "output0")
        )
        made[:] = self.run(torch.from_numpy(x.copy())).numpy()
        return stream == 5


@pytest.fixture
def tensorrt(monkeypatch):
    """The stand-in, which counts how often it builds and opens an engine."""

    def module(name):
        made = ModuleType(name)
        made.__spec__ = ModuleSpec(name, None)  # torch asks
        monkeypatch.setitem(sys.modules, name, made)
        return made

    made, building = module("tensorrt"), module("torch_tensorrt")
    made.built, made.opened, made.__version__ = 0, 0, "11.0"
    programs = []
    # Exporting takes seconds: what is exported is the network itself.
    export = lambda network, inputs: SimpleNamespace(module=lambda: network)  # noqa: E731
    monkeypatch.setattr(torch.export, "export", export)

    def build(exported, *, arg_inputs, use_explicit_typing):
        made.built += 1
        assert arg_inputs[0].shape == (1, exported.module().inputs, *SIZE)
        programs.append(exported)
        return b"engine %d" % (len(programs) - 1)

    def read(blob):
        made.opened += 1
        return Engine(programs[int(blob[7:])]) if blob[:7] == b"engine " else None

    made.Logger = type("Logger", (), {"ERROR": 0, "__init__": lambda self, level: None})
    made.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=read)
    made.TensorIOMode = SimpleNamespace(INPUT="in")
    building.dynamo = SimpleNamespace(convert_exported_program_to_serialized_trt_engine=build)
    made.card = SimpleNamespace(name="a card", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: made.card)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=5))
    return made


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    return fold(BiSeNet(0.25, lean=True)).eval()


def build(weights, folder):
    return networks.build("tensorrt", weights, SIZE, CPU, torch.float32, folder)


def test_an_engine_is_built_once_and_computes_what_the_network_does(tensorrt, weights, tmp_path):
    x = torch.rand(1, 3, *SIZE).to(memory_format=torch.channels_last)

    with torch.inference_mode():
        made = [build(weights, tmp_path)(x) for _ in range(2)]
        wanted = weights(x)

    assert (tensorrt.built, tensorrt.opened) == (1, 2)
    assert all(torch.allclose(each, wanted, atol=1e-5) for each in made)
    assert len(list(tmp_path.glob("tensorrt-*.engine"))) == 1


@pytest.mark.parametrize("what", ["weights", "version", "card", "generation"])
def test_another_network_version_or_card_has_an_engine_of_its_own(
    tensorrt, weights, tmp_path, what
):
    build(weights, tmp_path)
    if what == "weights":
        torch.manual_seed(2)
        weights = fold(BiSeNet(0.25, lean=True)).eval()
    elif what == "version":
        tensorrt.__version__ = "11.1"
    elif what == "card":
        tensorrt.card.name = "another card"
    else:
        tensorrt.card.minor = 3
    build(weights, tmp_path)

    assert tensorrt.built == 2


def test_a_damaged_engine_or_one_that_is_refused_is_built_anew(tensorrt, weights, tmp_path):
    build(weights, tmp_path)
    (path,) = tmp_path.glob("tensorrt-*.engine")
    whole = path.read_bytes()

    path.write_bytes(whole[:-1])
    build(weights, tmp_path)
    assert tensorrt.built == 2
    assert len(path.read_bytes()) == len(whole)

    store.Store(tmp_path, "engines").put(path.name, b"of another TensorRT")
    build(weights, tmp_path)
    assert tensorrt.built == 3
    assert any("TensorRT refuses it" in note for note in store.notes)


def test_without_a_folder_nothing_is_kept(tensorrt, weights):
    for _ in range(2):
        build(weights, None)

    assert tensorrt.built == 2


def test_an_engine_that_does_not_run_says_so(tensorrt, weights, tmp_path, monkeypatch):
    network = build(weights, tmp_path)
    monkeypatch.setattr(Engine, "execute_async_v3", lambda self, stream: False)

    with pytest.raises(RuntimeError, match="did not run"):
        network(torch.zeros(1, 3, *SIZE))
