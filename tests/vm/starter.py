"""Forks `vcam` commands from a process that has imported everything and done nothing yet.

An emulated processor imports for a minute, and a browser leaves a camera that has sent nothing for
ten seconds: a daemon that is killed and started again has to be back by then.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

# What a daemon imports before its first picture and with its first matte.
IMPORTED = (
    "vcam.cli", "vcam.daemon", "vcam.control.server", "vcam.outlet", "watchfiles",
    "segmentation.segmenter", "segmentation.engines.openvino", "PIL.JpegImagePlugin",
)  # fmt: skip
_FORK = multiprocessing.get_context("fork")


class Started:
    """A running `vcam` command; its output is in `log`."""

    def __init__(
        self, door: Connection, words: list[str], environ: dict[str, str], log: Path
    ) -> None:
        self._door = door
        door.send((words, environ, log))
        self.pid: int = door.recv()

    def wait(self, seconds: float = 0.0) -> int | None:
        """Its status, None if it still runs then."""
        self._door.send((self.pid, seconds))
        status: int | None = self._door.recv()
        return status

    def end(self, number: int, seconds: float) -> int | None:
        """Send it a signal and wait for its end."""
        if self.wait() is None:
            os.kill(self.pid, number)
        return self.wait(seconds)


def serve(main: Callable[[Connection], int]) -> int:
    """Run `main` in a process of its own and start for it what it asks for; its status."""
    for name in IMPORTED:
        importlib.import_module(name)
    door, theirs = _FORK.Pipe()
    asking = _FORK.Process(target=_ask, args=(main, theirs, door))
    asking.start()
    theirs.close()
    started = {}
    while True:
        try:
            first, *rest = door.recv()
        except EOFError:
            break
        if isinstance(first, int):
            started[first].join(*rest)
            door.send(started[first].exitcode)
            continue
        process = _FORK.Process(target=_vcam, args=(first, *rest), daemon=True)
        process.start()
        assert process.pid is not None
        started[process.pid] = process
        door.send(process.pid)
    asking.join()
    return asking.exitcode or 0


def _ask(main: Callable[[Connection], int], door: Connection, other: Connection) -> None:
    other.close()
    sys.exit(main(door))


def _vcam(words: list[str], environ: dict[str, str], log: Path) -> None:
    from vcam.cli import main

    os.environ.update(environ)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.exit(main(words))
