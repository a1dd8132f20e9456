"""A tray on a daemon that lives in a file: what it is told is written there, and read from there.

Run as `python play.py FILE`; the file holds {"status": …, "settings": …, "presets": …}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from vcam.client import PageFile
from vcam.errors import DaemonError
from vcam.tray import app


class FileDaemon:
    """Implements the part of the client the tray uses, over a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.held: dict[str, Any] = json.loads(path.read_text())
        except OSError:
            raise DaemonError("The daemon is not running", hint="Run `vcam start`.") from None

    def save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.held))
        os.replace(new, self.path)

    def status(self) -> dict[str, Any]:
        return dict(self.held["status"])

    def settings(self) -> dict[str, Any]:
        return {"values": self.held["settings"]}

    def presets(self) -> list[Any]:
        return list(self.held["presets"])

    def change(self, changes: dict[str, dict[str, Any]]) -> None:
        for section, keys in changes.items():
            self.held["settings"].setdefault(section, {}).update(keys)
        self.save()

    def thumbnail(self, name: str) -> bytes:
        made = io.BytesIO()
        colour = {"loft": (200, 60, 40), "dusk": (60, 30, 90)}.get(name, (90, 140, 90))
        Image.new("RGB", (256, 144), colour).save(made, "JPEG")
        return made.getvalue()

    def use(self, name: str) -> None:
        self.change({"background": {"use": name}})

    def step(self, step: int) -> None:
        names = [entry["name"] for entry in self.held["presets"]]
        here = names.index(self.held["settings"]["background"]["use"])
        self.use(names[(here + step) % len(names)])

    def show_room(self, *, by: str) -> None:
        self.held["status"]["revealed"] = {"by": by}
        self.save()

    def hide(self) -> None:
        self.held["status"]["revealed"] = None
        self.save()

    def _state(self, state: str) -> None:
        self.held["status"]["state"] = state
        self.save()

    def pause(self, back_in: float | None = None) -> None:
        self.held["status"]["back_in_s"] = back_in
        self._state("paused")

    def freeze(self) -> None:
        self._state("frozen")

    def resume(self) -> None:
        self._state("live")

    def toggle(self) -> None:
        self._state("live" if self.held["status"]["state"] in ("paused", "frozen") else "paused")

    def stop(self) -> None:
        self.path.unlink()

    def open_page_file(self, folder: Path) -> PageFile:
        self.held["opened"] = self.held.get("opened", 0) + 1
        self.save()
        return PageFile("http://127.0.0.1:1/#word", folder / "open.html")


def main() -> None:
    path = Path(sys.argv[1])
    os.environ["BROWSER"] = "true"  # this program, which opens nothing
    with app.only_one():
        cameras = [("HD Webcam C920", "HD Webcam C920"), ("Integrated Camera", "Integrated Camera")]
        icon = app.choose_icon(10)
        app.Tray(icon, lambda: FileDaemon(path), lambda: cameras, interval=0.2).run()


if __name__ == "__main__":
    main()
