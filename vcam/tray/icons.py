"""Draws the tray icon of each state.

A coloured badge with a white sign: the badge keeps its contrast on light and on dark panels, and
the sign tells the state to those who cannot tell the colours apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from PIL import Image, ImageDraw

SIZE = 64
IN_MENU = (32, 20)  # pixels of a picture beside an entry
_SCALE = 8  # drawn this much larger, then reduced: Pillow does not smooth edges itself

COLOURS = {
    "live": ("#12a150", "#0b7a3b"),
    "room": ("#d63384", "#a61e63"),
    "idle": ("#4c78d0", "#34569c"),
    "starting": ("#4c78d0", "#34569c"),
    "frozen": ("#0e9bb5", "#0a7286"),
    "paused": ("#d98200", "#a86300"),
    "fault": ("#dc3545", "#a71d2a"),
    "off": ("#7b8794", "#56606b"),
}


@functools.cache
def icon(state: str, size: int = SIZE) -> Image.Image:
    """The icon of a state (a key of `COLOURS`) as an RGBA picture, transparent around the badge."""
    full = size * _SCALE
    top, bottom = COLOURS.get(state, COLOURS["off"])
    image = Image.new("RGBA", (full, full))
    image.paste(_gradient(full, top, bottom), mask=_badge(full))
    _SIGNS.get(state, _dots)(ImageDraw.Draw(image), full / 64)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _badge(full: int) -> Image.Image:
    mask = Image.new("L", (full, full))
    inset = full * 2 // 64
    ImageDraw.Draw(mask).rounded_rectangle(
        (inset, inset, full - 1 - inset, full - 1 - inset), radius=full * 15 // 64, fill=255
    )
    return mask


def _gradient(full: int, top: str, bottom: str) -> Image.Image:
    pair = Image.new("RGB", (1, 2))
    pair.putpixel((0, 0), _rgb(top))
    pair.putpixel((0, 1), _rgb(bottom))
    return pair.resize((full, full), Image.Resampling.BILINEAR)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


Sign = Callable[[ImageDraw.ImageDraw, float], None]
WHITE = "white"


def _box(u: float, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius) * u, (y - radius) * u, (x + radius) * u, (y + radius) * u


def _person(draw: ImageDraw.ImageDraw, u: float) -> None:
    """Head and shoulders, as the camera sees them."""
    draw.ellipse(_box(u, 32, 23, 10.5), fill=WHITE)
    draw.pieslice((12 * u, 37 * u, 52 * u, 73 * u), 180, 360, fill=WHITE)


def _sleeper(draw: ImageDraw.ImageDraw, u: float) -> None:
    """The person in outline: there, but nobody looks."""
    pen = round(4.5 * u)
    draw.ellipse(_box(u, 32, 23, 10.5), outline=WHITE, width=pen)
    draw.arc((13 * u, 38 * u, 51 * u, 72 * u), 180, 360, fill=WHITE, width=pen)
    draw.line((13 * u, 52.7 * u, 51 * u, 52.7 * u), fill=WHITE, width=pen)


def _bars(draw: ImageDraw.ImageDraw, u: float) -> None:
    for left in (19, 36):
        draw.rounded_rectangle((left * u, 16 * u, (left + 9) * u, 48 * u), 2.5 * u, fill=WHITE)


def _flake(draw: ImageDraw.ImageDraw, u: float) -> None:
    pen = round(4.5 * u)
    for turn in range(6):
        angle = math.pi / 3 * turn + math.pi / 6
        x, y = math.cos(angle), math.sin(angle)
        draw.line((32 * u, 32 * u, (32 + 19 * x) * u, (32 + 19 * y) * u), fill=WHITE, width=pen)
        for side in (-0.9, 0.9):
            a, b = math.cos(angle + side), math.sin(angle + side)
            start = ((32 + 10 * x) * u, (32 + 10 * y) * u)
            end = ((32 + 10 * x + 7 * a) * u, (32 + 10 * y + 7 * b) * u)
            draw.line((*start, *end), fill=WHITE, width=round(3.6 * u))


def _bang(draw: ImageDraw.ImageDraw, u: float) -> None:
    draw.polygon(
        [(27 * u, 13 * u), (37 * u, 13 * u), (35 * u, 38 * u), (29 * u, 38 * u)], fill=WHITE
    )
    draw.ellipse(_box(u, 32, 47, 4.8), fill=WHITE)


def _dots(draw: ImageDraw.ImageDraw, u: float) -> None:
    for x in (17, 32, 47):
        draw.ellipse(_box(u, x, 32, 5), fill=WHITE)


def _power(draw: ImageDraw.ImageDraw, u: float) -> None:
    pen = round(5 * u)
    draw.arc((15 * u, 17 * u, 49 * u, 51 * u), -55, 235, fill=WHITE, width=pen)
    draw.line((32 * u, 12 * u, 32 * u, 31 * u), fill=WHITE, width=pen)


def _eye(draw: ImageDraw.ImageDraw, u: float) -> None:
    """An open eye: the room itself can be seen."""
    lids = [
        ((32 + 22 * math.cos(t)) * u, (32 + 15 * math.sin(t) ** 3) * u)
        for t in (math.pi * 2 * step / 96 for step in range(96))
    ]
    draw.polygon(lids, fill=WHITE)
    draw.ellipse(_box(u, 32, 32, 8.5), fill=COLOURS["room"][0])
    draw.ellipse(_box(u, 32, 32, 3.6), fill=WHITE)


_SIGNS: dict[str, Sign] = {
    "live": _person,
    "room": _eye,
    "idle": _sleeper,
    "starting": _dots,
    "frozen": _flake,
    "paused": _bars,
    "fault": _bang,
    "off": _power,
}
