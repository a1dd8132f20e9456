"""Every loop that Python calls, with arguments for it: `python -m tests.loops` prints hashes."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from segmentation import jit
from segmentation import kernels as small
from segmentation.planes import Planes, flat, flat_chroma
from vcam.compose import arrays, kernels, kernels_plain
from vcam.compose.light import loops, loops_plain
from vcam.compose.light import small as planes_loops
from vcam.media import colour, tables

Case = tuple[tuple[Any, ...], list[np.ndarray]]  # arguments, and those of them that are filled
PLAIN: dict[str, Callable[..., Any]] = {
    "segmentation.kernels._to_input_compiled": small._to_input_plain,
    "segmentation.kernels._smooth_compiled": small._smooth_plain,
    "segmentation.kernels._guide_compiled": small._guide_plain,
    "segmentation.kernels._compare_compiled": small._compare_plain,
    "segmentation.kernels._learn_compiled": small._learn_plain,
    "segmentation.kernels._in_blocks_compiled": small._in_blocks_plain,
    "vcam.compose.kernels._compose": kernels_plain.compose,
    "vcam.compose.light.small._near": kernels_plain.near,
    "vcam.compose.light.small._spilt": kernels_plain.spilt,
    "vcam.compose.kernels._split_yuyv": kernels_plain.split_yuyv,
    "vcam.compose.light.loops._relight": loops_plain.relight,
    "vcam.compose.light.loops._relight_low": loops_plain.relight_low,
    "vcam.media.tables._apply_compiled": tables._apply_plain,
}
MATRIX = small.LIMITED.astype(np.float32)
SCALE = np.array([[4.4, -2.1], [4.5, -2.0], [4.4, -1.8]], np.float32)
FIT = np.array([[1.02, 1], [0.98, 2], [1, -1]], np.float32)
TERMS = (100.0, 90.0, 6.0, 24, 5)
NUMBERS = np.array([-0.1, -0.2, 0.7, 1.1, 0.02, -0.03, 0.6, 8, 0.6, 1 / 12, 0.1], np.float32)


def loop(name: str) -> Callable[..., Any]:
    """Return what `compiled` made of a loop."""
    module, _, own = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), own)
    return found


def cases(name: str) -> Iterator[Case]:
    """Arguments for a loop, the same each time, at sizes that vectors do not fit."""
    for h, w in ((37, 53), (8, 16)):
        for flags in ((False, True, True), (True, False, False), (True, True, False)):
            rng = np.random.default_rng(h)
            yield BUILDERS[name](rng, h, w, flags)


def _floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.random(shape, np.float32)


def _bytes(rng: np.random.Generator, *shape: int, most: int = 256) -> np.ndarray:
    return rng.integers(0, most, shape, dtype=np.uint8)


def _to_input(rng: Any, h: int, w: int, flags: Any) -> Case:
    x = np.zeros((1, 3 if flags[0] else 7, h + 3, w + 5), np.float32)
    return (_bytes(rng, 3, h, w), MATRIX, SCALE, x), [x]


def _smooth(rng: Any, h: int, w: int, flags: Any) -> Case:
    held = _floats(rng, h, w)
    return (_floats(rng, h, w), _floats(rng, h, w), held, 0.8, 0.3, 0.05, 0.5), [held]


def _guide(rng: Any, h: int, w: int, flags: Any) -> Case:
    alpha, a, b = _floats(rng, 3, h, w)
    luma, work = _bytes(rng, h, w), small.guide_scratch(w)
    return (alpha, luma, a, b, 0.1, 1 / 0.85, 1e-3, work), [alpha, a, b]


def _compare(rng: Any, h: int, w: int, flags: Any) -> Case:
    x = np.zeros((1, 7 if flags[1] else 3, h + 4, w), np.float32)
    room, apart = _floats(rng, 3, h, w) * 255, np.zeros((h, w), np.uint8)
    weight = _bytes(rng, h, w, most=6)
    return (_bytes(rng, 3, h, w), room, weight, FIT, (MATRIX, SCALE), 3, x, apart), [x, apart]


def _learn(rng: Any, h: int, w: int, flags: Any) -> Case:
    picture, near = _bytes(rng, 3, h, w), rng.choice(np.uint8([0, 0, 1, 2]), (h, w))
    room = (picture + rng.normal(0, 4, picture.shape)).astype(np.float32)
    rest = _bytes(rng, h, w, most=26), _bytes(rng, h, w, most=5), rng.uniform(0, 100, (h, w))
    return (picture, near, FIT, TERMS, (room, *rest)), [room, *rest]


def _in_blocks(rng: Any, h: int, w: int, flags: Any) -> Case:
    size, out = (h // 4, w // 4), np.zeros((7, h // 4, w // 4), np.float32)
    moved, now = (_bytes(rng, 3, 4 * size[0], 4 * size[1]) for _ in "ab")
    return (moved, now, out), [out]


def _low(rng: Any, h: int, w: int) -> np.ndarray:
    low = np.zeros((arrays.PLANES, h, w), np.float32)
    y, x = np.mgrid[0:h, 0:w]
    inside = np.clip(4 - 9 * np.hypot((y + 0.5) / h - 0.6, (x + 0.5) / w - 0.5), 0, 1)
    low[arrays.A] = rng.normal(0, 0.5 / 255, (h, w)) * (inside % 1 > 0)
    low[arrays.B] = inside - low[arrays.A] * 128
    low[2:8] = rng.random((6, h, w)) * 255
    return low


def _rim(rng: Any, h: int, w: int) -> np.ndarray:
    rim = np.zeros((arrays.RIM, h // 2, w // 2), np.float32)
    rim[:, h // 4 :] = rng.random((arrays.RIM, h // 2 - h // 4, w // 2))
    return rim


def _compose(rng: Any, h: int, w: int, flags: Any) -> Case:
    size = 4 * h, 4 * w
    luma = _bytes(rng, *size)
    u, v = _bytes(rng, 2, size[0] if flags[1] else size[0] // 2, size[1] // 2)
    behind, out = _bytes(rng, luma.size * 3 // 2), np.zeros(luma.size * 3 // 2, np.uint8)
    lumas, chroma = (flat(luma), flat(_bytes(rng, *size))), flat_chroma(Planes(luma, u, v))
    layers = _low(rng, h, w), _rim(rng, h, w)
    grids = tuple(arrays.grid(size, layer.shape[1:]) for layer in layers)
    place, work = (size[1], size[0], 0, 0), kernels.scratch_for(size, (h, w))
    return (lumas, chroma, layers, flags, grids, (behind, out), place, work), [out]


def _near(rng: Any, h: int, w: int, flags: Any) -> Case:
    out, ramp = np.zeros((3, h, w), np.float32), (0.4, 1 / -0.35)
    planes, alpha = _floats(rng, 3, h, w) * 255, _floats(rng, h, w)
    return (planes, alpha, ramp, 1e-3, out, planes_loops.near_scratch((h, w))), [out]


def _spilt(rng: Any, h: int, w: int, flags: Any) -> Case:
    rim = np.zeros((arrays.RIM, h, w), np.float32)
    return (_floats(rng, h, w), _floats(rng, 3, h, w) * 255, 0.3, rim), [rim]


def _split_yuyv(rng: Any, h: int, w: int, flags: Any) -> Case:
    out = [np.zeros(h * 2 * n, np.uint8) for n in (2, 1, 1)]
    return (_bytes(rng, 8 * h), *out), out


def _relight(rng: Any, h: int, w: int, flags: Any) -> Case:
    size = 4 * h, 4 * w
    y, low = _bytes(rng, *size), _low(rng, h, w)
    u, v = _bytes(rng, 2, size[0] // 2, size[1] // 2)
    low[arrays.A], low[arrays.B] = 0, 1  # elsewhere, each may fill or leave what is not asked for
    strength = rng.normal(0.3, 0.2, loops.strength_shape((h, w))).astype(np.float32)
    fields = strength, _floats(rng, h, w)
    out = tuple(np.full(n, 90, np.uint8) for n in (y.size, y.size // 4, y.size // 4))
    chroma, grid = flat_chroma(Planes(y, u, v)), arrays.grid(size, (h, w))
    to = out, np.zeros((2, h), np.float32), loops.scratch_for(size, (h, w))
    return (flat(y), chroma, low, fields, NUMBERS, flags, grid, to), list(out)


def _relight_low(rng: Any, h: int, w: int, flags: Any) -> Case:
    low, bounds = _low(rng, h, w), np.zeros((2, h), np.float32)
    bounds[1] = w - 1  # as above
    strength = rng.normal(0.3, 0.2, loops.strength_shape((h, w))).astype(np.float32)
    return (low, strength, NUMBERS, bounds, np.zeros((2, w + loops.COARSE), np.float32)), [low]


def _apply(rng: Any, h: int, w: int, flags: Any) -> Case:
    y = rng.integers(0, 1 << 16, (2 * h, 2 * w + 8), dtype=np.uint16)[:, : 2 * w]
    u, v = rng.integers(0, 1 << 16, (2, h, w), dtype=np.uint16)
    nodes = tables.table(colour.Coding(9, colour.PQ, 9, flags[0]))
    out = np.zeros(y.shape, np.uint8), np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
    return (y, u, v, nodes, *out), list(out)


BUILDERS: dict[str, Callable[[Any, int, int, Any], Case]] = dict(
    zip(
        PLAIN,
        (
            *(_to_input, _smooth, _guide, _compare, _learn, _in_blocks),
            *(_compose, _near, _spilt, _split_yuyv, _relight, _relight_low, _apply),
        ),
        strict=True,
    )
)


def fingerprint(name: str, run: Callable[..., Any]) -> str:
    """Return a hash of everything that a loop gives and fills, for all its cases."""
    made = hashlib.sha256()
    for arguments, filled in cases(name):
        made.update(repr(run(*arguments)).encode())
        for each in filled:
            made.update(each.tobytes())
    return made.hexdigest()


if __name__ == "__main__":
    ways = sorted({jit.how(name.rpartition(".")[0]) for name in PLAIN})
    print(json.dumps([ways, {name: fingerprint(name, loop(name)) for name in PLAIN}]))
