"""Rooms drawn for tests: painted furniture, trees and a town at dusk, the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from vcam.compose import drawn
from vcam.compose.drawn import _glow, _ramp, _soften, _vignette

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vcam.compose.drawn import Canvas, Colour


def draw(name: str, width: int, height: int) -> NDArray[np.uint8]:
    """A room as (height, width, 3) uint8 RGB; the program's own scenes too."""
    if name in drawn.SCENES:
        return drawn.draw(name, width, height)
    canvas = ROOMS[name](width, height)
    grain = np.random.default_rng(5).normal(0, 0.9, (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(canvas * 255 + grain + 0.5, 0, 255), np.uint8)


def _discs(
    canvas: Canvas,
    rng: np.random.Generator,
    count: int,
    colours: list[Colour],
    sizes: tuple[float, float],
    rows: tuple[float, float],
    strength: tuple[float, float],
) -> None:
    """Add out-of-focus lights: bright-rimmed translucent discs, sizes as shares of the height."""
    h, w = canvas.shape[:2]
    for _ in range(count):
        radius = float(rng.uniform(*sizes)) * h
        cx, cy = float(rng.uniform(0, w)), float(rng.uniform(*rows)) * h
        colour = np.asarray(colours[int(rng.integers(len(colours)))], np.float32)
        power = float(rng.uniform(*strength))
        left, right = max(int(cx - radius - 3), 0), min(int(cx + radius + 3), w)
        top, bottom = max(int(cy - radius - 3), 0), min(int(cy + radius + 3), h)
        if left >= right or top >= bottom:
            continue
        yy, xx = np.ogrid[top:bottom, left:right]
        d = np.sqrt((xx - cx) ** 2 + (yy - cy) ** 2) / radius
        edge = np.clip((1 - d) * radius / (0.08 * radius + 1.5), 0, 1)
        disc = (edge * (0.75 + 0.35 * np.clip(d, 0, 1) ** 3)).astype(np.float32)
        canvas[top:bottom, left:right] += power * disc[..., None] * colour


def _box(
    canvas: Canvas, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, mix: float = 1.0
) -> None:
    """Paint a rectangle given in shares of width and height."""
    h, w = canvas.shape[:2]
    part = canvas[round(y0 * h) : round(y1 * h), round(x0 * w) : round(x1 * w)]
    part += mix * (np.asarray(colour, np.float32) - part)


def _dusk(w: int, h: int) -> Canvas:
    canvas = _ramp(
        w,
        h,
        [
            (0, (0.10, 0.13, 0.30)),
            (0.35, (0.34, 0.25, 0.46)),
            (0.58, (0.86, 0.47, 0.40)),
            (0.70, (0.98, 0.70, 0.45)),
            (0.76, (0.30, 0.22, 0.32)),
            (1, (0.07, 0.07, 0.14)),
        ],
    )
    _glow(canvas, 0.68, 0.70, 0.26, (1.0, 0.62, 0.32), 0.28)
    rng = np.random.default_rng(21)
    skyline = canvas.copy()
    at = 0.0
    while at < 1.0:
        wide = float(rng.uniform(0.025, 0.075))
        _box(skyline, at, float(rng.uniform(0.60, 0.73)), min(at + wide, 1), 1, (0.12, 0.10, 0.20))
        at += wide
    canvas = _soften(skyline, 0.016)
    lamps: list[Colour] = [(1.0, 0.72, 0.38), (1.0, 0.55, 0.30), (0.75, 0.80, 1.0)]
    _discs(canvas, rng, 70, lamps, (0.008, 0.034), (0.70, 0.99), (0.10, 0.42))
    return _vignette(canvas, 0.3)


def _forest(w: int, h: int) -> Canvas:
    canvas = _ramp(
        w, h, [(0, (0.55, 0.68, 0.40)), (0.45, (0.30, 0.46, 0.22)), (1, (0.08, 0.16, 0.08))]
    )
    _glow(canvas, 0.70, 0.12, 0.50, (1.0, 0.95, 0.60), 0.42)
    rng = np.random.default_rng(17)
    for _ in range(11):  # trunks, thinner and paler with distance
        near = float(rng.uniform(0, 1))
        at, wide = float(rng.uniform(0, 1)), 0.008 + 0.03 * near
        bark = (0.22 - 0.12 * near, 0.22 - 0.13 * near, 0.13 - 0.07 * near)
        _box(canvas, at, 0, min(at + wide, 1), 1, bark, mix=0.45 + 0.4 * near)
    canvas = _soften(canvas, 0.022)
    leaves: list[Colour] = [(0.72, 0.90, 0.38), (0.45, 0.72, 0.28), (1.0, 0.95, 0.62)]
    _discs(canvas, rng, 110, leaves, (0.012, 0.06), (-0.05, 0.70), (0.03, 0.17))
    return _vignette(np.clip(canvas, 0.02, 1), 0.3)


def _loft(w: int, h: int) -> Canvas:
    rng = np.random.default_rng(29)
    canvas = _ramp(
        w, h, [(0, (0.78, 0.76, 0.73)), (0.8, (0.70, 0.67, 0.63)), (1, (0.58, 0.52, 0.46))]
    )
    _box(canvas, 0, 0.86, 1, 1, (0.46, 0.34, 0.25))  # floor
    # A tall window on the left, with the city's morning behind it.
    _box(canvas, 0.04, 0.04, 0.34, 0.80, (0.93, 0.97, 1.0))
    for i in range(7):
        at = 0.05 + 0.041 * i
        _box(canvas, at, float(rng.uniform(0.40, 0.62)), at + 0.038, 0.80, (0.72, 0.79, 0.87))
    for at in (0.035, 0.134, 0.236, 0.336):
        _box(canvas, at, 0.03, at + 0.009, 0.82, (0.24, 0.25, 0.27))
    for at in (0.03, 0.30, 0.56, 0.81):
        _box(canvas, 0.035, at, 0.345, at + 0.014, (0.24, 0.25, 0.27))
    # Shelves with books and bowls on the right.
    spines: list[Colour] = [
        (0.70, 0.30, 0.22),
        (0.20, 0.33, 0.42),
        (0.85, 0.76, 0.55),
        (0.32, 0.42, 0.34),
        (0.90, 0.88, 0.84),
        (0.24, 0.22, 0.26),
        (0.78, 0.52, 0.28),
    ]
    for row in range(4):
        floor = 0.28 + 0.17 * row
        _box(canvas, 0.66, floor, 0.97, floor + 0.016, (0.40, 0.28, 0.19))
        at = 0.67
        while at < 0.955:
            if rng.random() < 0.22:
                at += float(rng.uniform(0.015, 0.05))
                continue
            wide, tall = float(rng.uniform(0.006, 0.016)), float(rng.uniform(0.07, 0.125))
            spine = spines[int(rng.integers(len(spines)))]
            _box(canvas, at, floor - tall, min(at + wide, 0.965), floor, spine)
            at += wide + 0.0015
    # A plant by the window and a lamp between.
    for _ in range(60):
        cx, cy = 0.42 + float(rng.normal(0, 0.035)), 0.60 + float(rng.normal(0, 0.085))
        axes = (int(0.055 * h), int(0.014 * h))
        green = rng.uniform(0.75, 1.15)
        leaf = (0.20 * green, 0.38 * green, 0.20 * green)
        tilt = float(rng.uniform(0, 180))
        cv2.ellipse(canvas, (int(cx * w), int(cy * h)), axes, tilt, 0, 360, leaf, -1)
    _box(canvas, 0.395, 0.74, 0.445, 0.88, (0.80, 0.74, 0.66))
    canvas = _soften(canvas, 0.010)
    _glow(canvas, 0.19, 0.35, 0.50, (0.9, 0.95, 1.0), 0.16)
    _glow(canvas, 0.60, 0.22, 0.16, (1.0, 0.80, 0.50), 0.40)
    return _vignette(canvas, 0.25)


ROOMS: Final[dict[str, Callable[[int, int], Canvas]]] = {
    "loft": _loft,
    "dusk": _dusk,
    "forest": _forest,
}
