"""Descriptors that the service manager keeps for us while we do not run; sd_notify(3), FDSTORE.

A virtual camera is there as long as somebody holds it for writing. If systemd does, a daemon that
crashes takes it out of no list and no call. Chromium starts its stream again after one silent
second, and v4l2loopback 0.15 refuses that while there is no writer. Without a service manager
everything here does nothing.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

FIRST: Final = 3  # the number of the first descriptor that is handed over


def keep(name: str, fd: int) -> None:
    """Have a copy of `fd` kept and handed to whoever is started after us."""
    _send(f"FDSTORE=1\nFDNAME={name}", fd)


def drop(name: str) -> None:
    """Have what is kept under this name closed."""
    _send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def take(name: str) -> list[int]:
    """Descriptor that systemd kept under `name`; None on later calls. The caller closes it."""
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    os.environ["LISTEN_FDNAMES"] = ":".join("" if each == name else each for each in names)
    found = [FIRST + i for i, each in enumerate(names) if each == name]
    for fd in found:
        os.set_inheritable(fd, False)
    return found


def keeper() -> int | None:
    """The process that keeps them, our parent; it counts as nobody who watches."""
    return os.getppid() if manager_socket(os.environ) else None


def manager_socket(environ: Mapping[str, str]) -> str:
    """Where the service manager listens; "" where there is none we can speak to.

    A name that begins with "@" is an abstract one.
    """
    name = environ.get("NOTIFY_SOCKET", "")
    if not hasattr(socket, "AF_UNIX") or not name.startswith(("/", "@")):
        return ""
    return "\0" + name[1:] if name.startswith("@") else name


def _send(message: str, *fds: int) -> None:
    if not (address := manager_socket(os.environ)):
        return
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    # A manager that restarts: the descriptor is ours alone then, as without one.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.setblocking(False)
        door.sendmsg([message.encode()], passed, 0, address)
