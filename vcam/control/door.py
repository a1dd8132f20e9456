"""One door of the daemon: who is let in, how many at a time, and for how long.

A stranger is turned away when the connection is accepted, before a byte of it is read. The doors
never take the last descriptors of the process: those are the camera's, the sinks' and the
watchdog's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from vcam.control import guards, peers

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

log = logging.getLogger(__name__)

GRACE: Final = 0.1  # seconds a request in flight may take once the door closes
BACKLOG: Final = 128
RESERVED: Final = 64  # descriptors that the doors leave to the rest of the program
DESCRIPTORS: Final = 4096  # what the limit is raised to, where it may be
PACE: Final = (
    0.002  # seconds between two that are turned away: a flood leaves the frames their time
)
PAUSE: Final = 0.5  # seconds until the system is asked again for a connection it could not give
SWEEP: Final = 0.5  # seconds between two looks for those that keep silent

ANOTHER_USER: Final = (403, "This door belongs to another user of the machine.")
TOO_MANY: Final = (503, "Too many programs are connected.")


@dataclass(frozen=True)
class Limits:
    """Bounds of one door."""

    links: int = 64  # connections at a time
    of_process: int = 32  # of them from one process, where the system names it
    silent: float = 5.0  # seconds for the head of the first request
    idle: float = 30.0  # seconds between two requests


LIMITS: Final = Limits()


@dataclass
class Link:
    """One connection."""

    peer: peers.Peer | None
    since: float  # when it was made, or its last request was answered
    asked: bool = False
    busy: int = 0  # requests under way

    def overdue(self, now: float, limits: Limits) -> bool:
        """True if it has kept silent for too long."""
        return not self.busy and now - self.since > (limits.idle if self.asked else limits.silent)


class Door:
    """A listening socket and everybody who came in through it. Belongs to the control thread."""

    def __init__(self, listening: socket.socket, limits: Limits = LIMITS) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._limits = limits
        self._links: dict[asyncio.BaseTransport, Link] = {}
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, app: web.Application) -> None:
        """Begin to answer with `app`."""
        app.middlewares.insert(0, self._counted())
        # Streams end with their task, so a closing door waits for none of them.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
        await self._runner.setup()
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """Listen no more and cut who is connected."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for transport in self._links:
            _cut(transport)
        await asyncio.sleep(0)  # which closes them
        self._links.clear()

    def _counted(self) -> Middleware:
        @web.middleware
        async def counted(request: web.Request, handler: guards.Handler) -> web.StreamResponse:
            link = self._links.get(request.transport) if request.transport else None
            if link is None:  # it has gone already
                return await handler(request)
            link.asked = True
            link.busy += 1
            try:
                return await handler(request)
            finally:
                link.busy -= 1
                link.since = time.monotonic()

        return counted

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._runner is not None
        assert self._runner.server is not None
        while True:
            await self._asked()
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # whoever it was has gone again
                continue
            except OSError as error:
                log.warning("No connection can be taken: %s", error.strerror or error)
                await asyncio.sleep(PAUSE)
                continue
            connection.setblocking(False)
            peer = peers.peer_of(connection)
            if refused := self._refused(connection, peer):
                _turn_away(connection, *refused)
                await asyncio.sleep(PACE)
                continue
            transport = None
            with contextlib.suppress(OSError):  # it has gone already
                transport, _ = await loop.connect_accepted_socket(self._runner.server, connection)
            if transport is None:
                connection.close()
            else:
                self._links[transport] = Link(peer, time.monotonic())

    async def _asked(self) -> None:
        """Wait until somebody wants to come in; nobody is lost if the door closes meanwhile."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        loop.add_reader(self._listening, asked.set)
        try:
            await asked.wait()
        finally:
            loop.remove_reader(self._listening)

    def _refused(
        self, connection: socket.socket, peer: peers.Peer | None
    ) -> tuple[int, str] | None:
        """Reason that nobody comes in by this connection, or None."""
        if not is_ours(connection, peer):
            log.warning("Refused a connection of uid %s", "unknown" if peer is None else peer.uid)
            return ANOTHER_USER
        # The system gives out the lowest free number, so a high one tells that few are left.
        if connection.fileno() >= descriptor_limit() - RESERVED:
            log.warning("Refused a connection: %d descriptors are open", connection.fileno())
            return TOO_MANY
        self._forget_closed()
        same = [link for link in self._links.values() if link.peer == peer]
        if peer is not None and peer.pid and len(same) >= self._limits.of_process:
            log.warning("Refused a connection: process %d has %d", peer.pid, len(same))
            return TOO_MANY
        if len(self._links) >= self._limits.links and not self._made_room():
            log.warning("Refused a connection: %d are in use", len(self._links))
            return TOO_MANY
        return None

    def _made_room(self) -> bool:
        """Cut the one that has been silent for longest; False if all of them are in use."""
        silent = [(link.since, one) for one, link in self._links.items() if not link.busy]
        if not silent:
            return False
        longest = min(silent, key=lambda pair: pair[0])[1]
        _cut(longest)
        del self._links[longest]
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._forget_closed()
            now = time.monotonic()
            for transport, link in self._links.items():
                # One that is closing still waits for its peer to read, and holds a descriptor.
                if link.overdue(now, self._limits):
                    _cut(transport)

    def _forget_closed(self) -> None:
        for transport in [one for one in self._links if _is_closed(one)]:
            del self._links[transport]


def is_ours(connection: socket.socket, peer: peers.Peer | None) -> bool:
    """True if this user is at the other end; root is not, it has better ways.

    Where the system does not tell who it is, the token alone decides.
    """
    if sys.platform == "win32":
        return True
    if peer is None:
        return connection.family == socket.AF_INET and not peers.TCP_TELLS
    return peer.uid == os.getuid()


def _turn_away(connection: socket.socket, status: int, message: str) -> None:
    """Say why in one packet, if it takes it, and close."""
    body = guards.refusal_text(message)
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        connection.send(head.encode() + body)
    with contextlib.suppress(OSError):
        connection.close()


def _cut(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _is_closed(transport: asyncio.BaseTransport) -> bool:
    connection = transport.get_extra_info("socket")
    return connection is None or connection.fileno() < 0


def descriptor_limit() -> int:
    """Number of descriptors this process may have."""
    if sys.platform == "win32":
        return 1 << 24
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 24 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Take more descriptors where the system's limit for this user allows it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Sparing(logging.Filter):
    """Lets a logger say so many lines a minute; the first line after it tells how many were left.

    A stranger who is refused a thousand times would else fill the disk.
    """

    def __init__(self, lines: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines = lines
        self._clock = clock
        self._began = float("-inf")
        self._said = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if now - self._began >= 60:
            if (left := self._said - self._lines) > 0:
                record.msg = f"{record.getMessage()} ({left} lines before were left out)"
                record.args = None
            self._began, self._said = now, 0
        self._said += 1
        return self._said <= self._lines


@contextlib.contextmanager
def sparing_log() -> Iterator[None]:
    """Bound what the doors' loggers, and those below them, can write."""
    names = ("aiohttp.server", "aiohttp.web", "asyncio", log.name, guards.log.name)
    spared = [(logging.getLogger(name), Sparing()) for name in names]
    for logger, sparing in spared:
        logger.addFilter(sparing)
    try:
        yield
    finally:
        for logger, sparing in spared:
            logger.removeFilter(sparing)
