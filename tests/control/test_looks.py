"""The page in each of its states, light and dark, on every size of screen, in two languages.

`VCAM_PICTURES=FOLDER` keeps what it looked like.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control.doors import PlayRuntime

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark

SIZES = ((1280, 800), (950, 800), (844, 390), (640, 450), (390, 844))
ALONE: dict[str, Any] = {"sinks": [], "shown_to": "page", "watchers": []}
# What the daemon tells in each state, and what the page then is.
STATES: dict[str, tuple[dict[str, Any], str]] = {
    "live": ({}, "live"),
    "room": ({"revealed": {"by": "tray", "since": 0.0, "standing": False}}, "room"),
    "paused": ({"mode": "paused", "state": "paused"}, "paused"),
    "frozen": ({"mode": "frozen", "state": "frozen"}, "frozen"),
    "starting": ({"state": "starting"}, "starting"),
    "fault": ({"state": "fault", "reason": "camera unplugged"}, "fault"),
    "idle": ({"state": "idle", "watchers": []}, "idle"),
    "recording": ({"shown_to": "file", "watchers": []}, "live"),
    "preview": (ALONE, "preview"),
}
DIALOGS = {"steps": "#steps", "test call": "#call", "keys": "#help"}


@pytest.fixture
def runtime() -> PlayRuntime:
    return browsing.Told()


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcam.doctor.report.run_checks", lambda: [browsing.LOOPBACK])


def look(window: Any, name: str, sizes: tuple[tuple[int, int], ...]) -> list[str]:
    """Faults of what is on the screen, at each size."""
    found = []
    for width, height in sizes:
        window.set_viewport_size({"width": width, "height": height})
        where = f"{name} {width}x{height}"
        found += [f"{where}: {fault}" for fault in browsing.axe_faults(window)]
        found += [f"{where}: {what}" for what in browsing.sticking_out(window)]
        if folder := os.environ.get("VCAM_PICTURES"):
            window.screenshot(path=Path(folder) / f"{where.replace(' ', '-')}.png")
    return found


def walk(
    browser: Any, url: str, runtime: Any, how: tuple[str, str], sizes: Callable[[str], Any]
) -> list[str]:
    """Faults of every state, dialog and size."""
    kind, language = how
    found = []
    with browsing.signed_in(browser, url, kind, language=language) as window:
        for name, (told, state) in STATES.items():
            runtime.told = told
            window.wait_for_selector(f'body[data-state="{state}"]')
            window.wait_for_timeout(150)
            found += look(window, f"{language} {kind} {name}", sizes(name))
        runtime.told = {}
        for name, button in DIALOGS.items():
            window.locator(button).click()
            found += look(window, f"{language} {kind} {name}", sizes(name))
            window.keyboard.press("Escape")
    context = browser.new_context(locale=language, color_scheme=kind)
    stranger = context.new_page()
    stranger.goto(url.partition("#")[0])
    stranger.locator("#signed-out .command").wait_for()
    found += look(stranger, f"{language} {kind} signed out", sizes("signed out"))
    context.close()
    return found


def test_every_state_is_whole_and_clean_on_two_screens(browser, doors, runtime):
    two = {"live": (SIZES[0], SIZES[4]), "preview": (SIZES[2], SIZES[4])}

    assert (
        walk(
            browser,
            doors.open_page(),
            runtime,
            ("dark", "de"),
            lambda name: two.get(name, SIZES[4:]),
        )
        == []
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["light", "dark"])
@pytest.mark.parametrize("language", ["de", "ja"])
def test_every_state_is_whole_and_clean_on_every_screen(browser, doors, runtime, kind, language):
    assert walk(browser, doors.open_page(), runtime, (kind, language), lambda _: SIZES) == []
