"""A portal for global shortcuts on a session bus, as strict as the real one, and a desktop's part.

`Portal` is the whole of it; `Backend` is what a desktop does behind a real xdg-desktop-portal.
What a user would do is done by the test: `answer` is the choice in the dialog, `press` a key.
"""

# No `from __future__ import annotations`: dbus-fast reads D-Bus signatures from the annotations.
import asyncio
import threading
from typing import Any

from dbus_fast import BusType, DBusError, Message, MessageType, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, method, signal

# ruff: noqa: F722, F821 (the annotations below are D-Bus signatures, not types)
# mypy: disable-error-code="valid-type, name-defined, syntax, misc"
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

DESKTOP = "org.freedesktop.portal.Desktop"
PLACE = "/org/freedesktop/portal/desktop"
KEYS = {"toggle": "Ctrl+Alt+P", "next": "Ctrl+Alt+B"}  # what the user chooses: freeze gets none
WRONG = "org.freedesktop.portal.Error.NotAllowed"


def bound(wishes: Any, keys: dict[str, str]) -> list[Any]:
    """Words of a portal about shortcuts that it was given."""
    said = []
    for name, wish in wishes:
        more = {"description": wish["description"]}
        if name in keys:
            more["trigger_description"] = Variant("s", keys[name])
        said.append([name, more])
    return said


class _Registry(ServiceInterface):
    def __init__(self, portal: "Portal") -> None:
        super().__init__("org.freedesktop.host.portal.Registry")
        self._portal = portal

    @method()
    def Register(self, app_id: "s", options: "a{sv}"):
        if self._portal.app_id:
            raise DBusError(WRONG, "Connection already associated with an application ID")
        self._portal.app_id = app_id


class _Shortcuts(ServiceInterface):
    def __init__(self, portal: "Portal", version: int) -> None:
        super().__init__("org.freedesktop.portal.GlobalShortcuts")
        self._portal, self._version = portal, version

    @dbus_property(PropertyAccess.READ, name="version")
    def shown_version(self) -> "u":
        return self._version

    @method()
    def CreateSession(self, options: "a{sv}") -> "o":
        portal = self._portal
        if portal.registers and not portal.app_id:
            raise DBusError(WRONG, "An app id is required")
        token = options["session_handle_token"].value
        portal.session = f"{PLACE}/session/{portal.caller}/{token}"
        portal.bound = False
        answer = {"session_handle": Variant("s", portal.session)}
        return portal.respond(options["handle_token"].value, 0, answer)

    @method()
    def BindShortcuts(
        self, session: "o", wishes: "a(sa{sv})", parent: "s", options: "a{sv}"
    ) -> "o":
        portal = self._portal
        if session != portal.session or portal.bound:
            raise DBusError(WRONG, "Invalid session")
        portal.bound = True
        portal.asked.append({name: wish for name, wish in wishes})
        answer = {"shortcuts": Variant("a(sa{sv})", bound(wishes, KEYS))}
        given = answer if portal.answer == 0 else {}
        return portal.respond(options["handle_token"].value, portal.answer, given)

    @method()
    def ConfigureShortcuts(self, session: "o", parent: "s", options: "a{sv}"):
        self._portal.configured += 1

    @signal()
    def Activated(self, session, name) -> "osta{sv}":
        return [session, name, 1, {}]

    @signal()
    def ShortcutsChanged(self, session, shortcuts) -> "oa(sa{sv})":
        return [session, shortcuts]


class _OnBus:
    """A thread with a connection to the bus of the environment; a context."""

    def __enter__(self) -> Any:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._appear())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _appear(self) -> None:
        self.bus = await MessageBus(bus_type=BusType.SESSION).connect()

    async def _leave(self) -> None:
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()

    async def _call(self, work: Any) -> None:
        work()


class Portal(_OnBus):
    """The portal and the user; `registers` as those do that know host applications."""

    def __init__(self, version: int = 2, *, registers: bool = True) -> None:
        self.version, self.registers = version, registers
        self.answer = 0  # what the user says: 0 yes, 1 no
        self.app_id = self.session = self.caller = ""
        self.bound = False
        self.asked: list[dict[str, Any]] = []
        self.configured = 0

    async def _appear(self) -> None:
        await super()._appear()
        self._shortcuts = _Shortcuts(self, self.version)
        self.bus.export(PLACE, self._shortcuts)
        if self.registers:
            self.bus.export(PLACE, _Registry(self))
        self.bus.add_message_handler(self._note_caller)
        await self.bus.request_name(DESKTOP)

    def _note_caller(self, message: Message) -> None:
        if message.message_type == MessageType.METHOD_CALL and message.sender:
            self.caller = message.sender[1:].replace(".", "_")

    def respond(self, token: str, code: int, results: dict[str, Any]) -> str:
        """Answer a request, after the call itself."""
        path = f"{PLACE}/request/{self.caller}/{token}"
        answer = Message(
            path=path,
            interface="org.freedesktop.portal.Request",
            member="Response",
            message_type=MessageType.SIGNAL,
            signature="ua{sv}",
            body=[code, results],
        )
        self._loop.call_soon(self.bus.send, answer)
        return path

    def press(self, name: str, session: str = "") -> None:
        self._do(self._call(lambda: self._shortcuts.Activated(session or self.session, name)))

    def rename(self, keys: dict[str, str]) -> None:
        """The user chooses other keys in the desktop's own settings."""
        told = bound(self.asked[-1].items(), keys)
        self._do(self._call(lambda: self._shortcuts.ShortcutsChanged(self.session, told)))


class _Impl(ServiceInterface):
    def __init__(self, desktop: "Backend") -> None:
        super().__init__("org.freedesktop.impl.portal.GlobalShortcuts")
        self._desktop = desktop

    @dbus_property(PropertyAccess.READ, name="version")
    def shown_version(self) -> "u":
        return 1

    @method()
    def CreateSession(self, handle: "o", session: "o", app: "s", options: "a{sv}") -> "ua{sv}":
        self._desktop.session = session
        return [0, {}]

    @method()
    def BindShortcuts(
        self, handle: "o", session: "o", wishes: "a(sa{sv})", parent: "s", options: "a{sv}"
    ) -> "ua{sv}":
        self._desktop.asked.append({name: wish for name, wish in wishes})
        return [0, {"shortcuts": Variant("a(sa{sv})", bound(wishes, KEYS))}]

    @signal()
    def Activated(self, session, name) -> "osta{sv}":
        return [session, name, 1, {}]


class Backend(_OnBus):
    """The desktop behind a real portal."""

    NAME = "org.freedesktop.impl.portal.desktop.played"
    INTERFACE = "org.freedesktop.impl.portal.GlobalShortcuts"
    FILE = f"[portal]\nDBusName={NAME}\nInterfaces={INTERFACE};\nUseIn=played\n"

    def __init__(self) -> None:
        self.session = ""
        self.asked: list[dict[str, Any]] = []

    async def _appear(self) -> None:
        await super()._appear()
        self._impl = _Impl(self)
        self.bus.export(PLACE, self._impl)
        await self.bus.request_name(self.NAME)

    def press(self, name: str) -> None:
        self._do(self._call(lambda: self._impl.Activated(self.session, name)))

    def send(self, whom: str, member: str, signature: str, body: list[Any]) -> None:
        """A signal as the portal's, sent by another program."""
        interface = "org.freedesktop.portal.GlobalShortcuts"
        kind = MessageType.SIGNAL
        message = Message(whom, PLACE, interface, member, kind, signature=signature, body=body)
        self._do(self._call(lambda: self.bus.send(message)))
