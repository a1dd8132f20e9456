"""The GPU's process with the processor as its GPU, and one planted fault.

`GpuChild(module="tests.segmentation.gpu_worker")` starts it; the fault is in VCAM_TEST_FAULT.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from segmentation.engines.layout import weights_dir
from segmentation.sizes import AREAS
from vcam.gpu import plan, segmenter, worker
from vcam.gpu.segmenter import CudaSegmenter, Form


def hang(*_: object) -> None:
    time.sleep(3600)


def raises(error: Exception):
    def fault(*_: object) -> None:
        raise error

    return fault


def abort(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGABRT)


def stamp_of_another(self, turn):
    STAGES(self, turn)
    self.buffers.down[turn][0] += 1


def later(fault, frames: int):
    """The fault after so many frames that went well."""

    def stages(self, turn):
        self.count = getattr(self, "count", 0) + 1
        if self.count > frames:
            fault(self, turn)
        STAGES(self, turn)

    return stages


STAGES = plan.Plan.stages
LOST = RuntimeError("CUDA error: an illegal memory access was encountered")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB")
NO_KERNEL = RuntimeError("CUDA error: no kernel image is available for execution on the device")
SHORT = 6  # frames: two of them ask the pictures whose answer is known


def plant(fault: str) -> None:
    """Have something go wrong."""
    opened = {
        "opening: a ValueError": raises(ValueError("expected a device with an index")),
        "opening: a missing library": raises(OSError("libcudnn.so.9: cannot open")),
        "opening: a hang": hang,
        "opening: an abort": abort,
    }
    frames = {
        "frame: lost": raises(LOST),
        "frame: memory": raises(FULL),
        "frame: a hang": hang,
        "frame: an abort": abort,
    }
    if fault in opened:
        segmenter.open_device = opened[fault]
    elif fault in frames:
        plan.Plan.stages = later(frames[fault], SHORT)
    elif fault == "frame: another's":
        plan.Plan.stages = stamp_of_another
    elif fault == "building: no kernel for the card":
        plan.Plan.stages = raises(NO_KERNEL)
    elif fault == "look: memory":
        made = CudaSegmenter._made

        def second(self, *args, **how):
            if self._plan is not None:
                raise FULL
            return made(self, *args, **how)

        CudaSegmenter._made = second
    elif fault == "wipe: a hang":
        plan.Plan.wipe = later_wipe(plan.Plan.wipe)
    else:
        assert not fault, fault


def later_wipe(wipe):
    """The first is that after the two pictures whose answer is known."""
    count = []

    def fault(self):
        count.append(1)
        return wipe(self) if len(count) == 1 else hang()

    return fault


def open_worker(memory, wishes):
    host = worker.Shared(memory, torch.device("cpu"))
    path = weights_dir() / "bisenet-small.safetensors"
    made = CudaSegmenter(str(path), device="cpu", form=Form(area=AREAS["low"]), host=host)
    return worker.Worker(made, host), made.info


if __name__ == "__main__":
    torch.set_num_threads(1)
    plant(os.environ.get("VCAM_TEST_FAULT", ""))
    worker.open_worker = open_worker
    sys.exit(worker.main(sys.argv[1:]))
