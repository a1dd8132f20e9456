"""A desktop for the whole directory, and a daemon that lives in a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["PYSTRAY_BACKEND"] = "dummy"
sys.path.insert(0, str(Path(__file__).parent))

from desktop import Desktop, desktop, missing, until

STATUS: dict[str, Any] = {
    "status": {"state": "live", "watchers": [], "source": {"name": "HD Webcam C920"}},
    "settings": {
        "background": {"use": "studio", "blur": 50},
        "camera": {"source": "auto", "mirror": False},
    },
    "presets": [{"name": name} for name in ("studio", "library", "loft", "dusk")],
}


class Held:
    """The file that stands for the daemon; `change` is what happens to the daemon itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(json.loads(json.dumps(STATUS)))

    def write(self, held: dict[str, Any]) -> None:
        new = self.path.with_suffix(".test")
        new.write_text(json.dumps(held))
        os.replace(new, self.path)

    def read(self) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(self.path.read_text())
        return held

    def becomes(self, **status: Any) -> None:
        held = self.read()
        held["status"].update(status)
        self.write(held)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    if lacking := missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    with desktop(tmp_path_factory.mktemp("desktop")) as running:
        yield running


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path / "daemon.json")


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if not shutil.which("dbus-daemon"):
        pytest.skip("apt-get install dbus")
    address = f"unix:path={tmp_path}/bus"
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"],
        stderr=subprocess.DEVNULL,
    )
    until((tmp_path / "bus").exists)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    yield address
    daemon.terminate()
    daemon.wait()
