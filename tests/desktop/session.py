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
PORTALS = (Path("/usr/libexec/xdg-desktop-portal"), Path("/usr/lib/xdg-desktop-portal"))


def missing() -> list[str]:
    """Debian packages that the session needs and this machine lacks."""
    lacking = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if not lacking and not _says("gst-inspect-1.0", "pipewiresrc"):
        lacking.append("gstreamer1.0-pipewire")
    return lacking


def _says(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


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
        self.start("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile",
                   f"--address=unix:path={bus}")  # fmt: skip
        until(bus.exists)
        self.pipewire()

    def pipewire(self) -> None:
        """Start PipeWire, or start it again."""
        self.start("pipewire", "pipewire")
        until((self.home / "run/pipewire-0").exists)
        self.start("wireplumber", "wireplumber")
        until(lambda: any("WirePlumber" in json.dumps(o) for o in self.objects()))

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
