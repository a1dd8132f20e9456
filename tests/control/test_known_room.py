"""The room that is known, on the page: how much, a map, a lesson with a countdown, one offer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.doors import PlayRuntime

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark


class Knowing(browsing.ColourRuntime):
    """A daemon with a webcam that knows as much of the room as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.room_known: dict[str, Any] | None = {
            "known": 0.1, "since": None, "forgotten": "a lamp", "showing": False,
        }  # fmt: skip

    def status(self) -> dict[str, Any]:
        status = super().status()
        status["engine"] |= {"room": self.room_known}
        status["source"] |= {"live": True}
        return status

    def tell_room(self, word: str) -> bool:
        assert self.room_known is not None
        self.room_known = self.room_known | {"known": 0.93 if word == "learn" else 0.0}
        return super().tell_room(word)


@pytest.fixture
def runtime() -> PlayRuntime:
    return Knowing()


def test_a_lesson_counts_down_and_the_map_shows_what_is_known(window, runtime):
    window.locator("#known summary").click()
    says, share = window.locator("#known-says"), window.locator("#known-share")
    until(lambda: share.inner_text() == "10 %", window)
    assert "It was forgotten last: a lamp." in says.inner_text()
    until(lambda: window.locator("#known-map").evaluate("(i) => i.naturalWidth") == 16, window)

    window.get_by_role("button", name="Learn my room").first.click()
    until(lambda: says.inner_text() == "Step out of the picture: 3", window)
    assert runtime.told == []
    until(lambda: says.inner_text() == "Step out of the picture: 1", window)
    until(lambda: runtime.told == ["learn"], window)
    until(lambda: "You can come back" in window.locator("#toasts").inner_text(), window, 10)
    until(lambda: share.inner_text() == "93 %", window)
    assert not browsing.axe_faults(window)

    window.get_by_role("button", name="Forget it").click()
    until(lambda: runtime.told == ["learn", "forget"], window)
    until(lambda: "Nothing of the room" in says.inner_text(), window)


def test_it_is_offered_once_and_never_again_after_a_no(browser, doors, runtime):
    with browsing.signed_in(browser, doors.open_page()) as window:
        aside = window.locator("#aside")
        window.wait_for_selector('body[data-state="live"]')
        assert aside.is_hidden()  # a minute has not gone by

        runtime.room_known |= {"showing": True}
        until(aside.is_visible, window)
        assert not browsing.axe_faults(window)
        aside.get_by_role("button", name="No").click()
        until(lambda: not runtime.settings.current.control.room_offer, window)
        until(aside.is_hidden, window)

        window.reload()
        window.wait_for_selector('body[data-state="live"]')
        window.wait_for_timeout(1500)
        assert aside.is_hidden()


def test_a_yes_has_it_learnt(window, runtime):
    runtime.room_known |= {"showing": True}
    window.locator("#aside-yes").click()

    until(lambda: runtime.told == ["learn"], window, 10)
    assert not runtime.settings.current.control.room_offer


def test_an_engine_that_learns_no_room_offers_nothing(window, runtime):
    runtime.room_known = None
    until(window.locator("#known").is_hidden, window)
    assert window.locator("#aside").is_hidden()
