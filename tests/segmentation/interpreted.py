"""Triton's kernels beside torch's, on the processor, in Triton's interpreter.

A process of its own: `TRITON_INTERPRET=1 python -m tests.segmentation.interpreted` prints JSON.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from segmentation.engines import pixels
from segmentation.engines.cuda import CudaSegmenter
from segmentation.engines.gpu import Scene
from segmentation.engines.layout import weights_dir
from tests.segmentation.test_cuda import AREA, H, W, backdrop, moving, parts_of

# What the frame is like, and what is asked for: between them every branch of both kernels.
CASES = {
    "yuyv": ("yuyv", (640, 360), False, {}),
    "nv12": ("nv12", (640, 360), False, {"mirror": True, "light_wrap": 0.7}),
    "jpeg": ("4:2:2", (640, 360), True, {"mirror": True, "blur": True}),
    "narrow": ("4:2:0", (480, 360), False, {"decontaminate": False}),
    "large": ("4:2:0", (1920, 1080), True, {"light_wrap": 0.7}),
}


def main() -> None:
    found: dict[str, object] = {name: worst(*case) for name, case in CASES.items()}
    plan = plans("yuyv", (640, 360), False, {})[0][1]
    found["taken"] = chosen(plan, 0.5)
    found["slow"] = chosen(plan, 2.0)
    draw = pixels.Draw.__call__
    pixels.Draw.__call__ = lambda self, *args: (draw(self, *args), args[-1].bitwise_not_())
    found["wrong"] = chosen(plan, 0.5)
    print(json.dumps(found))


def plans(kind, size, full_range, look):
    """Both kinds of plan for such a frame, and the frame's bytes."""
    look = dict(look)
    blur = look.pop("blur", False)
    scene = Scene(W, H, None if blur else backdrop(W, H), blur=60.0, **look)
    frame = moving(0, *size, halves=1 if kind in ("yuyv", "4:2:2") else 2, full_range=full_range)
    packing, parts = parts_of(frame, kind)
    made = []
    for kernels in ("torch", "triton"):
        path = weights_dir() / "bisenet-small.safetensors"
        segmenter = CudaSegmenter(str(path), device="cpu", area=AREA, kernels=kernels)
        shown = segmenter.run(packing, parts, seq=0, pts=0.0, scene=scene)
        assert segmenter._plan.kernels == kernels
        assert shown.alpha.std() > 0.1, "nobody was found: this shows nothing"
        made.append((shown, segmenter._plan))
    return [made[1], made[0]]


def worst(*case) -> dict[str, float]:
    """The greatest differences of one frame, in levels, and of the network's input."""
    (shown, plan), (wanted, reference) = plans(*case)
    return {
        "picture": float((plan._picture - reference._picture).abs().max()),
        "input": float((plan._x - reference._x).abs().max()),
        "composite": float(np.abs(shown.composite.astype(int) - wanted.composite).max()),
        "apart_from_backdrop": float(
            np.abs(
                shown.composite - plan._behind.numpy().reshape(shown.composite.shape).astype(int)
            ).mean()
        ),
    }


def chosen(plan, slower: float) -> str:
    """Whose kernels are taken, where Triton's take `slower` times as long."""
    from segmentation.engines import networks

    times = iter((1.0, slower))
    before, networks.time_of = networks.time_of, lambda *_: next(times)
    plan._shapers = None
    try:
        with torch.inference_mode():
            plan.try_triton()
    finally:
        networks.time_of = before
    return plan.kernels


if __name__ == "__main__":
    main()
