"""Keys from the desktop's portal: chosen once, taken up again, and nobody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from desktop import until
from play import FileDaemon
from portal import DESKTOP, KEYS, Backend, Portal
from test_tray import QuietIcon

from vcam.tray import app
from vcam.tray.shortcuts import APP_ID

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the portal is Linux's")

ENTRY = "Keyboard shortcuts …"
COMMANDS = "vcam toggle"
REAL = Path("/usr/libexec/xdg-desktop-portal")


class Watched:
    """A tray with keys, looked at from outside."""

    def __init__(self, tray: app.Tray, held: Any) -> None:
        self.tray, self.held = tray, held

    @property
    def icon(self) -> Any:
        return self.tray.icon

    @property
    def about(self) -> str:
        return str(getattr(self.icon, "about", ""))

    @property
    def state(self) -> str:
        return str(self.held.read()["status"]["state"])

    def entry(self) -> Any:
        return next((e for e in self.icon.menu if str(e.text) == ENTRY), None)

    def choose(self) -> None:
        until(self.entry)
        self.entry()(self.icon)


Start = Callable[[], Any]


@pytest.fixture
def start(bus: str, held: Any, tmp_path: Path) -> Start:
    """A tray that runs inside a `with`; each start finds what the one before remembered."""

    @contextmanager
    def running() -> Iterator[Watched]:
        tray = app.Tray(QuietIcon, lambda: FileDaemon(held.path), interval=0.02)
        with tray.with_shortcuts(tmp_path / "data" / "shortcuts"):
            thread = threading.Thread(target=tray.run)
            thread.start()
            try:
                until(lambda: tray.view.running)
                yield Watched(tray, held)
            finally:
                tray.stop()
                thread.join(5)
        assert not thread.is_alive()

    return running


def test_a_key_chosen_by_a_click_pauses_and_the_tooltip_names_it(start: Start) -> None:
    with Portal() as portal, start() as tray:
        until(lambda: portal.app_id == APP_ID)
        until(tray.entry)
        assert not portal.asked  # no dialog that nobody asked for
        until(lambda: COMMANDS in tray.about)

        tray.choose()

        until(lambda: KEYS["toggle"] in tray.about)
        assert "Pause or resume: Ctrl+Alt+P · Next background: Ctrl+Alt+B" in tray.about
        assert COMMANDS not in tray.about
        assert portal.asked[0]["toggle"]["preferred_trigger"].value == "CTRL+ALT+p"
        portal.press("toggle")
        until(lambda: tray.state == "paused")
        portal.press("toggle")
        until(lambda: tray.state == "live")
        portal.press("freeze")
        until(lambda: tray.tray.view.state == "frozen")
        portal.press("freeze")
        until(lambda: tray.state == "live")
        portal.press("next")
        until(lambda: tray.held.read()["settings"]["background"]["use"] == "library")


def test_keys_are_taken_up_again_without_a_click(start: Start) -> None:
    with Portal(), start() as tray:
        tray.choose()
        until(lambda: KEYS["toggle"] in tray.about)

    with start() as tray:
        until(lambda: COMMANDS in tray.about)
        assert tray.entry() is None
        for _ in range(2):  # the portal comes later, ends, and comes back
            with Portal() as portal:
                until(lambda: KEYS["toggle"] in tray.about)
                portal.press("toggle")
                until(lambda: tray.state == "paused")
                portal.press("toggle")
                until(lambda: tray.state == "live")
            until(lambda: COMMANDS in tray.about)
            until(lambda: tray.entry() is None)


def test_who_says_no_is_not_asked_again(start: Start) -> None:
    with Portal() as portal, start() as tray:
        portal.answer = 1
        tray.choose()
        until(lambda: portal.asked)
        until(lambda: tray.tray._shortcuts and not tray.tray._shortcuts._one_at_a_time.locked())
        assert COMMANDS in tray.about
        assert not tray.icon.told

    with Portal() as portal, start() as tray:
        until(tray.entry)
        assert not portal.asked


def test_another_choice_in_the_desktops_settings_is_shown(start: Start) -> None:
    with Portal() as portal, start() as tray:
        tray.choose()
        until(lambda: KEYS["toggle"] in tray.about)

        portal.rename({"toggle": "Pause"})

        until(lambda: tray.about == "Pause or resume: Pause")
        tray.choose()
        until(lambda: portal.configured == 1)
        assert len(portal.asked) == 1


def test_a_portal_without_a_registry_or_a_window_for_the_keys_serves_too(start: Start) -> None:
    with Portal(1, registers=False) as portal, start() as tray:
        tray.choose()
        until(lambda: KEYS["toggle"] in tray.about)

        tray.choose()

        until(lambda: tray.icon.told)
        assert "keyboard settings" in tray.icon.told[0][1]
        assert len(portal.asked) == 1


def test_a_fault_of_the_desktop_is_told_and_asked_again_by_a_click(start: Start) -> None:
    with Portal() as portal, start() as tray:
        portal.answer = 2
        tray.choose()
        until(lambda: tray.icon.told)
        assert tray.icon.told == [(ENTRY[:-2], "The desktop could not set the shortcuts up.")]

        portal.answer = 0
        tray.choose()

        until(lambda: KEYS["toggle"] in tray.about)


def test_a_key_of_another_session_or_program_does_nothing(start: Start) -> None:
    with Portal() as portal, start() as tray:
        tray.choose()
        until(lambda: KEYS["toggle"] in tray.about)

        portal.press("toggle", session="/org/freedesktop/portal/desktop/session/1_1/other")
        portal.press("unheard of")
        with Backend() as stranger:
            us = tray.tray._shortcuts._bus.unique_name  # type: ignore[union-attr]
            stranger.send(us, "Activated", "osta{sv}", [portal.session, "toggle", 1, {}])
        portal.press("next")

        until(lambda: tray.held.read()["settings"]["background"]["use"] == "library")
        assert tray.state == "live"


def test_without_a_portal_none_is_started_and_the_commands_are_named(start: Start) -> None:
    with start() as tray:
        until(lambda: COMMANDS in tray.about)
        assert tray.entry() is None
        asked = ["dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.DBus",
                 "/", "org.freedesktop.DBus.NameHasOwner", f"string:{DESKTOP}"]  # fmt: skip
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert "false" in said


@pytest.mark.skipif(not REAL.exists(), reason="apt-get install xdg-desktop-portal")
def test_the_real_portal_hands_the_keys_of_a_desktop_on(
    start: Start, tmp_path: Path, bus: str
) -> None:
    portals, runtime = tmp_path / "portals", tmp_path / "run"
    portals.mkdir()
    runtime.mkdir(mode=0o700)
    (portals / "played.portal").write_text(Backend.FILE)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_DESKTOP_PORTAL_DIR": str(portals),
        "XDG_CURRENT_DESKTOP": "played",
        "DBUS_SESSION_BUS_ADDRESS": bus,
    }
    with Backend() as desktop, start() as tray:
        portal = subprocess.Popen([REAL], env=environ, stderr=subprocess.DEVNULL)
        try:
            tray.choose()
            until(lambda: KEYS["toggle"] in tray.about)
            assert set(desktop.asked[0]) == {"toggle", "freeze", "next"}

            desktop.press("toggle")

            until(lambda: tray.state == "paused")
        finally:
            portal.terminate()
            portal.wait()
        until(lambda: COMMANDS in tray.about)
    if program := shutil.which("fusermount"):
        subprocess.run([program, "-uz", runtime / "doc"], capture_output=True, check=False)
