"""doctor in a real session: nothing to say of a healthy one, and each planted fault named once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.desktop.session import Session, missing_portal, session, until
from vcam.client import Client
from vcam.doctor import facts
from vcam.doctor.finding import Finding
from vcam.doctor.report import run_checks
from vcam.errors import VcamError
from vcam.settings.config import user_path

pytestmark = pytest.mark.desktop

STORE = "org.freedesktop.impl.portal.PermissionStore"
Plant = Callable[["Desk"], None]


class Desk:
    """A session with a daemon that shows a picture through PipeWire, and nothing wrong with it."""

    def __init__(self, home: Path, session: Session) -> None:
        self.home, self.session = home, session
        self.room = home / "room.png"
        Image.fromarray(np.full((180, 320, 3), 235, np.uint8)).save(self.room)
        self.settings = home / ".config/vcam/config.toml"
        self.settings.parent.mkdir(parents=True)
        self.write()

    def write(self, more: str = "") -> None:
        """Write the settings."""
        sink = 'sink = "pipewire"\nwidth = 320\nheight = 180'
        self.settings.write_text(f'[output]\n{sink}\n[camera]\nsource = "{self.room}"\n{more}')

    def start(self) -> None:
        """Start the daemon."""
        words = [sys.executable, "-m", "vcam", "start", "--foreground"]
        self.session.start("vcam", *words)
        until(self.runs, 180)

    def runs(self) -> bool:
        """True once the daemon answers and its virtual camera is open."""
        with contextlib.suppress(VcamError, OSError):
            return bool(Client.connect().status()["sinks"])
        return False


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, desk: Session) -> Iterator[Desk]:
    if lacking := missing_portal():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    home = tmp_path_factory.mktemp("h")
    with session(home / "d") as own, pytest.MonkeyPatch.context() as here:
        own.portal()
        own.environ["HOME"] = str(home)
        for name in ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
            here.setenv(name, own.environ[name])
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "DISPLAY", "WAYLAND_DISPLAY"):
            here.delenv(name, raising=False)
        desk_ = Desk(home, own)
        assert user_path() == desk_.settings
        desk_.start()
        yield desk_


@pytest.fixture(autouse=True)
def inside(healthy: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """This session's own bus, and no browser: what is told of those is worth knowing, no fault."""
    for name in ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.setenv(name, healthy.session.environ[name])
    look = facts.shutil.which
    browsers = ("firefox", "chromium", "google-chrome")
    monkeypatch.setattr(facts.shutil, "which", lambda n: None if n in browsers else look(n))


def found() -> list[Finding]:
    # This machine's own module and unit are no part of the session.
    return [finding for finding in run_checks() if "v4l2loopback" not in finding.what]


def test_a_healthy_session_hears_nothing(healthy: Desk) -> None:
    assert found() == []


def end_wireplumber(desk: Desk) -> None:
    desk.session.end("wireplumber")


def end_pipewire(desk: Desk) -> None:
    for name in ("wireplumber", "pipewire"):
        desk.session.end(name)
    (desk.session.home / "run/pipewire-0").unlink(missing_ok=True)


def start_pipewire(desk: Desk) -> None:
    desk.session.pipewire()
    until(lambda: "VBG Camera" in desk.session.cameras(), 60)


def start_wireplumber(desk: Desk) -> None:
    desk.session.start("wireplumber", "wireplumber")
    until(lambda: any("WirePlumber" in str(o) for o in desk.session.objects()))


def permit(desk: Desk, answer: str) -> None:
    words = (
        f"--dest={STORE}", "/org/freedesktop/impl/portal/PermissionStore", f"{STORE}.SetPermission",
        "string:devices", "boolean:true", "string:camera", "string:org.mozilla.firefox",
        f"array:string:{answer}",
    )  # fmt: skip
    subprocess.run(
        ["dbus-send", "--session", "--print-reply", *words],
        env=desk.session.environ, check=True, capture_output=True,
    )  # fmt: skip


def spoil_settings(desk: Desk) -> None:
    desk.write('[matte]\nquality = "best"\n')
    until(lambda: Client.connect().status().get("config_problem"), 30)


def mend_settings(desk: Desk) -> None:
    desk.write()
    until(lambda: not Client.connect().status().get("config_problem"), 30)


def unit_of_nothing(desk: Desk) -> None:
    unit = desk.home / ".config/systemd/user/vcam.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/nowhere/bin/vcam start --foreground\n")


def no_unit(desk: Desk) -> None:
    (desk.home / ".config/systemd/user/vcam.service").unlink()
    (desk.home / ".config/systemd/user").rmdir()


def stop_daemon(desk: Desk) -> None:
    desk.session.end("vcam")


def lose_picture(desk: Desk) -> None:
    """A source that is named and not there, and somebody who waits for it."""
    Client.connect().change({"camera": {"source": str(desk.home / "gone.png")}})
    Client.connect().change({"output": {"on_demand": False}})
    until(lambda: Client.connect().status()["state"] == "fault", 60)


def find_picture(desk: Desk) -> None:
    Client.connect().change({"camera": {"source": str(desk.room)}})
    Client.connect().change({"output": {"on_demand": True}})
    until(lambda: Client.connect().status()["state"] != "fault", 60)


FAULTS: dict[str, tuple[Plant, Plant, str, str]] = {
    "no session manager": (
        end_wireplumber,
        start_wireplumber,
        "PipeWire has no session manager",
        "systemctl --user restart wireplumber.service",
    ),
    "refused by the portal": (
        lambda desk: permit(desk, "no"),
        lambda desk: permit(desk, "yes"),
        "The desktop refuses the camera to org.mozilla.firefox",
        "gdbus call --session",
    ),
    "an edit of the settings that is not taken": (
        spoil_settings,
        mend_settings,
        "quality",
        "",
    ),
    "a unit that starts nothing": (
        unit_of_nothing,
        no_unit,
        "starts a program that is not there",
        "bash ",
    ),
    "a desktop without a tray": (
        lambda desk: os.environ.__setitem__("DISPLAY", ":99"),
        lambda desk: os.environ.__delitem__("DISPLAY"),
        "This desktop shows no tray icons",
        "",
    ),
    "a picture that is gone": (lose_picture, find_picture, "The camera shows the privacy card", ""),
    "no PipeWire": (end_pipewire, start_pipewire, "PipeWire, which is not running", "systemctl"),
    "no daemon": (stop_daemon, Desk.start, "The daemon is not running", "vcam start"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_once_with_its_command(healthy: Desk, name: str) -> None:
    plant, mend, what, command = FAULTS[name]
    plant(healthy)
    try:
        said = found()
    finally:
        mend(healthy)

    assert [what in finding.what for finding in said] == [True], said
    assert said[0].command.startswith(command)
    assert bool(said[0].command) is bool(command)
    assert said[0].why
    until(lambda: found() == [], 60)
