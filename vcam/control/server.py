"""The daemon's doors: a small HTTP API on a unix socket and, once asked for, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vcam.control import guards
from vcam.control.api import Api, application
from vcam.errors import DaemonError

if TYPE_CHECKING:
    from vcam.control.runtime import Runtime

log = logging.getLogger(__name__)

UNIX = sys.platform != "win32" and hasattr(socket, "AF_UNIX")
GRACE = 0.1  # seconds a request in flight may take once the doors close


class Doors:
    """The running control server. Its loop lives on a thread of its own."""

    def __init__(self, runtime: Runtime, socket_path: Path, port: int, *, unix: bool) -> None:
        self._socket_path = socket_path
        self._port = port
        self._unix = unix
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._runners: list[web.AppRunner] = []
        self._guard = guards.PageGuard()
        self._page_url: str | None = None
        self._opening = asyncio.Lock()
        self._failure: Exception | None = None
        self._closing = asyncio.Event()
        self._api = Api(runtime, open_page=self.page, page_url=lambda: self._page_url)

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
        return asyncio.run_coroutine_threadsafe(self.page(), self._loop).result(10)

    async def page(self) -> str:
        """Open the loopback door, if it is not, and return an address that works once."""
        async with self._opening:
            if self._page_url is None:
                try:
                    address = await self._serve(self._guard.middleware(), local=False)
                except OSError as error:
                    raise DaemonError(
                        f"the settings page cannot be opened on port {self._port}: "
                        f"{error.strerror or error}",
                        hint="Set [control] port = 0 to take a free one.",
                    ) from error
                self._guard.port = address[1]
                self._page_url = f"http://127.0.0.1:{address[1]}/"
        return f"{self._page_url}?token={self._guard.token()}"

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
            self._ready.set()
            await self._closing.wait()
        finally:
            for runner in self._runners:
                await runner.cleanup()

    async def _serve(self, guard: Any, *, local: bool, made: Any = None) -> Any:
        """Answer at one more door: the listening socket `made`, or a loopback port."""
        app = application(self._api, guard, local=local)
        # Streams end with their task, so a closing door waits for none of them.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
        await runner.setup()
        try:
            if made is not None:
                await web.SockSite(runner, made).start()
            else:
                await web.TCPSite(runner, "127.0.0.1", 0 if local else self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runners.append(runner)
        return runner.addresses[0]

    async def _serve_socket(self) -> None:
        listening = bind_private(self._socket_path)
        await self._serve(guards.same_user(), local=True, made=listening)

    async def _serve_token(self) -> None:
        token = secrets.token_urlsafe(32)
        address = await self._serve(guards.bearer(token), local=True)
        door = json.dumps({"port": address[1], "token": token})
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(self._socket_path, flags, 0o600), "w") as file:
            file.write(door)


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
        listening.listen(64)
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def serve(
    runtime: Runtime, *, socket_path: Path, port: int = 0, unix: bool = UNIX
) -> Iterator[Doors]:
    """Serve `runtime` at its doors until the block ends; it must hold the daemon's lock.

    Without `unix` the local door is a loopback port, and `socket_path` a private file with its
    number and a token.

    Raises:
        DaemonError: the socket cannot be made.
    """
    doors = Doors(runtime, socket_path, port, unix=unix)
    doors.open()
    try:
        yield doors
    finally:
        doors.close()
