"""The whole of it: real daemon, real tray, real panel, a mouse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop import Desktop, until
from test_desktop import REPOSITORY, click_chosen, open_menu, seen

pytestmark = [
    pytest.mark.desktop,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the panel is a Linux one"),
]

VCAM = [sys.executable, "-m", "vcam.cli"]


class Camera:
    """The daemon on the test's desktop, asked and told through the command line."""

    def __init__(self, screen: Desktop) -> None:
        # Of what was told about the desktop only the daemon's own sockets matter to it.
        self._environ = os.environ | screen.environ | {"PYTHONPATH": str(REPOSITORY)}
        self("start", "--source", "demo", "--sink", "none", timeout=90)

    def __call__(self, *words: str, timeout: float = 30) -> str:
        return subprocess.run(
            [*VCAM, *words],
            env=self._environ,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        ).stdout

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self("status", "--json"))
        return answer


@pytest.fixture
def camera(screen: Desktop) -> Iterator[Camera]:
    camera = Camera(screen)
    screen.start("tray", *VCAM, "tray", PYTHONPATH=str(REPOSITORY))
    until(lambda: "StatusNotifierItem" in (screen.watched() or ""), 30)
    yield camera
    screen.end("tray")
    camera("stop")


def test_a_background_clicked_in_the_panel_is_shown_by_the_real_daemon(
    screen: Desktop, camera: Camera, tmp_path: Path
) -> None:
    until(lambda: camera.status()["state"] in ("live", "idle"), 60)
    state = camera.status()["state"]
    before = camera.status()["background"]
    open_menu(screen, tmp_path, state)

    screen.keys("Down", "Right", "Down", "Down", "Down")
    if folder := os.environ.get("VCAM_TEST_PICTURES"):
        screen.picture(Path(folder) / "tray-menu.png")
    click_chosen(screen, tmp_path, left_of=1000)

    until(lambda: camera.status()["background"] != before)


def test_pause_on_the_command_line_shows_in_the_panel(
    screen: Desktop, camera: Camera, tmp_path: Path
) -> None:
    camera("pause")
    began = time.monotonic()

    until(lambda: seen(screen, "paused", tmp_path))

    assert time.monotonic() - began < 5
    camera("resume")
    until(lambda: seen(screen, "live", tmp_path) or seen(screen, "idle", tmp_path), 30)
