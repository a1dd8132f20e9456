"""`python -m tests.bench.framing`: draws how the picture follows people who move, for the docs.

Each strip is one scene over time: the band is the part of the frame that is shown, across and down,
the lines in it are the middle of each head and its top.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.segmentation.actors import H, Pose, Script, W, drawn
from vcam.compose.framing import HEAD, Crop, Framer
from vcam.compose.scene import Look

FPS = 30
IMAGE = Path(__file__).parents[2] / "docs" / "images" / "framing.png"
# Of a drawn actor, in shares of its height: where the head begins, and how wide it is.
TOP, WIDE = 10 / 224, 76 / 224
ACROSS, DOWN = 900, 104  # pixels of one strip
BLUE, GREY, RED, INK = (196, 120, 40), (236, 232, 228), (60, 60, 210), (60, 50, 40)


@dataclass(frozen=True)
class Step:
    """One frame: the part that was shown, and each head's left, right, top, bottom, in pixels."""

    crop: Crop
    heads: list[tuple[float, float, float, float]]


def _between(t: float, *points: tuple[float, float]) -> float:
    return float(np.interp(t, [p[0] for p in points], [p[1] for p in points]))


def _across(t: float) -> Pose:
    return Pose(_between(t, (0, 0.3), (3, 0.3), (6, 0.75), (9, 0.75), (10.5, 0.2)), 0.62)


def _stands_up(t: float) -> Pose:
    return Pose(0.5, _between(t, (0, 0.6), (3, 0.6), (4, 0.95), (8, 0.95), (9, 0.6)))


def _leaves(t: float) -> Pose | None:
    x = _between(t, (0, 0.5), (3, 0.5), (5, 1.3))
    return Pose(x, 0.62) if x < 1.25 else None


def _left_one(t: float) -> Pose:
    return Pose(0.38, 0.6)


def _right_one(t: float) -> Pose | None:
    return Pose(_between(t, (0, 1.3), (4, 1.3), (6, 0.66), (9, 0.66), (11, 1.3)), 0.55)


def _sits(t: float) -> Pose:
    """Breathes, nods a little, and sways."""
    return Pose(0.45 + 0.008 * np.sin(1.7 * t), 0.62 + 0.006 * np.sin(2.9 * t))


SCENES: dict[str, list[Script]] = {
    "moves across": [_across],
    "stands up, sits down": [_stands_up],
    "leaves": [_leaves],
    "another one comes and goes": [_left_one, _right_one],
    "sits still": [_sits],
}


def play(
    scripts: list[Script], framing: str = "head-and-shoulders", *, seconds: float = 13
) -> list[Step]:
    """Let a framer follow what drawn actors do."""
    somebody = drawn((60, 90, 160), (40, 30, 30)).alpha
    framer, look = Framer(W / H), Look(framing=framing)
    steps = []
    for n in range(round(seconds * FPS)):
        t = n / FPS
        alpha, heads = np.zeros((H, W), np.float32), []
        for script in scripts:
            if pose := script(t):
                alpha = np.maximum(alpha, _placed(somebody, pose))
                heads.append(head_of(pose))
        crop = framer.crop(alpha, (W, H), look, t) or Crop(0, 0, 1, 1)
        steps.append(Step(crop, heads))
    return steps


def _placed(alpha: np.ndarray, pose: Pose) -> np.ndarray:
    """The actor in the frame, standing on its lower edge, between whole pixels if need be."""
    left, top = pose.x * W - alpha.shape[1] * pose.scale / 2, H - alpha.shape[0] * pose.scale
    place = np.array([[pose.scale, 0, left], [0, pose.scale, top]])
    return cv2.warpAffine(alpha, place, (W, H), flags=cv2.INTER_AREA)


def head_of(pose: Pose) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a drawn actor's head."""
    tall = 224 * pose.scale
    x, top, wide = pose.x * W, H - tall + TOP * tall, WIDE * tall
    return x - wide / 2, x + wide / 2, top, top + HEAD * wide


def strip(name: str, steps: list[Step]) -> np.ndarray:
    """Draw a scene: across above, down below, time from left to right."""
    image = np.full((2 * DOWN + 40, ACROSS, 3), 255, np.uint8)
    cv2.putText(image, name, (8, 24), cv2.FONT_HERSHEY_DUPLEX, 0.6, INK, 1, cv2.LINE_AA)
    for row, (size, sides) in enumerate(((W, ("left", "width")), (H, ("top", "height")))):
        begin = 36 + row * (DOWN + 4)
        panel = image[begin : begin + DOWN - 8]
        panel[:] = GREY
        tall = len(panel)
        for x in range(ACROSS):
            step = steps[x * len(steps) // ACROSS]
            low = getattr(step.crop, sides[0])
            high = low + getattr(step.crop, sides[1])
            panel[round(low * tall) : round(high * tall), x] = BLUE
            for head in step.heads:
                a, b = (head[2 * row] / size * tall, head[2 * row + 1] / size * tall)
                for y in (a, b):
                    if 0 <= y < tall - 1:
                        panel[int(y) : int(y) + 2, x] = RED
    return image


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.framing")
    parser.add_argument("-o", "--output", type=Path, default=IMAGE)
    options = parser.parse_args()
    strips = [strip(name, play(scripts)) for name, scripts in SCENES.items()]
    cv2.imwrite(str(options.output), np.vstack(strips))


if __name__ == "__main__":
    main()
