"""A small real desktop for tests: X server, session bus, window manager, panel with a tray."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

NEEDED = {
    "Xvfb": "xvfb",
    "dbus-daemon": "dbus",
    "openbox": "openbox",
    "xfce4-panel": "xfce4-panel",
    "xdotool": "xdotool",
    "import": "imagemagick",
}
PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array"><value type="int" value="1"/>
    <property name="dark-mode" type="bool" value="{dark}"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=8;x=640;y=704"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="length" type="uint" value="100"/>
      <property name="size" type="uint" value="32"/>
      <property name="icon-size" type="uint" value="22"/>
      <property name="plugin-ids" type="array">
        <value type="int" value="1"/><value type="int" value="2"/></property>
    </property></property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="separator">
      <property name="expand" type="bool" value="true"/></property>
    <property name="plugin-2" type="string" value="systray"/>
  </property>
</channel>
"""


def missing() -> list[str]:
    """Debian packages this desktop needs and this machine lacks."""
    return [package for program, package in NEEDED.items() if not shutil.which(program)]


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


class Desktop:
    """The running desktop; `environ` is what programs on it are started with."""

    def __init__(self, home: Path, *, dark: bool = False) -> None:
        self.home = home
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (home / "desktop.log").open("ab")
        runtime = home / "run"
        runtime.mkdir(mode=0o700, parents=True)
        panel = home / ".config/xfce4/xfconf/xfce-perchannel-xml/xfce4-panel.xml"
        panel.parent.mkdir(parents=True)
        panel.write_text(PANEL.format(dark=str(dark).lower()))
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environ = keep | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CURRENT_DESKTOP": "XFCE",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
            "NO_AT_BRIDGE": "1",
            "GTK_A11Y": "none",
            "LC_ALL": "C.UTF-8",
        }
        self._display()
        self.start("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile",
                   f"--address={self.environ['DBUS_SESSION_BUS_ADDRESS']}")  # fmt: skip
        until(lambda: (runtime / "bus").exists())
        self.start("windows", "openbox")
        self.panel()

    def _display(self) -> None:
        """Let the X server pick a number that is free."""
        read, write = os.pipe()
        self._running["x"] = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x720x24", "-nolisten", "tcp"],
            pass_fds=[write], stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read) as answer:
            self.environ["DISPLAY"] = f":{answer.readline().strip()}"

    def start(self, name: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, env=self.environ | environ, stdout=self._log, stderr=self._log,
            stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.home,
        )  # fmt: skip
        self._running[name] = process
        return process

    def end(self, name: str) -> None:
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def panel(self) -> None:
        """Start the panel, or start it again."""
        self.start("panel", "xfce4-panel", "--disable-wm-check")
        until(lambda: self.watched() is not None)

    def say(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def ask(self, member: str, *arguments: str) -> str:
        return self.say(
            "dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus", f"org.freedesktop.DBus.{member}", *arguments,
        )  # fmt: skip

    def watched(self) -> str | None:
        """What the panel's watcher lists as tray icons; None while there is no watcher."""
        if "true" not in self.ask("NameHasOwner", "string:org.kde.StatusNotifierWatcher"):
            return None
        return self.say(
            "dbus-send", "--session", "--print-reply=literal",
            "--dest=org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher",
            "org.freedesktop.DBus.Properties.Get", "string:org.kde.StatusNotifierWatcher",
            "string:RegisteredStatusNotifierItems",
        )  # fmt: skip

    def picture(self, path: Path) -> Image.Image:
        self.say("import", "-window", "root", str(path))
        with Image.open(path) as image:
            return image.convert("RGB")

    def find(
        self, colour: str, where: tuple[int, int, int, int], path: Path
    ) -> tuple[int, int] | None:
        """The middle of the pixels near `colour` inside a box of the screen."""
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        picture = np.asarray(self.picture(path).crop(where)).astype(int)
        rows, columns = np.nonzero((abs(picture - wanted) < 14).all(axis=2))
        if len(rows) < 12:
            return None
        return where[0] + int(columns.mean()), where[1] + int(rows.mean())

    def click(self, at: tuple[int, int], button: int = 1) -> None:
        self.say(
            "xdotool", "mousemove", str(at[0]), str(at[1]), "sleep", "0.1", "click", str(button)
        )

    def keys(self, *names: str) -> None:
        for name in names:
            self.say("xdotool", "key", name)
            time.sleep(0.15)

    def close(self) -> None:
        for name in reversed(list(self._running)):
            self.end(name)
        self._log.close()


@contextlib.contextmanager
def desktop(home: Path, *, dark: bool = False) -> Iterator[Desktop]:
    running = Desktop(home, dark=dark)
    try:
        yield running
    finally:
        running.close()
