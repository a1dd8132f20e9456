"""The settings page's door: opened by a word of the user, closed when the last page has gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from vcam.control import note
from vcam.control.door import BACKLOG, Door, Limits
from vcam.control.jobs import on_worker
from vcam.control.sessions import Sessions
from vcam.errors import DaemonError

log = logging.getLogger(__name__)

TEND: Final = 1.0  # seconds between two looks at who is still here
# A page takes three connections: its picture, the status, and what it asks for meanwhile.
LIMITS: Final = Limits(links=48)


class Address(NamedTuple):
    """An address that signs in one window, once. It is never put into an argument list."""

    url: str
    file: Path | None = None  # leads there, too, and its name may be known to everybody


class PageDoor:
    """Opens and closes the loopback port. Belongs to the control thread."""

    def __init__(
        self,
        port: int,
        application: Callable[[int, Sessions], web.Application],
        sessions: Sessions | None = None,
        memory: Path | None = None,
    ) -> None:
        self._port = port
        self._memory = memory  # where tickets are written down for the next daemon
        self._unvouched = False  # reopened, and no window of before has come back yet
        self._application = application  # made anew for each port and its sessions
        self.sessions = Sessions() if sessions is None else sessions
        self.url: str | None = None
        self._door: Door | None = None
        self._notes: dict[str, Path] = {}  # token -> the file that holds it
        self._changing = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None  # held, so that it is not collected

    async def open(self, folder: Path | None = None) -> Address:
        """Open the door, if it is not, and return an address; a file in `folder` leads there too.

        Raises:
            DaemonError: the port is taken, or `folder` is not private.
        """
        async with self._changing:
            if self._unvouched:
                # Somebody else may have had this port meanwhile, and have left a service worker at
                # its origin, which a new window would load through: it gets another port.
                await self._shut()
            if self.url is None:
                await self._listen(self._port)
            word = self.sessions.token()
            url = f"{self.url}#{word}"
            if folder is None:
                return Address(url)
            file = await on_worker(note.leave, folder, url)
            self._notes[word] = file
            return Address(url, file)

    def sign_in(self, word: str, origin: str) -> str | None:
        """Trade a word for a key that is good at `origin`; None if the word is not."""
        key = self.sessions.sign_in(word, origin)
        self._forget_notes()
        return key

    def come_back(self, number: str, origin: str, proof: str) -> str | None:
        """A new key for a window of the daemon before; None if its proof is not good."""
        key = self.sessions.come_back(number, origin, proof)
        if key is not None:
            self._unvouched = False
        return key

    async def reopen(self) -> None:
        """Open the port of the daemon before for a while, if windows may come back to it."""
        if self._memory is None:
            return
        async with self._changing:
            origin = self.sessions.tickets.read(await on_worker(_read, self._memory))
            port = int(origin.rpartition(":")[2]) if origin else 0
            if not origin or self._port not in (0, port):
                self.sessions.tickets.forget()
                return
            try:
                await self._listen(port)
            except DaemonError as error:
                self.sessions.tickets.forget()
                log.info("open windows cannot come back: %s", error)
            else:
                self._unvouched = True
                self.sessions.await_returns()

    async def close(self) -> bool:
        """End every session and close the port; False if it was not open."""
        async with self._changing:
            closed = await self._shut()
            await self._write_down()
            return closed

    async def leave(self) -> None:
        """Close the port because the daemon ends; its windows may come back to the next one."""
        async with self._changing:
            await self._write_down()
            self._memory = None
            await self._shut()

    async def _write_down(self) -> None:
        tickets = self.sessions.tickets
        if self._memory is not None and tickets.changed:
            await on_worker(_write, self._memory, tickets.written() if len(tickets) else "")

    async def _listen(self, port: int) -> None:
        try:
            listening = loopback(port)
        except OSError as error:
            raise DaemonError(
                f"the settings page cannot be opened on port {port}: {error.strerror or error}",
                hint="Set [control] port = 0 to take a free one.",
            ) from error
        port = listening.getsockname()[1]
        self._door = Door(listening, LIMITS)
        await self._door.open(self._application(port, self.sessions))
        self.url = f"http://127.0.0.1:{port}/"
        self._tending = asyncio.create_task(self._tend(self._door))
        log.info("The settings page's door is open")

    async def _shut(self) -> bool:
        door, self._door, self.url = self._door, None, None
        self._unvouched = False
        self.sessions.end_all()
        self._forget_notes()
        if door is None:
            return False
        await door.close()
        log.info("The settings page's door is closed")
        return True

    async def _tend(self, door: Door) -> None:
        while self._door is door:
            await asyncio.sleep(TEND)
            self._forget_notes()
            await self._write_down()
            if self.sessions.deserted:
                async with self._changing:
                    if self._door is door and self.sessions.deserted:
                        await self._shut()
                        await self._write_down()

    def _forget_notes(self) -> None:
        """Delete the files whose word was used or has expired."""
        for word in [word for word in self._notes if not self.sessions.awaits(word)]:
            note.remove(self._notes.pop(word))


def _read(memory: Path) -> str:
    try:
        return memory.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _write(memory: Path, text: str) -> None:
    """Put `text` into a file that this user alone can read; no text, no file."""
    with contextlib.suppress(OSError):  # then no window comes back
        if not text:
            memory.unlink(missing_ok=True)
            return
        part = memory.with_suffix(".new")
        part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(memory)


def loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 is a free one."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # where "reuse" would let two programs have one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
