"""The tray in a real panel on a real X server, used with a mouse."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop import Desktop, desktop, missing, until

from vcam.tray.icons import COLOURS

pytestmark = [
    pytest.mark.desktop,
    pytest.mark.skipif(sys.platform != "linux", reason="the panel is a Linux one"),
]

PANEL = (900, 672, 1280, 720)
SCREEN = (0, 0, 1280, 688)
CHOSEN = "#3584e4"  # the panel theme's highlight
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tray(screen: Desktop, held: Any) -> Iterator[Any]:
    process = screen.start(
        "tray",
        sys.executable,
        str(Path(__file__).with_name("play.py")),
        str(held.path),
        PYTHONPATH=str(REPOSITORY),
    )
    until(lambda: "StatusNotifierItem" in (screen.watched() or ""))
    yield process
    screen.keys("Escape", "Escape")
    screen.end("tray")
    until(lambda: "StatusNotifierItem" not in (screen.watched() or ""))


def seen(screen: Desktop, state: str, shots: Path) -> tuple[int, int] | None:
    """Where the panel shows the icon of a state."""
    top, bottom = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in COLOURS[state])
    middle = "#" + "".join(f"{(a + b) // 2:02x}" for a, b in zip(top, bottom, strict=True))
    return screen.find(middle, PANEL, shots / "panel.png")


def open_menu(screen: Desktop, shots: Path, state: str = "live") -> None:
    until(lambda: seen(screen, state, shots))
    at = seen(screen, state, shots)
    assert at
    screen.click(at, button=3)
    time.sleep(0.5)


def click_chosen(screen: Desktop, shots: Path, right_of: int = 0, left_of: int = 1280) -> None:
    """Click the highlighted entry with the mouse."""
    box = (right_of, 0, left_of, 688)
    until(lambda: screen.find(CHOSEN, box, shots / "menu.png"))
    at = screen.find(CHOSEN, box, shots / "menu.png")
    assert at
    screen.click(at)


def test_a_background_clicked_in_the_panel_is_the_daemons_new_background(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    open_menu(screen, tmp_path)

    screen.keys("Down", "Right", "Down", "Down", "Down")
    if folder := os.environ.get("VCAM_TEST_PICTURES"):
        screen.picture(Path(folder) / f"menu-{screen.home.name}.png")
    # The submenu lies left of the menu; its third picture is highlighted.
    click_chosen(screen, tmp_path, left_of=1000)

    until(lambda: held.read()["settings"]["background"]["use"] == "loft")


def test_pause_is_one_click_away_and_the_icon_follows(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    open_menu(screen, tmp_path)

    screen.keys(*["Down"] * 7)
    click_chosen(screen, tmp_path)

    until(lambda: held.read()["status"]["state"] == "paused")
    until(lambda: seen(screen, "paused", tmp_path))


def test_the_icon_shows_the_daemons_state(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    for state in ("idle", "paused", "frozen", "fault", "live"):
        held.becomes(state=state)

        until(lambda: seen(screen, state, tmp_path))  # noqa: B023


def test_the_icon_says_when_the_room_itself_is_visible(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    told = held.read()
    told["settings"]["background"]["use"] = "none"
    held.write(told)

    until(lambda: seen(screen, "room", tmp_path))


def test_a_click_on_the_icon_opens_the_settings_page(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    until(lambda: seen(screen, "live", tmp_path))
    at = seen(screen, "live", tmp_path)
    assert at

    screen.click(at)

    until(lambda: held.read().get("opened") == 1)


def test_the_icon_comes_back_after_the_panel_was_restarted(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    until(lambda: seen(screen, "live", tmp_path))

    screen.end("panel")
    screen.panel()

    until(lambda: "StatusNotifierItem" in (screen.watched() or ""))
    until(lambda: seen(screen, "live", tmp_path))
    assert tray.poll() is None


def test_the_icon_outlives_the_daemon_and_finds_the_next_one(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    told = held.read()

    held.path.unlink()
    until(lambda: seen(screen, "off", tmp_path))
    held.write(told)

    until(lambda: seen(screen, "live", tmp_path))
    assert tray.poll() is None


def test_a_fault_and_a_new_watcher_are_announced_once(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    log = screen.home / "desktop.log"
    screen.start("monitor", "dbus-monitor", "interface='org.freedesktop.Notifications'")
    until(lambda: seen(screen, "live", tmp_path))
    time.sleep(0.5)

    held.becomes(watchers=["zoom"])
    until(lambda: "Camera in use by zoom" in log.read_text())
    held.becomes(state="fault", reason="camera unplugged")
    until(lambda: "Others see the privacy card: camera unplugged" in log.read_text())
    time.sleep(1)

    screen.end("monitor")
    assert log.read_text().count("You cannot be seen") == 1
    log.write_text("")


def test_a_second_tray_says_that_there_is_one(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    second = screen.start(
        "second",
        sys.executable,
        str(Path(__file__).with_name("play.py")),
        str(held.path),
        PYTHONPATH=str(REPOSITORY),
    )

    assert second.wait(15) != 0
    screen.end("second")
    assert "The tray icon is there already" in (screen.home / "desktop.log").read_text()


def test_quit_ends_the_tray_and_leaves_the_daemon(
    screen: Desktop, held: Any, tray: Any, tmp_path: Path
) -> None:
    open_menu(screen, tmp_path)

    screen.keys("Up")
    click_chosen(screen, tmp_path)

    assert tray.wait(10) == 0
    assert held.path.exists()


def test_the_icon_stands_out_on_a_dark_panel_too(tmp_path: Path, held: Any) -> None:
    if lacking := missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    (tmp_path / "dark").mkdir()
    with desktop(tmp_path / "dark", dark=True) as screen:
        play = str(Path(__file__).with_name("play.py"))
        screen.start("tray", sys.executable, play, str(held.path), PYTHONPATH=str(REPOSITORY))
        until(lambda: seen(screen, "live", tmp_path))
        held.becomes(state="paused")
        until(lambda: seen(screen, "paused", tmp_path))
