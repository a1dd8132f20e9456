"""Make the two loops among the backgrounds: `python docs/artwork/loops.py` writes them as MP4.

Everything in them moves along closed paths that take a whole number of turns in the loop's length,
so its last picture goes over into its first.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]  # (H, W, 3) linear RGB, 0..1

DRAWN: Final = (640, 360)
SIZE: Final = (1280, 720)
FPS: Final = 15
SECONDS: Final = 16
TARGET: Final = Path(__file__).resolve().parents[2] / "vcam" / "assets" / "backgrounds"


def _grid() -> tuple[Canvas, Canvas]:
    y, x = np.mgrid[0 : DRAWN[1], 0 : DRAWN[0]].astype(np.float32)
    return (x + 0.5) / DRAWN[0], (y + 0.5) / DRAWN[1]


def lights() -> Callable[[float], Canvas]:
    """Lamps of a town far out of focus, which drift and breathe."""
    rng = np.random.default_rng(8)
    x, y = _grid()
    still = np.zeros((DRAWN[1], DRAWN[0], 3), np.float32)
    still += np.asarray((0.010, 0.009, 0.016)) * (1.2 - y)[..., None]
    for cx, cy, radius, colour in (
        (0.24, 0.62, 0.5, (0.20, 0.085, 0.03)),
        (0.85, 0.4, 0.55, (0.02, 0.04, 0.095)),
    ):
        near = np.exp(-(((x - cx) * 16 / 9) ** 2 + (y - cy) ** 2) / radius**2)
        still += near[..., None] * np.asarray(colour, np.float32)
    colours = [(1.0, 0.48, 0.13), (1.0, 0.3, 0.1), (1.0, 0.68, 0.33), (0.3, 0.48, 1.0)]
    lamps = []
    for i in range(64):
        large = i < 24
        lamps.append(
            (
                rng.uniform(0, 1), rng.normal(0.58, 0.2), rng.uniform(0.045, 0.1) if large
                else rng.uniform(0.015, 0.045), colours[rng.choice(4, p=(0.4, 0.2, 0.22, 0.18))],
                rng.uniform(0.02, 0.07) if large else rng.uniform(0.04, 0.22),
                rng.uniform(0, 2 * math.pi), rng.choice((-1, 1)), rng.uniform(0.006, 0.022),
            )
        )  # fmt: skip

    def at(turn: float) -> Canvas:
        canvas = still.copy()
        for cx, cy, size, colour, power, phase, way, wide in lamps:
            angle = phase + way * 2 * math.pi * turn
            px, py = cx + wide * math.cos(angle), cy + 0.5 * wide * math.sin(angle)
            breath = power * (1 + 0.35 * math.sin(2 * math.pi * turn + 3 * phase))
            far = np.sqrt(((x - px) * 16 / 9) ** 2 + (y - py) ** 2) / size
            disc = np.clip((1 - far) * 9, 0, 1) * (0.72 + 0.4 * np.clip(far, 0, 1) ** 3)
            canvas += (breath * disc)[..., None] * np.asarray(colour, np.float32)
        return canvas

    return at


def leaves() -> Callable[[float], Canvas]:
    """Sun on a plain wall, and the shadow of leaves that a light wind moves."""
    rng = np.random.default_rng(3)
    x, y = _grid()
    wall = np.asarray((0.62, 0.53, 0.43)) * (1.02 - 0.22 * y - 0.1 * np.abs(x - 0.45))[..., None]
    slant = x * 1.7 - 0.3 + 0.45 * y
    sun = 1 / (1 + np.exp(-(slant - 0.12) / 0.03)) / (1 + np.exp((slant - 1.5) / 0.03))
    for edge in (0.58, 1.04):
        sun *= 1 - 0.6 * np.exp(-(((slant - edge) / 0.02) ** 4))
    twigs = []
    for _ in range(9):
        root = (rng.uniform(0.55, 1.1), rng.uniform(-0.15, 0.2))
        lean = rng.uniform(1.7, 2.9)
        twigs.append((root, lean, rng.uniform(0.3, 0.6), rng.uniform(0, 6.3), rng.integers(9, 15)))

    def at(turn: float) -> Canvas:
        shade = np.zeros((DRAWN[1], DRAWN[0]), np.float32)
        for (rx, ry), lean, length, phase, count in twigs:
            sway = 0.045 * math.sin(2 * math.pi * turn + phase)
            sway += 0.02 * math.sin(4 * math.pi * turn + 2 * phase)
            for i in range(count):
                share = (i + 1) / count
                bend = lean + sway * share * 2
                px = rx + 9 / 16 * length * share * math.cos(bend)
                py = ry + length * share * math.sin(bend)
                flutter = 0.12 * math.sin(2 * math.pi * (turn * (2 + i % 2)) + phase + i)
                side = 0.75 if i % 2 else -0.75
                tilt = bend + side * (1 - 0.4 * share) + flutter
                size = DRAWN[1] * 16 * (0.5 + 0.5 * math.sin(2.6 * share + 0.3))
                axes = (0.06 * size, 0.016 * size)
                middle = (
                    px * DRAWN[0] * 16 + axes[0] * math.cos(tilt),
                    py * DRAWN[1] * 16 + axes[0] * math.sin(tilt),
                )
                cv2.fillConvexPoly(shade, _oval(middle, axes, tilt), 1.0, cv2.LINE_AA, 4)
        shade = cv2.GaussianBlur(shade, (0, 0), 5.0)
        lit = sun * (1 - 0.72 * shade)
        return (wall * (0.5 + 0.62 * lit[..., None] * (1.0, 0.95, 0.85))).astype(np.float32)

    return at


def _oval(middle: tuple[float, float], axes: tuple[float, float], tilt: float) -> NDArray[np.int32]:
    """An ellipse's outline in sixteenths of a pixel."""
    turn, angle = np.linspace(0, 2 * np.pi, 32, endpoint=False), tilt
    along, across = axes[0] * np.cos(turn), axes[1] * np.sin(turn)
    px = middle[0] + along * math.cos(angle) - across * math.sin(angle)
    py = middle[1] + along * math.sin(angle) + across * math.cos(angle)
    return np.stack([px, py], axis=1).round().astype(np.int32)


LOOPS: Final = {"lights": lights, "leaves": leaves}


def write(name: str, target: Path) -> None:
    """Draw a loop and encode it so that decoding costs little."""
    at, count = LOOPS[name](), FPS * SECONDS
    grain = np.random.default_rng(5).normal(0, 0.7, (SIZE[1], SIZE[0], 1))
    with av.open(str(target), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "21", "preset": "medium", "tune": "fastdecode", "g": str(FPS * 4)}
        for i in range(count):
            light = cv2.resize(at(i / count), SIZE, interpolation=cv2.INTER_CUBIC)
            shown = np.clip(light, 0, 1) ** (1 / 2.2) * 255 + grain + 0.5
            picture = np.clip(shown, 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    for name in sys.argv[1:] or LOOPS:
        write(name, TARGET / f"{name}.mp4")
        print(name, (TARGET / f"{name}.mp4").stat().st_size // 1024, "KiB")
