"""Which programs stream from a virtual camera right now, without waking anything by asking."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcam.errors import log_quietly
from vcam.system import fd_store, v4l2
from vcam.system.devices import Holder, holders, loopback_openings

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown program"
STAYS: Final = 0.25  # seconds a program has to hold the device before it is no mere probe
STALE: Final = 10.0  # seconds after which names are looked up again in any case


@dataclass(frozen=True, slots=True)
class Answer:
    """Holders of a device when somebody looked; nobody changes it afterwards."""

    begun: float = float("-inf")  # when the search began, on the monotonic clock
    held: tuple[Holder, ...] = ()
    # Openings of the module's devices by no process that we may look into; None: nobody knows.
    unseen: int | None = None


class Lookup:
    """Searches all processes for who holds a device, on a thread of its own.

    That takes a fifth of a second on a machine with many descriptors open. Any thread may ask;
    `answer` is the last one.
    """

    def __init__(self, path: str, keepers: Container[int | None] = ()) -> None:
        self._path = path
        self.keepers = keepers  # processes that only hold the device open for its writer
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
                self.answer = Answer(
                    begun, tuple(holders(self._path)), _unseen(self._path, self.keepers)
                )
                self._answered.set()
            except Exception:  # out of memory, say: the next look may go better
                log_quietly(log, "who watches could not be found out")


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
    open for longer than a probe counts; inotify tells when it is worth looking again. It is no
    count of who came and went: equal events in a row are told as one. Names come a moment after
    the fact, for they are looked up elsewhere.
    """

    def __init__(self, path: str, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._keepers: frozenset[int | None] = frozenset({fd_store.keeper()})
        self.told = v4l2.subscribe(fd, v4l2.CLIENT_USAGE)
        self._streaming = False
        self._opened = False  # the last that was heard is an opening, not a closing
        self._heard = False  # somebody opened it since nobody was unseen
        self._least: int | None = None  # openings that were unseen while nobody watched
        self._hidden: float | None = None  # first of the looks in a row at which one was
        self._closed_at = float("-inf")
        self._held: list[Holder] = []
        self._since: dict[int, float] = {}
        self._changed_at = time.monotonic()
        self._not_before = float("-inf")  # what was seen before is about another stream
        self._taken = Answer()
        self._lookup = Lookup(path, self._keepers)
        self._ears: v4l2.Inotify | None = None
        with contextlib.suppress(OSError):
            self._ears = v4l2.Inotify(
                path, v4l2.IN_OPEN | v4l2.IN_CLOSE_WRITE | v4l2.IN_CLOSE_NOWRITE
            )

    def leave_out(self, process: int) -> None:
        """Do not take this process for one that watches: it keeps the device open for us."""
        with self._lock:
            self._keepers = self._lookup.keepers = self._keepers | {process}
            self._held = [held for held in self._held if held.pid != process]

    def names(self) -> list[str]:
        """Programs that stream now, each once; a program that cannot be seen is "unknown".

        Never waits: who it is comes from the last look.
        """
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
                    if value and not self._streaming:
                        self._held, self._not_before = [], now
                    self._streaming = bool(value)
                    self._changed_at = now
        self._listen(now)
        if not self._streaming:
            return []
        self._look(now)
        return _unique(self._held) or [UNKNOWN]

    def _guessed(self, now: float) -> list[str]:
        """By who holds the device open."""
        self._listen(now)
        self._look(now)
        answer = self._taken
        # After a closing, who was seen before it may be gone: it takes a second look to be sure.
        until = answer.begun if self._closed_at >= answer.begun else now
        if self._held or self._hidden is None:
            return _unique([h for h in self._held if until - self._since[h.pid] >= STAYS])
        # Another user's program, or one in a sandbox, whose descriptors cannot be read.
        if answer.unseen is not None:
            return [UNKNOWN] if answer.begun - self._hidden >= STAYS else []
        return [UNKNOWN] if self._opened and now - self._hidden >= STAYS else []

    def _listen(self, now: float) -> None:
        if self._ears is None:
            self._changed_at = now
            return
        for mask, _ in self._ears.heard():
            self._changed_at = now
            self._opened = bool(mask & v4l2.IN_OPEN)
            if not self._opened:
                self._closed_at = now
            self._heard = self._heard or self._opened

    def _look(self, now: float) -> None:
        """Take the last answer in, and ask for another where it is no longer true."""
        answer = self._lookup.answer
        if answer.begun > max(self._taken.begun, self._not_before):
            self._taken = answer
            self._held = [h for h in answer.held if h.pid not in {os.getpid(), *self._keepers}]
            first = answer.begun if self._hidden is None else self._hidden
            self._since = {h.pid: self._since.get(h.pid, first) for h in self._held}
            self._hidden = first if self._is_hidden(answer) else None
        young = any(now - since < STAYS for since in self._since.values())
        old = answer.begun <= self._changed_at or now - answer.begun > STALE
        if old or young or (self._hidden is not None and now - answer.begun > STAYS):
            self._lookup.ask()

    def _is_hidden(self, answer: Answer) -> bool:
        """True if somebody opened the device and still has it, and no process we see does."""
        if answer.unseen is None:
            return self._opened and not self._held
        if self._least is None or answer.unseen <= self._least:
            self._least = answer.unseen
            self._heard = answer.begun <= self._changed_at and self._opened
            return False
        return self._heard and not self._held

    def close(self) -> None:
        """Stop watching; the descriptor stays open."""
        with self._lock:
            self._lookup.close()
            if self._ears is not None:
                self._ears.close()
                self._ears = None


def _unseen(path: str, keepers: Container[int | None]) -> int | None:
    """Openings of the module's devices by no process that we may look into; None: not known.

    The kernel counts who uses a module: one for each opened file.
    """
    users = _module_users(path)
    if users is None:
        return None
    seen = loopback_openings(without=keepers)
    # Whoever came or went meanwhile is no program that stays.
    return max(0, min(users, _module_users(path) or 0) - seen)


def _module_users(path: str) -> int | None:
    try:
        driver = Path("/sys/class/video4linux") / Path(path).name / "max_openers"
        if not driver.exists():  # not a device of this module
            return None
        return int(Path("/sys/module/v4l2loopback/refcnt").read_text())
    except (OSError, ValueError):
        return None


def _unique(held: list[Holder]) -> list[str]:
    return list(dict.fromkeys(h.name for h in held))
