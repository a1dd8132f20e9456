"""BiSeNet as a GPU runs it: half precision, channels last, in the form that measured fastest.

"eager" is torch's own kernels; "fused" joins each convolution with its bias, ReLU and shortcut in
cuDNN; "compile" is torch.compile with autotuning; "tensorrt" is TensorRT, where
torch-tensorrt is installed. All of them end up inside the same CUDA graph.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation import store
from segmentation.bisenet import BiSeNet, ContextPath
from segmentation.engines import answers, tensorrt_engine
from segmentation.engines.layout import Layout
from segmentation.kernels import LIMITED, to_input
from segmentation.layers import BasicBlock, ConvBnRelu

if TYPE_CHECKING:
    Network = Callable[[Tensor], Tensor]

log = logging.getLogger(__name__)

FASTEST: Final = "cuda.json"  # the kind that was measured fastest
KINDS: Final = ("eager", "fused", "compile", "tensorrt")
QUICK: Final = ("eager", "fused")  # ready in a second: tried whenever nothing is remembered
# Logits may differ by this share of the greatest from float32's. In half precision they do by .002,
# in bfloat16 by .015.
SAME: Final = 0.01
HEAD_START: Final = 200_000  # clocks of the GPU, a tenth of a millisecond
RUNS: Final = 30  # timed replays of each kind
WIDE: Final = (
    8  # channels of a picture for tensor cores, which take no fewer; those beyond RGB are 0
)


def placed(weights: BiSeNet, device: torch.device, dtype: torch.dtype) -> BiSeNet:
    """Return a copy of the folded network on `device`, in `dtype`, channels last."""
    made = copy.deepcopy(weights).eval().requires_grad_(False).to(device, dtype)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build(
    kind: str,
    weights: BiSeNet,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path | None = None,
) -> Network:
    """Return the network of one kind, for inputs (1, `weights.inputs`, *size), to be recorded.

    What takes minutes to build is kept in `cache_dir`.

    Raises:
        RuntimeError, ImportError: this kind does not work here.
    """
    network = placed(weights, device, dtype)
    if kind == "fused":
        return fused(network)
    if kind == "compile":
        made: Network = torch.compile(network, mode="max-autotune-no-cudagraphs", dynamic=False)
        return made
    if kind == "tensorrt":
        return tensorrt_engine.open_network(
            network, size, device, _kept(cache_dir, "TensorRT engines")
        )
    if kind != "eager":
        raise ValueError(f"network is {kind!r}, expected one of {', '.join(map(repr, KINDS))}")
    return network


def split(network: Network) -> tuple[Network, Head | None]:
    """Return a built network without its last layers, and those; weights are shared, not copied.

    Networks that are not torch's own modules stay whole, and have None.

    Shapes:
        the first returns: (1, C, h / 2, w / 2), of which the second makes logits, (1, 1, h, w)
    """
    if not isinstance(network, BiSeNet):
        return network, None
    body = copy.copy(network)
    body._modules = {**network._modules, "logits": nn.Identity()}
    object.__setattr__(body, "_enlarged", nn.Identity())  # a module would hide behind the method
    return body, Head(network.logits, network._enlarged)


@dataclass(frozen=True)
class Head:
    """The last layers of a network: a convolution to one channel, and its enlargement."""

    conv: nn.Conv2d
    enlarged: Network

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits; see `split`."""
        return self.enlarged(self.conv(features))


def fused(network: BiSeNet) -> BiSeNet:
    """Let cuDNN add bias, ReLU and shortcut while it convolves; in place.

    Results stay the same, to the rounding of `dtype`. The picture may have `network.inputs`
    channels now, of which those beyond RGB do not count.
    """
    _widen(network.context.conv1)
    if network.spatial is not None:
        _widen(conv_of(network.spatial.layers[0]))
    network.inputs = WIDE
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvBnRelu):
                setattr(module, name, ConvRelu(conv_of(child)))
            elif isinstance(child, BasicBlock):
                setattr(module, name, _Block(child))
            elif isinstance(child, ContextPath):
                setattr(module, name, _Context(child))
    return network


def conv_of(module: nn.Module) -> nn.Conv2d:
    """Return the convolution of a folded `ConvBnRelu`, or of what took its place."""
    conv = module.conv if isinstance(module, ConvRelu) else module[0]  # type: ignore[index]
    assert isinstance(conv, nn.Conv2d)
    return conv


def widened(x: Tensor, channels: int) -> Tensor:
    """Return a picture with as many channels, those that it lacks 0.

    Shapes:
        x: (1, C, h, w) with C <= channels
        returns: (1, channels, h, w), channels last
    """
    if x.shape[1] == channels:
        return x
    made = F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))
    return made.contiguous(memory_format=torch.channels_last)


def _widen(stem: nn.Conv2d) -> None:
    """Have a convolution take `WIDE` channels, of which those it did not have count nothing."""
    weight = widened(stem.weight.detach(), WIDE)
    stem.weight = nn.Parameter(weight, requires_grad=False)
    stem.in_channels = WIDE


class ConvRelu(nn.Module):
    """A convolution with its bias and ReLU in one kernel."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Convolve, by `weight` instead of its own where it is given."""
        conv = self.conv
        return _joined(conv, widened(x, conv.in_channels), weight)


class _Context(nn.Module):
    """A trunk whose first convolution brings its ReLU along."""

    def __init__(self, trunk: ContextPath) -> None:
        super().__init__()
        self.stem = ConvRelu(trunk.conv1)
        self.layer1, self.layer2 = trunk.layer1, trunk.layer2
        self.layer3, self.layer4 = trunk.layer3, trunk.layer4

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        half = self.stem(x)  # as `ContextPath` does
        quarter = self.layer1(F.max_pool2d(half, 3, 2, 1))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return half, quarter, eighth, sixteenth, self.layer4(sixteenth)


class _Block(nn.Module):
    """A residual block whose second convolution adds the shortcut in the same kernel."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.first = ConvRelu(block.conv1)
        self.second, self.downsample = block.conv2, block.downsample
        if self.downsample is not None:
            _give_bias(conv_of(self.downsample), self.second)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.second
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.first(x)
        return _joined(conv, x, shortcut=shortcut)


def _joined(
    conv: nn.Conv2d, x: Tensor, weight: Tensor | None = None, shortcut: Tensor | None = None
) -> Tensor:
    """Convolve, add bias and shortcut, and cut off what is negative: in one kernel on a GPU."""
    weight = conv.weight if weight is None else weight
    how = conv.stride, _padding(conv), conv.dilation, conv.groups
    if not x.is_cuda:
        made = F.conv2d(x, weight, conv.bias, *how)
        return F.relu(made if shortcut is None else made + shortcut)
    if shortcut is None:
        return torch.cudnn_convolution_relu(x, weight, conv.bias, *how)
    return torch.cudnn_convolution_add_relu(x, weight, shortcut, 1.0, conv.bias, *how)


def _give_bias(giver: nn.Conv2d, taker: nn.Conv2d) -> None:
    """Add the bias of one convolution to that of another, where their outputs are added.

    Without one, a convolution is one launch less.
    """
    if giver.bias is None or taker.bias is None:
        return
    both = (giver.bias.float() + taker.bias.float()).to(taker.bias.dtype)
    taker.bias, giver.bias = nn.Parameter(both, requires_grad=False), None


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    assert isinstance(conv.padding, tuple)
    return conv.padding


def choose(
    weights: BiSeNet,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path | None,
) -> str:
    """Return the kind to use: the one that was measured fastest here, else the faster quick one."""
    if device.type != "cuda":
        return "eager"
    known = _recall(cache_dir, _key(device, dtype))
    if known in KINDS:
        return known
    report = compare(weights, size, device, dtype, kinds=QUICK)
    return fastest(report)


def compare(
    weights: BiSeNet,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    kinds: Sequence[str] = KINDS,
    cache_dir: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Try every kind on a person before a room: median milliseconds, and how far from float32.

    "logits" is the greatest difference of logits as a share of the greatest logit, "apart" that of
    alpha. A kind that fails says why under "problem".
    """
    x = trial(size, device, weights.inputs)
    with torch.inference_mode():
        exact = _in_float32(placed(weights, device, torch.float32), x)
        found: dict[str, dict[str, Any]] = {}
        for kind in kinds:
            if device.type == "cuda":
                torch.cuda.empty_cache()  # what one leaves behind does not fit beside the next
            try:
                network = build(kind, weights, size, device, dtype, cache_dir)
                found[kind] = _tried(network, x.to(dtype), exact)
            except Exception as error:  # of compilers, drivers, packages: another kind may work
                found[kind] = {"problem": (str(error).splitlines() or [type(error).__name__])[0]}
    return found


def _tried(network: Network, x: Tensor, exact: Tensor) -> dict[str, float]:
    """Return the time of a network, and how far its logits are from exact ones."""
    x = x.contiguous(memory_format=torch.channels_last)
    found = apart(network(x).float(), exact)
    return {"ms": time_of(network, x), **found}


def apart(logits: Tensor, exact: Tensor) -> dict[str, float]:
    """Return how far logits are from exact ones, and their alpha; not a number if one of them is.

    Shapes:
        logits, exact: (1, 1, h, w) float32
    """
    away = (logits - exact).abs().max() / exact.abs().max()
    alpha = (torch.sigmoid(logits) - torch.sigmoid(exact)).abs().max()
    return {"logits": float(away), "apart": float(alpha)}


def fastest(report: dict[str, dict[str, Any]]) -> str:
    """Return the fastest kind that is exact enough; "eager" where none is."""
    good = {k: r["ms"] for k, r in report.items() if r.get("logits", 1.0) <= SAME}
    return min(good, key=lambda kind: good[kind]) if good else "eager"


def time_of(network: Network, x: Tensor, runs: int = RUNS) -> float:
    """Return the median milliseconds of one run: in a CUDA graph on a GPU, else as it is."""
    if x.device.type != "cuda":
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            network(x)
            taken.append((time.perf_counter() - started) * 1000)
        return sorted(taken)[1]
    stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(x)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            network(x)
        spent = timed(graph.replay, stream, runs)
    del graph
    torch.cuda.empty_cache()  # its memory is of use to nobody else
    return sorted(spent)[runs // 2]


def timed(
    run: Callable[[], None], stream: torch.cuda.Stream, runs: int, interval: float = 0.0
) -> list[float]:
    """Return the GPU's milliseconds of each of `runs` calls, by CUDA events on `stream`.

    The GPU is kept busy until a call has been told in full: launching it takes time of its own,
    which nobody waits for where frames follow one another. `interval` seconds pass between calls.
    """
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        before = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        after = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            torch.cuda._sleep(HEAD_START)  # type: ignore[no-untyped-call]
        before.record(stream)
        run()
        after.record(stream)
        after.synchronize()
        spent.append(before.elapsed_time(after))
        time.sleep(max(0.0, interval - (time.perf_counter() - started)))
    return spent


def trial(size: tuple[int, int], device: torch.device, inputs: int = 3) -> Tensor:
    """Return a person before a room as the network's input, (1, inputs, *size) float32.

    Of the room nothing is known.
    """
    layout = Layout("bisenet")
    x = np.zeros((1, inputs, *size), np.float32)
    picture = answers.pictures(*answers.part(*size))[0]
    to_input(picture, layout.matrix(LIMITED), layout.scale(), x)
    return torch.from_numpy(x).to(device)


def remember(
    report: dict[str, dict[str, Any]],
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path,
) -> None:
    """Keep what was measured, so that the next start takes the fastest kind."""
    content = {"key": _key(device, dtype), "kind": fastest(report), "measured": report}
    _kept(cache_dir).put(FASTEST, json.dumps(content, indent=2).encode())


def _recall(cache_dir: Path | None, key: str) -> str | None:
    try:
        known = json.loads(_kept(cache_dir).get(FASTEST) or b"null")
    except ValueError:
        return None
    kind = known.get("kind") if isinstance(known, dict) and known.get("key") == key else None
    return kind if isinstance(kind, str) else None


def _kept(cache_dir: Path | None, what: str = "measurements") -> store.Store:
    return store.Store(None if cache_dir is None else store.private([cache_dir]), what)


def _key(device: torch.device, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{torch.__version__} {name} {dtype}"


def _in_float32(network: nn.Module, x: Tensor) -> Tensor:
    """Run in true float32: TF32 would hide what half precision costs."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        out: Tensor = network(x.contiguous(memory_format=torch.channels_last))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return out
