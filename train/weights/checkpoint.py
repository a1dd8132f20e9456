"""Training state on disk: written whole or not at all, read without running anybody's code."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation.bisenet import STEMS, BiSeNet, with_room
from segmentation.engines.weights_file import fold, load_weights
from train.errors import CheckpointError


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` beside `path` and move it there; what was there stays until then.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as the latter
        temporary.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        kept = "; the checkpoint before it is untouched" if path.exists() else ""
        raise CheckpointError(
            f"{path}: cannot be written: {why}{kept}",
            hint="Make room on that disk, then go on with --resume.",
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and numbers; a file that holds anything else is refused.

    Raises:
        CheckpointError: missing, damaged, or a pickle of something other than tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of odd versions, refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: there is no such checkpoint",
            hint="Give the path of a last.pt or best.pt that `train fit` wrote.",
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and numbers, which could run code when read; refused",
            hint="Use a checkpoint written by `train fit`.",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: damaged or not a checkpoint: {why}",
            hint="Use another checkpoint, or train again.",
        ) from error
    if not isinstance(state, dict) or "ema" not in state or "width" not in state:
        raise CheckpointError(
            f"{path}: not a checkpoint of `train fit`, which holds 'ema' and 'width'",
            hint="Give the path of a last.pt or best.pt that `train fit` wrote.",
        )
    return state


def fill(model: BiSeNet, weights: dict[str, Tensor], path: Path) -> None:
    """Put a checkpoint's weights into `model`, which must have the same width.

    Blocks of the trunk and a spatial path that `model` does without are left behind.

    Raises:
        CheckpointError: the weights are of another width or another network.
    """
    own = model.state_dict()
    spare = re.compile(r"spatial\.|context\.layer\d\.\d+\.")
    kept = {k: v for k, v in weights.items() if k in own or not spare.match(k)}
    try:
        model.load_state_dict(kept)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: not a BiSeNet of width {model.width:g}: {_first_mismatch(error)}",
            hint="Set the recipe's [network] width to that of the checkpoint.",
        ) from error


def load_network(path: Path, *, folded: bool = True) -> BiSeNet:
    """Return the averaged network of a checkpoint, in evaluation mode.

    `path` may also be shipped .safetensors weights, which are folded whatever is asked for.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not match its own width.
    """
    if path.suffix == ".safetensors":
        return load_folded(path)
    state = load_checkpoint(path)
    model = BiSeNet(
        float(state["width"]),
        blocks=int(state.get("blocks", 2)),
        lean=bool(state.get("lean", False)),
        room=bool(state.get("room", False)),
    )
    fill(model, state["ema"], path)
    model.eval()
    return fold(model) if folded else model


def load_mean(paths: list[Path]) -> BiSeNet:
    """Return the network whose folded weights are the mean of several, in evaluation mode.

    From "Model soups" (Wortsman et al., ICML 2022, https://arxiv.org/abs/2203.05482). It is better
    than each where they went on from the same weights, with other data, rates or seeds. Where some
    have inputs for the room, so has the mean, and those are the mean of theirs alone.

    Raises:
        CheckpointError: one cannot be read, or they are of different widths or depths.
    """
    networks = [load_network(path) for path in paths]
    rooms = [network.room for network in networks]
    if any(rooms):
        networks = [with_room(network) for network in networks]
    first, *others = networks
    for path, network in zip(paths[1:], others, strict=True):
        if network.layout != first.layout:
            raise CheckpointError(
                f"{path}: {network.layout}, {paths[0]}: {first.layout}; these have no mean",
                hint="Average runs that started from the same weights.",
            )
    states = [network.state_dict() for network in (first, *others)]
    mean = {k: torch.stack([s[k].float() for s in states]).mean(0) for k in states[0]}
    told = [state for state, room in zip(states, rooms, strict=True) if room]
    for name in (n for n in STEMS if told and n in mean):
        mean[name][:, 3:] = torch.stack([state[name][:, 3:].float() for state in told]).mean(0)
    first.load_state_dict(mean)
    return first


def load_folded(path: Path) -> BiSeNet:
    """Return the network of a .safetensors file that `train export` wrote, in evaluation mode.

    Raises:
        CheckpointError: missing, damaged, or another network.
    """
    try:
        return load_weights(path).eval()
    except ValueError as error:
        raise CheckpointError(
            str(error), hint="Give the path of a .safetensors file that `train export` wrote."
        ) from error


def _first_mismatch(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return lines[0] if lines else str(error)
