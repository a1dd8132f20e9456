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
    """Draw the preset `name`; the same picture each time.

    Shapes:
        returns: (height, width, 3) uint8 RGB

    Raises:
        KeyError: no preset has that name.
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


def _lights(w: int, h: int) -> Canvas:
    canvas = _ramp(
        w, h, [(0, (0.05, 0.04, 0.06)), (0.6, (0.13, 0.08, 0.07)), (1, (0.05, 0.03, 0.03))]
    )
    _glow(canvas, 0.25, 0.55, 0.6, (0.9, 0.45, 0.2), 0.16)
    _glow(canvas, 0.85, 0.35, 0.5, (0.3, 0.45, 0.8), 0.12)
    rng = np.random.default_rng(8)
    warm: list[Colour] = [(1.0, 0.66, 0.30), (1.0, 0.46, 0.22), (1.0, 0.82, 0.55), (0.5, 0.66, 1.0)]
    _discs(canvas, rng, 46, warm, (0.05, 0.11), (0.0, 0.9), (0.05, 0.18))
    _discs(canvas, rng, 60, warm, (0.015, 0.05), (0.1, 0.95), (0.08, 0.40))
    return _vignette(canvas, 0.45)


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


def _coast(w: int, h: int) -> Canvas:
    canvas = _ramp(
        w,
        h,
        [
            (0, (0.42, 0.66, 0.90)),
            (0.52, (0.84, 0.92, 0.97)),
            (0.535, (0.30, 0.56, 0.68)),
            (0.80, (0.36, 0.68, 0.74)),
            (0.83, (0.86, 0.80, 0.66)),
            (1, (0.93, 0.86, 0.72)),
        ],
    )
    rng = np.random.default_rng(4)
    clouds = np.zeros((h, w), np.float32)
    for _ in range(50):
        cx, cy = rng.uniform(0, 1) * w, rng.choice([0.14, 0.24, 0.40]) * h
        centre = (int(cx), int(cy + rng.normal(0, 0.015) * h))
        axes = (int(rng.uniform(0.05, 0.16) * h), int(rng.uniform(0.010, 0.030) * h))
        cv2.ellipse(clouds, centre, axes, 0, 0, 360, float(rng.uniform(0.2, 0.6)), -1)
    canvas += _soften(np.repeat(clouds[..., None], 3, axis=2), 0.03) * (1 - canvas) * 0.9
    foam = np.zeros((h, w), np.float32)
    for _ in range(130):
        cx, cy = rng.uniform(0, 1) * w, rng.uniform(0.56, 0.82) * h
        axes = (int(rng.uniform(0.01, 0.09) * h), max(int(0.0025 * h), 1))
        cv2.ellipse(foam, (int(cx), int(cy)), axes, 0, 0, 360, float(rng.uniform(0.1, 0.5)), -1)
    canvas += _soften(np.repeat(foam[..., None], 3, axis=2), 0.006) * (1 - canvas) * 0.6
    _glow(canvas, 0.2, 0.08, 0.4, (1.0, 0.97, 0.85), 0.22)
    return _soften(canvas, 0.008)


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


# Name -> painter, in the order people see them.
SCENES: Final[dict[str, Callable[[int, int], Canvas]]] = {
    "studio": _studio,
    "loft": _loft,
    "paper": _paper,
    "dusk": _dusk,
    "lights": _lights,
    "forest": _forest,
    "coast": _coast,
    "slate": _slate,
}
