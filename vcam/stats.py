"""Measurements of the frame loop: counters and moving figures that any thread may read."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_WINDOW = 150  # frames; five seconds at 30 fps


@dataclass(slots=True)
class Stats:
    """Written by the pipeline thread, read by the control thread."""

    written: int = 0  # frames a sink was given
    composited: int = 0
    cards: int = 0
    revealed: int = 0  # showed the room, by the user's word
    dropped: int = 0  # came from the source, never processed
    late: int = 0  # finished after their deadline, replaced by the card
    stalled: int = 0  # times no frame came within the timeout
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _writes: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _stages: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self, *, card: bool, revealed: bool = False) -> None:
        """Count a frame that reached the sinks."""
        self.written += 1
        self.revealed += revealed
        if card:
            self.cards += 1
        else:
            self.composited += 1
        with self._lock:
            self._writes.append(time.monotonic())

    def latency(self, seconds: float) -> None:
        """Remember the time from capture to write of a composited frame."""
        with self._lock:
            self._latencies.append(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """Take the time one stage needed into its moving average."""
        old = self._stages.get(name)
        self._stages[name] = seconds if old is None else old + 0.05 * (seconds - old)

    def snapshot(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        with self._lock:
            latencies, writes = list(self._latencies), list(self._writes)
        now = time.monotonic()
        recent = [t for t in writes if now - t < 3]
        fps = (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else 0.0
        p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (0.0, 0.0)
        return {
            "fps": round(float(fps), 1),
            "latency_ms": {"p50": round(float(p50) * 1e3, 1), "p95": round(float(p95) * 1e3, 1)},
            "stages_ms": {k: round(v * 1e3, 2) for k, v in dict(self._stages).items()},
            "frames": {
                "written": self.written,
                "composited": self.composited,
                "cards": self.cards,
                "revealed": self.revealed,
                "dropped": self.dropped,
                "late": self.late,
                "stalled": self.stalled,
            },
        }
