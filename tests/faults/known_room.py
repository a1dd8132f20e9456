"""A learned room that is right, stale, foreign or poisoned, before somebody who comes and sits.

    python -m tests.faults.known_room --frames 10000 [--people DIR] [--rooms DIR]

Every scene goes through two segmenters with the shipped weights: one that learns the room, and one
that does not. What the first cuts out of the true person and the second keeps is a hole that the
learned room made; what the first shows of the true room and the second hides, a window. What the
first says is composited and judged by the guard as well: most of the room shown is a raw frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segmentation.engines.layout import weights_dir
from segmentation.motion.temporal import Smoother
from segmentation.planes import Planes
from segmentation.segmenter import Segmenter
from tests.faults.dim import (
    BARE,
    DRESSES,
    SHOWN,
    Assets,
    Case,
    H,
    Levels,
    W,
    _dressed,
    _exposed,
    _mixed,
    _moved,
    far_from,
    room_in,
)
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Look
from vcam.frame import Frame
from vcam.guard import Guard

KINDS = ("sit", "still", "lamp", "nudge", "cut", "chair", "noise", "poison")
POISONS = ("foreign", "shifted", "inverted", "ghost", "dark")
MODEL = str(weights_dir() / "bisenet-small-int8.xml")
FPS = 15
ALONE = 30  # frames of the room alone
HOLE, WINDOW = 0.005, 0.002  # shares of the picture
EDGE = 7  # pixels around the true outline that are a matte's edge
RAW = 0.5  # part of what is room beyond doubt; more of it in a picture is a raw frame


@dataclass
class Tally:
    """Worst of what the learned room did, over frames; shares of the picture."""

    scenes: int = 0
    frames: int = 0
    known: float = 0.0  # sum over frames of the share that was known
    holes: list[tuple[float, str]] = field(default_factory=list)
    windows: list[tuple[float, str]] = field(default_factory=list)
    shown: int = 0  # frames that the guard let through
    raw: list[str] = field(default_factory=list)

    def table(self) -> str:
        """What happened, in words."""
        lines = [
            f"{self.scenes} scenes, {self.frames} frames, "
            f"{self.known / max(self.frames, 1):.0%} of the room known on average"
        ]
        for name, most in (("holes", HOLE), ("windows", WINDOW)):
            found = sorted(getattr(self, name), reverse=True)
            over = [one for one in found if one[0] > most]
            worst = f", worst {found[0][0]:.2%} ({found[0][1]})" if found else ""
            scenes = len({told.partition(", frame ")[0] for _, told in over})
            lines.append(f"{name} of over {most:.1%}: {len(over)} in {scenes} scenes{worst}")
        lines.append(f"raw frames: {len(self.raw)} of {self.shown} shown {' '.join(self.raw[:3])}")
        return "\n".join(lines)

    @property
    def clean(self) -> bool:
        """True if there was neither a hole nor a window, nor a raw frame."""
        holes = all(share <= HOLE for share, _ in self.holes)
        return not self.raw and holes and all(share <= WINDOW for share, _ in self.windows)


@dataclass(frozen=True)
class Scene:
    """One scene, in full: the same number gives the same pictures."""

    number: int
    kind: str
    dress: str
    brightness: float
    noise: float
    frames: int
    poison: str = ""

    def __str__(self) -> str:
        what = f"{self.kind} {self.poison}".strip()
        return f"{what}, {self.dress}, luma {self.brightness:.0f}, number {self.number}"


def scene_of(number: int, *, frames: int = 120) -> Scene:
    """The scene with this number."""
    rng = np.random.default_rng((7, number))
    kind = KINDS[number % len(KINDS)]
    return Scene(
        number,
        kind,
        str(rng.choice(DRESSES)),
        float(rng.uniform(30, 150)),
        float(rng.uniform(5, 12) if kind == "noise" else rng.uniform(0.5, 4)),
        frames,
        str(rng.choice(POISONS)) if kind == "poison" else "",
    )


def film(scene: Scene, assets: Assets) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """The frames of a scene with their true alpha: the room alone, then somebody comes in."""
    rng = np.random.default_rng(scene.number)
    case = Case(
        scene.number,
        "walk",
        scene.dress,
        FPS,
        None,
        scene.brightness,
        scene.noise,
        0,
        1,
        0.0,  # type: ignore[arg-type]
    )
    room, other = assets.room(rng), assets.room(rng)
    person, alpha = assets.person(rng)
    person = _dressed(case, person, alpha, room)
    gain = scene.brightness / max(float(_mixed(person, alpha, room)[0].mean()), 1.0)
    nobody, side = np.zeros((H, W), np.float32), -1 if rng.random() < 0.5 else 1
    happens = ALONE + (scene.frames - ALONE) // 2
    for seq in range(scene.frames):
        here = seq - ALONE
        behind = _later(scene, room, other, rng) if seq >= happens else room
        if here < 0:
            planes, truth = behind, nobody
        else:
            still = 0.0 if scene.kind == "still" else 5 * np.sin(here / 6)
            across = side * W * 0.8 * max(0.0, 1 - here / 15) + still
            moved, truth = _moved(person, alpha, across)
            planes = _mixed(moved, truth, behind)
        y, u, v = (
            np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in _exposed(case, planes, gain, rng)
        )
        yield Frame(Planes(y, u, v, full_range=True), 100 + seq / FPS, seq), truth


def _later(scene: Scene, room: Levels, other: Levels, rng: np.random.Generator) -> Levels:
    """The room after what happens half way."""
    if scene.kind == "lamp":
        light = np.linspace(-15, 60, W, dtype=np.float32)[None]
        return [room[0] + light, room[1] - 4, room[2] + 6]
    if scene.kind == "nudge":
        return [np.roll(p, (-6 * p.shape[0] // H, 10 * p.shape[1] // W), (0, 1)) for p in room]
    if scene.kind == "cut":
        return other
    if scene.kind == "chair":
        moved = [p.copy() for p in room]
        for p, q in zip(moved, other, strict=True):
            h, w = p.shape
            p[h // 2 :, w // 10 : w // 3] = q[h // 2 :, w // 10 : w // 3]
        return moved
    return room


def poison(segmenter: Segmenter, how: str, frame: Frame) -> None:
    """Put something else where the learned room was, as damage or another's would."""
    memory = segmenter._room
    room = memory._room
    if how == "foreign":
        room[:] = np.random.default_rng(1).uniform(20, 230, (3, 1, 1))
        room[0] += cv2.GaussianBlur(
            np.random.default_rng(2).normal(0, 200, room.shape[1:]).astype(np.float32), (0, 0), 4
        )
    elif how == "shifted":
        room[:] = np.roll(room, (9, -14), (1, 2))
    elif how == "inverted":
        room[0] = 255 - room[0]
    elif how == "dark":
        room[0] *= 0.2
    elif how == "ghost":  # the very frame, with the person in it
        for plane, now in zip(room, frame.planes.each, strict=True):
            plane[:] = cv2.resize(now, plane.shape[::-1], interpolation=cv2.INTER_AREA)
    memory._weight[:] = 24
    memory._describe()


class Pair:
    """The program's segmenter, and the same without a learned room."""

    def __init__(self) -> None:
        # Left to choose, each takes the precision that it finds the fastest, and they may differ.
        self.learning, self.without = Segmenter(MODEL), Segmenter(MODEL)
        self.without.learns = False
        self._compositor = Compositor(W, H)

    def close(self) -> None:
        """Give both engines back."""
        self.learning.close()
        self.without.close()

    def play(self, scene: Scene, assets: Assets, tally: Tally) -> None:
        """Run one scene."""
        tally.scenes += 1
        guard = Guard()
        for segmenter in (self.learning, self.without):
            segmenter.reset()
            segmenter._smoother = Smoother(0.6)  # which remembers the noise of the scene before
        for frame, truth in film(scene, assets):
            if scene.poison and frame.seq == ALONE + 25:
                poison(self.learning, scene.poison, frame)
            mattes = [
                segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
                for segmenter in (self.learning, self.without)
            ]
            ours, theirs = (matte.alpha > 0.5 for matte in mattes)
            tally.frames += 1
            if guard.judge(frame, mattes[0], "live").live:
                tally.shown += 1
                bare = far_from(truth)
                shown = self._compositor.compose(frame, mattes[0], BARE, Look())
                seen = np.count_nonzero(room_in(shown.data, frame, bare) > SHOWN)
                if seen > RAW * np.count_nonzero(bare):
                    tally.raw.append(f"({scene}, frame {frame.seq})")
            tally.known += self.learning._room.known
            small = cv2.resize(truth, ours.shape[::-1], interpolation=cv2.INTER_AREA)
            square = np.ones((EDGE, EDGE), np.uint8)
            person, room = cv2.erode(small, square) > 0.95, cv2.dilate(small, square) < 0.02
            told = f"{scene}, frame {frame.seq}"
            for found, share in (
                (tally.holes, (person & theirs & ~ours).mean()),
                (tally.windows, (room & ours & ~theirs).mean()),
            ):
                if share > 0.001:
                    found.append((float(share), told))


def run(frames: int, *, assets: Assets, long_still: bool = True) -> Tally:
    """Play scenes until so many frames were seen; the last sits still for five minutes."""
    pair, tally, number = Pair(), Tally(), 0
    still = Scene(1, "still", "own", 90.0, 1.5, ALONE + FPS * 300)
    try:
        while tally.frames < frames - (still.frames if long_still else 0):
            pair.play(scene_of(number), assets, tally)
            number += 1
            if number % 8 == 0:
                print(tally.table().replace("\n", "; "), file=sys.stderr, flush=True)
        if long_still:
            pair.play(still, assets, tally)
    finally:
        pair.close()
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--people", type=Path, metavar="DIR", help="img/ and mask/")
    parser.add_argument("--rooms", type=Path, metavar="DIR", help="pictures of rooms, .webp")
    options = parser.parse_args()
    tally = run(options.frames, assets=Assets(options.people, options.rooms))
    print(tally.table())
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
