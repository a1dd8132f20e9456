"""A narrow network out of a wide one: the channels that matter, and weights solved for anew."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.bisenet import BiSeNet
from segmentation.layers import BasicBlock

log = logging.getLogger(__name__)

ROWS = 24_000  # places in the photographs that a layer's equations are taken from
RIDGE = 1e-3  # of the mean square of a layer's inputs, added so that equations have one solution

# Layers whose outputs are added or multiplied keep the same channels of both.
TOGETHER = (
    ("context.conv1", "context.layer1.0.conv2", "context.layer1.1.conv2"),
    ("context.layer2.0.conv2", "context.layer2.1.conv2", "context.layer2.0.downsample.0"),
    ("context.layer3.0.conv2", "context.layer3.1.conv2", "context.layer3.0.downsample.0"),
    ("context.layer4.0.conv2", "context.layer4.1.conv2", "context.layer4.0.downsample.0"),
    ("arm32.conv.0", "tail.0", "arm32.attention"),
    ("arm16.conv.0", "join32.0", "arm16.attention"),
    ("head8.0", "skip4.0"),
    ("narrow.0", "skip2.0"),
    ("fusion.conv.0", "fusion.excite"),
)


class _Reached(Exception):
    """Ends a forward pass at the layer that was waited for."""


@dataclass(slots=True)
class _Equations:
    """Normal equations of one layer's least squares, summed batch by batch."""

    inputs: Tensor  # (n + 1, n + 1), the last row and column for the bias
    products: Tensor  # (n + 1, channels)
    squares: float
    mean: Tensor
    count: int


@torch.no_grad()
def prune(wide: BiSeNet, narrow: BiSeNet, batches: list[Tensor]) -> None:
    """Fill `narrow` so that each of its layers does what the best channels of `wide`'s do.

    From "Channel Pruning for Accelerating Very Deep Neural Networks" (He et al., ICCV 2017,
    https://arxiv.org/abs/1707.06168).
    Differs: channels are chosen by how much they vary after their ReLU; layers are solved in the
    order of the forward pass, each on what the narrow network really gives it, and the last layer
    of a block also makes up for the error of its shortcut.

    Shapes:
        batches: photographs as the network sees them, each (B, 3, H, W) float
    """
    wide.eval()
    narrow.eval()
    order = _in_order(narrow, batches[0])
    made = _outputs(wide, narrow, order, batches)
    kept = _channels(wide, narrow, order, made)
    layers = dict(narrow.named_modules())
    generator = torch.Generator().manual_seed(0)
    for name in order:
        block = layers[name.rpartition(".")[0]] if name.endswith("conv2") else None
        sums = None
        for number, x in enumerate(batches):
            given, shortcut = _input_of(narrow, layers[name], block, x)
            wanted = made[_after(name, narrow)][number][:, kept[name]]
            if isinstance(block, BasicBlock):
                assert shortcut is not None
                path = name.rpartition(".")[0]
                theirs = f"{path}.downsample.1" if block.downsample else f"{path}:input"
                wanted = wanted + made[theirs][number][:, kept[name]] - shortcut
            size = _size_after(layers[name], given)
            if wanted.shape[2:] != size:  # a lean network joins before it enlarges
                wanted = F.interpolate(wanted, size, mode="area")
            rows = -(-ROWS // len(batches))
            sums = _add(sums, *_sampled(given, wanted, layers[name], rows, generator))
        assert sums is not None
        fit = _solve(layers[name], layers[_after(name, narrow)], sums)
        log.info("%s: %d channels, R2 %.3f", name, len(kept[name]), fit)
    for auxiliary, source in (("aux16", "join16.0"), ("aux32", "arm16.conv.0")):
        before, after = getattr(wide, auxiliary), getattr(narrow, auxiliary)
        after.weight.copy_(before.weight[:, kept[source]])
        after.bias.copy_(before.bias)


def _after(name: str, model: nn.Module) -> str:
    """The BatchNorm behind a convolution, or the convolution itself where there is none."""
    path, _, last = name.rpartition(".")
    behind = {"conv1": "bn1", "conv2": "bn2", "attention": "bn", "0": "1"}.get(last, last)
    found = f"{path}.{behind}" if path else behind
    here = dict(model.named_modules()).get(found)
    return found if isinstance(here, nn.BatchNorm2d) else name


def _in_order(model: BiSeNet, x: Tensor) -> list[str]:
    order: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: order.append(name)

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(x[:1])
    for hook in hooks:
        hook.remove()
    return order


def _outputs(
    wide: BiSeNet, narrow: BiSeNet, order: list[str], batches: list[Tensor]
) -> dict[str, list[Tensor]]:
    """Outputs of each layer of `wide` after its BatchNorm, and inputs of each block."""
    made: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _given, result: made.setdefault(name, []).append(result.clone())

    def keep_given(name: str) -> Callable[..., None]:
        return lambda _module, given: made.setdefault(name, []).append(given[0].clone())

    layers = dict(wide.named_modules())
    hooks = [layers[n].register_forward_hook(keep(n)) for n in {_after(n, narrow) for n in order}]
    hooks += [
        module.register_forward_pre_hook(keep_given(f"{name}:input"))
        for name, module in layers.items()
        if isinstance(module, BasicBlock) and module.downsample is None
    ]
    for x in batches:
        wide(x)
    for hook in hooks:
        hook.remove()
    return made


def _channels(
    wide: BiSeNet, narrow: BiSeNet, order: list[str], made: dict[str, list[Tensor]]
) -> dict[str, Tensor]:
    """Channels of a wide layer that its narrow one keeps, in ascending order."""
    layers = dict(narrow.named_modules())

    def worth(name: str) -> Tensor:
        outputs = [F.relu(part).transpose(0, 1).flatten(1) for part in made[_after(name, narrow)]]
        varied = torch.cat(outputs, dim=1).std(dim=1)
        return varied / varied.mean()

    kept: dict[str, Tensor] = {}
    groups = [[name for name in group if name in order] for group in TOGETHER]
    grouped = {name for group in groups for name in group}
    groups += [[name] for name in order if name not in grouped]
    for group in groups:
        gates = ("attention", "excite")
        score = torch.stack([worth(n) for n in group if not n.endswith(gates)]).sum(dim=0)
        best = score.topk(layers[group[0]].out_channels).indices.sort().values
        kept.update(dict.fromkeys(group, best))
    return kept


def _input_of(
    model: BiSeNet, layer: nn.Module, block: nn.Module | None, x: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Input of `layer` for `x`, and the sum that `block`'s shortcut adds."""
    seen: dict[str, Tensor] = {}

    def stop(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen["layer"] = given[0]
        raise _Reached

    hooks = [layer.register_forward_pre_hook(stop)]
    if block is not None:
        hooks.append(block.register_forward_pre_hook(lambda _, given: seen.update(block=given[0])))
    with contextlib.suppress(_Reached):
        model(x)
    for hook in hooks:
        hook.remove()
    shortcut = seen.get("block")
    if isinstance(block, BasicBlock) and block.downsample is not None:
        shortcut = block.downsample(shortcut)
    return seen["layer"], shortcut


def _size_after(layer: Any, given: Tensor) -> tuple[int, int]:
    h, w = (-(-side // layer.stride[0]) for side in given.shape[2:])
    return h, w


def _sampled(
    given: Tensor, wanted: Tensor, layer: nn.Module, rows: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some places of a convolution: what it sees there, with a one, and what it should answer.

    Shapes:
        given: (B, C, H, W); wanted: (B, channels, h, w)
        returns: (rows, C * kernel * kernel + 1), (rows, channels)
    """
    assert isinstance(layer, nn.Conv2d)
    kernel, stride, edge = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    batch, _, h, w = wanted.shape
    count = batch * h * w
    at = torch.randperm(count, generator=generator)[:rows]
    b, i, j = at // (h * w), at // w % h, at % w
    padded = F.pad(given, (edge,) * 4)
    near = [
        padded[b, :, i * stride + dy, j * stride + dx]
        for dy in range(kernel)
        for dx in range(kernel)
    ]
    seen = torch.stack(near, dim=2).flatten(1)
    return torch.cat((seen, torch.ones(len(at), 1)), dim=1), wanted[b, :, i, j]


def _add(sums: _Equations | None, seen: Tensor, wanted: Tensor) -> _Equations:
    squares = float(wanted.double().square().sum())
    total = wanted.double().sum(dim=0)
    if sums is None:
        return _Equations(seen.T @ seen, seen.T @ wanted, squares, total, len(seen))
    return _Equations(
        sums.inputs + seen.T @ seen,
        sums.products + seen.T @ wanted,
        sums.squares + squares,
        sums.mean + total,
        sums.count + len(seen),
    )


def _solve(layer: Any, norm: nn.Module, sums: _Equations) -> float:
    """Set a convolution, and the BatchNorm behind it, to the solution; return its R squared."""
    inputs, products = sums.inputs.double(), sums.products.double()
    ridge = RIDGE * inputs.diagonal().mean() * torch.eye(len(inputs), dtype=torch.double)
    solution = torch.linalg.solve(inputs + ridge, products)
    weight, bias = solution[:-1], solution[-1]
    layer.weight.copy_(weight.T.reshape(layer.weight.shape))
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = inputs[-1, :-1] @ weight / sums.count
        square = ((inputs[:-1, :-1] @ weight) * weight).sum(dim=0) / sums.count
        variance = (square - mean**2).clamp_min(1e-6)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)
    else:
        layer.bias.copy_(bias)
    apart = sums.squares - 2 * float((solution * products).sum())
    apart += float(((inputs @ solution) * solution).sum())
    spread = sums.squares - float((sums.mean**2).sum() / sums.count)
    return 1 - apart / max(spread, 1e-12)
