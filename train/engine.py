"""One step of learning and one round of validation, on any device and any number of processes."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from segmentation.bisenet import MEAN, STD, BiSeNet, ContextPath, channels
from segmentation.constants import ROOM_INPUTS, ROOM_SCALE
from segmentation.sizes import input_size
from train import losses
from train.data.datasets import Pictures
from train.errors import CheckpointError, NotFiniteError
from train.figures.metrics import Figures
from train.losses import MattingLoss
from train.recipe import Fit, Recipe
from train.views.on_device import DeviceBatch
from train.views.plan import Batch

log = logging.getLogger(__name__)

FASTER = 0.8  # bf16 is taken when a step needs less than this part of float32's time


class Learner(nn.Module):
    """The network and, where there is a teacher, the projections that imitate its features.

    The teacher is a whole network, or a trunk alone, which has features but no mattes.

    Shapes:
        x: (B, inputs, H, W) float, normalised; a teacher sees the picture alone
        returns: logits (B, 1, H, W) and auxiliary logits (B, 1, H/4, W/4); what imitation of the
            teacher costs, by name: "features" and "alpha", as far as there is one
    """

    def __init__(
        self, network: BiSeNet, teacher: BiSeNet | ContextPath | None = None, *, alpha: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self._teacher = [teacher] if teacher else []  # in a list: it neither learns nor is saved
        self._alpha = alpha
        self._seen: list[tuple[Tensor, ...]] = []
        self._shown: list[tuple[Tensor, ...]] = []
        self.projections = nn.ModuleList()
        if teacher:
            theirs = teacher.width if isinstance(teacher, BiSeNet) else 1.0
            for full in (128, 256):
                before, after = channels(full, network.width), channels(full, theirs)
                self.projections.append(nn.Conv2d(before, after, 1))
            network.context.register_forward_hook(lambda *call: self._seen.append(call[2]))
            trunk = teacher.context if isinstance(teacher, BiSeNet) else teacher
            trunk.register_forward_hook(lambda *call: self._shown.append(call[2]))

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        outputs = self.network(x)
        if not self._teacher:
            return outputs, {}
        with torch.no_grad():
            answer = self._teacher[0](x[:, :3])
        got, wanted = self._seen.pop()[2:4], self._shown.pop()[2:4]  # 1/8 and 1/16
        self._seen.clear()
        self._shown.clear()
        apart = [
            losses.features(projection(g), w)
            for projection, g, w in zip(self.projections, got, wanted, strict=True)
        ]
        costs = {"features": torch.stack(apart).sum()}
        if self._alpha:
            costs["alpha"] = losses.imitated(outputs[0], answer.float().sigmoid())
        return outputs, costs


class Stepper:
    """Takes optimiser steps and keeps the moving average of the weights."""

    def __init__(
        self, learner: Learner, recipe: Recipe, *, device: torch.device, amp: torch.dtype | None
    ) -> None:
        self.learner = learner
        self.network = learner.network
        self.recipe = recipe
        self.device = device
        self.amp = amp
        self.loss = MattingLoss(recipe.loss)
        self.optimizer = make_optimizer(learner, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
        self.ema = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.step = 0
        self.total = recipe.fit.epochs * (recipe.fit.views // recipe.fit.batch)
        self._call: nn.Module = learner

    def distribute(self) -> None:
        """Share every gradient with the other processes."""
        if self.device.type == "cuda":
            self.learner = nn.SyncBatchNorm.convert_sync_batchnorm(self.learner)  # type: ignore[no-untyped-call]
        ids = [self.device.index] if self.device.type == "cuda" else None
        self._call = nn.parallel.DistributedDataParallel(
            self.learner, device_ids=ids, find_unused_parameters=False
        )

    def __call__(self, batch: Batch | DeviceBatch, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one batch; return every term of the loss.

        Raises:
            NotFiniteError: the loss is NaN or infinite; the weights are as before the step.
        """
        fit = self.recipe.fit
        part = schedule(self.step, self.total, fit.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * part
        x, truth = to_device(batch, self.device)
        if self.recipe.loss.temporal:
            x, truth = torch.cat((x, jittered(x, rng))), torch.cat((truth, truth))
        with autocast(self.device, self.amp):
            outputs, imitation = self._call(x)
        terms = self.loss(outputs, truth)
        if "features" in imitation:
            fading = 1 - 0.8 * self.step / self.total
            terms["features"] = self.recipe.distil.features * fading * imitation["features"]
        if "alpha" in imitation:
            terms["alpha"] = self.recipe.distil.alpha * imitation["alpha"]
        if self.recipe.loss.temporal:
            first, second = outputs[0].chunk(2)
            still = torch.zeros_like(first, dtype=torch.float32)
            change = losses.temporal(first, second, still)
            terms["temporal"] = self.recipe.loss.temporal * change
        total = torch.stack(list(terms.values())).sum()
        values = {name: float(term.detach()) for name, term in terms.items()}
        if not math.isfinite(sum(values.values())):
            raise _not_finite(values, self.step, part * fit.learning_rate)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), fit.clip)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            raise _not_finite({**values, "gradient": float(norm)}, self.step, part)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._average()
        return values

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.fit.ema, (self.step + 1) / (self.step + 10))
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on as if nothing had happened."""
        return {
            "model": self.network.state_dict(),
            "projections": self.learner.projections.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "width": self.network.width,
            "blocks": self.network.blocks,
            "lean": self.network.lean,
            "room": self.network.room,
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Take up where `state` left off.

        Raises:
            CheckpointError: it belongs to another network.
        """
        try:
            self.network.load_state_dict(state["model"])
            self.learner.projections.load_state_dict(state["projections"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.ema = {k: v.to(self.device) for k, v in state["ema"].items()}
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            width = state.get("width")
            raise CheckpointError(
                f"{path}: of width {width}, does not fit this recipe's {self.network.width:g}",
                hint="Resume with the recipe it was trained with.",
            ) from error


def make_optimizer(learner: Learner, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD; the trunk at its own part of the learning rate; it rests at none."""
    fit = recipe.fit
    trunk = [
        p
        for name, p in learner.network.context.named_parameters()
        if fit.trunk != 1 and not name.startswith("layer4")
    ]
    known = {id(p) for p in trunk}
    rest = [p for p in learner.parameters() if id(p) not in known]
    groups = [{"params": rest, "base": fit.learning_rate}]
    for parameter in trunk if fit.trunk == 0 else ():
        parameter.requires_grad_(False)  # no gradient goes further down: a quicker step
    if trunk and fit.trunk:
        groups.append({"params": trunk, "base": fit.learning_rate * fit.trunk})
    for group in groups:
        group["lr"] = group["base"]
    if fit.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=fit.learning_rate, momentum=0.9, weight_decay=fit.weight_decay
        )
    return torch.optim.AdamW(groups, lr=fit.learning_rate, weight_decay=fit.weight_decay)


def schedule(step: int, total: int, warmup: int) -> float:
    """Part of the learning rate at `step`: a linear rise, then a cosine down to 0.2 %."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return rise * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / total))) + 0.002


def to_device(batch: Batch | DeviceBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalise a batch on `device`.

    Shapes:
        batch: (B, H, W, 3) uint8 RGB, or with the room (B, H, W, 7): RGB, the room's RGB, and 255
            where it is known; (B, H, W) float32
        returns: (B, 3 or 7, H, W) float32 in channels-last memory, (B, 1, H, W) float32
    """
    images, alphas = (torch.as_tensor(array) for array in batch)
    images = images.to(device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, H, W)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255
    if images.shape[1] == 3:
        x = (images.float() - mean) / std
    else:
        picture, room, known = (part.float() for part in torch.split(images, [3, 3, 1], dim=1))
        known = known / 255
        apart = (room - picture) / std * known * ROOM_SCALE
        x = torch.cat(((picture - mean) / std, apart, known), dim=1)
    x = x.contiguous(memory_format=torch.channels_last)
    return x, alphas.to(device, non_blocking=True)[:, None]


def jittered(x: Tensor, rng: np.random.Generator) -> Tensor:
    """The same scene an instant later: other noise, a breath of other light; nothing moved."""
    generator = torch.Generator(x.device).manual_seed(int(rng.integers(2**31)))
    noise = torch.randn(x.shape, generator=generator, device=x.device) * 0.12
    gain = 1 + 0.05 * torch.randn((len(x), 1, 1, 1), generator=generator, device=x.device)
    picture = x[:, :3] * gain + noise[:, :3]
    return torch.cat((picture, x[:, 3:]), dim=1)  # what is known of the room stays


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[Any]:
    """Mixed precision where `amp` names a type."""
    return torch.autocast(device.type, dtype=amp) if amp else nullcontext()


def choose_amp(learner: Learner, fit: Fit, device: torch.device) -> torch.dtype | None:
    """The precision to train in: on a CPU, bfloat16 only where a step was measured faster."""
    if fit.amp == "off":
        return None
    if fit.amp == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    trial = copy.deepcopy(learner.network).train()
    side = fit.side // 32 * 32  # a smaller trial than the batches to come would mislead
    x = torch.zeros(4, learner.network.inputs, side, side).contiguous(
        memory_format=torch.channels_last
    )
    seconds = {amp: _trial(trial, x, device, amp) for amp in (None, torch.bfloat16)}
    log.info(
        "A trial step takes %.0f ms in float32, %.0f ms in bfloat16",
        1000 * seconds[None],
        1000 * seconds[torch.bfloat16],
    )
    return torch.bfloat16 if seconds[torch.bfloat16] < FASTER * seconds[None] else None


def _trial(network: BiSeNet, x: Tensor, device: torch.device, amp: torch.dtype | None) -> float:
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        with autocast(device, amp):
            outputs = network(x)
        outputs[0].float().mean().backward()
        best = min(best, time.perf_counter() - started)
    return best


@torch.inference_mode()
def predict(network: BiSeNet, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """The alpha of one picture, in the picture's size.

    Shapes:
        image: (H, W, 3) uint8 RGB
        returns: (H, W) float32 in 0..1
    """
    height, width = image.shape[:2]
    (rows, columns), _ = input_size(height, width, side * side)
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    device = next(network.parameters()).device
    if network.room:  # of which a single picture knows nothing
        small = np.dstack((small, np.zeros((rows, columns, ROOM_INPUTS), np.uint8)))
    x, _ = to_device((small[None], np.zeros((1, rows, columns), np.float32)), device)
    alpha = network(x).float().sigmoid()[0, 0].cpu().numpy()
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR))


def validate(
    network: BiSeNet, pictures: Pictures, side: int, *, rank: int = 0, world: int = 1
) -> tuple[dict[str, float], list[tuple[float, int]]]:
    """Figures of `network` on every picture, and each one's IoU with its number, worst first.

    Processes share the work; every one of them gets the whole result.
    """
    network.eval()
    figures, ious = Figures(), []
    for number in range(rank, len(pictures), world):
        image, matte = pictures[number]
        truth = matte.astype(np.float32) / np.float32(255)
        row = figures.add(predict(network, image, side), truth)
        ious.append((row["iou"], number))
    if world > 1:
        gathered: list[Any] = [None] * world
        dist.all_gather_object(gathered, (figures.histogram, figures.rows, ious))
        figures, ious = Figures(), []
        for histogram, rows, theirs in gathered:
            figures.histogram += histogram
            figures.rows += rows
            ious += theirs
    return figures.summary(), sorted(ious)


def _not_finite(values: dict[str, float], step: int, learning_rate: float) -> NotFiniteError:
    told = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return NotFiniteError(
        f"the loss is not finite at step {step}, learning rate {learning_rate:g}: {told}",
        hint='Go on from the last checkpoint with a lower [fit] learning_rate, or amp = "off".',
    )
