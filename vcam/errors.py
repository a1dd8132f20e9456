"""Everything that can be the user's or the machine's fault, with the sentence that mends it.

VcamError            exit 1   anything below
├── UsageError       exit 2   the command line makes no sense
├── ConfigError      exit 3   a setting is wrong; carries every problem found
├── DeviceError      exit 4   a camera or a virtual camera
│   ├── SourceError           cannot be opened, went away, sends rubbish
│   └── SinkError             cannot be opened or written
│       └── SinkEnded         is over for good, and not opened again
├── BackgroundError  exit 1   a picture or clip that cannot be shown
├── ModelError       exit 1   weights missing, damaged, or not a person model
├── DaemonError      exit 1   not running, running already, speaks another version
└── Stopped          exit 128 and the signal's number: the user ended the work
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from vcam.foreign_text import block

TOLD_AGAIN: Final = 60.0  # seconds
_told: dict[tuple[str, object, str], float] = {}  # when each was told last


class VcamError(Exception):
    """A fault outside the program: says what is, what was expected, and the next step.

    `hint` is one imperative sentence shown under the message; `card` the few words that the
    privacy card and the tray have room for, "" where the message says too much for them.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", card: str = "") -> None:
        # Most messages name what somebody typed, or what a file or a device is called.
        self.message = block(message)
        self.hint = block(hint)
        self.card = card
        super().__init__(self.message)


class UsageError(VcamError):
    """The command line makes no sense."""

    exit_code = 2


class ConfigError(VcamError):
    """One or more settings are wrong; `problems` lists each as a sentence of its own."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(block(problem) for problem in problems)


class DeviceError(VcamError):
    """A camera or a virtual camera cannot be used."""

    exit_code = 4


class SourceError(DeviceError):
    """A source cannot be opened, went away, or sends what cannot be decoded."""


class SinkError(DeviceError):
    """A sink cannot be opened or written."""


class SinkEnded(SinkError):
    """A sink that had to stop and is not opened again, such as a recording on a full disk."""


class BackgroundError(VcamError):
    """A picture or clip that cannot be used as a background."""


class ModelError(VcamError):
    """Weights that are missing, damaged, or do not hold a person model."""


class DaemonError(VcamError):
    """The daemon is not running, runs already, or speaks another version."""

    def __init__(self, message: str, *, hint: str = "", running: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.running = running  # False where there is none to talk to


class UpdateError(VcamError):
    """Nobody could say which version is the newest."""


class Stopped(VcamError):
    """A signal asked the work to end; what was done so far is kept."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


def log_quietly(log: logging.Logger, message: str) -> None:
    """Log the exception at hand, or do nothing: where memory is short, logging fails too.

    A thread that must not end calls this from its last `except`. A fault that repeats, 30 times a
    second perhaps, is told once in `TOLD_AGAIN` seconds.
    """
    try:
        error, now = sys.exc_info()[1], time.monotonic()
        key = message, type(error), str(error)
        if now - _told.get(key, float("-inf")) < TOLD_AGAIN:
            return
        if len(_told) >= 64:  # messages that never are the same twice
            _told.clear()
        _told[key] = now
        log.exception(message)
    except Exception:
        pass
