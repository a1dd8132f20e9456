"""The built-in backgrounds, drawn by the program itself: light, walls, windows and distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Canvas = NDArray[np.float32]  # (H, W, 3) linear-ish RGB, 0..1
    Colour = tuple[float, float, float]


def draw(name: str, width: int, height: int) -> NDArray[np.uint8]:
    """Draw the scene `name`; the same picture each time.

    Shapes:
        returns: (height, width, 3) uint8 RGB

    Raises:
        KeyError: no scene has that name.
    """
    canvas = SCENES[name](width, height)
    # A little noise keeps 8-bit gradients, and the codecs behind them, from showing bands.
    grain = np.random.default_rng(5).normal(0, 0.9, (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(canvas * 255 + grain + 0.5, 0, 255), np.uint8)


def _grid(w: int, h: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates in 0..1: x (1, w) to the right, y (h, 1) downwards."""
    x = (np.arange(w) + 0.5) / w
    y = (np.arange(h) + 0.5) / h
    return x[None, :].astype(np.float32), y[:, None].astype(np.float32)


def _ramp(w: int, h: int, stops: list[tuple[float, Colour]]) -> Canvas:
    """A vertical gradient through `stops` of (height 0..1, colour)."""
    _, y = _grid(w, h)
    at = [s[0] for s in stops]
    bands = [np.interp(y[:, 0], at, [s[1][c] for s in stops]) for c in range(3)]
    column = np.stack(bands, axis=-1).astype(np.float32)
    return np.repeat(column[:, None, :], w, axis=1)


def _glow(
    canvas: Canvas, cx: float, cy: float, radius: float, colour: Colour, strength: float
) -> None:
    """Add a round soft light; `radius` is a share of the height."""
    h, w = canvas.shape[:2]
    x, y = _grid(w, h)
    d2 = ((x - cx) * (w / h)) ** 2 + (y - cy) ** 2
    canvas += strength * np.exp(-d2 / radius**2)[..., None] * np.asarray(colour, np.float32)


def _soften(canvas: Canvas, share: float) -> Canvas:
    """Blur as a lens does, `share` of the height wide; done small and enlarged, for speed."""
    h, w = canvas.shape[:2]
    small = cv2.resize(canvas, (max(w // 4, 2), max(h // 4, 2)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(share * h / 4, 0.5))
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)


def _vignette(canvas: Canvas, amount: float) -> Canvas:
    h, w = canvas.shape[:2]
    x, y = _grid(w, h)
    fall = 1 - amount * ((x - 0.5) ** 2 * 1.6 + (y - 0.48) ** 2 * 1.9)
    return canvas * fall[..., None].astype(np.float32)


def _studio(w: int, h: int) -> Canvas:
    canvas = _ramp(
        w, h, [(0, (0.50, 0.54, 0.58)), (0.7, (0.42, 0.46, 0.50)), (1, (0.30, 0.33, 0.37))]
    )
    _glow(canvas, 0.5, 0.36, 0.62, (0.95, 1.0, 1.05), 0.30)
    _glow(canvas, 0.86, 0.1, 0.5, (1.0, 0.86, 0.70), 0.10)
    return _vignette(canvas, 0.55)


def _slate(w: int, h: int) -> Canvas:
    rng = np.random.default_rng(11)
    canvas = _ramp(w, h, [(0, (0.13, 0.15, 0.18)), (1, (0.08, 0.09, 0.11))])
    plaster = np.zeros((h, w), np.float32)
    for cells, weight in ((5, 0.6), (13, 0.3), (34, 0.18)):
        tiny = rng.normal(0, 1, (cells, cells * 16 // 9)).astype(np.float32)
        plaster += weight * cv2.resize(tiny, (w, h), interpolation=cv2.INTER_CUBIC)
    canvas += 0.012 * plaster[..., None]
    _glow(canvas, 0.5, 0.35, 0.55, (0.55, 0.72, 0.95), 0.22)
    _glow(canvas, 0.02, 0.75, 0.55, (1.0, 0.52, 0.25), 0.12)
    return _vignette(canvas, 0.5)


def _paper(w: int, h: int) -> Canvas:
    canvas = _ramp(w, h, [(0, (0.86, 0.80, 0.72)), (1, (0.76, 0.68, 0.60))])
    x, y = _grid(w, h)
    # Sun through a window of two by three panes, falling slantwise on the wall.
    sx, sy = x * 1.9 - 0.55 + 0.35 * y, y * 1.25 - 0.08 + 0.12 * x
    panes = np.ones((h, w), np.float32)
    for edge in (0.5,):
        panes *= 1 - np.exp(-(((sx - edge) / 0.012) ** 4))
    for edge in (0.36, 0.68):
        panes *= 1 - np.exp(-(((sy - edge) / 0.012) ** 4))
    inside = ((sx > 0.06) & (sx < 0.94) & (sy > 0.04) & (sy < 0.98)).astype(np.float32)
    light = _soften(np.repeat((panes * inside)[..., None], 3, axis=2), 0.012)
    canvas += light * np.asarray((0.16, 0.145, 0.10), np.float32)
    shade = np.zeros((h, w), np.float32)
    rng = np.random.default_rng(3)
    for _ in range(26):  # the shadow of leaves
        cx, cy = rng.uniform(0.60, 0.98) * w, rng.uniform(-0.02, 0.55) * h
        axes = (int(rng.uniform(0.05, 0.12) * h), int(rng.uniform(0.012, 0.028) * h))
        cv2.ellipse(shade, (int(cx), int(cy)), axes, float(rng.uniform(15, 75)), 0, 360, 1.0, -1)
    leaves = _soften(np.repeat(shade[..., None], 3, axis=2), 0.014)
    canvas -= leaves * light * np.asarray((0.13, 0.125, 0.10), np.float32)
    return _vignette(canvas, 0.25)


# Name -> painter, in the order people see them.
SCENES: Final[dict[str, Callable[[int, int], Canvas]]] = {
    "studio": _studio,
    "paper": _paper,
    "slate": _slate,
}
