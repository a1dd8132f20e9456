"""Which programs stream from a virtual camera right now, without waking anything by asking."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from vcam.errors import tell
from vcam.system import fd_store, v4l2
from vcam.system.devices import Holder, holders

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown program"
STAYS: Final = 0.25  # seconds a program has to hold the device before it is no mere probe
STALE: Final = 10.0  # seconds after which names are looked up again in any case


@dataclass(frozen=True, slots=True)
class Answer:
    """Holders of a device when somebody looked; nobody changes it afterwards."""

    begun: float = float("-inf")  # when the search began, on the monotonic clock
    held: tuple[Holder, ...] = ()


class Lookup:
    """Searches all processes for who holds a device, on a thread of its own.

    That takes a fifth of a second on a machine with many descriptors open. Any thread may ask;
    `answer` is the last one.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._asked, self._answered = threading.Event(), threading.Event()
        self._ended = False
        self.answer = Answer()
        thread = threading.Thread(target=self._run, name="watchers", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: programs stay unknown
            thread.start()

    def ask(self) -> None:
        """Have it look again; returns at once."""
        self._asked.set()

    def wait(self, seconds: float) -> None:
        """Wait for the first answer."""
        self._answered.wait(seconds)

    def close(self) -> None:
        """Let the thread end. It opens nothing of ours, so nobody waits for it."""
        self._ended = True
        self._asked.set()

    def _run(self) -> None:
        while self._asked.wait() and not self._ended:
            self._asked.clear()
            begun = time.monotonic()
            try:
                self.answer = Answer(begun, tuple(holders(self._path)))
                self._answered.set()
            except Exception:  # out of memory, say: the next look may go better
                tell(log, "who watches could not be found out")


_lookups: Final[dict[str, Lookup]] = {}


def last_holders(path: str, patience: float = 1.0) -> tuple[Holder, ...]:
    """Holders of `path` when it was last looked up; waits, but for the first answer alone.

    For whoever opens a device again and again in the frame loop and has to say why it cannot.
    """
    lookup = _lookups.get(path)
    first = lookup is None
    if lookup is None:
        lookup = _lookups.setdefault(path, Lookup(path))
    lookup.ask()
    if first:
        lookup.wait(patience)
    return lookup.answer.held


class Consumers:
    """Watches one v4l2loopback device through its writer's descriptor. Any thread may ask.

    Since 0.13 the module itself says whether somebody streams. Before, whoever holds the device
    open for longer than a probe counts; inotify tells when it is worth looking again.
    """

    def __init__(self, path: str, fd: int) -> None:
        self._path, self._fd = path, fd
        self._lock = threading.Lock()
        self._ours = {os.getpid(), fd_store.keeper()}
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
