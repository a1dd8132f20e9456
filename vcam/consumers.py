"""Which programs stream from a virtual camera right now, without waking anything by asking."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Final

from vcam import kept, v4l2
from vcam.devices import Holder, holders

UNKNOWN: Final = "unknown program"
STAYS: Final = 0.25  # seconds a program has to hold the device before it is no mere probe
STALE: Final = 10.0  # seconds after which names are looked up again in any case


class Consumers:
    """Watches one v4l2loopback device through its writer's descriptor. Any thread may ask.

    Since 0.13 the module itself says whether somebody streams. Before, whoever holds the device
    open for longer than a probe counts; inotify tells when it is worth looking again.
    """

    def __init__(self, path: str, fd: int) -> None:
        self._path, self._fd = path, fd
        self._lock = threading.Lock()
        self._ours = {os.getpid(), kept.keeper()}
        self.told = v4l2.subscribe(fd, v4l2.CLIENT_USAGE)
        self._streaming = False
        self._opens = 0  # opened minus closed by anybody since we began
        self._held: list[Holder] = []
        self._since: dict[int, float] = {}
        self._looked_at = float("-inf")
        self._changed = True
        self._ears: v4l2.Inotify | None = None
        with contextlib.suppress(OSError):
            self._ears = v4l2.Inotify(
                path, v4l2.IN_OPEN | v4l2.IN_CLOSE_WRITE | v4l2.IN_CLOSE_NOWRITE
            )

    def names(self) -> list[str]:
        """Programs that stream now, each once; a program that cannot be seen is "unknown"."""
        with self._lock:
            now = time.monotonic()
            if self.told:
                return self._told(now)
            return self._guessed(now)

    def _told(self, now: float) -> list[str]:
        """By the module's event."""
        with contextlib.suppress(OSError):
            for kind, value in v4l2.events(self._fd):
                if kind == v4l2.CLIENT_USAGE:
                    self._streaming = bool(value)
                    self._changed = True
        self._listen()
        if not self._streaming:
            return []
        self._look(now)
        return _unique(self._held) or [UNKNOWN]

    def _guessed(self, now: float) -> list[str]:
        """By who holds the device open."""
        self._listen()
        young = any(now - since < STAYS for since in self._since.values())
        if self._changed or young or now - self._looked_at > STALE:
            self._look(now)
        long_enough = [h for h in self._held if now - self._since[h.pid] >= STAYS]
        if not self._held and self._opens > 0:
            # Another user's program, or one in a sandbox, whose descriptors cannot be read.
            hidden = self._since.setdefault(0, now)
            return [UNKNOWN] if now - hidden >= STAYS else []
        return _unique(long_enough)

    def _listen(self) -> None:
        if self._ears is None:
            self._changed = True
            return
        for mask, _ in self._ears.heard():
            self._changed = True
            if mask & v4l2.IN_OPEN:
                self._opens += 1
            elif mask & (v4l2.IN_CLOSE_WRITE | v4l2.IN_CLOSE_NOWRITE):
                # Who opened it before we began may close it too.
                self._opens = max(0, self._opens - 1)

    def _look(self, now: float) -> None:
        if not self._changed and self._held and now - self._looked_at <= STALE:
            return
        self._held = [h for h in holders(self._path) if h.pid not in self._ours]
        self._since = {h.pid: self._since.get(h.pid, now) for h in self._held}
        self._looked_at = now
        self._changed = False

    def close(self) -> None:
        """Stop watching; the descriptor stays open."""
        with self._lock:
            if self._ears is not None:
                self._ears.close()
                self._ears = None


def _unique(held: list[Holder]) -> list[str]:
    return list(dict.fromkeys(h.name for h in held))
