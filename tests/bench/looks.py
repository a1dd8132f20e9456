"""CPU time that framing and the name tag add to a composite of 1280x720, by turns with neither.

python -m tests.bench.looks
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from segmentation.segmenter import Segmenter
from vcam.commands.bench import TAG
from vcam.compose.compositor import Compositor
from vcam.compose.drawn import draw
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame
from vcam.media.pictures import i420_from_image
from vcam.overlay.tag import Tag
from vcam.sources.still import StillSource

W, H = 1280, 720
SHOTS = 12
LOOKS = {
    "all off": Look(),
    "framing, at rest": Look(framing="head-and-shoulders"),
    "zoom 1.5, at rest": Look(zoom=1.5),
    "zoom 1.5, moving": Look(zoom=1.5),
    "name tag": Look(),
}


def shots(width: int, height: int) -> Iterator[tuple[Frame, object]]:
    """Frames of the demo portrait, each with a matte that is kept."""
    with StillSource(width=width, height=height, realtime=False) as source:
        segmenter = Segmenter()
        for seq in range(SHOTS):
            frame = source.read(0.0)
            assert frame is not None
            frame = Frame(frame.planes, seq / 30, seq)
            matte = segmenter.matte(frame.planes, seq=seq, pts=frame.pts)
            kept = {n: getattr(matte, n).copy() for n in ("alpha", "a", "b", "raw", "picture")}
            yield frame, replace(matte, **kept)
        segmenter.close()


def main() -> None:
    """Print a table: milliseconds of a composite, and what each look adds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.looks")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    picture = i420_from_image(draw("studio", W, H))
    for size in ((1280, 720), (1920, 1080)):
        taken = list(shots(*size))
        for behind in (picture, Blur(50.0)):
            spent: dict[str, list[float]] = {name: [] for name in LOOKS}
            makers = {name: Compositor(W, H) for name in LOOKS}
            makers["name tag"].overlay = Tag(TAG, W, H).drawn("12:34")
            for turn in range(options.rounds * SHOTS):
                frame, matte = taken[turn % SHOTS]
                frame = replace(frame, pts=turn / 30)
                for name, look in LOOKS.items():
                    if name.endswith("moving"):
                        look = replace(look, shift=(np.sin(turn / 9), np.cos(turn / 9)))
                    begun = time.thread_time()
                    makers[name].compose(frame, matte, behind, look)
                    spent[name].append(time.thread_time() - begun)
            middle = {
                name: 1000 * statistics.median(times[SHOTS:]) for name, times in spent.items()
            }
            print(f"from {size[0]}x{size[1]}, {'blur' if behind is not picture else 'picture'}:")
            for name, ms in middle.items():
                print(f"  {name:20} {ms:6.2f} ms {ms - middle['all off']:+6.2f}")


if __name__ == "__main__":
    main()
