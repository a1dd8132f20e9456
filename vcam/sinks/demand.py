"""Demand for the webcam, which is open only while somebody watches."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcam.settings.live import Mode, Settings
    from vcam.sinks.outlet import Outlet

ASK_EVERY = 0.3  # seconds between looks at the sinks while live
ASK_IDLE = 0.05  # and while idle, so that a call starts at once
VIEWER_STAYS = 2.0  # seconds a glance at the preview counts as watching


class Demand:
    """Decides when the camera is open. Owned by the pipeline thread; `glance` from any.

    `on_demand` and `idle_after` are what the settings say, set by the loop before each frame.
    """

    def __init__(self, outlet: Outlet, *, on_demand: bool, idle_after: float) -> None:
        self._outlet = outlet
        self.on_demand = on_demand
        self.idle_after = idle_after
        self.watchers: list[str] = []
        self._asked_at = 0.0
        self._asked_of = 0  # sinks
        self._seen_at = float("-inf")
        self._glanced_at = float("-inf")
        self._known = True

    def glance(self) -> None:
        """Somebody looks at the preview right now."""
        self._glanced_at = time.monotonic()

    def wanted(self, mode: Mode) -> bool:
        """True if the camera should be open: somebody watches, and it is not paused."""
        now, sinks = time.monotonic(), len(self._outlet.sinks)
        # Nobody was asked yet who watches a sink that opened just now.
        if now - self._asked_at >= ASK_EVERY or sinks != self._asked_of:
            self._asked_of = sinks
            self._ask(now)
        if mode == "paused":
            return False
        if not self.on_demand or (sinks and not self._known):
            return True
        return now - self._seen_at <= max(self.idle_after, ASK_EVERY)

    def wait(self, stop: threading.Event, interval: float, settings: Settings) -> None:
        """Sleep for `interval`, or until somebody starts to watch or presses a button."""
        until = time.monotonic() + interval
        before, seen = settings.revision, self._seen_at
        while time.monotonic() < until and not stop.wait(ASK_IDLE):
            self._ask(time.monotonic())
            if settings.revision != before or (settings.mode != "paused" and self._seen_at > seen):
                return

    def _ask(self, now: float) -> None:
        self._asked_at = now
        found = self._outlet.watchers()
        self._known = found is not None
        glance = ["settings page"] if now - self._glanced_at < VIEWER_STAYS else []
        self.watchers = [*(found or ()), *glance]  # others read it: replaced, never altered
        if self.watchers:
            self._seen_at = now
