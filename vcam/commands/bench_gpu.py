"""`vcam bench --engine cuda`: what a frame costs on the GPU, and whether it is the same frame.

One command for a machine that is at hand for ten minutes: every stage's time, the whole frame's,
the processor's share, the floor that copies and arithmetic set, the network in every form, and the
composites compared with the processor's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from segmentation.engines import networks
from segmentation.engines.cuda import PRECISIONS, first_line
from vcam.compose.scene import Scene
from vcam.gpu.kernels import shipped
from vcam.gpu.packing import Packing
from vcam.gpu.plan import STAGES, Plan
from vcam.gpu.segmenter import CudaSegmenter, Form
from vcam.sources.decode import MjpegDecoder
from vcam.system.paths import cache_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.bisenet import BiSeNet

PAPER: Final = (768, 1536)  # (h, w) at which the paper states 65.5 frames a second
PAPER_FPS: Final = 65.5
# What the hardware could do at best, for the floor: bytes a second of the bus and of the memory,
# and fp16 operations a second. A Hopper card on PCIe 5; on others the ratio is only a ratio.
BUS, MEMORY, OPERATIONS = 50e9, 3.0e12, 400e12
WARM_UP: Final = 50
CAMERA: Final = 1 / 30  # seconds from frame to frame; between them a GPU's clocks fall
# Composites may be as far from float32 ones: a level or two of 255 is what half precision does.
APART: Final = {"worst_levels": 4, "mean_levels": 0.05, "worst_alpha": 0.01}


@dataclass(frozen=True)
class Material:
    """Frames and backdrops to measure with."""

    sizes: dict[str, tuple[int, int]]  # (width, height), by name
    pack: Callable[[int, int], tuple[list[bytes], list[NDArray[np.uint8]]]]  # JPEGs, and YUYV
    backdrop: Callable[[int, int], NDArray[np.uint8]]


def measure(
    material: Material,
    *,
    frames: int = 1000,
    check: bool = False,
    device: str = "cuda",
    model: str = "auto",
    kinds: tuple[str, ...] = networks.KINDS,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the report; `device="cpu"` runs the same code without a GPU, for the tests.

    A section that fails says why under "problem"; the others are measured all the same.

    Raises:
        SegmentationError: the GPU or the weights cannot be used.
    """
    first = CudaSegmenter(model, device=device)
    weights, where = first._weights, first.device
    dtype = PRECISIONS[first.precision]
    report: dict[str, Any] = {
        "gpu": first.name,
        "torch": torch.__version__,
        "model": f"{first.model} {first.precision}",
        "network": "eager",
        "networks": {},
        "cases": [],
    }
    say("the network in every form")
    report["networks"] = section(
        lambda: networks.compare(
            weights, (512, 512), where, dtype, kinds=kinds, cache_dir=cache_dir()
        )
    )
    if "problem" not in report["networks"]:
        report["network"] = networks.fastest(report["networks"])
        if where.type == "cuda":
            networks.remember(report["networks"], where, dtype, cache_dir())
    form = Form(network=report["network"])
    for name, (width, height) in material.sizes.items():
        say(f"{name} YUYV")
        scene = Scene(width, height, material.backdrop(width, height))
        jpegs, packed = material.pack(width, height)
        case = section(lambda: _case(packed, scene, frames, (model, device, form)))  # noqa: B023
        case["name"] = name
        case["jpeg"] = section(lambda: jpeg(jpegs, where))  # noqa: B023
        if check:
            say(f"{name} against the processor")
            case["apart"] = section(lambda: apart(model, packed[:12], scene, device))  # noqa: B023
        report["cases"].append(case)
    say("the network at the paper's size")
    kind = report["network"]
    report["paper"] = section(lambda: _alone(weights, PAPER, where, dtype, kind))
    if "fps" in report["paper"]:
        report["paper"]["times_paper"] = round(report["paper"]["fps"] / PAPER_FPS, 2)
    report["square"] = section(lambda: _alone(weights, (512, 512), where, dtype, kind))
    report["lraspp"] = section(lambda: _lraspp(where, dtype))
    report["kernels"] = {"shipped": len(shipped.used), "not_shipped": sorted(shipped.missed)}
    report["meets"] = meets(report)
    return report


def section(measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured, or the problem with it."""
    try:
        return measured()
    except Exception as error:  # out of memory, a driver, a compiler: the rest is worth having
        return {"problem": f"{type(error).__name__}: {first_line(error)}"}


def meets(report: dict[str, Any]) -> dict[str, bool]:
    """Return what was hoped for, and whether it is so; a Hopper card is meant.

    What was not measured did not come true.
    """
    found = {}
    for case in report["cases"]:
        hopes = {"p50_ms": 0.4, "p99_ms": 0.6, "over_floor": 5.0} if case["name"] == "720p" else {}
        for key, most in {**hopes, "host_cpu_ms": 0.5, "torch_memory_mb": 400}.items():
            found[f"{case['name']} {key} <= {most:g}"] = case.get(key, inf) <= most
        for key, most in APART.items():
            if "apart" in case:
                found[f"{case['name']} {key} <= {most:g}"] = case["apart"].get(key, inf) <= most
    form = report["networks"].get(report["network"], {})
    for key in ("logits", "apart"):
        name = "logits" if key == "logits" else "alpha"
        found[f"{name} <= {networks.SAME:g} from float32"] = form.get(key, inf) <= networks.SAME
    found["paper's frames a second x 10"] = report["paper"].get("times_paper", 0) >= 10
    return found


def launches(plan: Plan) -> int | None:
    """Return how many kernels and copies a frame is, the network's too; None if nobody can tell."""
    from torch.profiler import ProfilerActivity, profile

    if plan._stream is None:
        return None
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            with torch.inference_mode(), torch.cuda.stream(plan._stream):
                plan.stages(0)
            plan._stream.synchronize()
        events = seen.events() or ()
        return sum(str(event.device_type).endswith("CUDA") for event in events)
    except (RuntimeError, AttributeError):
        return None


def _case(
    packed: list[NDArray[np.uint8]],
    scene: Scene,
    frames: int,
    opening: tuple[str, str, Form],
) -> dict[str, Any]:
    model, device, form = opening
    segmenter = CudaSegmenter(model, device=device, form=form)
    try:
        packing = Packing.yuyv(scene.height, scene.width)
        return _frames(segmenter, packing, packed, scene, frames)
    finally:
        segmenter.close()


def _frames(
    segmenter: CudaSegmenter,
    packing: Packing,
    packed: list[NDArray[np.uint8]],
    scene: Scene,
    frames: int,
) -> dict[str, Any]:
    """Send `frames` frames through, one at a time, and time them on both sides."""
    plan = _ready(segmenter, packing, packed[0], scene)
    wall, cpu, gpu, paced = [], [], [], []
    stream = plan._stream
    for i in range(-WARM_UP if stream else -1, frames):
        started, spent = time.perf_counter(), time.thread_time()
        data = packed[i % len(packed)]
        segmenter.run(packing, (data,), seq=i + 100, pts=0.0, scene=scene)
        if i >= 0:
            wall.append((time.perf_counter() - started) * 1000)
            cpu.append((time.thread_time() - spent) * 1000)
    if stream is not None:
        with torch.inference_mode(), torch.cuda.stream(stream):
            gpu = networks.timed(plan._graphs[0].replay, stream, frames)
            paced = networks.timed(plan._graphs[0].replay, stream, frames // 10, CAMERA)
    whole = gpu or wall
    bound = floor(plan, segmenter._weights)
    middle = float(np.median(whole))
    return {
        "size": [plan.full[1], plan.full[0]],
        "kernels": plan.kernels,
        "launches": launches(plan),
        "p50_ms": round(middle, 4),
        "p99_ms": round(float(np.percentile(whole, 99)), 4),
        "at_30_fps_ms": round(float(np.median(paced or whole)), 4),
        "wall_p50_ms": round(float(np.median(wall)), 4),
        "wall_p99_ms": round(float(np.percentile(wall, 99)), 4),
        "host_cpu_ms": round(float(np.mean(cpu)), 4),
        "fps": round(1000 / float(np.median(wall)), 1),
        "stages_ms": stages(plan, frames),
        "floor_ms": {k: round(v, 4) for k, v in bound.items()},
        "over_floor": round(middle / sum(bound.values()), 2),
        "torch_memory_mb": segmenter.memory >> 20,
        "gpu_memory_mb": _used(segmenter.device) >> 20,
    }


def _ready(
    segmenter: CudaSegmenter, packing: Packing, data: NDArray[np.uint8], scene: Scene
) -> Plan:
    until = time.monotonic() + 300
    while segmenter.run(packing, (data,), seq=0, pts=0.0, scene=scene) is None:
        if time.monotonic() > until:
            raise TimeoutError("the GPU was not ready after five minutes")
        time.sleep(0.05)
    assert segmenter._plan is not None
    return segmenter._plan


def stages(plan: Plan, frames: int) -> dict[str, dict[str, float]]:
    """Return p50 and p99 of each stage: each is recorded into a graph of its own."""
    found = {}
    stream = plan._stream
    with torch.inference_mode():
        for name in STAGES:
            stage = getattr(plan, name)
            if stream is None:
                started = time.perf_counter()
                stage(0)
                spent = [(time.perf_counter() - started) * 1000]
            else:
                with torch.cuda.stream(stream):
                    stage(0)
                    stream.synchronize()
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph, stream=stream):
                        stage(0)
                    spent = networks.timed(graph.replay, stream, frames)
            p50, p99 = np.percentile(spent, (50, 99))
            found[name] = {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}
    return found


def floor(plan: Plan, weights: BiSeNet) -> dict[str, float]:
    """Return the least milliseconds: bytes over the bus, bytes in memory, the network's sums."""
    over_bus = plan._above.numel() + plan._answer.numel()
    in_memory = 2 * over_bus + plan._behind.numel()
    return {
        "bus": over_bus / BUS * 1000,
        "memory": in_memory / MEMORY * 1000,
        "network": operations(weights, plan.full) / OPERATIONS * 1000,
    }


def operations(weights: BiSeNet, size: tuple[int, int]) -> int:
    """Return the additions and multiplications of one run of the network."""
    from torch.utils.flop_counter import FlopCounterMode

    network = networks.placed(weights, torch.device("cpu"), torch.float32).to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros((1, weights.inputs, *size), device="meta"))
    return int(counter.get_total_flops())


def apart(model: str, packed: list[NDArray[np.uint8]], scene: Scene, device: str) -> dict[str, Any]:
    """Return how far composites of the GPU are from the same arithmetic in float32 here, in levels.

    Every frame comes on its own, nothing remembered, so that differences do not add up.
    """
    mine = CudaSegmenter(model, device=device)
    exact = CudaSegmenter(model, device="cpu")
    packing = Packing.yuyv(scene.height, scene.width)
    worst, mean, alpha = 0, 0.0, 0.0
    _ready(mine, packing, packed[0], scene)
    for seq, data in enumerate(packed):
        mine.reset()
        exact.reset()
        pair = [s.run(packing, (data,), seq=seq, pts=0.0, scene=scene) for s in (mine, exact)]
        first, second = (m for m in pair if m is not None)
        assert first.composite is not None
        assert second.composite is not None
        difference = np.abs(first.composite.astype(np.int16) - second.composite)
        worst, mean = max(worst, int(difference.max())), max(mean, float(difference.mean()))
        alpha = max(alpha, float(np.abs(first.raw - second.raw).max()))
    return {
        "worst_levels": worst,
        "mean_levels": round(mean, 4),
        "worst_alpha": round(alpha, 5),
        "frames": len(packed),
    }


def jpeg(jpegs: list[bytes], device: torch.device) -> dict[str, Any]:
    """Return what a JPEG costs on the processor and in nvJPEG, and how far its levels are apart."""
    from vcam.gpu import nvjpeg

    host, spent, cpu = MjpegDecoder(), [], []
    wanted = [host.decode(data) for data in jpegs]
    for data in jpegs * 4:
        started, before = time.perf_counter(), time.thread_time()
        host.decode(data)
        spent.append((time.perf_counter() - started) * 1000)
        cpu.append((time.thread_time() - before) * 1000)
    report = {"host_ms": round(float(np.median(spent)), 4)}
    report["host_cpu_ms"] = round(float(np.mean(cpu)), 4)
    try:
        decoder = nvjpeg.open_decoder(device)
    except RuntimeError as error:
        return {**report, "problem": str(error)}
    most = max(sum(plane.size for plane in planes.each) for planes in wanted)
    out = torch.zeros(most, dtype=torch.uint8, device=device)
    spent, cpu, worst = [], [], 0
    for data, planes in zip(jpegs * 4, wanted * 4, strict=True):
        started, before = time.perf_counter(), time.thread_time()
        packing = decoder.decode(data, out)
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        spent.append((time.perf_counter() - started) * 1000)
        cpu.append((time.thread_time() - before) * 1000)
        if packing is None:
            return {**report, "problem": "nvJPEG has no answer for this picture"}
        for place, plane in zip((packing.y, packing.u, packing.v), planes.each, strict=True):
            found = place.of(out).cpu().numpy().astype(np.int16)
            worst = max(worst, int(np.abs(found - plane).max()))
    torn = decoder.decode(jpegs[0][: len(jpegs[0]) // 2], out) is not None
    decoder.close()
    report |= {"nvjpeg_ms": round(float(np.median(spent)), 4), "apart": worst}
    return {**report, "nvjpeg_cpu_ms": round(float(np.mean(cpu)), 4), "takes_torn": torn}


def _alone(
    weights: BiSeNet, size: tuple[int, int], device: torch.device, dtype: torch.dtype, kind: str
) -> dict[str, Any]:
    """Return the network's own time at (h, w)."""
    with torch.inference_mode():
        network = networks.build(kind, weights, size, device, dtype, cache_dir())
        x = networks.trial(size, device, weights.inputs)
        x = x.to(dtype, memory_format=torch.channels_last)
        ms = networks.time_of(network, x, 100)
    return {"size": [size[1], size[0]], "ms": round(ms, 4), "fps": round(1000 / ms, 1)}


def _lraspp(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the time of torchvision's LR-ASPP MobileNetV3 at 512x512, where it is installed."""
    try:
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    except ImportError:
        return {"problem": "torchvision is not installed"}
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)
    network = network.eval().to(device, dtype, memory_format=torch.channels_last)
    x = networks.trial((512, 512), device).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        ms = networks.time_of(lambda x: network(x)["out"], x, 100)
    return {"size": [512, 512], "ms": round(ms, 4), "fps": round(1000 / ms, 1)}


def _used(device: torch.device) -> int:
    """Bytes in use on the whole GPU, by everybody, the driver included."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)
