"""Weights on disk: safetensors with the network's shape beside them, BatchNorm folded in."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import torch
from torch import nn

from segmentation.bisenet import BiSeNet

SCALE = ".scale"  # of a kernel kept as int8, in a weights file


def fold(model: BiSeNet) -> BiSeNet:
    """Merge every BatchNorm into the convolution before it, in place, for inference.

    Running statistics become weight and bias; the output stays the same to rounding.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            layers = list(module._modules.items())
            for (_, first), (name, second) in itertools.pairwise(layers):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    _merge(first, second)
                    module._modules[name] = nn.Identity()
        for conv_name, bn_name in (("conv1", "bn1"), ("conv2", "bn2"), ("attention", "bn")):
            conv, bn = getattr(module, conv_name, None), getattr(module, bn_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                _merge(conv, bn)
                setattr(module, bn_name, nn.Identity())
    return model


def save_weights(model: BiSeNet, path: Path, *, compact: bool = False, note: str = "") -> None:
    """Write folded weights, with the width in the header, as safetensors.

    They are float16; `compact` makes kernels int8, with a float32 scale for each output channel
    beside them, which halves the file. The network still computes in floats.
    """
    from safetensors.torch import save_file

    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("aux"):
            continue
        if compact and value.dim() == 4 and len(value) > 1:
            scale = value.detach().abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / 127
            state[name] = (value / scale[:, None, None, None]).round().to(torch.int8).contiguous()
            state[name + SCALE] = scale.float()
        else:
            state[name] = value.detach().half().contiguous()
    header = {
        "arch": "BiSeNet",
        "width": str(model.width),
        "blocks": str(model.blocks),
        "lean": str(int(model.lean)),
        "room": str(int(model.room)),
        "note": note,
    }
    save_file(state, str(path), metadata=header)


def load_weights(path: Path) -> BiSeNet:
    """Read a folded BiSeNet written by `save_weights`, ready for inference in float32.

    Raises:
        ValueError: missing, truncated, or not a BiSeNet of the width its header states.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            header = file.metadata() or {}
            state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
            for name in [k for k in state if k.endswith(SCALE)]:
                state[name.removesuffix(SCALE)] *= state.pop(name)[:, None, None, None]
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a weights file that can be read: {error}") from error
    if header.get("arch") != "BiSeNet":
        raise ValueError(f"{path}: holds {header.get('arch', 'no architecture')!r}, not 'BiSeNet'")
    with torch.device("cpu"):
        model = fold(
            BiSeNet(
                float(header["width"]),
                blocks=int(header.get("blocks", "2")),
                lean=header.get("lean") == "1",
                room=header.get("room") == "1",
            )
        )
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: not a BiSeNet of width {header['width']}: {error}") from error
    lost = [k for k in found.missing_keys if not k.startswith("aux")]
    if lost or found.unexpected_keys:
        raise ValueError(f"{path}: not a BiSeNet of width {header['width']}: lacks {lost[:3]}")
    return model


def _merge(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    bias = torch.zeros_like(bn.running_mean) if conv.bias is None else conv.bias
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter(bn.bias + (bias - bn.running_mean) * scale)
