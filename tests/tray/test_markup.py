"""Foreign names in the panel's menu and in notifications, on a real bus."""

# No `from __future__ import annotations`: dbus-fast reads D-Bus signatures from the annotations.
# ruff: noqa: F722, F821 (some annotations below are D-Bus signatures)
import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop import until
from pystray import Menu, MenuItem

from tests.hostile import NAMES, harmful
from vcam.tray import app, icons

if sys.platform != "linux" or not shutil.which("dbus-daemon"):
    pytest.skip("apt-get install dbus", allow_module_level=True)

from dbus_fast import Message
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, method

from vcam.tray import status_item


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    address = f"unix:path={tmp_path}/bus"
    process = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"]
    )
    until((tmp_path / "bus").exists)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    yield
    process.terminate()
    process.wait(10)


class Desk(ServiceInterface):
    """A desktop's notifications; `told` is what it was asked to show."""

    def __init__(self, capabilities: list[str]) -> None:
        super().__init__("org.freedesktop.Notifications")
        self.capabilities = capabilities
        self.told: list[tuple[str, str]] = []

    # fmt: off
    @method()
    def GetCapabilities(self) -> "as":
        return self.capabilities

    @method()
    def Notify(self, name: "s", old: "u", icon: "s", title: "s", body: "s", actions: "as",
               hints: "a{sv}", patience: "i") -> "u":
        self.told.append((title, body))
        return len(self.told)
    # fmt: on


async def shown(icon: Any, desk: Desk, notices: list[tuple[str, str]]) -> list[Any]:
    """Notify all of `notices`, and read the menu and the tooltip as a panel does."""
    mine = await MessageBus().connect()
    mine.export("/org/freedesktop/Notifications", desk)
    await mine.request_name("org.freedesktop.Notifications")
    icon.run_detached()
    name = f"org.kde.StatusNotifierItem-{os.getpid()}-1"
    try:
        end = time.monotonic() + 20
        reply: Any = None
        while reply is None or reply.error_name:
            assert time.monotonic() < end, reply and reply.body
            await asyncio.sleep(0.05)
            reply = await mine.call(
                Message(name, "/MenuBar", "com.canonical.dbusmenu", "GetLayout",
                        signature="iias", body=[0, -1, []])
            )  # fmt: skip
        for title, text in notices:
            icon.notify(text, title)
        while len(desk.told) < len(notices):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        props = await mine.call(
            Message(name, "/StatusNotifierItem", "org.freedesktop.DBus.Properties", "GetAll",
                    signature="s", body=["org.kde.StatusNotifierItem"])
        )  # fmt: skip
        assert props is not None
        entries = [child.value[1]["label"].value for child in reply.body[1][2]]
        return [entries, props.body[0]["Title"].value, props.body[0]["ToolTip"].value[2]]
    finally:
        icon.stop()
        mine.disconnect()


@pytest.mark.parametrize("markup", [True, False])
@pytest.mark.usefixtures("bus")
def test_menu_tooltip_and_notifications_only_show_what_others_wrote(markup: bool) -> None:
    menu = Menu(*(MenuItem(name, lambda: None) for name in NAMES.values()))
    icon = status_item.Icon("vbg-camera", icons.icon("off"), NAMES["escape"], menu)
    desk = Desk(["body", "body-markup"] if markup else ["body"])

    entries, title, tip = asyncio.run(shown(icon, desk, [(name, name) for name in NAMES.values()]))

    assert len(entries) == len(NAMES)
    for text in (*entries, title, tip, *(part for notice in desk.told for part in notice)):
        assert harmful(text) == []
        assert 0 < len(text) < 10_000
    for text in (*entries, title, tip, *(head for head, _ in desk.told)):
        assert "\n" not in text
    assert "_" not in entries[list(NAMES).index("markup")].replace("__", "")  # no shortcut keys
    body = desk.told[list(NAMES).index("markup")][1]
    assert body == ("&lt;b&gt;bold" if markup else "<b>bold") + body.split("bold", 1)[1]
    assert ("<" in body, "&amp;" in body) == (not markup, markup)


class Quiet:
    """An icon of a desktop that nobody asked what it makes of markup."""

    HAS_NOTIFICATION = True

    def __init__(self, *_: Any) -> None:
        self.told: list[tuple[str, str]] = []

    def notify(self, message: str, title: str) -> None:
        self.told.append((title, message))


def test_where_nobody_asks_about_markup_there_is_none() -> None:
    tray = app.Tray(Quiet, lambda: pytest.fail("asked"))

    for name in NAMES.values():
        tray._notify("That did not work", name)

    for _, text in tray.icon.told:
        assert harmful(text) == []
        assert not set(text) & set("<>&")
        assert len(text) <= 1000
