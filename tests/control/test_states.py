"""Words of the page about what others see: true, and at once."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from tests.control.doors import PlayRuntime
from vcam.client import Client
from vcam.doctor.finding import Finding

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark

PRESSES = 20
AT_ONCE = 150  # milliseconds from a pause to the badge, the median


@pytest.fixture
def runtime() -> PlayRuntime:
    return browsing.Told()


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    found: list[Finding] = []
    monkeypatch.setattr("vcam.doctor.report.run_checks", lambda: list(found))
    return found


def word(window: Any) -> str:
    return str(window.locator("#state").inner_text())


def test_without_a_virtual_camera_it_is_a_preview_with_the_one_command_on_top(
    browser, doors, runtime, findings
):
    findings.append(browsing.LOOPBACK)
    runtime.told = {"sinks": [], "shown_to": "page", "watchers": []}
    with browsing.signed_in(browser, doors.open_page(), state="preview") as window:
        banner = window.locator("#banner")
        until(lambda: "not installed" in banner.inner_text(), window)

        assert word(window) == "Preview only"
        assert "Live" not in window.locator("header").inner_text()
        assert "what others see" not in window.locator("#frame").inner_text()
        assert banner.locator("code").inner_text() == "bash install/linux.sh"
        assert window.inner_text("body").count("not installed") == 1
        assert not browsing.axe_faults(window)

        findings.clear()
        runtime.told = {}
        window.wait_for_selector('body[data-state="live"]')
        until(banner.is_hidden, window)


def test_the_check_up_clears_by_itself_when_the_cause_does(browser, doors, runtime, findings):
    findings.append(Finding("warning", "The camera is unplugged.", "Plug it in."))
    runtime.told = {"problems": ["unplugged"]}
    with browsing.signed_in(browser, doors.open_page()) as window:
        checkup = window.locator("#findings")
        until(lambda: "unplugged" in checkup.inner_text(), window)

        findings.clear()
        runtime.told = {}

        until(lambda: "Everything is fine" in checkup.inner_text(), window)


def test_nothing_is_called_live_while_the_card_is_on_the_screen(browser, doors, runtime):
    runtime.is_card = True  # the daemon says live, its last picture is still the card
    with browsing.signed_in(browser, doors.open_page(), state="starting") as window:
        seen = window.evaluate(
            """() => new Promise((done) => {
                const words = new Set(), end = performance.now() + 1500;
                const look = () => {
                    words.add(document.getElementById("state-word").textContent);
                    performance.now() < end ? requestAnimationFrame(look) : done([...words]);
                };
                look();
            })"""
        )
        assert "Live" not in seen

        runtime.is_card = False
        window.wait_for_selector('body[data-state="live"]')


# From a press to the frame that shows it; without a press, what a frame takes on this machine now.
PRESS = """(id) => new Promise((done) => {
    const before = document.body.dataset.state, began = performance.now();
    if (id) document.getElementById(id).click();
    const changed = document.body.dataset.state !== before;
    requestAnimationFrame(() => setTimeout(() => done([changed, performance.now() - began])));
})"""


def test_a_press_changes_badge_and_border_at_once_whatever_the_daemon_takes(window, runtime):
    times, idle = [], []
    for _ in range(PRESSES):
        idle.append(window.evaluate(PRESS, "")[1])
        changed, took = window.evaluate(PRESS, "pause")
        assert changed
        times.append(took)
        window.wait_for_timeout(400)
    took, without = statistics.median(times), statistics.median(idle)
    print(f"\nbadge after a press: {took:.1f} ms, at most {max(times):.1f}; a frame {without:.1f}")

    assert took - without < AT_ONCE


def test_a_pause_by_another_door_does_not_wait_for_the_next_status(
    browser, doors, runtime, monkeypatch
):
    monkeypatch.setattr("vcam.control.api.EVENT_INTERVAL", 3600.0)
    with browsing.signed_in(browser, doors.open_page()) as window:
        times, idle = [], []
        for _ in range(PRESSES // 2):
            for order, state in ((Client.pause, "paused"), (Client.resume, "live")):
                began = time.monotonic()
                Client.connect().settings()
                window.wait_for_selector("body[data-state]")
                told = time.monotonic()
                order(Client.connect())
                window.wait_for_selector(f'body[data-state="{state}"]')
                times.append(1e3 * (time.monotonic() - told))
                idle.append(1e3 * (told - began))
        took, without = statistics.median(times), statistics.median(idle)
        print(f"\nby another door: {took:.0f} ms; a question and a look alone {without:.0f}")

        assert took - without < AT_ONCE


def test_a_recording_is_no_call(browser, doors, runtime):
    runtime.told = {"shown_to": "file", "watchers": []}
    with browsing.signed_in(browser, doors.open_page()) as window:
        assert word(window) == "Recording"
