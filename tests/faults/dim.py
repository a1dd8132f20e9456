"""Dim rooms in which somebody is cut away, walks out or is gone after a stall.

    python -m tests.faults.dim --cases 2000 [--people DIR] [--rooms DIR]

Every case goes through the real segmenter, guard and compositor with the shipped weights, at the
governor's steps with every second look. Of each picture shown, the room is counted three times:
as the program shows it, as it would be had the network looked at that very frame, and as the
network's word alone would show it. What the first has more than the second comes from carrying a
matte along the flow; what the second has more than the third, from smoothing; what the third has,
the network itself took for a person. Where the room was as plain to see in one of the frames just
before, and the network had a doubt of it there, carrying only repeats that: `by_repeating`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segmentation.governor import LADDER, Level
from segmentation.planes import Planes
from segmentation.segmenter import Segmenter
from tests.scenes import draw
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Look
from vcam.frame import Frame
from vcam.guard import Guard
from vcam.media.pictures import i420_from_image, read_image
from vcam.sources.still import PORTRAIT

W, H = 640, 360
KINDS = ("cut", "walk", "stall", "sink", "arm", "swap", "light")
DRESSES = ("own", "wall", "dark", "chroma")
RATES = (8, 15, 30)
LEVELS = tuple(level for level in LADDER if level.every > 1)
ROOMS = ("loft", "studio", "slate", "paper", "dusk", "forest")
SHOWN = 0.25  # a pixel counts as room where this much of its colour is the room's
DOUBT = 0.1  # the network took it for a person, in part, where this much is
BEFORE = 3  # frames
EDGE = 7  # pixels around the true person that are a matte's edge and no window
MOST = 0.002  # share of the picture
CAUSES = ("by_carrying", "by_repeating", "by_smoothing", "by_network")
GREEN = (145, 54, 34)  # the background: a colour that no room has, so that the room tells
BARE = np.concatenate(
    [
        np.full(W * H * part // 4, level, np.uint8)
        for level, part in zip(GREEN, (4, 1, 1), strict=True)
    ]
).reshape(H * 3 // 2, W)
Levels = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """One scene, in full: the same number gives the same pictures."""

    number: int
    kind: str
    dress: str
    fps: int
    level: Level
    brightness: float  # mean of luma, 0..255, while the person is there
    noise: float  # deviation of luma, in levels
    steady: int  # frames before anything happens
    steps: int  # frames that walking out takes
    gap: float  # seconds that a stall takes

    def __str__(self) -> str:
        return (
            f"{self.kind}, {self.dress}, {self.fps} fps, {self.level.quality}, "
            f"luma {self.brightness:.0f}, noise {self.noise:.1f}, number {self.number}"
        )


@dataclass
class Tally:
    """What a run saw; shares of room are of the whole picture."""

    cases: int = 0
    frames: int = 0
    carried: int = 0
    shown: int = 0  # composites that passed the guard
    by_carrying: list[tuple[float, str]] = field(default_factory=list)  # over MOST
    by_repeating: list[tuple[float, str]] = field(default_factory=list)
    by_smoothing: list[tuple[float, str]] = field(default_factory=list)
    by_network: list[tuple[float, str]] = field(default_factory=list)

    def table(self) -> str:
        """What happened, a line for each cause."""
        lines = [
            f"{self.cases} cases, {self.frames} frames, {self.carried} of them carried, "
            f"{self.shown} shown"
        ]
        for name in CAUSES:
            found = sorted(getattr(self, name), reverse=True)
            worst = f", worst {found[0][0]:.1%} ({found[0][1]})" if found else ""
            lines.append(f"frames with over {MOST:.1%} of room {name}: {len(found)}{worst}")
        return "\n".join(lines)


class Once:
    """An engine that answers what it was asked before without looking again."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._asked: NDArray[np.float32] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the matte of `x`."""
        if self._asked is None or not np.array_equal(self._asked, x):
            self._asked, self._answer = x.copy(), self._engine.infer(x).copy()
        return self._answer

    def close(self) -> None:
        """Nothing: whoever opened the engine closes it."""


class Bench:
    """The program's own parts, three times over, that see the same frames."""

    def __init__(self) -> None:
        self._opened = Segmenter()
        self._engine = Once(self._opened._engine)
        # As shipped; the network asked every time; the same without smoothing.
        self._segmenters = [Segmenter(smoothing=smoothing) for smoothing in (0.6, 0.6, 0.0)]
        for segmenter in self._segmenters:
            segmenter._engine.close()
            segmenter._engine = self._engine
        self._compositors = [Compositor(W, H) for _ in self._segmenters]

    def close(self) -> None:
        """Close the engine."""
        self._opened.close()

    def play(self, case: Case, tally: Tally, assets: Assets) -> None:
        """Run one case."""
        for i, segmenter in enumerate(self._segmenters):
            level = case.level if i == 0 else Level(case.level.quality, 1, 1.0)
            if segmenter.level.quality != level.quality:
                segmenter._frame = None  # the next frame has the sizes chosen anew
            segmenter.level = level
            segmenter.reset()
        guard = Guard()
        tally.cases += 1
        doubts: deque[NDArray[np.bool_]] = deque(maxlen=BEFORE)
        for frame, truth in film(case, assets):
            tally.frames += 1
            weights, bare = [], far_from(truth)
            for segmenter, compositor in zip(self._segmenters, self._compositors, strict=True):
                matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
                if segmenter is self._segmenters[0]:
                    looked, live = matte.looked, guard.judge(frame, matte, "live").live
                shown = compositor.compose(frame, matte, BARE, Look())
                weights.append(room_in(shown.data, frame, bare))
            tally.carried += not looked
            tally.shown += live
            ours, looking, alone = (weight > SHOWN for weight in weights)
            known = np.any(doubts, axis=0) if doubts else np.zeros_like(ours)
            if live:
                _count(tally.by_carrying, ours & ~looking & ~known, case, frame)
                _count(tally.by_repeating, ours & ~looking & known, case, frame)
                _count(tally.by_smoothing, looking & ~alone, case, frame)
                _count(tally.by_network, alone, case, frame)
            doubts.append(np.maximum(weights[1], weights[2]) > DOUBT)


def _count(
    found: list[tuple[float, str]], room: NDArray[np.bool_], case: Case, frame: Frame
) -> None:
    share = float(np.count_nonzero(room)) / room.size
    if share > MOST:
        found.append((share, f"{case}, frame {frame.seq}"))


def far_from(truth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where there is nothing but room, at chroma's size."""
    small = cv2.resize(truth, (W // 2, H // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.dilate(small, np.ones((EDGE + 1,) * 2, np.uint8)) < 0.02)


def room_in(shown: NDArray[np.uint8], frame: Frame, bare: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much of each pixel's colour is the room's, in a composite before `BARE`; 0 at a person.

    Shapes:
        shown: (H * 3 // 2, W) uint8 I420
        bare: (H / 2, W / 2), where there is nothing but room
        returns: (H / 2, W / 2)
    """
    u, v = shown.reshape(-1)[W * H :].reshape(2, H // 2, W // 2).astype(np.float32)
    scale = np.float32(224 / 255)
    way_u = (frame.planes.u.astype(np.float32) - 128) * scale + (128 - GREEN[1])
    way_v = (frame.planes.v.astype(np.float32) - 128) * scale + (128 - GREEN[2])
    come = (u - GREEN[1]) * way_u + (v - GREEN[2]) * way_v
    return np.where(bare, come / np.maximum(way_u * way_u + way_v * way_v, 1), 0)


class Assets:
    """People cut out of pictures, and rooms; from folders where they are given."""

    def __init__(self, people: Path | None = None, rooms: Path | None = None) -> None:
        self._people = sorted((people / "img").iterdir()) if people else [PORTRAIT]
        self._masks = people / "mask" if people else None
        self._rooms: list[Path | str] = sorted(rooms.glob("*.webp")) if rooms else list(ROOMS)

    def person(self, rng: np.random.Generator) -> tuple[Levels, NDArray[np.float32]]:
        """Somebody, at a size and a place, as Y, U, V and alpha."""
        image, alpha = self._cut_out(self._people[rng.integers(len(self._people))])
        if rng.random() < 0.5:
            image, alpha = image[:, ::-1], alpha[:, ::-1]
        h, w = alpha.shape
        scale = H * rng.uniform(0.75, 1.1) / h
        move = np.array(
            [
                [scale, 0, W * rng.uniform(0.35, 0.65) - scale * w / 2],
                [0, scale, H - scale * h + H * rng.uniform(0, 0.1)],
            ],
            np.float32,
        )
        how = {"flags": cv2.INTER_AREA, "borderMode": cv2.BORDER_REPLICATE}
        placed = cv2.warpAffine(np.ascontiguousarray(image), move, (W, H), **how)
        alpha = cv2.warpAffine(np.ascontiguousarray(alpha), move, (W, H), flags=cv2.INTER_AREA)
        return _planes(placed), np.asarray(alpha, np.float32)

    def room(self, rng: np.random.Generator) -> Levels:
        """A room with a texture that can be recognised."""
        chosen = self._rooms[rng.integers(len(self._rooms))]
        planes = [plane.copy() for plane in _room(chosen)]
        cells = np.kron(rng.integers(0, 2, (H // 8, W // 8)), np.ones((8, 8))).astype(np.float32)
        planes[0] += (cells - 0.5) * rng.choice([0, 6, 20])
        return planes

    @cache  # noqa: B019
    def _cut_out(self, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        image = read_image(path, bound=720)
        if self._masks is not None:
            mask = read_image(next(self._masks.glob(f"{path.stem}.*")))[..., 0]
            alpha = cv2.resize(mask, image.shape[1::-1]).astype(np.float32) / 255
            return image, alpha
        h, w = (side // 2 * 2 for side in image.shape[:2])
        image = np.ascontiguousarray(image[:h, :w])
        y, u, v = (plane.astype(np.uint8) for plane in _planes(image, limited=True))
        segmenter = Segmenter(quality="high", still=True)
        matte = segmenter.matte(Planes(y, u, v), seq=0, pts=0.0)
        alpha = cv2.resize(matte.alpha, (w, h))
        segmenter.close()
        return image, alpha


@cache
def _room(chosen: Path | str) -> Levels:
    image = draw(chosen, W, H) if isinstance(chosen, str) else _filled(read_image(chosen))
    return _planes(image)


def _filled(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of an image, at the size of a frame."""
    h, w = image.shape[:2]
    scale = max(W / w, H / h)
    image = cv2.resize(image, (max(W, round(w * scale)), max(H, round(h * scale))))
    top, left = (image.shape[0] - H) // 2, (image.shape[1] - W) // 2
    return np.ascontiguousarray(image[top : top + H, left : left + W])


def _planes(image: NDArray[np.uint8], *, limited: bool = False) -> Levels:
    """Y, U and V of an image, float32; full range and chroma at half size."""
    h, w = image.shape[:2]
    flat = i420_from_image(image).reshape(-1).astype(np.float32)
    y, u, v = flat[: h * w].reshape(h, w), *flat[h * w :].reshape(2, h // 2, w // 2)
    if limited:
        return [y, u, v]
    return [(y - 16) * (255 / 219), *((c - 128) * (255 / 224) + 128 for c in (u, v))]


def _halved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(plane, (W // 2, H // 2), interpolation=cv2.INTER_AREA), np.float32)


def _dressed(case: Case, person: Levels, alpha: NDArray[np.float32], room: Levels) -> Levels:
    """The person in other clothes: everything below the head."""
    if case.dress == "own":
        return person
    rows = np.flatnonzero(alpha.max(axis=1) > 0.5)
    top = rows[0] if rows.size else 0
    chin = top + 0.4 * (H - top)
    body = np.clip((np.arange(H, dtype=np.float32)[:, None] - chin) / 10 + 0.5, 0, 1) * np.ones(
        (1, W), np.float32
    )
    low = [cv2.GaussianBlur(p, (0, 0), 12) for p in room]
    cloth = [p - cv2.GaussianBlur(p, (0, 0), 12) for p in person]
    if case.dress == "dark":
        wanted = [person[0] * 0.15, *(128 + (p - 128) * 0.3 for p in person[1:])]
    elif case.dress == "wall":
        wanted = [low[0] + 0.3 * cloth[0] + 4, low[1], low[2]]
    else:
        wanted = [low[0] + 0.1 * cloth[0], low[1] * 0 + 100, low[2] * 0 + 175]
    weights = [body, _halved(body), _halved(body)]
    return [p + (q - p) * k for p, q, k in zip(person, wanted, weights, strict=True)]


def _mixed(person: Levels, alpha: NDArray[np.float32], room: Levels) -> Levels:
    small = _halved(alpha)
    return [r + (p - r) * k for p, r, k in zip(person, room, (alpha, small, small), strict=True)]


def _moved(planes: Levels, alpha: NDArray[np.float32], across: float) -> tuple[Levels, Any]:
    def shift(plane: NDArray[np.float32], by: float, border: int) -> NDArray[np.float32]:
        move = np.array([[1, 0, by], [0, 1, 0]], np.float32)
        size = plane.shape[::-1]
        return np.asarray(cv2.warpAffine(plane, move, size, borderMode=border), np.float32)

    keep = cv2.BORDER_REPLICATE
    moved = [shift(p, across * p.shape[1] / W, keep) for p in planes]
    return moved, shift(alpha, across, cv2.BORDER_CONSTANT)


def _arm(alpha: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A long piece across the person's outline, 1 where it is."""
    edge = np.argwhere((alpha > 0.5) & (cv2.erode(alpha, np.ones((9, 9), np.uint8)) < 0.5))
    arm = np.zeros((H, W), np.float32)
    if edge.size:
        y, x = edge[rng.integers(len(edge))]
        axes = int(rng.uniform(25, 70)), int(rng.uniform(12, 30))
        cv2.ellipse(arm, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(arm, (0, 0), 1), np.float32)


def _exposed(case: Case, planes: Levels, gain: float, rng: np.random.Generator) -> Levels:
    """The scene as a webcam in this light sends it, with its noise."""
    y = planes[0] * gain + case.noise * _grain(rng, 1)
    chroma = [
        128 + (p - 128) * min(1.0, gain * 1.2) + 0.6 * case.noise * _grain(rng, 8)
        for p in planes[1:]
    ]
    return [y, *chroma]


@cache
def _grains(size: int) -> list[NDArray[np.float32]]:
    """Fields of noise of deviation 1: fine for luma, blotches of `size` pixels for chroma."""
    rng, found = np.random.default_rng(size), []
    for _ in range(8):
        if size == 1:
            fine = rng.standard_normal((H, W), np.float32)
            field = cv2.GaussianBlur(fine, (0, 0), 0.8)
        else:
            coarse = rng.standard_normal((H // size, W // size), np.float32)
            field = cv2.resize(coarse, (W // 2, H // 2))
        found.append(np.asarray(field / field.std(), np.float32))
    return found


def _grain(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Fresh noise: one of a few fields, moved about."""
    fields = _grains(size)
    field = fields[rng.integers(len(fields))]
    h, w = field.shape
    return np.roll(field, (int(rng.integers(h)), int(rng.integers(w))), axis=(0, 1))


def film(case: Case, assets: Assets) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """The frames of a case with their true alpha."""
    rng = np.random.default_rng(case.number)
    room = assets.room(rng)
    person, alpha = assets.person(rng)
    person = _dressed(case, person, alpha, room)
    nobody = np.zeros((H, W), np.float32)
    with_person = _mixed(person, alpha, room)
    gain = case.brightness / max(float(with_person[0].mean()), 1.0)
    side = -1 if rng.random() < 0.5 else 1
    pts, way = 100.0 + case.number % 7, 0.0
    walk = side * W / case.steps
    other, other_alpha = assets.person(rng)
    light = rng.choice([0.8, 0.9, 1.12, 1.25])
    sway = rng.uniform(-1.5, 1.5)
    arm = _arm(alpha, rng)
    for seq in range(case.steady + case.steps + 5):
        gone = seq - case.steady
        truth, planes, now = alpha, with_person, gain
        if gone < 0:
            way = sway * np.sin(seq)
            planes, truth = _moved(person, alpha, way)
            planes = _mixed(planes, truth, room)
        elif case.kind == "walk":
            way += walk
            planes, truth = _moved(person, alpha, way)
            planes = _mixed(planes, truth, room)
        elif case.kind == "arm":  # what was held out from the body is gone
            truth = alpha * (1 - arm)
            planes = _mixed(person, truth, room)
        elif case.kind == "sink":  # whoever sinks below the picture, up to the head
            truth = alpha.copy()
            truth[:, :] = np.roll(alpha, round(0.55 * H), axis=0)
            truth[: round(0.55 * H)] = 0
            planes = _mixed([np.roll(p, round(0.55 * len(p)), axis=0) for p in person], truth, room)
        elif case.kind == "swap":
            planes, truth = _moved(other, other_alpha, side * W * 0.3)
            planes = _mixed(planes, truth, room)
        else:
            planes, truth = room, nobody
            now = gain * (light if case.kind == "light" else 1.0)
        pts += case.gap if case.kind == "stall" and gone == 0 else 1 / case.fps
        pts += rng.uniform(-0.1, 0.1) / case.fps
        y, u, v = (
            np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in _exposed(case, planes, now, rng)
        )
        yield Frame(Planes(y, u, v, full_range=True), pts, seq), truth


def cases(count: int, seed: int) -> Iterator[Case]:
    """So many cases; every kind, dress, rate and step in turn, the rest at random."""
    for number in range(seed, seed + count):
        rng = np.random.default_rng((number, 1))
        yield Case(
            number=number,
            kind=KINDS[number % len(KINDS)],
            dress=DRESSES[number // len(KINDS) % len(DRESSES)],
            fps=int(rng.choice(RATES)),
            level=LEVELS[int(rng.integers(len(LEVELS)))],
            brightness=float(np.exp(rng.uniform(np.log(12), np.log(120)))),
            noise=float(rng.choice([0.5, 1, 2, 3.5, 5])),
            steady=int(rng.integers(7, 11)),
            steps=int(rng.integers(2, 6)),
            gap=float(rng.uniform(0.2, 3.0)),
        )


def run(count: int, assets: Assets, *, seed: int = 0) -> Tally:
    """Play so many cases."""
    tally, bench = Tally(), Bench()
    try:
        for case in cases(count, seed):
            bench.play(case, tally, assets)
    finally:
        bench.close()
    return tally


def main() -> int:
    """Play the cases, print what was seen; 1 if carrying showed room."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.dim")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=Path, help="a folder with img/ and mask/")
    parser.add_argument("--rooms", type=Path, help="a folder of pictures without people")
    parser.add_argument("--list", type=int, default=0, help="show so many of the frames")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    started = time.monotonic()
    tally = run(options.cases, Assets(options.people, options.rooms), seed=options.seed)
    print(tally.table())
    for name in CAUSES[:-1]:
        for share, where in sorted(getattr(tally, name), reverse=True)[: options.list]:
            print(f"  {name}  {share:.2%}  {where}")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if tally.by_carrying else 0


if __name__ == "__main__":
    sys.exit(main())
