"""Checks of the GPU's engine on a stub of CUDA: `python -m tests.gpu_stub.checks NAME` prints JSON.

The torch and the Triton are those for a GPU; memory of the device is memory of the host, kernels
compute nothing, and what a graph must not record is an error. `test_stub` starts it where it works.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from segmentation.errors import EngineError, SegmentationError
from segmentation.planes import Planes
from tests.gpu_stub.stages import PLANTED, STAGES
from vcam.compose.scene import Blur, Look, Scene
from vcam.frame import Frame
from vcam.gpu import child
from vcam.gpu.child import GpuChild
from vcam.gpu.packing import Packing
from vcam.gpu.segmenter import CudaSegmenter, Form

W, H = 1280, 720
WORKSPACE = 64 << 20  # bytes that each convolution takes besides
LOOKS = 20
READY = 300.0  # seconds in which a plan is ready, however busy the machine
PATIENCE = 30.0  # and in which one has to be, where the GPU hangs
ANSWER = 5.0  # seconds for any other answer


def picture(width: int, height: int, light_wrap: float = 0.0) -> Scene:
    behind = np.full((height * 3 // 2, width), 128, np.uint8)
    return Scene(width, height, behind, Look(light_wrap=light_wrap))


PICTURE = picture(W, H)
BLUR = Scene(W, H, Blur(60.0))
CASES = {
    "yuyv, a picture": (Packing.yuyv(H, W), PICTURE),
    "yuyv, blur": (Packing.yuyv(H, W), BLUR),
    "4:2:2, bars, everything": (
        Packing.planar((H, W), (H, W // 2), full_range=True),
        Scene(1920, 1200, Blur(100.0), Look(mirror=True, light_wrap=0.7)),
    ),
    "1080p, light": (Packing.nv12(1080, 1920), picture(1920, 1080, 0.7)),
    "vga in 720p": (Packing.yuyv(480, 640), Scene(W, H, Blur(30.0))),
}


def opened(kernels: str = "", network: str = "") -> CudaSegmenter:
    """A segmenter on the stub, which asks no pictures and knows no stillness."""
    made = CudaSegmenter(form=Form(network=network, kernels=kernels), examine=False)
    made._stillness.watch = lambda matte: None
    return made


def ready(segmenter: CudaSegmenter, packing: Packing, scene: Scene) -> Callable[[], None]:
    """Wait until a plan is made for such frames; return what sends one through."""
    data = np.zeros(packing.size, np.uint8)
    send = partial(segmenter.run, packing, (data,), seq=0, pts=0.0, scene=scene)
    end = time.monotonic() + READY
    while send() is None or not segmenter._plan.fits(packing, scene):
        assert time.monotonic() < end, "no plan was ready"
        time.sleep(0.01)
    return send


def device() -> dict[str, Any]:
    """The name of the GPU as the program opens it."""
    return {"name": CudaSegmenter().name}


def recorded(kernels: str) -> dict[str, Any]:
    """Nodes of each case's graph, what a frame does besides, and what the stub complains of.

    And which kernels were shipped, which were not, and what Triton's compiler made.
    """
    import harness

    from vcam.gpu.kernels import shipped

    found: dict[str, Any] = {}
    segmenter = opened(kernels, "fused")
    for name, (packing, scene) in CASES.items():
        send = ready(segmenter, packing, scene)
        before = harness.counts()
        for _ in range(3):
            send()
        after = harness.counts()
        each = {key: (after[key] - before[key]) / 3 for key in ("graphs", "mallocs", "syncs")}
        found[name] = {**each, "nodes": len(harness.last_graph()), "by": segmenter._plan.kernels}
    # What Triton did itself lies in its folder: code, and what its own launcher is compiled to.
    made = sorted(path.name for path in Path(os.environ["TRITON_CACHE_DIR"]).rglob("*.*"))
    told = {"shipped": len(shipped.used), "missed": sorted(shipped.missed), "made": made}
    return {"cases": found, "said": harness.log(), **told}


def memory(kernels: str) -> dict[str, Any]:
    """Megabytes that torch holds after each of many looks, and at most; "" is a first start."""
    import harness
    import torch

    harness.WORKSPACE = WORKSPACE
    segmenter = opened(kernels, "fused" if kernels else "")
    packing, held, most = Packing.yuyv(H, W), [], []
    scenes = [PICTURE] + [
        Scene(W, H, Blur(60.0 - i), Look(mirror=i % 3 == 0, light_wrap=0.7 * (i % 2)))
        for i in range(LOOKS)
    ]
    cases = [(packing, scene) for scene in scenes] + [CASES["vga in 720p"], (packing, PICTURE)]
    for case in cases:
        ready(segmenter, *case)
        held.append(torch.cuda.memory_reserved() >> 20)
        most.append(torch.cuda.max_memory_reserved() >> 20)
        torch.cuda.reset_peak_memory_stats()
    retries = torch.cuda.memory_stats()["num_alloc_retries"]
    segmenter.close()
    del segmenter
    gc.collect()
    return {"held": held, "most": most, "retries": retries}


def gone(how: str) -> dict[str, Any]:
    """Seconds until a GPU that is lost or hangs is noticed at each stage, and its child has ended.

    "looks" are the frames that came meanwhile.
    """
    return {stage: _gone(how, stage) for stage in ("", *STAGES)}


def _gone(how: str, stage: str) -> dict[str, Any]:
    os.environ["VCAM_TEST_FAULT"] = f"{how}: {stage}"
    child.SETTLED, child.PATIENCE = 1, ANSWER
    waits = how == "hang" and stage in ("opening", "building", "recording", "look")
    child.BUILDING = PATIENCE if waits else READY
    luma, chroma = np.full((H, W), 90, np.uint8), np.full((H // 2, W // 2), 128, np.uint8)
    planes, frames, problem, used = Planes(luma, chroma, chroma), 0, "", None
    started = time.monotonic()
    try:
        used = GpuChild(module="tests.gpu_stub.worker", opening=READY)
        scenes = [PICTURE, BLUR] if stage == "look" else [PICTURE]
        for scene in scenes:
            while not used.prepare(planes, scene):
                time.sleep(0.02)
            for _ in range(5):
                started = time.monotonic()
                frames += used.matte(planes, seq=frames, pts=0.0, scene=scene) is not None
        started = time.monotonic()
        used.wipe()
    except SegmentationError as error:
        problem = str(error)
    noticed = time.monotonic() - started
    started, ended = time.monotonic(), True
    if used is not None:
        used.close()
        ended = used._process.poll() is not None
    return {
        "frames": frames, "problem": problem, "noticed": noticed, "ended": ended,
        "closed": time.monotonic() - started,
    }  # fmt: skip


def auto() -> dict[str, Any]:
    """Of `engine = "auto"`, whose GPU goes away at a stage, when frames came, and what is said.

    "alone" is one that cannot be opened at all.
    """
    from segmentation.engines import nvidia
    from vcam import matting

    nvidia.why_not, nvidia.present = lambda: "", lambda: "No GPU at all"
    matting.on_battery = lambda: False
    faults = ["alone", "", *(f"{how}: {stage}" for how in ("lost", "hang") for stage in PLANTED)]
    with TemporaryDirectory() as folder:
        _live("alone", Path(folder))  # what the processor's engine compiles is there from then on
        return {fault: _live(fault, Path(folder)) for fault in faults}


def _live(fault: str, folder: Path) -> dict[str, Any]:
    from tests.fakes import settings
    from vcam.doctor.programs import _of_engine
    from vcam.guard import Fault
    from vcam.matting import Matting, open_segmenter

    os.environ["VCAM_TEST_FAULT"] = fault
    how, _, stage = fault.partition(": ")
    child.PATIENCE = 1.0
    # What hangs in opening a device answers that it is open, and is never ready.
    built = how == "hang" and stage in ("opening", "building", "look")
    child.BUILDING = PATIENCE if built else READY
    opening = PATIENCE if fault == "hang: opening" else READY

    def opener(chosen: Any, cache_dir: Any) -> Any:
        if chosen.engine != "cuda":
            return open_segmenter(chosen, cache_dir)
        if fault == "alone":
            raise EngineError("it is not opened", hint="")
        return GpuChild(module="tests.gpu_stub.worker", opening=opening)

    luma, chroma = np.full((H, W), 90, np.uint8), np.full((H // 2, W // 2), 128, np.uint8)
    planes = Planes(luma, chroma, chroma)
    started = last = time.monotonic()
    first = worst = 0.0
    seq = by_gpu = after = 0
    with Matting(settings(matte={"engine": "auto"}).current.matte, folder, opener) as used:
        while after < 5 and last - started < READY:
            look = Look(mirror=stage == "look" and by_gpu > 5)
            made = used.matte(Frame(planes, seq / 30, seq), replace(PICTURE, look=look))
            now, seq = time.monotonic(), seq + 1
            if not isinstance(made, Fault):
                first, worst = first or now - started, max(worst, now - last) if first else 0.0
                by_gpu += made.composite is not None
                after += bool(used.problem) or (not fault and by_gpu > 5)
                if stage == "wipe" and made.composite is not None:
                    used.wipe()
                last = now
            assert now - last < READY, "no frame came any more"
            time.sleep(0.03)
        told = used.info
    seen: Any = SimpleNamespace(status={"engine": told}, gpu_problem="")
    return {
        "first": first, "worst": worst, "by_gpu": by_gpu, "engine": told["engine"],
        "problem": told["problem"] or "", "doctor": _of_engine(seen),
    }  # fmt: skip


CHECKS = {
    "auto": auto,
    "device": device,
    **{f"recorded by {k}": partial(recorded, k) for k in ("triton", "torch")},
    **{
        f"memory by {k or 'whoever is faster'}": partial(memory, k) for k in ("triton", "torch", "")
    },
    **{how: partial(gone, how) for how in ("lost", "hang")},
}

if __name__ == "__main__":
    print(json.dumps(CHECKS[sys.argv[1]]()))
