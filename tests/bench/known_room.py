"""Worth of the learned room on clips of a fixed webcam: told to the network, and with a last word.

    python -m tests.bench.known_room CLIPS [--model PATH] [--quality balanced]

`CLIPS` is a folder of NAME.mp4, each with its NAME_alpha.mkv: `python -m train film` makes some.
Prints Markdown tables: the ablation, over clips that begin with the room alone (nothing of it
known, known but where somebody sits, known whole; the network, the witness, both); and frame by
frame for every clip, the program against itself without a learned room.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from segmentation.motion.room import Room
from segmentation.segmenter import Segmenter
from tests.bench.ablation import clip, stamp
from train.figures import metrics
from train.figures.evaluate import clip_fps
from train.figures.proofs import find_clips
from vcam.compose.compositor import alpha_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.frame import Frame

FRAMES = 100_000
AROUND = 0.03  # part of the width around where somebody sits that is not known either
LEAK, MIOU = 0.002, 0.01  # a frame may be worse by
WAYS = ("nothing", "partly, network", "partly, both", "whole, network", "whole, witness", "whole")


class Variant(Room):
    """A room that is learnt in part, told to the network or not, with or without the witness.

    Shapes:
        sits: (h, w) bool, where nothing is ever learnt
    """

    def __init__(
        self, sits: NDArray[np.bool_] | None, *, told: bool = True, witness: bool = True
    ) -> None:
        super().__init__()
        self._sits, self._is_told, self._has_witness = sits, told, witness

    def look(self, picture: Any, before: Any, colours: Any, x: NDArray[np.float32]) -> None:
        """See `Room`."""
        super().look(picture, before, colours, x)
        if not self._is_told:
            x[0, 3:].fill(0)

    def object_to(self, alpha: NDArray[np.float32]) -> None:
        """See `Room`."""
        super().object_to(alpha if self._has_witness else alpha.copy())

    def learn(self, *lesson: Any, **more: Any) -> None:
        """See `Room`."""
        super().learn(*lesson, **more)
        if self._sits is not None:
            where = cv2.resize(self._sits.view(np.uint8), self._size[::-1]) > 0
            self._weight[where] = 0
            self._describe()


@dataclass
class Score:
    """Figures of one way to look at one clip, frame by frame."""

    figures: metrics.Figures = field(default_factory=metrics.Figures)
    leaks: list[float] = field(default_factory=list)
    mious: list[float] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)  # dtSSD, flicker
    _before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def add(self, alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Count one frame."""
        row = self.figures.add(alpha, truth)
        got, wanted = alpha <= 0.5, truth <= 0.5
        room = float((got & wanted).sum() / max((got | wanted).sum(), 1))
        empty = bool(wanted.all())  # of a person that is not there, the room alone can be right
        self.leaks.append(row["leak"])
        self.mious.append(room if empty else (row["iou"] + room) / 2)
        if self._before is not None:
            moved, should = alpha - self._before[0], truth - self._before[1]
            still = np.abs(should) < metrics.STILL
            flicker = float((np.abs(moved) * still).sum() / max(still.sum(), 1))
            self.changes.append((float(np.sqrt(((moved - should) ** 2).mean())), flicker))
        self._before = alpha, truth

    def told(self) -> dict[str, float]:
        """The figures over all frames."""
        dtssd, flicker = np.mean(self.changes, axis=0)
        return self.figures.summary() | {"dtssd": dtssd * 100, "flicker": flicker * 1000}


def sits(truths: Iterator[NDArray[np.float32]]) -> tuple[bool, NDArray[np.bool_]]:
    """True if the room is seen alone at first; and where somebody is in the second half."""
    each = [truth > metrics.ROOM for truth in truths]
    where = np.any(each[len(each) // 2 :], axis=0)
    side = 2 * round(AROUND * where.shape[1]) + 1
    grown = cv2.dilate(where.view(np.uint8), np.ones((side, side), np.uint8)) > 0
    return not any(one.any() for one in each[:25]), grown


def ways(where: NDArray[np.bool_], *, alone: bool) -> dict[str, Room | None]:
    """A room for each way that makes sense on a clip."""
    if not alone:
        return {"nothing": None, "whole": Room()}
    rooms = (
        None,
        Variant(where, witness=False),
        Variant(where),
        Variant(None, witness=False),
        Variant(None, told=False),
        Room(),
    )
    return dict(zip(WAYS, rooms, strict=True))


def play(
    film: Path, alpha: Path, rooms: dict[str, Room | None], model: str, quality: str
) -> dict[str, Score]:
    """The scores of a clip in every way."""
    fps = clip_fps(film)
    segmenters = {}
    for way, room in rooms.items():
        made = segmenters[way] = Segmenter(model, quality=quality, examine=False)
        made.learns = room is not None
        made._room = room or made._room
    scores = {way: Score() for way in rooms}
    frame: Frame
    for frame, truth in clip(film, alpha, FRAMES):
        for way, segmenter in segmenters.items():
            matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.seq / fps)
            scores[way].add(alpha_at(matte, frame.planes.y), truth)
    for segmenter in segmenters.values():
        segmenter.close()
    return scores


def worst(scores: dict[str, Score], fps: float) -> str:
    """A row: how much worse than without a learned room single frames are, and how long."""
    without, ours = scores["nothing"], scores["whole"]
    leak = np.subtract(ours.leaks, without.leaks)
    lost = np.subtract(without.mious, ours.mious)
    worse = (leak > LEAK) | (lost > MIOU)
    longest = run = 0
    for one in worse:
        run = run + 1 if one else 0
        longest = max(longest, run)
    half = len(leak) // 2
    means = [
        f"{np.mean(each[half:]):.4f}"
        for each in (without.leaks, ours.leaks, without.mious, ours.mious)
    ]
    return (
        f"| {max(leak.max(), 0):.4f} | {max(lost.max(), 0):.4f} "
        f"| {worse.sum()} of {worse.size} | {longest / fps:.1f} s | {' | '.join(means)} |"
    )


def row(told: list[dict[str, float]]) -> str:
    """The mean of several clips' figures as a row of a table."""
    shown = (("miou", 4), ("boundary_f", 3), ("leak", 4), ("flicker", 2), ("dtssd", 2))
    cells = [f"{np.mean([one[key] for one in told]):.{digits}f}" for key, digits in shown]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, metavar="CLIPS")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--quality", default="balanced", choices=("low", "balanced", "high"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    words = shlex.join(["python", "-m", "tests.bench.known_room", *sys.argv[1:]])
    print(f"{stamp(options.model).partition(': `')[0]}: `{words}`\n", flush=True)
    table: dict[str, list[dict[str, float]]] = {}
    print("| clip | leak more | mIoU less | frames | longest | leak without | with "
          "| mIoU without | with |")  # fmt: skip
    print("|---" * 9 + "|", flush=True)
    for film, alpha in find_clips(options.clips):
        alone, where = sits(truth for _, truth in clip(film, alpha, FRAMES))
        scores = play(film, alpha, ways(where, alone=alone), options.model, options.quality)
        print(f"| {film.stem} {worst(scores, clip_fps(film))}", flush=True)
        for way, score in scores.items() if alone else ():
            table.setdefault(way, []).append(score.told())
    print("\n| known | mIoU | boundary | leak | flicker | dtSSD |")
    print("|---" * 6 + "|")
    for way, told in table.items():
        print(f"| {way} {row(told)}")


if __name__ == "__main__":
    main()
