"""The GPU's process on a stub of the driver, which is lost or hangs at one stage.

`GpuChild(module="tests.gpu_stub.worker")` starts it; VCAM_TEST_FAULT says how, and where: "lost:
frame". `stages.STAGES` names them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import harness  # of the stub: torch's convolutions without cuDNN
import torch

from vcam.gpu import plan, segmenter, worker
from vcam.gpu.segmenter import CudaSegmenter, Form

LOST = 700  # an illegal access to memory, an error that stays


def arm() -> None:
    """Have the GPU go away from here on."""
    if os.environ["VCAM_TEST_FAULT"].startswith("lost"):
        harness.rt.fake_lose(LOST)
    else:
        harness.rt.fake_hang(1)


def before(owner, name: str, when) -> None:
    """Lose the GPU before a call for which `when`, given how many were before, is true."""
    called, count = getattr(owner, name), []

    def wrapped(*args, **how):
        count.append(1)
        if when(len(count) - 1):
            arm()
        return called(*args, **how)

    setattr(owner, name, wrapped)


def plant(stage: str) -> None:
    """Lose the GPU at a stage."""
    if stage == "opening":
        before(segmenter, "open_device", lambda _: True)
    elif stage == "building":
        before(plan.Plan, "_warm_up", lambda n: n == 0)
    elif stage == "recording":
        before(plan.Plan, "draw", lambda _: torch.cuda.is_current_stream_capturing())
    elif stage == "frame":
        before(plan.Plan, "run", lambda n: n == 3)
    elif stage == "look":
        before(plan.Plan, "_warm_up", lambda n: n == 1)
    elif stage == "wipe":
        before(worker.Worker, "wipe", lambda _: True)
    elif stage == "close":
        before(worker.os, "_exit", lambda _: True)
    else:
        assert not stage, stage


def open_worker(memory, wishes):
    """Open the GPU without asking it pictures: it computes nothing."""
    host = worker.Shared(memory, torch.device("cuda"))
    host._registered = lambda whole: False  # the stub does not know memory that others made
    kept = wishes.get("cache_dir")
    made = CudaSegmenter(
        form=Form(network="fused", kernels="triton"),
        host=host,
        cache_dir=Path(kept) if kept else None,
        examine=False,
    )
    return worker.Worker(made, host), made.info


if __name__ == "__main__":
    plant(os.environ.get("VCAM_TEST_FAULT", "").partition(": ")[2])
    worker.open_worker = open_worker
    sys.exit(worker.main(sys.argv[1:]))
