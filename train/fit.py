"""Fitting: from a recipe to a checkpoint, on one core, one GPU or many machines."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.distributed as dist

from train import engine
from train.engine import Learner, Stepper
from train.errors import CheckpointError, RecipeError
from train.place import Place, stop_on_signal
from train.recipe import Recipe, as_dict
from train.run import Run
from train.start import make_learner
from train.views.sets import read_sets
from train.weights.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

UNMOVED = ("name", "card")  # parts of a recipe that may change between a stop and --resume


def fit(
    recipe: Recipe,
    root: Path,
    folder: Path,
    place: Place,
    *,
    resume: bool = False,
    seconds: float | None = None,
) -> bool:
    """Train `recipe` on the data under `root`, writing into `folder`; False when interrupted.

    `folder` receives last.pt, best.pt, log.jsonl and sheets. SIGINT or SIGTERM ends it after the
    step at hand, with a checkpoint from which `resume` goes on bit for bit on a CPU; so do
    `seconds` of learning.

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
        late = threading.Timer(seconds or 0, stop.set)
        late.daemon = True
        if seconds is not None:
            late.start()
        try:
            return run(stop)
        finally:
            late.cancel()


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
