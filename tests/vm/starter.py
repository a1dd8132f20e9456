"""Forks `vcam` commands from a process that has imported everything and done nothing yet.

An emulated processor imports for a minute, and a browser leaves a camera that has sent nothing for
ten seconds: a daemon that is killed and started again has to be back by then. As systemd does, it
keeps the descriptors that a daemon hands to it for the next one.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

# What a daemon imports before its first picture and with its first matte.
IMPORTED = (
    "vcam.cli", "vcam.daemon", "vcam.control.server", "vcam.sinks.outlet", "watchfiles",
    "segmentation.segmenter", "segmentation.engines.openvino", "PIL.JpegImagePlugin",
)  # fmt: skip
NOTIFY = "/run/notify"
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
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(NOTIFY)
    notified.setblocking(False)
    store: dict[str, int] = {}
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
        _keep(notified, store)
        if isinstance(first, int):
            started[first].join(*rest)
            door.send(started[first].exitcode)
            if started[first].exitcode == 0:  # nothing is kept for who ended as he was asked to
                while store:
                    os.close(store.popitem()[1])
            continue
        process = _FORK.Process(target=_vcam, args=(first, *rest, store), daemon=True)
        process.start()
        assert process.pid is not None
        started[process.pid] = process
        door.send(process.pid)
    asking.join()
    return asking.exitcode or 0


def _ask(main: Callable[[Connection], int], door: Connection, other: Connection) -> None:
    other.close()
    sys.exit(main(door))


def _keep(notified: socket.socket, store: dict[str, int]) -> None:
    """Do what daemons asked for: sd_notify(3), FDSTORE and FDSTOREREMOVE."""
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(notified, 4096, 4)
        except BlockingIOError:
            return
        said = dict(line.split("=", 1) for line in message.decode().splitlines())
        if "FDSTORE" in said:
            store[said["FDNAME"]] = fds[0]
        elif "FDSTOREREMOVE" in said and said["FDNAME"] in store:
            os.close(store.pop(said["FDNAME"]))


def _vcam(words: list[str], environ: dict[str, str], log: Path, store: dict[str, int]) -> None:
    from vcam.cli import main

    os.environ.update(environ)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.environ |= {
        "NOTIFY_SOCKET": NOTIFY, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(store)),
        "LISTEN_FDNAMES": ":".join(store),
    }  # fmt: skip
    for number, held in enumerate(store.values(), 3):
        os.dup2(held, number)
        if held != number:
            os.close(held)
    sys.exit(main(words))
