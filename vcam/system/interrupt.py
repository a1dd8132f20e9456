"""Signals that ask long work to end, taken where it can end well."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Final

from vcam.errors import Stopped

if TYPE_CHECKING:
    from typing_extensions import Self

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupt:
    """Remembers Ctrl-C, SIGTERM and SIGHUP until `check` is called; a second one ends at once.

    A signal that is ignored, as `nohup` has it, stays so.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)  # type: ignore[arg-type]

    def check(self, done: str) -> None:
        """End the work here if that was asked for; `done` says how far it went.

        Raises:
            Stopped: a signal came.
        """
        if self._signum:
            raise Stopped(f"stopped after {done}", self._signum)

    def _take(self, signum: int, frame: object) -> None:
        if self._signum:
            raise KeyboardInterrupt
        self._signum = signum


def terminal_is_there() -> bool:
    """True if this process has a terminal that nobody closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True
