"""Person models small enough to build in a test: bright is person. Real files, real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops


def bright_is_person(
    path: Path,
    *,
    shape: tuple[int, int, int, int] = (1, 3, -1, -1),
    channels_out: int = 1,
    gain: float = 12.0,
    middle: float = 0.0,
    logits: bool = False,
    input_name: str = "x",
) -> Path:
    """Write a model whose person is where the normalised picture is above `middle`."""
    x = ops.parameter(ov.PartialShape(shape), np.float32, name=input_name)
    x.output(0).set_names({input_name})
    axis = 3 if shape[3] == 3 else 1
    mean = ops.reduce_mean(x, ops.constant(np.array([axis], np.int64)), True)
    mean = ops.subtract(mean, ops.constant(np.float32(middle)))
    alpha = ops.multiply(mean, ops.constant(np.float32(gain)))
    alpha = alpha if logits else ops.sigmoid(alpha)
    if channels_out == 2:
        alpha = ops.concat([ops.subtract(ops.constant(np.float32(1)), alpha), alpha], axis)
    return _save(alpha, [x], path)


def mirror_and_shift(path: Path) -> Path:
    """Write a model that leans to the right: its answer is the picture moved by two pixels."""
    x = _input()
    mean = ops.reduce_mean(x, ops.constant(np.array([1], np.int64)), True)
    kernel = np.zeros((1, 1, 1, 5), np.float32)
    kernel[..., 0] = 1
    moved = ops.convolution(mean, ops.constant(kernel), [1, 1], [0, 2], [0, 2], [1, 1])
    return _save(ops.sigmoid(ops.multiply(moved, ops.constant(np.float32(12)))), [x], path)


def recurrent(path: Path) -> Path:
    """Write a model of RVM's layout: the first memory counts the frames it has seen."""
    src = _input("src")
    memories, results = [], []
    for i in range(1, 5):
        memory = ops.parameter(ov.PartialShape([1, -1, -1, -1]), np.float32, name=f"r{i}i")
        memory.output(0).set_names({f"r{i}i"})
        grown = ops.add(memory, ops.constant(np.float32(1)))
        grown.output(0).set_names({f"r{i}o"})
        memories.append(memory)
        results.append(grown)
    ratio = ops.parameter(ov.PartialShape([1]), np.float32, name="downsample_ratio")
    ratio.output(0).set_names({"downsample_ratio"})
    mean = ops.reduce_mean(src, ops.constant(np.array([1], np.int64)), True)
    seen = ops.reduce_mean(memories[0], ops.constant(np.array([1, 2, 3], np.int64)), True)
    pha = ops.multiply(ops.multiply(mean, ops.constant(np.float32(0))), ratio)
    pha = ops.add(pha, ops.multiply(seen, ops.constant(np.float32(0.1))))
    pha.output(0).set_names({"pha"})
    model = ov.Model([pha, *results], [src, *memories, ratio], "recurrent")
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def _input(name: str = "x") -> Any:
    x = ops.parameter(ov.PartialShape([1, 3, -1, -1]), np.float32, name=name)
    x.output(0).set_names({name})
    return x


def _save(result: Any, inputs: list[Any], path: Path) -> Path:
    result.output(0).set_names({"alpha"})
    ov.save_model(ov.Model([result], inputs, "tiny"), path, compress_to_fp16=False)
    return path
