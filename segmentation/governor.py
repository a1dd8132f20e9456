"""Chooses how much work goes into each matte, to hold the frame rate within a share of a core."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

Clock = Callable[[], float]

STARTING: Final = 0.7  # seconds that are not counted: the rest of the program still gets ready
FIRST: Final = 1.0  # seconds watched before the first decision
WINDOW: Final = 3.0  # and before each later one
CLEARLY: Final = 0.85  # a step up must be expected to stay below this share of the cap
PATIENCE: Final = 9.0  # seconds to wait before a step up; doubles each time one had to be undone
LONGEST: Final = 600.0
BUSY: Final = 0.8  # share of a frame's time that a matte may take before frames would be lost
GAP: Final = 0.5  # seconds without a frame after which counting starts over: the camera was off


@dataclass(frozen=True, slots=True)
class Level:
    """A step of the ladder: the input's size, and one frame in so many seen by the network."""

    quality: str
    every: int
    cost: float  # of looking at a frame, relative to "balanced" by the network for every frame


# More pixels for every third frame are worth far more than fewer for each: docs/performance.md.
LADDER: Final = (
    Level("low", 3, 0.27),
    Level("balanced", 3, 0.52),
    Level("high", 1, 1.05),
)
START: Final = 1
CHOSEN: Final = {"low": LADDER[0], "balanced": LADDER[1], "high": LADDER[2]}  # by the setting


class Governor:
    """Watches the whole process's CPU time and steps along `LADDER`. Owned by one thread.

    Steps down at once, up slowly and only with room to spare; a step up that had to be undone is
    not tried again for twice as long, so that the picture never pumps.
    """

    def __init__(
        self,
        max_cpu_percent: float = 50.0,
        *,
        cpu: Clock = time.process_time,
        wall: Clock = time.monotonic,
    ) -> None:
        self.cap = max_cpu_percent / 100
        self.step = START
        self.load = 0.0  # share of one core that the process took lately
        self._cpu, self._wall = cpu, wall
        self._patience = PATIENCE
        self._settled = False
        self._seen = self._counts = False
        self._rose_at: float | None = None
        self._changed_at = wall()
        self._start_over(self._changed_at)
        self._last = self._changed_at

    @property
    def level(self) -> Level:
        """The level of the next matte."""
        return LADDER[self.step]

    def frame(self, matte_seconds: float, infer_seconds: float) -> bool:
        """Count a frame whose matte took so long; return whether the level changed.

        `infer_seconds` is the network's part, averaged over the frames it skipped.
        """
        now = self._wall()
        if now - self._last > GAP:
            self._start_over(now)
            self._counts = self._seen
        self._last, self._seen = now, True
        self._frames += 1
        self._busy += matte_seconds
        self._infer += infer_seconds
        span = now - self._since
        if not self._counts and span >= STARTING:
            self._counts = True
            self._start_over(now)
            return False
        if span < (WINDOW if self._settled else FIRST) or self._frames < 8:
            return False
        self.load = (self._cpu() - self._cpu_since) / span
        hurried = self._busy / span > BUSY
        infer = self._infer / span
        self._settled = True
        self._start_over(now)
        return self._decide(now, infer, hurried=hurried)

    def _decide(self, now: float, infer: float, *, hurried: bool) -> bool:
        if (self.load > self.cap or hurried) and self.step > 0:
            if self._rose_at is not None and now - self._rose_at < 4 * WINDOW:
                self._patience = min(2 * self._patience, LONGEST)
            self._rose_at = None
            self._move(-1, now, "frames would be lost" if hurried else "over the CPU limit")
            return True
        if self.step + 1 == len(LADDER) or now - self._changed_at < self._patience:
            return False
        more = LADDER[self.step + 1].cost / self.level.cost - 1
        if self.load + infer * more < CLEARLY * self.cap and not hurried:
            self._rose_at = now
            self._move(+1, now, "there is time to spare")
            return True
        return False

    def _move(self, by: int, now: float, why: str) -> None:
        self.step += by
        self._changed_at = now
        level = self.level
        log.info(
            "Quality %s, a new matte every %s: %s (%.0f %% of a core, limit %.0f %%)",
            level.quality,
            "frame" if level.every == 1 else f"{level.every} frames",
            why,
            self.load * 100,
            self.cap * 100,
        )

    def _start_over(self, now: float) -> None:
        self._since = now
        self._cpu_since = self._cpu()
        self._frames = 0
        self._busy = self._infer = 0.0
