"""Keys that work in every program, through the desktop's portal for global shortcuts.

From "Global Shortcuts" (XDG Desktop Portal, https://flatpak.github.io/xdg-desktop-portal/docs/
doc-org.freedesktop.portal.GlobalShortcuts.html). The desktop owns the keys and asks the user which
they shall be, so it is asked by a click in the menu alone; afterwards each start takes them up
again, silently. The portal is never started from here: where it comes later, the bus says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from vcam.foreign_text import plain
from vcam.words import _, mark

log = logging.getLogger(__name__)

PORTAL: Final = "org.freedesktop.portal.Desktop"
PLACE: Final = "/org/freedesktop/portal/desktop"
SHORTCUTS: Final = "org.freedesktop.portal.GlobalShortcuts"
REQUEST: Final = "org.freedesktop.portal.Request"
SESSION: Final = "org.freedesktop.portal.Session"
REGISTRY: Final = "org.freedesktop.host.portal.Registry"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
BUS: Final = "org.freedesktop.DBus"
APP_ID: Final = "vbg-camera"  # the name of the menu entry's desktop file
CONFIGURES: Final = 2  # version of the portal that opens its own window for the keys
SHORT: Final = 40  # characters of a key's name


@dataclass(frozen=True)
class Shortcut:
    """A deed that a key can be given to; `trigger` is what the desktop is asked to propose."""

    name: str
    title: str
    trigger: str


OFFERED: Final = (
    Shortcut("toggle", mark("Pause or resume"), "CTRL+ALT+p"),
    Shortcut("freeze", mark("Freeze my picture"), "CTRL+ALT+f"),
    Shortcut("next", mark("Next background"), "CTRL+ALT+b"),
)


class _Refused(Exception):
    """The portal's own words for what it did not do; empty if the user did not want it."""


class Shortcuts:
    """Owns a thread and a connection to the session bus.

    `pressed(name)` and `changed()` are called on that thread and must not wait; `told(problem)`
    after a click that led to nothing. The file `agreed` remembers that the user chose keys.
    """

    def __init__(
        self,
        agreed: Path,
        pressed: Callable[[str], None],
        changed: Callable[[], None],
        told: Callable[[str], None],
    ) -> None:
        self._agreed = agreed
        self._pressed, self._changed, self._told = pressed, changed, told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[str, asyncio.Future[tuple[int, dict[str, Any]]]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._owner = ""  # the portal's unique name, while it is there
        self._session = ""
        self._tokens = 0
        self.version = 0  # of the portal; 0: there is none
        self.keys: dict[str, str] = {}  # what the user presses, by the shortcut's name
        self._thread = threading.Thread(target=self._run, name="shortcuts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Give the keys back; any thread may call it."""
        self._do(lambda: self._ended.set() if self._ended else None)
        self._thread.join(5)

    def choose(self) -> None:
        """Have the desktop ask for the keys, or show where they are changed; any thread."""
        self._do(lambda: self._spawn(self._choose()))

    @property
    def words(self) -> str:
        """The keys in force, for a tooltip; empty where there are none."""
        named = ((_(each.title), self.keys.get(each.name)) for each in OFFERED)
        return plain(" · ".join(f"{title}: {key}" for title, key in named if key))

    def _do(self, work: Callable[[], Any]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps no hold of it
        task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except (OSError, ValueError, EOFError) as error:
            log.debug("No session bus for shortcuts: %s", error)

    async def _main(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._bus = bus = await MessageBus(bus_type=BusType.SESSION).connect()
        bus.add_message_handler(self._heard)
        gone = f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{PORTAL}'"
        for rule in (gone, f"type='signal',sender='{PORTAL}'"):
            await self._ask(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", [rule])
        await self._greet()
        lost = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({lost, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (lost, ended, *self._tasks):
            task.cancel()
        await asyncio.gather(lost, ended, *self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            bus.disconnect()  # which ends the session, too

    async def _greet(self) -> None:
        """Find out what the portal can, and take up the keys that were chosen before."""
        async with self._one_at_a_time:
            try:
                owner = await self._ask(
                    BUS, "/org/freedesktop/DBus", BUS, "GetNameOwner", "s", [PORTAL]
                )
            except _Refused:
                return
            if owner[0] == self._owner:
                return
            self._owner = owner[0]
            # Before anything else is asked on this connection; older portals have no registry, and
            # without the menu entry's desktop file there is no name to give.
            with contextlib.suppress(_Refused):
                await self._ask(PORTAL, PLACE, REGISTRY, "Register", "sa{sv}", [APP_ID, {}])
            asked = [SHORTCUTS, "version"]
            try:
                version = await self._ask(PORTAL, PLACE, PROPERTIES, "Get", "ss", asked)
            except _Refused as error:
                log.debug("The desktop's portal has no shortcuts: %s", error)
                return
            self.version = int(version[0].value)
            if self._agreed.exists():
                try:
                    await self._bind()
                except _Refused as error:
                    log.warning("The desktop does not give the shortcuts back: %s", error)
            self._changed()

    async def _choose(self) -> None:
        async with self._one_at_a_time:
            try:
                if not self._session:
                    await self._bind()
                elif self.version >= CONFIGURES:
                    wish = [self._session, "", {}]
                    await self._ask(PORTAL, PLACE, SHORTCUTS, "ConfigureShortcuts", "osa{sv}", wish)
                else:
                    self._told(_("Change them in the keyboard settings of your desktop."))
            except _Refused as error:
                if str(error):
                    self._told(str(error))
            self._changed()

    async def _bind(self) -> None:
        token = self._token()
        options = {"session_handle_token": Variant("s", token)}
        made = await self._request("CreateSession", "", [], options)
        session = str(made["session_handle"])
        wishes = [
            [
                each.name,
                {
                    "description": Variant("s", _(each.title)),
                    "preferred_trigger": Variant("s", each.trigger),
                },
            ]
            for each in OFFERED
        ]
        try:
            bound = await self._request("BindShortcuts", "oa(sa{sv})s", [session, wishes, ""], {})
        except _Refused:
            with contextlib.suppress(_Refused):
                await self._ask(PORTAL, session, SESSION, "Close", "", [])
            raise
        self._session = session
        self._keep(bound.get("shortcuts", []))
        with contextlib.suppress(OSError):
            self._agreed.parent.mkdir(parents=True, exist_ok=True)
            self._agreed.touch()

    async def _request(
        self, member: str, signature: str, body: list[Any], options: Mapping[str, Variant]
    ) -> dict[str, Any]:
        """Call a method whose answer comes later, however long the user takes for it."""
        assert self._bus.unique_name
        token = self._token()
        sender = self._bus.unique_name[1:].replace(".", "_")
        path = f"{PLACE}/request/{sender}/{token}"
        answer = self._answers[path] = asyncio.get_running_loop().create_future()
        try:
            told = {**options, "handle_token": Variant("s", token)}
            await self._ask(PORTAL, PLACE, SHORTCUTS, member, f"{signature}a{{sv}}", [*body, told])
            code, results = await answer
        finally:
            del self._answers[path]
        if code:
            raise _Refused("" if code == 1 else _("The desktop could not set the shortcuts up."))
        return {name: value.value for name, value in results.items()}

    async def _ask(
        self, whom: str, path: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> list[Any]:
        reply = await self._bus.call(
            Message(
                destination=whom,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
                flags=MessageFlag.NO_AUTOSTART,
            )
        )
        if reply is None or reply.message_type != MessageType.METHOD_RETURN:
            said = reply.body[0] if reply is not None and reply.body else member
            raise _Refused(plain(str(said)))
        return reply.body

    def _token(self) -> str:
        self._tokens += 1
        return f"vcam{self._tokens}"

    def _heard(self, message: Message) -> None:
        if message.message_type != MessageType.SIGNAL:
            return
        if message.sender == BUS and message.member == "NameOwnerChanged":
            name, _before, owner = message.body
            if name == PORTAL:
                self._lose_portal()
                if owner:
                    self._spawn(self._greet())
        elif message.sender == self._owner:
            self._heard_portal(message)

    def _heard_portal(self, message: Message) -> None:
        if message.interface == REQUEST and message.member == "Response":
            answer = self._answers.get(message.path or "")
            if answer is not None and not answer.done():
                answer.set_result((message.body[0], message.body[1]))
        elif message.interface == SESSION and message.path == self._session:
            self._session, self.keys = "", {}
            self._changed()
        elif message.interface == SHORTCUTS and message.body[0] == self._session:
            if message.member == "Activated":
                self._pressed(message.body[1])
            elif message.member == "ShortcutsChanged":
                self._keep(message.body[1])
                self._changed()

    def _lose_portal(self) -> None:
        had = self.version
        self._owner, self._session, self.version, self.keys = "", "", 0, {}
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_Refused(_("The portal of the desktop has ended.")))
        if had:
            self._changed()

    def _keep(self, shortcuts: list[Any]) -> None:
        """Remember which keys are in force; a shortcut may have been given none."""
        found = {name: more["trigger_description"].value for name, more in shortcuts
                 if "trigger_description" in more}  # fmt: skip
        self.keys = {str(name): plain(str(key), SHORT) for name, key in found.items() if key}
