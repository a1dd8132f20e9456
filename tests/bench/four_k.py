"""Frames that are lost of a webcam which sends 3840x2160 as MJPG thirty times a second.

python -m tests.bench.four_k [--clip FILE] [--seconds 30] [--output 1280x720] [--quality low]

The program's own pipeline runs on two cores, with its threads, its network and the privacy card's
rules, between a webcam and a virtual camera of memory. The webcam sends the frames of a clip, or of
the demo, enlarged and packed as JPEG 4:2:2; like a driver it has some buffers, of which the newest
is taken. `lost by the camera` counts what no buffer was taken of, `dropped` what was decoded and
not looked at, `late` composites that came after their time. Where other programs hold the cores, a
thread that only sleeps is held up as well: what was lost at another time is counted by itself.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segmentation.planes import i420_shape
from tests.fakes import settings
from vcam.compose.backdrops import open_backdrop
from vcam.compose.card import Card
from vcam.frame import Frame, SafeFrame
from vcam.matting import Matting
from vcam.media.clip import ClipSource
from vcam.media.pictures import image_from_i420
from vcam.pipeline import Pipeline
from vcam.sinks.base import Wanted
from vcam.sinks.demand import Demand
from vcam.sinks.outlet import Outlet
from vcam.sources.capture import Capture
from vcam.sources.decode import MjpegDecoder
from vcam.sources.still import StillSource
from vcam.stats import Stats
from vcam.system.memory import mapped_array
from vcam.system.paths import cache_dir

W, H, FPS = 3840, 2160, 30.0
PICTURES = 24  # different frames, which go to and fro
QUALITY = 85  # of the JPEGs
CORES = 2
SETTLES = 5.0  # seconds before anything is counted
TICK, HELD_UP = 0.002, 0.015  # seconds that a thread sleeps for, and by which it comes too late
AFTERMATH = 0.25  # seconds in which frames are lost for that


def packed(clip: Path | None) -> list[bytes]:
    """The frames of a clip, or of the demo, as a webcam of this size sends them."""
    source = StillSource(width=1280, height=720, realtime=False) if clip is None else None
    jpegs = []
    with source or ClipSource(clip) as opened:  # type: ignore[arg-type]
        while len(jpegs) < PICTURES and (frame := opened.read(1.0)) is not None:
            data = np.concatenate([plane.reshape(-1) for plane in frame.planes.each])
            image = image_from_i420(data.reshape(i420_shape(frame.width, frame.height)))
            large = cv2.resize(image, (W, H), interpolation=cv2.INTER_CUBIC)
            noise = np.random.default_rng(len(jpegs)).normal(0, 2, (H, W, 1))
            large = np.clip(large + noise, 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(large).save(file, "JPEG", quality=QUALITY, subsampling="4:2:2")
            jpegs.append(file.getvalue())
    return jpegs


class Webcam:
    """Sends JPEGs at its own pace, whether anybody takes them or not."""

    name, fps, live = "a webcam of memory", FPS, True

    def __init__(self, jpegs: Sequence[bytes]) -> None:
        forth = range(len(jpegs))
        self._order = [jpegs[i] for i in itertools.chain(forth, forth[-2:0:-1])]
        self.sent = self.lost = 0

    def __enter__(self) -> Webcam:
        self._decoder, self._began, self._next = MjpegDecoder(), time.monotonic(), 0
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.wipe()

    def read(self, timeout: float) -> Frame | None:
        """The newest picture; it waits for the next where that was taken."""
        due = self._began + self._next / FPS
        if (left := due - time.monotonic()) > 0:
            time.sleep(min(left, timeout))
        seq = max(self._next, int((time.monotonic() - self._began) * FPS))
        self.lost += seq - self._next
        self.sent += seq + 1 - self._next
        self._next = seq + 1
        planes = self._decoder.decode(self._order[seq % len(self._order)])
        return Frame(planes, self._began + seq / FPS, seq)


class Meeting:
    """A virtual camera of memory that somebody watches."""

    name, kind = "a meeting", "list"

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._data = mapped_array(*i420_shape(width, height))

    def write(self, frame: SafeFrame) -> None:
        """Copy the frame, as a driver does."""
        np.copyto(self._data, frame.data)

    def watchers(self) -> list[str]:
        """Who watches."""
        return ["a meeting"]

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *_: object) -> None: ...


class Machine:
    """Notices that the cores are others': a thread that only sleeps is held up."""

    def __init__(self) -> None:
        self.held_up = self._until = 0.0  # seconds in all, and when it was last
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine", daemon=True)

    def __enter__(self) -> Machine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._done.wait(TICK):
            now = time.monotonic()
            if now - before > HELD_UP:
                self.held_up += now - before
                self._until = now
            before = now

    @property
    def free(self) -> bool:
        """True where nothing was held up lately."""
        return time.monotonic() - self._until > AFTERMATH


def missed(webcam: Webcam, stats: Stats) -> int:
    """Frames that did not come to be shown, or not in time, so far."""
    return webcam.lost + stats.dropped + stats.late


def counts(webcam: Webcam, stats: Stats) -> dict[str, float]:
    """All that is counted, so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "sent": webcam.sent,
        "lost by the camera": webcam.lost,
        "dropped": stats.dropped,
        "late": stats.late,
        "cards": stats.cards,
        "composites": stats.composited,
        "seconds of processor": used.ru_utime + used.ru_stime,
    }


def measure(
    jpegs: Sequence[bytes], size: tuple[int, int], quality: str, background: str, seconds: float
) -> dict[str, float]:
    """Run the pipeline; return what was counted once it had settled, and its latency."""
    chosen = settings(
        output={"width": size[0], "height": size[1], "fps": FPS, "on_demand": False},
        matte={"engine": "cpu", "quality": quality},
        background={"use": background},
    )
    webcam, stats, stop = Webcam(jpegs), Stats(), threading.Event()
    meeting = Meeting(*size)
    outlet = Outlet([Wanted("meeting", lambda: meeting)], Card(*size), stats, fps=FPS,
                    opened=[meeting])  # fmt: skip
    with (
        outlet,
        Capture(lambda: webcam) as capture,
        Matting(chosen.current.matte, cache_dir()) as matting,
    ):
        demand = Demand(outlet, on_demand=False, idle_after=5.0)
        behind = open_backdrop(background, *size)
        pipe = Pipeline(capture, matting, behind, outlet, chosen, demand)
        thread = threading.Thread(target=pipe.run, args=(stop,), name="pipeline")
        thread.start()
        try:
            while not stats.composited:
                time.sleep(0.1)
            time.sleep(SETTLES)
            before, end, ours = counts(webcam, stats), time.monotonic() + seconds, 0
            with Machine() as machine:
                while time.monotonic() < end:
                    so_far = missed(webcam, stats)
                    time.sleep(0.05)
                    if machine.free:
                        ours += missed(webcam, stats) - so_far
            after = counts(webcam, stats)
            snapshot = stats.snapshot()
        finally:
            stop.set()
            thread.join()
            pipe.close()
    found = {name: after[name] - before[name] for name in after}
    found["missed by ourselves"] = ours
    found["held up by others, s"] = machine.held_up
    found["cores in use"] = found.pop("seconds of processor") / seconds
    found |= {f"latency {k} ms": v for k, v in snapshot["latency_ms"].items()}
    return found | {f"{k} ms": v for k, v in snapshot["stages_ms"].items()}


def main() -> None:
    """Print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--output", default="1280x720")
    parser.add_argument("--quality", default="low")
    parser.add_argument("--background", default="loft")
    options = parser.parse_args()
    width, height = map(int, options.output.split("x"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    cv2.setNumThreads(1)
    jpegs = packed(options.clip)
    print(f"{W}x{H} MJPG of {np.mean([len(j) for j in jpegs]) / 1e6:.1f} MB, to {options.output}, "
          f"quality {options.quality}, {options.seconds:.0f} s")  # fmt: skip
    found = measure(jpegs, (width, height), options.quality, options.background, options.seconds)
    for name, value in found.items():
        print(f"  {name:21} {value:8.2f}")


if __name__ == "__main__":
    main()
