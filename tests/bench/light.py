"""Figures of the light on people: `python -m tests.bench.light FOLDER` of portraits, of any skin.

Each portrait is darkened as a dim room would, with a sensor's noise, and drawn before backdrops
without light, mildly and strongly lit. Told are, for each, how far the hue of skin turned, how much
more of it is clipped, and how many pairs of people changed places from dark to light. It fails
where a hue turns by more than six degrees, skin is clipped, or mild light changes places.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from pathlib import Path

import numpy as np

from segmentation.planes import i420
from segmentation.segmenter import Machine, Segmenter
from vcam.compose.compositor import Compositor, alpha_at
from vcam.compose.light.seen import SKIN
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame
from vcam.media import pictures

W, H = 640, 480
DIM = 0.15  # of the light there was
BACKDROPS = {"bright": 215, "middle": 120, "dark": 35, "room": None}
LOOKS = {
    "mild": Look(light=40),
    "100": Look(light=100),
    "left": Look(light=100, lit_from="left"),  # noted, though it is brighter to the right
}
TIE = 1.0  # levels of luma between two people that are alike


def dimmed(image: np.ndarray, seed: int) -> np.ndarray:
    """The picture in less light, as a sensor takes it."""
    light = (image / 255.0) ** 2.2 * DIM
    noise = np.random.default_rng(seed).normal(0, 1, light.shape)
    light += noise * np.sqrt(light * 6e-4 + 2e-5)
    return np.asarray(np.clip(light, 0, 1) ** (1 / 2.2) * 255 + 0.5, np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.light", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=12, help="pictures")
    options = parser.parse_args()
    files = sorted(f for f in options.folder.iterdir() if f.suffix in (".jpg", ".png", ".webp"))
    files = files[:: max(1, len(files) // options.most)][: options.most]
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    segmenter = Segmenter("auto", Machine(threads=1), quality="balanced", still=True)
    with contextlib.closing(segmenter):
        for n, file in enumerate(files):
            image = pictures.cover(pictures.read_image(file, bound=1600), W, H)
            planes = i420(pictures.i420_from_image(np.ascontiguousarray(dimmed(image, n))))
            segmenter.reset()
            frame = Frame(planes, 0.0, 0)
            matte = segmenter.matte(planes, seq=0, pts=0.0)
            skin = _skin(i420(pictures.i420_from_image(np.ascontiguousarray(image))))
            skin &= alpha_at(matte, planes.y)[::2, ::2] > 0.99
            if skin.sum() < 500:
                print(f"{file.name}: no skin is seen, left out")
                continue
            for (backdrop, grey), (name, look) in itertools.product(
                BACKDROPS.items(), LOOKS.items()
            ):
                behind = Blur(50.0) if grey is None else _drawn(grey)
                off, on = (
                    _told(i420(Compositor(W, H).compose(frame, matte, behind, x).data), skin)
                    for x in (Look(), look)
                )
                turned = abs((on[1] - off[1] + 180) % 360 - 180)
                found.setdefault((backdrop, name), []).append(
                    (turned, on[2] - off[2], off[0], on[0])
                )
    print(
        f"{'backdrop':<10}{'light':<7}{'people':>7}{'hue, worst':>12}{'clipped':>9}{'swapped':>9}"
    )
    bad = False
    for (backdrop, name), rows in found.items():
        hue, clipped, before, after = (np.array(each) for each in zip(*rows, strict=True))
        swapped = sum(
            (before[i] - before[j]) * (after[i] - after[j]) < 0
            and min(abs(before[i] - before[j]), abs(after[i] - after[j])) > TIE
            for i, j in itertools.combinations(range(len(rows)), 2)
        )
        print(
            f"{backdrop:<10}{name:<7}{len(rows):>7}{hue.max():>11.1f}°"
            f"{clipped.max():>8.2%}{swapped:>9}"
        )
        bad |= bool(hue.max() > 6 or clipped.max() > 0.005 or (swapped and name == "mild"))
    return int(bad)


def _drawn(grey: int) -> np.ndarray:
    """A warm backdrop, brighter to the right."""
    colour = np.array((grey * 1.1, grey, grey * 0.85))
    image = np.linspace(0.7, 1.3, W)[None, :, None] * colour * np.ones((H, 1, 1))
    return np.asarray(pictures.i420_from_image(np.clip(image, 0, 255).astype(np.uint8)))


def _skin(planes) -> np.ndarray:
    """Where skin is, by its chroma, at the size of chroma."""
    (u0, u1), (v0, v1) = SKIN
    u, v = planes.u, planes.v
    return (u >= u0) & (u <= u1) & (v >= v0) & (v <= v1)


def _told(planes, skin: np.ndarray) -> tuple[float, float, float]:
    """Median luma, mean hue in degrees and clipped share of skin."""
    y = planes.y[::2, ::2][skin]
    u, v = (float(plane[skin].mean()) - 128 for plane in (planes.u, planes.v))
    return float(np.median(y)), math.degrees(math.atan2(v, u)), float((y >= 235).mean())


if __name__ == "__main__":
    sys.exit(main())
