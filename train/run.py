"""Epochs of one training: loop, figures, files."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset

from segmentation.bisenet import BiSeNet
from train import engine
from train.data.datasets import Image, Pictures
from train.engine import Stepper
from train.errors import CheckpointError, DataError, UsageError
from train.figures.sheet import write_sheet
from train.place import Place
from train.recipe import Recipe, as_dict
from train.start import make_network
from train.views import mining
from train.views.batches import Material, Shards, Views
from train.views.on_device import DeviceBatch, DeviceViews, fits
from train.views.plan import Batch, Plan
from train.views.sets import Sets, engine_sizes
from train.weights.checkpoint import save_checkpoint

log = logging.getLogger(__name__)

WORST = 16  # pictures on a sheet


@contextlib.contextmanager
def progress(shown: bool) -> Iterator[Any]:
    """Give a function that draws how far the epoch is, where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda *args: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def advance(epoch: int, done: int, total: int, terms: dict[str, float]) -> None:
            text = f"epoch {epoch + 1}, loss {sum(terms.values()):.3f}"
            bar.update(task, completed=done, total=total, description=text)

        yield advance


def keep_lines(path: Path, epochs: int) -> None:
    """Drop the log's lines of epochs that will be run again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in lines if json.loads(line)["epoch"] <= epochs]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


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

    def _batches(self) -> Iterator[Batch | DeviceBatch]:
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
            collate_fn=cast("Callable[[list[Any]], Any]", self.sets.teachers or _as_is),
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch

    def _on_device(self) -> DeviceViews | None:
        """Views on the device, if that was asked for and the pictures have room there."""
        sets, device = self.sets, self.place.device
        pictures = [p for p in (sets.train, sets.pseudo) if p is not None]
        drawn = self.recipe.augment.held or self.recipe.augment.seat  # by the processor
        drawn = drawn or self.recipe.network.room
        if sets.teachers or not self.place.resident or sets.train is None or drawn:
            return None
        if not fits(pictures, sets.rooms, device):
            return None
        return DeviceViews(self._material(sets.train), self.plan, device)

    def _material(self, labelled: Pictures) -> Material:
        recipe, sets = self.recipe, self.sets
        share = recipe.data.pseudo_share
        return Material(labelled, sets.pseudo, share, sets.rooms, recipe.augment)

    def _source(self) -> Any:
        recipe, data = self.recipe, self.recipe.data
        if self.sets.train is not None:
            material = self._material(self.sets.train).with_rooms(self._rooms())
            return Views(material, self.plan, epoch=self.epoch, start=self.batch)
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
            network = self._shadow()
            with engine.autocast(self.place.device, amp):
                found = [
                    mining.shares(lambda room: engine.predict(network, room, side), self.sets.rooms)
                ]
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
        """True if any process was asked to stop: they all leave at the same step."""
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


def _ignore_interrupt(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_is(batch: Any) -> Any:
    return batch
