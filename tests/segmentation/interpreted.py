"""Triton's kernels beside torch's, on the processor, in Triton's interpreter.

A process of its own: `TRITON_INTERPRET=1 python -m tests.segmentation.interpreted NAME...` prints
JSON; names are those of `main`.
"""

from __future__ import annotations

import copy
import itertools
import json
import sys
from functools import partial

import cv2
import numpy as np
import torch
import triton
import triton.language as tl

from segmentation.engines import networks
from segmentation.engines.cuda import read_weights, weights_path
from segmentation.engines.layout import weights_dir
from tests.segmentation.test_cuda import (
    CPU,
    H,
    W,
    backdrop,
    blobs,
    moving,
    parts_of,
    spiral,
    torn,
)
from vcam.compose.scene import Blur, Look, Scene
from vcam.gpu import packing, torch_matte
from vcam.gpu.kernels import between, draw, pieces, refine, tail
from vcam.gpu.segmenter import CudaSegmenter, Form
from vcam.gpu.torch_matte import guided

AREA = 288 * 160  # the interpreter is slow
SMALL = 32  # pixels of a block, where it matters that there are many
# What the frame is like, and what is asked for: between them every branch of every kernel.
CASES = {
    "yuyv": ("yuyv", (640, 360), False, {}),
    "nv12": ("nv12", (640, 360), False, {"mirror": True, "light_wrap": 0.7}),
    "jpeg": ("4:2:2", (640, 360), True, {"mirror": True, "blur": True}),
    "bars": ("4:2:0", (480, 360), False, {"blur": True, "light_wrap": 0.7}),
    "narrow": ("4:2:0", (480, 360), False, {"decontaminate": False}),
    "large": ("4:2:0", (1920, 1080), True, {"light_wrap": 0.7}),
}


def main() -> None:
    checks = {name: partial(worst, *case) for name, case in CASES.items()}
    checks |= {
        "tidied": tidied,
        "joined": joined,
        "moving": moved,
        "steadied": steadied,
        "broken": broken,
        "chosen": choices,
        "tail": tails,
        "body": bodies,
        "wide": wide,
    }
    print(json.dumps({name: checks[name]() for name in sys.argv[1:]}))


def asked(packed, size, full_range, look, kernels, form=("", ""), *, examine=True):
    """A segmenter with such kernels, and such a frame and scene."""
    look = dict(look)
    blur = look.pop("blur", False)
    scene = Scene(W, H, Blur(60.0) if blur else backdrop(W, H), Look(**look))
    halves = 1 if packed in ("yuyv", "4:2:2") else 2
    frame = moving(0, *size, halves=halves, full_range=full_range)
    path = weights_dir() / "bisenet-small.safetensors"
    segmenter = CudaSegmenter(
        str(path), device="cpu", form=Form(*form, kernels, AREA), examine=examine
    )
    return segmenter, *parts_of(frame, packed), scene


def plans(*case):
    """What a frame becomes by Triton's kernels and by torch's, each with the plan that did it."""
    made = []
    for kernels in ("triton", "torch"):
        segmenter, packing, parts, scene = asked(*case, kernels)
        shown = segmenter.run(packing, parts, seq=0, pts=0.0, scene=scene)
        assert segmenter._plan.kernels == kernels
        assert shown.alpha.std() > 0.1, "nobody was found: this shows nothing"
        made.append((shown, segmenter._plan))
    return made


def worst(*case) -> dict[str, float]:
    """The greatest differences of one frame, in levels, and of the network's input."""
    (shown, plan), (wanted, reference) = plans(*case)
    return {
        "picture": float((plan._picture - reference._picture).abs().max()),
        "input": float((plan._x - reference._x).abs().max()),
        "colours": float((plan._shapers._colours.near() - reference._colours.near()).abs().max())
        if plan.scene.look.decontaminate
        else 0.0,
        "composite": float(np.abs(shown.composite.astype(int) - wanted.composite).max()),
        "apart_from_backdrop": float(
            np.abs(
                shown.composite - plan._behind.numpy().reshape(shown.composite.shape).astype(int)
            ).mean()
        ),
    }


def tails() -> dict[str, float]:
    """How far alpha by the network's last layers in Triton is from theirs in torch."""
    network = networks.placed(read_weights(weights_path("auto")), CPU, torch.float32)
    body, head = networks.split(network)
    apart, spread = 0.0, 0.0
    for full, size, dtype in (
        ((96, 160), (96, 160), torch.float32),
        ((64, 96), (63, 91), torch.float16),
    ):
        with torch.inference_mode():
            made = body(networks.trial(full, CPU)).to(dtype, memory_format=torch.channels_last)
            wanted = torch.sigmoid(head(made.float()))[0, 0, : size[0], : size[1]]
            conv = copy.deepcopy(head.conv).to(dtype)
            found = tail.Tail(conv, full, size)(made)
        apart = max(apart, float((found - wanted).abs().max()))
        spread = max(spread, float(wanted.std()))
    return {"apart": apart, "spread": spread}


def bodies() -> dict[str, float]:
    """How far the network but its tail, of few launches, is from torch's, of the greatest number.

    "halves" is in half precision.
    """
    weights, size = read_weights(weights_path("auto")), (64, 96)
    between.SUMMED = 2048  # several tiles, and blocks of them, of so few pixels
    x = networks.trial(size, CPU).contiguous(memory_format=torch.channels_last)
    found = {"apart": 0.0, "halves": 0.0}
    with torch.inference_mode():
        for name, dtype in (("apart", torch.float32), ("halves", torch.float16)):
            made = networks.split(networks.placed(weights, CPU, torch.float32))[0](x)
            for kind in ("eager", "fused"):
                network = networks.split(networks.build(kind, weights, size, CPU, dtype))[0]
                ours = between.Body.of(network)(networks.widened(x.to(dtype), network.inputs))
                away = (ours.float() - made).abs().max() / made.abs().max()
                found[name] = max(found[name], float(away))
    return {**found, "spread": float(made.std() / made.abs().max())}


def wide() -> dict[str, float]:
    """How far a frame is from torch's where cuDNN joins layers: the picture has eight channels."""
    made = []
    for kernels in ("triton", "torch"):
        segmenter, packing, parts, scene = asked(
            "yuyv", (640, 360), False, {}, kernels, kind="fused"
        )
        shown = segmenter.run(packing, parts, seq=0, pts=0.0, scene=scene)
        made.append((shown, segmenter._plan))
    (shown, plan), (wanted, reference) = made
    return {
        "channels": plan._x.shape[1],
        "input": float((plan._x - reference._x).abs().max()),
        "composite": float(np.abs(shown.composite.astype(int) - wanted.composite).max()),
    }


def joined() -> dict[str, int]:
    """How many pixels of how many bear another name than OpenCV's pieces have, and how many pieces.

    Blocks are small, so that they part rows and runs.
    """
    found = {"wrong": 0, "named": 0, "pieces": 0}
    rng = np.random.default_rng(3)
    masks = [rng.random((37, 53)) < share for share in (0.3, 0.5, 0.6, 0.9)]
    masks += [spiral(39), np.ones((20, 33), bool), np.zeros((20, 33), bool)]
    for mask, corners in itertools.product(masks, (True, False)):
        h, w = mask.shape
        count, wanted = cv2.connectedComponents(
            mask.astype(np.uint8), connectivity=8 if corners else 4
        )
        on = torch.from_numpy(mask.astype(np.uint8))
        tree = torch.zeros(h * w, dtype=torch.int32)
        grid = (-(-h * w // SMALL),)
        _begun[grid](on, tree, h * w, w, BLOCK=SMALL)
        pieces._join[grid](on, tree, h, w, CORNERS=corners, BLOCK=SMALL)
        name = torch.zeros_like(tree)
        counts = torch.zeros(16, dtype=torch.int32)
        sums = torch.zeros_like(tree), torch.zeros(h * w)
        pieces._add_up[grid](
            on, tree, *sums, torch.zeros(h * w), name, counts, h, w, HOLES=True, BLOCK=SMALL
        )  # fmt: skip
        first = {
            label: int(np.flatnonzero(wanted.ravel() == label)[0]) for label in range(1, count)
        }
        names = np.array([first.get(label, -1) for label in wanted.ravel()])
        found["wrong"] += int((names != name.numpy()).sum())
        found["named"] += int(mask.sum())
        found["pieces"] += int(counts[0])
    return found


@triton.jit
def _begun(mask, tree, n, w, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = tl.load(mask + place, mask=place < n, other=0) != 0
    tl.store(tree + place, pieces._runs(on, place, place % w, BLOCK), mask=place < n)


def tidied() -> dict[str, float]:
    """How far mattes with islands, holes and fog, or nobody, are from those that torch tidies."""
    apart, changed, stays = 0.0, 0.0, set()
    faint = [blobs(seed) * np.float32(0.5 if seed == 2 else 1.0) for seed in range(4)]
    for mattes in (faint, torn()):
        size = mattes[0].shape
        tidy, twin = (torch_matte.Tidy(*size, CPU, settle=True) for _ in range(2))
        smoother = torch_matte.Smoother(*size, CPU)
        kernels = refine.Refine(tidy, smoother)
        kernels.counts.fill_(77)  # as the frame before left it
        header = torch.zeros(packing.HEADER, dtype=torch.uint8)
        header[8] = 1
        picture = torch.zeros((3, *size))
        for matte in mattes:
            raw = torch.from_numpy(matte)
            alpha, *_ = kernels(raw, picture, header)
            twin.present.zero_()
            wanted = twin(raw)
            apart = max(apart, float((smoother.held - wanted).abs().max()))
            apart = max(apart, float((alpha - guided(wanted, picture[0])[0]).abs().max()))
            changed = max(changed, float((wanted - raw).abs().max()))
            assert tidy.present == twin.present
            stays.add(bool(tidy.present))
    return {"apart": apart, "changed": changed, "present": len(stays)}


def steadied() -> dict[str, list[float]]:
    """What is held of a person, first by Triton's kernels and then by torch's, at three places.

    Each falls: by a little where nothing moves, as much where the picture changed, and by a lot.
    """
    size, decay = (96, 160), 0.9
    before = torch.zeros(size)
    before[24:, 40:120] = 1
    after = before.clone()
    after[40:48, 60:68] = after[40:48, 90:98] = 0.88
    after[88:, 70:78] = 0  # at the border, where it is no hole
    still = torch.full((3, *size), 100.0)
    moving = still.clone()
    moving[0, 30:60, 80:110] += 40
    tidy, twin = (torch_matte.Tidy(*size, CPU, settle=True) for _ in range(2))
    smoother, other = (torch_matte.Smoother(*size, CPU) for _ in range(2))
    kernels = refine.Refine(tidy, smoother)
    header = torch.zeros(packing.HEADER, dtype=torch.uint8)
    header[16:20].view(torch.float32)[0] = decay
    for first, raw, picture in ((True, before, still), (False, after, moving)):
        header[8] = int(first)
        kernels(raw, picture, header)
        other(twin(raw), picture, torch.tensor(first), torch.tensor(decay))
    places = {"still": (44, 64), "moving": (44, 94), "far": (92, 74)}
    return {name: [float(x.held[at]) for x in (smoother, other)] for name, at in places.items()}


def moved() -> dict[str, float]:
    """How far frames that follow one another are, with a cut among them, from torch's."""
    segmenters = [
        CudaSegmenter(
            str(weights_dir() / "bisenet-small.safetensors"),
            device="cpu",
            form=Form(kernels=kernels, area=AREA),
            smoothing=0.9,
        )
        for kernels in ("torch", "triton")
    ]
    scene = Scene(W, H, backdrop(W, H))
    far, level, cuts, noise = 0.0, 0, 0, 0.0
    for seq in range(3):
        frame = moving(seq, shift=W // 2 if seq == 2 else 0)
        packing, parts = parts_of(frame, "4:2:0")
        wanted, shown = (s.run(packing, parts, seq=seq, pts=0.0, scene=scene) for s in segmenters)
        for name in ("raw", "alpha", "a", "b", "picture"):
            ours, theirs = getattr(shown, name), getattr(wanted, name)
            far = max(far, float(np.abs(ours.astype(float) - theirs).max()))
        level = max(level, int(np.abs(shown.composite.astype(int) - wanted.composite).max()))
        assert (shown.cut, shown.present) == (wanted.cut, wanted.present)
        cuts += shown.cut
        ours, theirs = (s._plan._smoother for s in segmenters)
        noise = max(noise, abs(float(ours.noise - theirs.noise)))
    known = float(theirs.noise)
    return {"far": far, "level": level, "cuts": cuts, "noise": noise, "known": known}


def broken() -> dict[str, int]:
    """What is no number after one pixel of the network's answer is none, and after it is again."""
    (_, plan), _ = plans("yuyv", (640, 360), False, {})
    n = plan.exchange.thin[0] * plan.exchange.thin[1] * 4
    floats = plan._answer[plan.exchange.floats].view(torch.float32)
    network = plan._network
    count = {}
    for name in ("broken", "mended"):

        def with_one(x, name=name):
            out = network(x).clone()
            out[0, 0, 1, 1] = float("nan") if name == "broken" else 0.0
            return out

        plan._network = with_one
        with torch.inference_mode():
            plan.stages(0)
        count[name] = int(floats.isnan().sum())
    return {**count, "all": n, "held": int(plan._smoother.held.isnan().sum())}


def choices() -> dict[str, str]:
    """Whose kernels are taken if Triton's are faster, slower, or compute something else."""
    (_, plan), _ = plans("yuyv", (640, 360), False, {})
    found = {"faster": chosen(plan, 0.5), "slower": chosen(plan, 2.0)}
    drawn = draw.Draw.__call__
    draw.Draw.__call__ = lambda self, *args: (drawn(self, *args), args[-1].bitwise_not_())
    found["wrong"] = chosen(plan, 0.5)
    draw.Draw.__call__ = drawn
    refine.Refine.__call__ = lambda self, raw, *_: (raw, raw, raw)
    return {**found, "unsteady": chosen(plan, 0.5)}


def chosen(plan, slower: float) -> str:
    """Whose kernels are taken, where Triton's take `slower` times as long."""
    times = iter((1.0, slower))
    before, networks.time_of = networks.time_of, lambda *_: next(times)
    try:
        with torch.inference_mode():
            plan.use_triton()
            plan.try_triton(plan._shapers)
    finally:
        networks.time_of = before
    return plan.kernels


if __name__ == "__main__":
    main()
