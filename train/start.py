"""Weights that a network starts with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segmentation.bisenet import BiSeNet, ContextPath, with_room, without_room
from segmentation.layers import BasicBlock
from train.data.shards import read_shard
from train.engine import Learner, to_device
from train.errors import CheckpointError
from train.place import CPU
from train.recipe import Recipe
from train.views.render import view
from train.views.sets import Sets, engine_sizes
from train.weights.checkpoint import fill, load_checkpoint, load_folded, load_network
from train.weights.prune import prune

log = logging.getLogger(__name__)

Placed = TypeVar("Placed", bound=nn.Module)

CALIBRATION = 24  # photographs that give the ImageNet trunk its BatchNorm statistics
PRUNING = 96  # photographs whose features tell what a pruned network should do


def start_from_imagenet(context: ContextPath, path: Path, photographs: NDArray[np.uint8]) -> None:
    """Give a full-width trunk ImageNet weights whose BatchNorms were folded away.

    Photographs are run through layer by layer; each BatchNorm takes their mean and variance as
    its own and undoes them in weight and bias, so that the output is unchanged. The last stage,
    which the file lacks, starts with residuals of zero.

    Shapes:
        photographs: (B, H, W, 3) uint8 RGB, two dozen of them

    Raises:
        CheckpointError: the file is missing, damaged, or for another width.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not weights that can be read: {error}",
            hint="Set [network] imagenet to a ResNet-18 with BatchNorm folded.",
        ) from error
    kept = {}
    for name, _ in _after_convolutions(context):
        if f"{name}.weight" not in weights or f"{name}.bias" not in weights:
            continue
        shape = _convolution(context, name).weight.shape
        if shape != weights[f"{name}.weight"].shape:
            raise CheckpointError(
                f"{path}: {name} is {tuple(weights[f'{name}.weight'].shape)}, the network's "
                f"{tuple(shape)}; ImageNet weights fit full width only",
                hint="Set [network] width = 1.0, or learn from its features: [distil] features.",
            )
        kept[name] = (weights[f"{name}.weight"], weights[f"{name}.bias"])
    for block in context.layer4:
        assert isinstance(block, BasicBlock)
        nn.init.zeros_(block.bn2.weight)
    _unfold(context, kept, photographs)


def start_from_folded(network: BiSeNet, path: Path, photographs: NDArray[np.uint8]) -> None:
    """Give a network shipped weights, whose BatchNorms were folded away, so that it can learn on.

    Its BatchNorms are found again as `start_from_imagenet` finds them; the auxiliary heads, which
    are not shipped, start from random weights.

    Shapes:
        photographs: (B, H, W, 3) uint8 RGB, some dozens of them

    Raises:
        CheckpointError: the file is missing, damaged, or of another width or depth.
    """
    folded = load_folded(path)
    folded = with_room(folded) if network.room else without_room(folded)
    if folded.layout != network.layout:
        raise CheckpointError(
            f"{path}: {folded.layout}, expected {network.layout}",
            hint="Set the recipe's [network] width, blocks and lean to those of the weights.",
        )
    weights = folded.state_dict()
    kept = {}
    for name, _ in _after_convolutions(network):
        kept[name] = (weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias"))
    network.load_state_dict(weights, strict=False)  # convolutions that no BatchNorm follows
    _unfold(network, kept, photographs)


def _unfold(
    model: nn.Module, folded: dict[str, tuple[Tensor, Tensor]], photographs: NDArray[np.uint8]
) -> None:
    """Set convolutions to `folded` weights and give their biases to the BatchNorms behind them."""
    hooks = []
    for name, batch_norm in _after_convolutions(model):
        if name in folded:
            weight, bias = folded[name]
            _convolution(model, name).weight.data.copy_(weight)
            hooks.append(batch_norm.register_forward_pre_hook(_calibrate(bias)))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        device = next(model.parameters()).device
        alphas = np.zeros(photographs.shape[:3], np.float32)
        model(to_device((photographs, alphas), device)[0])
    model.train(was_training)
    for hook in hooks:
        hook.remove()


def _after_convolutions(model: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """Each convolution's name with the BatchNorm that follows it."""
    before_norm = {"bn1": "conv1", "bn2": "conv2", "bn": "attention", "1": "0"}
    for name, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            continue
        head, _, last = name.rpartition(".")
        before = before_norm[last]
        yield f"{head}.{before}" if head else before, module


def _convolution(model: nn.Module, name: str) -> nn.Conv2d:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    return module


def _calibrate(bias: Tensor) -> Any:
    def before(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean(dim=(0, 2, 3)), inputs[0].var(dim=(0, 2, 3))
        assert module.running_mean is not None
        assert module.running_var is not None
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
        module.weight.data.copy_((variance + module.eps).sqrt())
        module.bias.data.copy_(mean + bias.to(mean.device))

    return before


def make_network(recipe: Recipe) -> BiSeNet:
    """The recipe's network with random weights."""
    told = recipe.network
    return BiSeNet(told.width, blocks=told.blocks, lean=told.lean, room=told.room)


def make_learner(recipe: Recipe, root: Path, sets: Sets, device: torch.device) -> Learner:
    """The network where the recipe says it starts, with its teacher if there is one.

    Raises:
        CheckpointError: what it starts from cannot be read, or is of another width.
    """
    network = _placed(make_network(recipe), device)
    trunk, distil = root / recipe.network.imagenet, recipe.distil
    teacher: BiSeNet | ContextPath | None = None
    if distil.teacher:
        teacher = load_network(root / distil.teacher, folded=False)
    elif distil.features:
        teacher = _trunk(recipe, sets, trunk, device)
    if recipe.network.start == "imagenet":
        start_from_imagenet(network.context, trunk, _photographs(recipe, sets))
    elif recipe.network.start == "prune":
        wide = recipe.network.wide or distil.teacher
        log.info("Pruning %s to width %g", wide, network.width)
        # On the CPU, wherever training then runs: the learner goes to the device below.
        prune(load_network(root / wide, folded=False), network.to(CPU), _pictures(recipe, sets))
    elif recipe.network.start.endswith(".safetensors"):
        photographs = _photographs(recipe, sets, PRUNING)
        start_from_folded(network, root / recipe.network.start, photographs)
    elif recipe.network.start:
        path = root / recipe.network.start
        fill(network, load_checkpoint(path)["ema"], path)
    if teacher is not None:
        _placed(teacher, device).eval().requires_grad_(False)
    learner = Learner(network, teacher, alpha=distil.alpha > 0)
    return _placed(learner, device)


def _trunk(recipe: Recipe, sets: Sets, path: Path, device: torch.device) -> ContextPath:
    """The full-width trunk that ImageNet taught, for its features alone."""
    context = _placed(BiSeNet(1.0), device).context
    start_from_imagenet(context, path, _photographs(recipe, sets))
    context.layer4 = nn.Sequential()  # its last stage was never trained
    return context


def _placed(module: Placed, device: torch.device) -> Placed:
    """Move a module to `device`, its kernels into channels-last memory."""
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


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
    return [to_device((part, blank), CPU)[0] for part in parts]
