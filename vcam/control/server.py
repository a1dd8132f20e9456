"""The daemon's doors: a small HTTP API on a unix socket and, once asked for, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from vcam.control import guards
from vcam.control.api import FREE, Api, application
from vcam.control.door import BACKLOG, GRACE, Door, raise_descriptor_limit, sparing_log
from vcam.control.page_door import PageDoor, loopback
from vcam.control.sessions import Sessions
from vcam.errors import DaemonError

if TYPE_CHECKING:
    from vcam.control.runtime import Runtime

UNIX = sys.platform != "win32" and hasattr(socket, "AF_UNIX")


class Doors:
    """The running control server. Its loop lives on a thread of its own."""

    def __init__(
        self,
        runtime: Runtime,
        socket_path: Path,
        port: int,
        *,
        unix: bool,
        sessions: Sessions | None = None,
    ) -> None:
        self._socket_path = socket_path
        self._unix = unix
        self._loop = asyncio.SelectorEventLoop()  # Windows' own cannot wait for a socket
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._local: Door | None = None
        memory = socket_path.with_name("page.json")
        self._page = PageDoor(port, self._page_application, sessions, memory)
        self._failure: Exception | None = None
        self._closing = asyncio.Event()
        self._api = Api(runtime, self._page)

    def open(self) -> None:
        """Start serving.

        Raises:
            DaemonError: the socket cannot be made.
        """
        self._thread.start()
        self._ready.wait(10)
        if self._failure is not None:
            raise DaemonError(
                f"the control socket {str(self._socket_path)!r} cannot be made: {self._failure}",
                hint="Set XDG_RUNTIME_DIR to a directory of your own.",
            ) from self._failure

    def close(self) -> None:
        """Stop serving; open streams are cut."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(3)
        with contextlib.suppress(OSError):
            self._socket_path.unlink()

    def open_page(self) -> str:
        """Open the loopback door and return an address that works once. Any thread but ours.

        Raises:
            DaemonError: the port is taken.
        """
        return asyncio.run_coroutine_threadsafe(self._page.open(), self._loop).result(10).url

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_until_closed())
        except Exception as error:
            self._failure = error
            self._ready.set()
        finally:
            self._loop.run_until_complete(_end_tasks())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve_until_closed(self) -> None:
        try:
            if self._unix:
                await self._serve_socket()
            else:
                await self._serve_token()
            await self._page.reopen()
            self._ready.set()
            await self._closing.wait()
        finally:
            await self._page.leave()
            if self._local is not None:
                await self._local.close()

    async def _serve_socket(self) -> None:
        # Who is at the other end is asked when it connects; nothing else guards this door.
        self._local = Door(bind_private(self._socket_path))
        await self._local.open(application(self._api, None, local=True))

    async def _serve_token(self) -> None:
        token = secrets.token_urlsafe(32)
        listening = loopback(0)
        self._local = Door(listening)
        await self._local.open(application(self._api, guards.bearer(token), local=True))
        door = json.dumps({"port": listening.getsockname()[1], "token": token})
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(self._socket_path, flags, 0o600), "w") as file:
            file.write(door)

    def _page_application(self, port: int, sessions: Sessions) -> web.Application:
        guard = guards.PageGuard(sessions, port, free=FREE)
        return application(self._api, guard.middleware(), local=False)


async def _end_tasks() -> None:
    """Cut what still runs, connections that were open among it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=GRACE)


def bind_private(path: Path) -> socket.socket:
    """A listening unix socket that this user alone can reach: directory 0700, socket 0600."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} is there already and is no socket")
        path.unlink()  # the lock is ours, so a socket that is left is stale
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode is set before the address exists; umask would concern every thread.
        if sys.platform == "linux":
            os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def serve(
    runtime: Runtime,
    *,
    socket_path: Path,
    port: int = 0,
    unix: bool = UNIX,
    sessions: Sessions | None = None,
) -> Iterator[Doors]:
    """Serve `runtime` at its doors until the block ends; it must hold the daemon's lock.

    Without `unix` the local door is a loopback port, and `socket_path` a private file with its
    number and a token.

    Raises:
        DaemonError: the socket cannot be made.
    """
    raise_descriptor_limit()
    doors = Doors(runtime, socket_path, port, unix=unix, sessions=sessions)
    with sparing_log():
        doors.open()
        try:
            yield doors
        finally:
            doors.close()
