"""A pystray back end that speaks StatusNotifierItem and dbusmenu, the trays of today's desktops.

From "StatusNotifierItem" (freedesktop.org, https://www.freedesktop.org/wiki/Specifications/
StatusNotifierItem/) and libdbusmenu's interface description. Needs a session bus and nothing else:
no X connection, no GTK. The bus lives on one thread's event loop; callbacks run on threads of
their own, so a slow one never freezes the menu.
"""

# No `from __future__ import annotations`: dbus-fast reads D-Bus signatures from the annotations.
import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from dbus_fast import BusType, Message, MessageType, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, method, signal
from PIL import Image

from vcam.foreign_text import block, escaped, plain

os.environ.setdefault("PYSTRAY_BACKEND", "dummy")  # the import itself must not look for a display
from pystray import Menu, _base

log = logging.getLogger(__name__)

WATCHER = "org.kde.StatusNotifierWatcher"
NOTIFICATIONS = "org.freedesktop.Notifications"
SIZES = (16, 22, 24, 32, 48, 64)  # what panels ask for, so that none has to scale
READ = PropertyAccess.READ

# ruff: noqa: F722, F821 (the annotations below are D-Bus signatures, not types)
# mypy: disable-error-code="valid-type, name-defined, syntax, misc"
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls


def pixmaps(image: Image.Image) -> list[list[Any]]:
    """The picture in each size as (width, height, ARGB bytes in network order)."""
    result = []
    for size in SIZES:
        scaled = image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)
        red, green, blue, alpha = scaled.split()
        result.append([size, size, Image.merge("RGBA", (alpha, red, green, blue)).tobytes()])
    return result


class _Item(ServiceInterface):
    """The icon, as the panel sees it."""

    def __init__(self, icon: "Icon") -> None:
        super().__init__("org.kde.StatusNotifierItem")
        self._icon = icon

    @dbus_property(READ)
    def Category(self) -> "s":
        return "Hardware"

    @dbus_property(READ)
    def Id(self) -> "s":
        return str(self._icon.name)

    @dbus_property(READ)
    def Title(self) -> "s":
        return plain(self._icon.title or self._icon.name)

    @dbus_property(READ)
    def Status(self) -> "s":
        return "Active" if self._icon.visible else "Passive"

    @dbus_property(READ)
    def WindowId(self) -> "i":
        return 0

    @dbus_property(READ)
    def IconName(self) -> "s":
        return ""

    @dbus_property(READ)
    def IconThemePath(self) -> "s":
        return ""

    @dbus_property(READ)
    def IconPixmap(self) -> "a(iiay)":
        return pixmaps(self._icon.icon) if self._icon.icon else []

    @dbus_property(READ)
    def OverlayIconName(self) -> "s":
        return ""

    @dbus_property(READ)
    def AttentionIconName(self) -> "s":
        return ""

    @dbus_property(READ)
    def ToolTip(self) -> "(sa(iiay)ss)":
        return ["", [], plain(self._icon.title or ""), getattr(self._icon, "about", "")]

    @dbus_property(READ)
    def ItemIsMenu(self) -> "b":
        return False

    @dbus_property(READ)
    def Menu(self) -> "o":
        return "/MenuBar"

    @method()
    def Activate(self, x: "i", y: "i"):
        self._icon.act(self._icon)

    @method()
    def SecondaryActivate(self, x: "i", y: "i"):
        pass

    @method()
    def ContextMenu(self, x: "i", y: "i"):
        pass

    @method()
    def Scroll(self, delta: "i", orientation: "s"):
        pass

    @signal()
    def NewIcon(self):
        pass

    @signal()
    def NewTitle(self):
        pass

    @signal()
    def NewToolTip(self):
        pass

    @signal()
    def NewStatus(self) -> "s":
        return "Active" if self._icon.visible else "Passive"


class _MenuBar(ServiceInterface):
    """The menu as dbusmenu wants it: numbered entries, of which 0 is the root."""

    def __init__(self, icon: "Icon") -> None:
        super().__init__("com.canonical.dbusmenu")
        self._icon = icon
        self._revision = 0
        self._entries: dict[int, tuple[Any, list[int]]] = {}
        self._shown: list[Any] = []
        self.rebuild()

    def rebuild(self) -> bool:
        """Read the menu again; whether anything a person could see is different."""
        entries: dict[int, tuple[Any, list[int]]] = {0: (None, [])}

        def add(parent: int, menu: Any) -> None:
            for entry in menu or ():
                number = len(entries)
                entries[number] = (entry, [])
                entries[parent][1].append(number)
                if entry is not Menu.SEPARATOR and entry.submenu:
                    add(number, entry.submenu)

        add(0, self._icon.menu)
        self._entries = entries
        shown = self._layout(0, -1)
        if shown == self._shown:
            return False
        self._shown = shown
        self._revision += 1
        return True

    def _properties(self, number: int) -> dict[str, Variant]:
        entry, children = self._entries[number]
        if entry is None:
            return {"children-display": Variant("s", "submenu")}
        if entry is Menu.SEPARATOR:
            return {"type": Variant("s", "separator")}
        shown = {
            "label": Variant("s", plain(entry.text).replace("_", "__"))
        }  # "_" marks a shortcut
        if picture := getattr(entry, "picture", b""):
            shown["icon-data"] = Variant("ay", picture)
        if not entry.enabled:
            shown["enabled"] = Variant("b", False)
        if entry.checked is not None:
            shown["toggle-type"] = Variant("s", "radio" if entry.radio else "checkmark")
            shown["toggle-state"] = Variant("i", int(bool(entry.checked)))
        if children:
            shown["children-display"] = Variant("s", "submenu")
        return shown

    def _layout(self, number: int, depth: int) -> list[Any]:
        children = self._entries[number][1] if depth else []
        inner = [Variant("(ia{sv}av)", self._layout(child, depth - 1)) for child in children]
        return [number, self._properties(number), inner]

    def _act(self, number: int, event: str) -> None:
        entry = self._entries.get(number, (None, []))[0]
        if event == "clicked" and entry is not None and entry is not Menu.SEPARATOR:
            self._icon.act(entry, self._icon)

    @dbus_property(READ)
    def Version(self) -> "u":
        return 3

    @dbus_property(READ)
    def TextDirection(self) -> "s":
        return "ltr"

    @dbus_property(READ)
    def Status(self) -> "s":
        return "normal"

    @dbus_property(READ)
    def IconThemePath(self) -> "as":
        return []

    @method()
    def GetLayout(self, parent: "i", depth: "i", names: "as") -> "u(ia{sv}av)":
        return [self._revision, self._layout(parent if parent in self._entries else 0, depth)]

    @method()
    def GetGroupProperties(self, ids: "ai", names: "as") -> "a(ia{sv})":
        wanted = ids or list(self._entries)
        return [[number, self._properties(number)] for number in wanted if number in self._entries]

    @method()
    def GetProperty(self, number: "i", name: "s") -> "v":
        shown = self._properties(number) if number in self._entries else {}
        return shown.get(name, Variant("s", ""))

    @method()
    def Event(self, number: "i", event: "s", data: "v", timestamp: "u"):
        self._act(number, event)

    @method()
    def EventGroup(self, events: "a(isvu)") -> "ai":
        for number, event, _, _ in events:
            self._act(number, event)
        return []

    @method()
    def AboutToShow(self, number: "i") -> "b":
        return False

    @method()
    def AboutToShowGroup(self, ids: "ai") -> "aiai":
        return [[], []]

    @signal()
    def LayoutUpdated(self) -> "ui":
        return [self._revision, 0]


class Icon(_base.Icon):
    """pystray's Icon on the session bus; registers again whenever the panel comes back."""

    HAS_DEFAULT_ACTION = True
    HAS_MENU = True
    HAS_MENU_RADIO = True
    HAS_NOTIFICATION = True
    escapes = True  # markup in notifications

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._bus: MessageBus | None = None
        self._notification = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def act(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Run a click's callback away from the bus thread."""

        def run() -> None:
            try:
                callback(*arguments)
            except Exception:
                log.exception("The tray stumbled over a click")

        threading.Thread(target=run, name="tray-click", daemon=True).start()

    def _do(self, work: Callable[[], Any]) -> None:
        loop = self._loop
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(work)

    def _show(self) -> None:
        # pystray sets `visible` after this call; by the time the loop gets to it, it is set.
        self._do(lambda: self._item.NewStatus())

    _hide = _show

    def _update_icon(self) -> None:
        self._icon_valid = True
        self._do(lambda: self._item.NewIcon())

    def _update_title(self) -> None:
        self._do(lambda: (self._item.NewTitle(), self._item.NewToolTip()))

    def _update_menu(self) -> None:
        def update() -> None:
            if self._bar.rebuild():
                self._bar.LayoutUpdated()

        self._do(update)

    def _stop(self) -> None:
        self._do(lambda: self._ended.set() if self._ended else None)

    def _notify(self, message: str, title: "str | None" = None) -> None:
        self._do(lambda: self._spawn(self._send_notification(message, title)))

    def _remove_notification(self) -> None:
        pass

    def _run(self) -> None:
        asyncio.run(self._main())

    def _run_detached(self) -> None:
        threading.Thread(target=self._run, name="tray", daemon=True).start()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps no hold of it
        task.add_done_callback(self._tasks.discard)

    async def _send_notification(self, message: str, title: "str | None") -> None:
        assert self._bus is not None
        body = escaped(block(message)) if await self._reads_markup() else block(message)
        reply = await self._bus.call(
            Message(
                destination=NOTIFICATIONS,
                path="/org/freedesktop/Notifications",
                interface=NOTIFICATIONS,
                member="Notify",
                signature="susssasa{sv}i",
                # The last one is replaced, so a flapping camera does not pile them up.
                body=[
                    self.name,
                    self._notification,
                    "camera-web",
                    plain(title or self.title or ""),
                    body,
                    [],
                    {"desktop-entry": Variant("s", "vbg-camera")},
                    -1,
                ],
            )
        )
        if reply is not None and reply.message_type == MessageType.METHOD_RETURN:
            self._notification = reply.body[0]

    async def _reads_markup(self) -> bool:
        """True if the desktop takes a notification's text for markup, as most do."""
        assert self._bus is not None
        reply = await self._bus.call(
            Message(
                destination=NOTIFICATIONS,
                path="/org/freedesktop/Notifications",
                interface=NOTIFICATIONS,
                member="GetCapabilities",
            )
        )
        if reply is None or reply.message_type != MessageType.METHOD_RETURN:
            return True
        return "body-markup" in reply.body[0]

    async def _register(self) -> None:
        assert self._bus is not None
        reply = await self._bus.call(
            Message(
                destination=WATCHER,
                path="/StatusNotifierWatcher",
                interface=WATCHER,
                member="RegisterStatusNotifierItem",
                signature="s",
                body=[self._name_on_bus],
            )
        )
        if reply is None or reply.message_type != MessageType.METHOD_RETURN:
            log.info("No panel takes tray icons at the moment; waiting for one")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._bus = bus = await MessageBus(bus_type=BusType.SESSION).connect()
        self._item, self._bar = _Item(self), _MenuBar(self)
        bus.export("/StatusNotifierItem", self._item)
        bus.export("/MenuBar", self._bar)
        self._name_on_bus = f"org.kde.StatusNotifierItem-{os.getpid()}-1"
        await bus.request_name(self._name_on_bus)
        rule = (
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
            f"arg0='{WATCHER}'"
        )
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )

        def heard(message: Message) -> None:
            if message.member == "NameOwnerChanged":
                name, _, owner = message.body
                if name == WATCHER and owner:
                    self._spawn(self._register())

        bus.add_message_handler(heard)
        self._mark_ready()
        await self._register()
        gone = asyncio.ensure_future(bus.wait_for_disconnect())
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, ended, *self._tasks):
            task.cancel()
        await asyncio.gather(gone, ended, return_exceptions=True)
        bus.disconnect()


async def watcher_runs(patience: float = 0.0) -> bool:
    """True if a panel takes StatusNotifierItems, waiting up to `patience` seconds for one.

    Raises:
        OSError, ValueError: there is no session bus.
    """
    bus = await MessageBus(bus_type=BusType.SESSION).connect()
    try:
        until = asyncio.get_running_loop().time() + patience
        while True:
            reply = await bus.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="NameHasOwner",
                    signature="s",
                    body=[WATCHER],
                )
            )
            if reply is not None and reply.body[0]:
                return True
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(0.25)
    finally:
        bus.disconnect()
