"""Time to turn an I420 picture into the layouts that a v4l2loopback device may have.

python -m tests.bench.layouts
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from vcam.sinks.layouts import LAYOUTS

W, H, TIMES = 1280, 720, 200


def median(work: Callable[[], object]) -> float:
    """Milliseconds that it takes."""
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def main() -> None:
    """Print each layout's time, and its share of a `cv2.imdecode` by turns with it."""
    cv2.setNumThreads(1)
    noise = np.random.default_rng(1).integers(0, 255, (H, W, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(noise, (9, 9), 3))[1]
    picture = np.ascontiguousarray(cv2.cvtColor(noise, cv2.COLOR_BGR2YUV_I420))
    for name, layout in LAYOUTS.items():
        out = np.empty(layout.size(W, H), np.uint8)
        took = median(lambda layout=layout, out=out: layout.arranged(picture, out))
        decode = median(lambda: cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
        print(f"{name}: {took:.3f} ms, {took / decode:.1%} of cv2.imdecode")


if __name__ == "__main__":
    main()
