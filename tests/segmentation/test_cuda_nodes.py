# ruff: noqa: E402
"""Launches of a frame are counted: every kernel and copy that a GPU is told to do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.bisenet import BiSeNet
from segmentation.engines import networks
from segmentation.engines.weights_file import fold
from tests.segmentation.test_cuda_trace import META, Up
from vcam.compose.scene import Blur, Look, Scene
from vcam.gpu import torch_matte
from vcam.gpu.kernels.language import Kernel
from vcam.gpu.packing import Packing
from vcam.gpu.plan import Plan
from vcam.gpu.rig import Rig

W, H = 1280, 720


class Launches(TorchDispatchMode):
    """Counts what a GPU is told to do: torch's operations but views, and Triton's kernels."""

    FREE = ("view", "as_strided", "slice", "select", "unsqueeze", "squeeze", "t", "transpose",
        "permute", "expand", "detach", "alias", "split", "unbind", "_reshape_alias",
        "_unsafe_view", "empty", "empty_strided", "new_empty",
        "empty_like")  # fmt: skip

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.__name__.split(".")[0]
        made = op(*args, **(kwargs or {}))
        still = name == "contiguous" and made.stride() == args[0].stride()  # as it was already
        if name not in self.FREE and not still:
            self.names.append(name)
        if name == "conv2d" and len(args) > 2 and args[2] is not None:
            self.names.append("bias")  # cuDNN's convolution alone adds none
        return made


@pytest.fixture
def launched(monkeypatch):
    """Kernels that only say that they were launched."""
    launched = []

    def launch(kernel, grid, arguments, warps):
        launched.append(kernel.name)

    monkeypatch.setattr(Kernel, "_launch", launch)
    return launched


@pytest.fixture
def network(monkeypatch):
    """The shipped kind of network as cuDNN runs it: bias, shortcut and ReLU with a convolution."""

    def without(conv, x, weight=None, shortcut=None):
        how = conv.stride, conv.padding, conv.dilation, conv.groups
        made = torch.conv2d(x, conv.weight if weight is None else weight, None, *how)
        return torch.empty_like(made, memory_format=torch.channels_last)  # as cuDNN makes it

    monkeypatch.setattr(networks, "_joined", without)
    with META:
        made = fold(BiSeNet(1.0)).eval().requires_grad_(False).to(torch.float16)
        return networks.fused(made.to(memory_format=torch.channels_last))


PICTURE = np.full((H * 3 // 2, W), 90, np.uint8)


@pytest.mark.parametrize(
    ("scene", "most", "others"),
    [
        (Scene(W, H, PICTURE), 89, 43),
        (Scene(W, H, Blur(60), Look(mirror=True)), 98, 52),
        (Scene(W + 80, H, Blur(60), Look(light_wrap=0.7)), 105, 59),
    ],
    ids=["picture", "blur", "everything"],
)
def test_a_frame_is_few_launches(network, launched, scene, most, others):
    counts = {}
    for kernels in ("torch", "triton"):
        plan = Plan(Rig(network, META, torch.float16, host=Up()), Packing.yuyv(H, W), scene)
        plan._tidy.pieces = torch_matte.pieces
        if kernels == "triton":
            plan.use_triton()
        for whole in (True, False):
            launched.clear()
            if not whole:
                half = (1, 24, *(n // 2 for n in plan.full))
                out = torch.empty(half, dtype=torch.float16, device=META)
                plan._network = lambda x: out  # noqa: B023
            with torch.inference_mode(), Launches() as said:
                plan.stages(0)
            counts[kernels, whole] = len(said.names) + len(launched)

    assert counts["torch", False] > 500
    assert counts["triton", True] == most, (launched, said.names)
    assert counts["triton", False] == others
