"""A PipeWire session of its own, apart from the user's: bus, pipewire, wireplumber."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NEEDED = {
    "dbus-daemon": "dbus",
    "pipewire": "pipewire",
    "pw-dump": "pipewire-bin",
    "wireplumber": "wireplumber",
    "gst-launch-1.0": "gstreamer1.0-tools",
}
_STORE = "org.freedesktop.impl.portal.PermissionStore"
_AGREE = (
    f"--dest={_STORE}", "/org/freedesktop/impl/portal/PermissionStore", f"{_STORE}.SetPermission",
    "string:devices", "boolean:true", "string:camera", "string:", "array:string:yes",
)  # fmt: skip
_CAMERA_PRESENT = (
    "--dest=org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop",
    "org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.portal.Camera",
    "string:IsCameraPresent",
)  # fmt: skip


def missing() -> list[str]:
    """Debian packages that the session needs and this machine lacks."""
    lacking = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if not lacking and not _says("gst-inspect-1.0", "pipewiresrc"):
        lacking.append("gstreamer1.0-pipewire")
    return lacking


def _says(*command: str, environ: dict[str, str] | None = None) -> bool:
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    return done.returncode == 0


def _program(name: str) -> Path | None:
    """A program that lies outside PATH, as services do."""
    places = (Path("/usr/libexec") / name, Path("/usr/lib") / name)
    return next((place for place in places if place.exists()), None)


def missing_portal() -> list[str]:
    """The same for `Session.portal`."""
    return [] if _program("xdg-desktop-portal") else ["xdg-desktop-portal"]


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


class Session:
    """The running session; `environ` is what programs in it are started with."""

    def __init__(self, home: Path) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.home = home
        runtime = home / "run"
        runtime.mkdir(mode=0o700, parents=True)
        self._log = (home / "session.log").open("ab")
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        bus = runtime / "bus"
        self.environ = keep | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CURRENT_DESKTOP": "XFCE",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}",
            "LC_ALL": "C.UTF-8",
        }
        portals = home / "portals"
        portals.mkdir()
        # The portal has cameras only where somebody could ask the user; with an answer nobody does.
        (portals / "nobody.portal").write_text(
            "[portal]\nDBusName=org.freedesktop.impl.portal.desktop.nobody\n"
            "Interfaces=org.freedesktop.impl.portal.Access\nUseIn=XFCE\n"
        )
        self.environ["XDG_DESKTOP_PORTAL_DIR"] = str(portals)
        self.start("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile",
                   f"--address=unix:path={bus}")  # fmt: skip
        until(bus.exists)
        self.pipewire()

    def pipewire(self) -> None:
        """Start PipeWire, or start it again."""
        self.start("pipewire", "pipewire")
        until((self.home / "run/pipewire-0").exists)
        self.session_manager()

    def session_manager(self) -> None:
        """Start WirePlumber, or start it again."""
        self.start("wireplumber", "wireplumber")
        until(lambda: any("WirePlumber" in json.dumps(o) for o in self.objects()))

    def portal(self) -> None:
        """Have the bus start the desktop's portal; the user has agreed to cameras already."""
        until(lambda: self._call(_AGREE))
        until(lambda: self._call(_CAMERA_PRESENT))

    def _call(self, words: tuple[str, ...]) -> bool:
        """Whether a call on the session bus is answered."""
        command = ["dbus-send", "--session", "--print-reply", *words]
        return _says(*command, environ=self.environ)

    def start(self, name: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a program in the session."""
        process = subprocess.Popen(
            command, env=self.environ | environ, stdout=self._log, stderr=self._log,
            stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.home,
        )  # fmt: skip
        self._running[name] = process
        return process

    def end(self, name: str) -> None:
        """End a program and whatever it started."""
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def objects(self) -> list[dict[str, Any]]:
        """Everything PipeWire knows of."""
        told = subprocess.run(["pw-dump"], env=self.environ, capture_output=True, check=False)
        with contextlib.suppress(ValueError):
            found: list[dict[str, Any]] = json.loads(told.stdout)
            return found
        return []

    def cameras(self) -> list[str]:
        """What programs list as cameras."""
        props = [(entry.get("info") or {}).get("props") or {} for entry in self.objects()]
        return [p["node.description"] for p in props if p.get("media.class") == "Video/Source"]

    def close(self) -> None:
        """End everything, in reverse."""
        for name in reversed(list(self._running)):
            self.end(name)
        self._log.close()


@contextlib.contextmanager
def session(home: Path) -> Iterator[Session]:
    """A session for as long as the block runs."""
    running = Session(home)
    try:
        yield running
    finally:
        running.close()
