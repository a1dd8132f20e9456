"""Fitting: from a recipe to a checkpoint, on one core, one GPU or many machines."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from segmentation.bisenet import BiSeNet, ContextPath
from train import engine, mining
from train.augment import Image, view, walls
from train.checkpoint import fill, load_checkpoint, load_network, save_checkpoint
from train.datasets import (
    Batch,
    Pictures,
    Plan,
    Shards,
    Views,
    read_shard,
    shards_of,
)
from train.engine import Learner, Stepper
from train.errors import CheckpointError, DataError, RecipeError, UsageError
from train.gpu import DeviceViews, fits
from train.manifests import find_set, read_rooms
from train.prune import prune
from train.recipe import Recipe, as_dict, ratio
from train.session import keep_lines, progress, stop_on_signal
from train.sheet import write_sheet
from train.teachers import Teachers, weighted

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
CALIBRATION = 24  # photographs that give the ImageNet trunk its BatchNorm statistics
PRUNING = 96  # photographs whose features tell what a pruned network should do
WORST = 16  # pictures on a sheet
UNMOVED = ("name", "card")  # parts of a recipe that may change between a stop and --resume


@dataclass(frozen=True, slots=True)
class Place:
    """Where fitting runs: this process among its peers, its device and its helpers."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    workers: int = 1
    tensorboard: bool = False
    resident: bool = False  # pictures lie in the device's memory and views are made there

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


@dataclass(slots=True)
class Sets:
    """Everything that is read from disk."""

    train: Pictures | None
    shards: list[Path]
    pseudo: Pictures | None
    validation: Pictures
    rooms: list[Image]
    teachers: Teachers | None = None


@contextlib.contextmanager
def joined(device: str, *, workers: int, tensorboard: bool = False) -> Iterator[Place]:
    """Join the other processes that `torchrun` started, and leave them at the end."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device, local) if device == "cuda" else torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Place(rank, world, chosen, workers, tensorboard, chosen.type == "cuda")
    finally:
        if world > 1:
            dist.destroy_process_group()


def fit(recipe: Recipe, root: Path, folder: Path, place: Place, *, resume: bool = False) -> bool:
    """Train `recipe` on the data under `root`, writing into `folder`; False when interrupted.

    `folder` receives last.pt, best.pt, log.jsonl and sheets. SIGINT or SIGTERM ends it after the
    step at hand, with a checkpoint from which `resume` goes on bit for bit on a CPU.

    Raises:
        DataError: a set is empty or a picture cannot be read.
        RecipeError: resumed with another recipe.
        CheckpointError: a checkpoint cannot be read or written; the last one is kept.
        NotFiniteError: the loss became NaN or infinite.
    """
    # OpenCV's threads do not come along into the processes that make views, and a process made
    # while there are some waits for them for ever.
    cv2.setNumThreads(1)
    last = folder / "last.pt"
    state = load_checkpoint(last) if resume else None
    if not resume and last.exists():
        raise CheckpointError(
            f"{last}: is there already", hint="Go on with --resume, or choose another folder."
        )
    if recipe.fit.batch % place.world:
        raise RecipeError(
            f"[fit] batch is {recipe.fit.batch}, {place.world} processes cannot share it evenly",
            hint=f"Set [fit] batch to a multiple of {place.world}.",
        )
    if state:
        _same_recipe(state, recipe, last)
    torch.manual_seed(recipe.fit.seed)
    sets = read_sets(recipe, root)
    learner = make_learner(recipe, root, sets, place.device)
    amp = _agreed_amp(learner, recipe, place, state)
    stepper = Stepper(learner, recipe, device=place.device, amp=amp)
    if state:
        stepper.restore(state, last)
    if place.world > 1:
        stepper.distribute()
    run = Run(recipe, folder, place, sets, stepper, state)
    with stop_on_signal() as stop:
        return run(stop)


def read_sets(recipe: Recipe, root: Path) -> Sets:
    """Find and read everything the recipe names.

    Raises:
        DataError: a set is empty or a picture cannot be read.
    """
    data = recipe.data
    shards = [path for entry in data.train for path in shards_of(entry, root)]
    folders = [entry for entry in data.train if not entry.endswith(".tar")]
    if shards and folders:
        raise DataError(
            f"[data] train mixes shards and folders: {', '.join(data.train)}",
            hint="Pack the folders into shards too.",
        )
    memory = data.memory_gb * 1e9
    read = functools.partial(Pictures, longest=data.longest, memory=memory)
    find = functools.partial(find_set, root=root, licences=data.licences)
    train = [pair for entry in folders for pair in find(entry, split="train")]
    validation = [pair for entry in data.validation for pair in find_set(entry, root, "val")]
    told = recipe.distil.models
    pseudo = [pair for entry in data.pseudo for pair in find(entry, split="train")]
    rooms = read_rooms(root / data.rooms, data.licences) if data.rooms else []
    return Sets(
        train=read(train) if train else None,
        shards=shards,
        pseudo=read(pseudo) if pseudo else None,
        validation=read(validation),
        rooms=rooms + walls(data.walls) if rooms else [],
        teachers=Teachers(weighted(told, root), recipe.distil.share) if told else None,
    )


def make_network(recipe: Recipe) -> BiSeNet:
    """The recipe's network with random weights."""
    told = recipe.network
    return BiSeNet(told.width, blocks=told.blocks, lean=told.lean)


def make_learner(recipe: Recipe, root: Path, sets: Sets, device: torch.device) -> Learner:
    """The network where the recipe says it starts, with its teacher if there is one.

    Raises:
        CheckpointError: what it starts from cannot be read, or is of another width.
    """
    network = make_network(recipe).to(device, memory_format=torch.channels_last)
    trunk, distil = root / recipe.network.imagenet, recipe.distil
    teacher: BiSeNet | ContextPath | None = None
    if distil.teacher:
        teacher = load_network(root / distil.teacher, folded=False)
    elif distil.features:
        teacher = BiSeNet(1.0).to(device, memory_format=torch.channels_last).context
        engine.start_from_imagenet(teacher, trunk, _photographs(recipe, sets))
        teacher.layer4 = torch.nn.Identity()  # its last stage was never trained
    if recipe.network.start == "imagenet":
        engine.start_from_imagenet(network.context, trunk, _photographs(recipe, sets))
    elif recipe.network.start == "prune":
        wide = recipe.network.wide or distil.teacher
        log.info("Pruning %s to width %g", wide, network.width)
        # On the CPU, wherever training then runs: the learner goes to the device below.
        prune(load_network(root / wide, folded=False), network.to(CPU), _pictures(recipe, sets))
    elif recipe.network.start.endswith(".safetensors"):
        photographs = _photographs(recipe, sets, PRUNING)
        engine.start_from_folded(network, root / recipe.network.start, photographs)
    elif recipe.network.start:
        path = root / recipe.network.start
        fill(network, load_checkpoint(path)["ema"], path)
    if teacher is not None:
        teacher.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    learner = Learner(network, teacher, alpha=distil.alpha > 0)
    return learner.to(device, memory_format=torch.channels_last)


class Run:
    """Epochs of one training: loop, figures, files."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        place: Place,
        sets: Sets,
        stepper: Stepper,
        state: dict[str, Any] | None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.place = place
        self.sets = sets
        self.stepper = stepper
        self.epoch = int(state["epoch"]) if state else 0  # epochs done
        self.batch = int(state["batch"]) if state else 0  # batches done in the one at hand
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}
        self.best = float(state["best"]) if state else 0.0
        self.mined: list[float] = list(state.get("mined", ())) if state else []
        fit = recipe.fit
        sizes = engine_sizes(fit.side, fit.shapes)
        if fit.low_side:
            sizes = 4 * sizes + engine_sizes(fit.low_side, fit.shapes)
        self.plan = Plan(
            fit.seed,
            fit.views,
            fit.batch,
            sizes,
            place.rank,
            place.world,
            engine_sizes(fit.early_side or fit.side, fit.shapes),
            round(fit.epochs * fit.early) if fit.early_side else 0,
        )
        self._views = self._on_device()
        if self._views is not None and self.mined:
            self._views.draw_rooms(mining.drawn_from(self.mined))
        self._board: Any = None
        if place.tensorboard and place.first:
            self._board = _tensorboard(folder)

    def __call__(self, stop: threading.Event) -> bool:
        """Run every epoch that is left; False when `stop` ended it early."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.place.first:
            keep_lines(self.folder / "log.jsonl", self.epoch)
        if not self.recipe.fit.epochs:
            self._save("last.pt")
        with progress(self.place.first) as advance:
            while self.epoch < self.recipe.fit.epochs:
                started, before = time.perf_counter(), self.batch
                self._mine()
                self.stepper.learner.train()
                for batch in self._batches():
                    rng = self.plan.rng(self.epoch, self.batch, self.plan.batch + self.plan.rank)
                    terms = self.stepper(batch, rng)
                    for name, value in terms.items():
                        self.sums[name] = self.sums.get(name, 0.0) + value
                    self.batch += 1
                    advance(self.epoch, self.batch, self.plan.batches, terms)
                    if self._stopped(stop):
                        self._save("last.pt")
                        return False
                self._finish(time.perf_counter() - started, self.batch - before)
        return True

    def _batches(self) -> Iterator[Batch]:
        if self._views is not None:
            for number in range(self.batch, self.plan.batches):
                yield self._views(self.epoch, number)
            return
        loader = DataLoader(
            self._source(),
            batch_size=None,
            num_workers=self.place.workers,
            prefetch_factor=4 if self.place.workers else None,
            worker_init_fn=_ignore_interrupt,
            pin_memory=self.place.device.type == "cuda",
            collate_fn=self.sets.teachers or _as_is,
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch

    def _on_device(self) -> DeviceViews | None:
        """What makes views on the device, where that was asked for and the pictures have room."""
        sets, device = self.sets, self.place.device
        pictures = [p for p in (sets.train, sets.pseudo) if p is not None]
        drawn = self.recipe.augment.held or self.recipe.augment.seat  # by the processor
        if sets.teachers or not self.place.resident or sets.train is None or drawn:
            return None
        if not fits(pictures, sets.rooms, device):
            return None
        return DeviceViews(
            sets.train,
            sets.pseudo,
            sets.rooms,
            self.plan,
            self.recipe.augment,
            pseudo_share=self.recipe.data.pseudo_share,
            device=device,
        )

    def _source(self) -> Any:
        recipe, data = self.recipe, self.recipe.data
        if self.sets.train is not None:
            return Views(
                self.sets.train,
                self.sets.pseudo,
                self._rooms(),
                self.plan,
                recipe.augment,
                pseudo_share=data.pseudo_share,
                epoch=self.epoch,
                start=self.batch,
            )
        return _Stream(
            Shards(
                self.sets.shards,
                self._rooms(),
                self.plan,
                recipe.augment,
                longest=data.longest,
                epoch=self.epoch,
                start=self.batch,
            )
        )

    def _mine(self) -> None:
        """Find what the network takes for a person now, at the start of every so many epochs."""
        every = self.recipe.fit.mine
        if not every or not self.sets.rooms or self.batch or self.epoch % every:
            return
        found = [[0.0]]
        if self.place.first:
            side, amp = self.recipe.fit.side, self.stepper.amp
            found = [mining.shares(self._shadow(), self.sets.rooms, side, amp)]
            log.info("Rooms: %.4f of them is taken for a person", np.mean(found[0]))
        if self.place.world > 1:
            dist.broadcast_object_list(found, src=0)
        self.mined = found[0]
        if self._views is not None:
            self._views.draw_rooms(mining.drawn_from(self.mined))

    def _rooms(self) -> list[Image]:
        """The rooms to draw from, those taken for a person several times."""
        rooms = self.sets.rooms
        return [rooms[n] for n in mining.drawn_from(self.mined)] if self.mined else rooms

    def _finish(self, seconds: float, batches: int) -> None:
        """Close an epoch: figures, checkpoint, log."""
        fit = self.recipe.fit
        sums = self._reduced()
        line: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "step": self.stepper.step,
            "loss": round(sum(sums.values()), 6),
            "terms": {name: round(value, 6) for name, value in sums.items()},
            "learning_rate": self.stepper.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 2),
            "views_per_second": round(batches * fit.batch / max(seconds, 1e-9), 2),
        }
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        final = self.epoch == fit.epochs
        better = False
        if final or self.epoch % fit.validate == 0:
            figures, worst = self._validate()
            line["validation"] = {name: round(value, 5) for name, value in figures.items()}
            better = figures["miou"] > self.best
            self.best = max(self.best, figures["miou"])
            if self.place.first and (final or self.epoch % fit.sheet == 0):
                self._sheet([number for _, number in worst[:WORST]])
        self._save("last.pt")
        if better:
            self._save("best.pt")
        if not self.place.first:
            return
        self._log(line)
        told = line.get("validation", {}).get("miou")
        log.info(
            "Epoch %d of %d: loss %.4f%s, %.0f s",
            self.epoch,
            fit.epochs,
            line["loss"],
            f", mIoU {told:.4f}" if told is not None else "",
            seconds,
        )
        if self._board:
            for name, value in {**line["terms"], **line.get("validation", {})}.items():
                self._board.add_scalar(name, value, self.epoch)
            self._board.flush()

    def _log(self, line: dict[str, Any]) -> None:
        path = self.folder / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be written: {error.strerror}; last.pt is whole",
                hint="Make room on that disk, then go on with --resume.",
            ) from error

    def _reduced(self) -> dict[str, float]:
        """Mean of every term over the epoch and all processes."""
        names = sorted(self.sums)
        values = torch.tensor([self.sums[n] for n in names], dtype=torch.float64)
        if self.place.world > 1:
            values = values.to(self.place.device)
            dist.all_reduce(values)
        means = values.cpu() / (self.place.world * self.plan.batches)
        return dict(zip(names, means.tolist(), strict=True))

    def _shadow(self) -> BiSeNet:
        network = make_network(self.recipe).to(self.place.device)
        network.load_state_dict(self.stepper.ema)
        return network.eval()

    def _validate(self) -> tuple[dict[str, float], list[tuple[float, int]]]:
        return engine.validate(
            self._shadow(),
            self.sets.validation,
            self.recipe.fit.side,
            rank=self.place.rank,
            world=self.place.world,
        )

    def _sheet(self, numbers: list[int]) -> None:
        network, rows = self._shadow(), []
        for number in numbers:
            image, matte = self.sets.validation[number]
            alpha = engine.predict(network, image, self.recipe.fit.side)
            name = self.sets.validation.pairs[number].image.stem
            rows.append((name, image, alpha, matte.astype(np.float32) / np.float32(255)))
        write_sheet(rows, self.folder / f"worst-{self.epoch:04d}.jpg")

    def _stopped(self, stop: threading.Event) -> bool:
        """Whether any process was asked to stop: they all leave at the same step."""
        if self.place.world == 1:
            return stop.is_set()
        flag = torch.tensor(int(stop.is_set()), device=self.place.device)
        dist.all_reduce(flag)
        return bool(flag)

    def _save(self, name: str) -> None:
        if not self.place.first:
            return
        amp = self.stepper.amp
        state = {
            **self.stepper.state(),
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums,
            "best": self.best,
            "mined": self.mined,
            "amp": str(amp).removeprefix("torch.") if amp else "",
            "recipe": as_dict(self.recipe),
        }
        save_checkpoint(state, self.folder / name)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard is not installed",
            hint="Run pip install tensorboard, or drop --tensorboard; log.jsonl has every figure.",
        ) from error
    return SummaryWriter(str(folder))


class _Stream(IterableDataset[Any]):
    """Lets torch's loader iterate over shards; one helper reads them, so that order is kept."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.id > 0:
            return iter(())
        return iter(self._shards)


def engine_sizes(side: int, shapes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Input sizes (h, w) of about `side` squared pixels, one for each "width:height"."""
    ratios = [math.sqrt(ratio(shape)) for shape in shapes]
    return tuple((_multiple(side / r), _multiple(side * r)) for r in ratios)


def _multiple(pixels: float) -> int:
    return max(32, round(pixels / 32) * 32)


def _agreed_amp(
    learner: Learner, recipe: Recipe, place: Place, state: dict[str, Any] | None
) -> torch.dtype | None:
    """The precision of all processes: the checkpoint's, else what the first one measures."""
    if state:
        return getattr(torch, state["amp"]) if state["amp"] else None
    chosen = [engine.choose_amp(learner, recipe.fit, place.device)] if place.first else [None]
    if place.world > 1:
        names = [str(chosen[0]).removeprefix("torch.")]
        dist.broadcast_object_list(names, src=0)
        return None if names[0] == "None" else getattr(torch, names[0])
    return chosen[0]


def _same_recipe(state: dict[str, Any], recipe: Recipe, path: Path) -> None:
    before, now = state.get("recipe"), as_dict(recipe)
    if not isinstance(before, dict):
        raise CheckpointError(
            f"{path}: was not written by `train fit`, it can be started from but not resumed",
            hint="Set [network] start to its path.",
        )
    silent = as_dict(Recipe())  # what a checkpoint does not name was as by default
    changed = [
        f"[{part}] {key} was {was!r} and is {value!r}"
        for part, table in now.items()
        if part not in UNMOVED
        for key, value in table.items()
        if (was := before.get(part, {}).get(key, silent[part][key])) != value
    ]
    if changed:
        raise RecipeError(
            f"{path} was trained with another recipe: " + "; ".join(changed),
            hint="Resume with the same recipe, or start another run with [network] start.",
        )


def _photographs(recipe: Recipe, sets: Sets, count: int = CALIBRATION) -> Any:
    """Augmented photographs of one size, the same ones for every seed.

    So runs that prune the same network keep the same channels, without which they have no mean.
    """
    rng = np.random.default_rng(CALIBRATION)
    if sets.train is not None:
        pairs = [sets.train[int(i)] for i in rng.integers(len(sets.train), size=count)]
    else:
        stream = read_shard(sets.shards[0], recipe.data.longest)
        pairs = [pair for pair, _ in zip(stream, range(count), strict=False)]
    size = engine_sizes(recipe.fit.side, ("1:1",))[0]
    return np.stack([view(*p, sets.rooms, size, rng, recipe.augment)[0] for p in pairs])


def _pictures(recipe: Recipe, sets: Sets) -> list[Tensor]:
    """The same as the network sees them, in batches."""
    photographs = _photographs(recipe, sets, PRUNING)
    parts = np.split(photographs, PRUNING // 16)
    blank = np.zeros(parts[0].shape[:3], np.float32)
    return [engine.to_device((part, blank), CPU)[0] for part in parts]


def _ignore_interrupt(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_is(batch: Any) -> Any:
    return batch
