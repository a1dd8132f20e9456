"""The settings in force: one immutable object swapped as a whole, and who wants to know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

from vcam.config import Config

log = logging.getLogger(__name__)

Mode = Literal["live", "paused", "frozen"]


class Settings:
    """What the user wants right now. Any thread may change it; the loop reads `current` per frame.

    `current` and `mode` are replaced, never altered, so that reading them needs no lock.
    """

    def __init__(self, config: Config) -> None:
        self.current: Config = config
        self.mode: Mode = "live"
        self.revision = 0  # grows with every change; doors compare it
        self.problem: str | None = None  # why the last edit of the file was not taken
        self._listeners: list[Callable[[Config], None]] = []
        self._checks: list[Callable[[Config, Config], None]] = []
        self._lock = threading.Lock()

    def change(self, changes: Mapping[str, Mapping[str, Any]]) -> Config:
        """Apply `{section: {key: value}}`; takes effect on the next frame.

        Raises:
            ConfigError: something is wrong; nothing was changed.
            VcamError: the daemon cannot do it (a background that does not open); nothing changed.
        """
        with self._lock:
            config = self.current.with_changes(changes)
            self._swap(config)
        return config

    def check(self, check: Callable[[Config, Config], None]) -> None:
        """Call `check(old, new)` before each change; a VcamError from it refuses the change.

        The daemon opens the new background here, so that the loop never waits for a file.
        """
        self._checks.append(check)

    def replace(self, config: Config) -> None:
        """Take a whole new configuration, as after an edit of the file."""
        with self._lock:
            self._swap(config)

    def set_mode(self, mode: Mode) -> None:
        """Pause, freeze or go live."""
        self.mode = mode
        self.revision += 1

    def subscribe(self, listener: Callable[[Config], None]) -> None:
        """Call `listener(config)` after each change, on the thread that made it."""
        self._listeners.append(listener)

    def _swap(self, config: Config) -> None:
        if config == self.current:
            return
        for check in self._checks:
            check(self.current, config)
        self.current = config
        self.revision += 1
        for listener in self._listeners:
            listener(config)
