"""First steps, a test call, undo and reset, and reach on small screens: as people use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.control.doors import PlayRuntime

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark


class Halved(browsing.ColourRuntime):
    """The person is the left half of the picture."""

    def matte(self) -> np.ndarray:
        alpha = np.zeros((90, 160), np.uint8)
        alpha[:, :80] = 255
        return alpha


@pytest.fixture
def runtime() -> PlayRuntime:
    return Halved()


def test_three_steps_with_ones_own_face_and_then_never_again(browser, doors, runtime):
    runtime.settings.change({"control": {"welcome": True}})
    with browsing.signed_in(browser, doors.open_page()) as window:
        dialog = window.locator("#welcome")
        until(lambda: dialog.locator("img").get_attribute("src"), window)
        assert "Step 1 of 3" in dialog.inner_text()
        assert not browsing.axe_faults(window)

        window.get_by_role("button", name="Next", exact=True).click()
        left, right = (
            f"""(c) => [...c.getContext("2d").getImageData({x}, 40, 1, 1).data].slice(0, 3)"""
            for x in (48, 144)
        )
        canvas = dialog.get_by_role("button", name="Coast").locator("canvas")
        until(lambda: browsing.close_to(canvas.evaluate(left), (200, 30, 30)), window)
        assert not browsing.close_to(canvas.evaluate(right), (200, 30, 30))
        dialog.get_by_role("button", name="Coast").click()
        until(lambda: runtime.settings.current.background.use == "coast", window)

        window.get_by_role("button", name="Next", exact=True).click()
        assert "Zoom" in dialog.inner_text()
        assert "VBG Camera" in dialog.inner_text()
        window.get_by_role("button", name="Done").click()
        until(lambda: not runtime.settings.current.control.welcome, window)
        until(dialog.is_hidden, window)

        window.reload()
        window.wait_for_selector(".tile img")
        assert dialog.is_hidden()


def test_the_gallery_shows_you_in_front_of_each_background_while_you_are_live(window, runtime):
    canvas = window.get_by_role("radio", name="Coast").locator("..").locator("canvas")
    at = """(c, x) => [...c.getContext("2d").getImageData(x, 40, 1, 1).data]"""

    until(
        lambda: browsing.close_to(canvas.evaluate(at, 48)[:3], (200, 30, 30)), window
    )  # the person
    assert canvas.evaluate(at, 48)[3] == 255
    assert canvas.evaluate(at, 144) == [0, 0, 0, 0]  # and nothing of what is beside

    window.get_by_role("button", name="Pause").click()

    until(lambda: canvas.evaluate(at, 48) == [0, 0, 0, 0], window)


def test_the_first_steps_can_be_skipped(browser, doors, runtime):
    runtime.settings.change({"control": {"welcome": True}})
    with browsing.signed_in(browser, doors.open_page()) as window:
        window.get_by_role("button", name="Skip", exact=True).click()

        until(lambda: not runtime.settings.current.control.welcome, window)
        assert window.locator("#welcome").is_hidden()


def test_a_test_call_is_played_back_and_gone_with_its_window(window):
    window.get_by_role("button", name="Test call").click()
    says = window.locator("#call-says")
    until(lambda: "to go" in says.inner_text(), window)

    until(lambda: "would have seen" in says.inner_text(), window, 30)
    picture = window.locator("#call-picture")
    first = picture.get_attribute("src")
    until(lambda: picture.get_attribute("src") not in (None, first), window)
    window.get_by_role("dialog").get_by_role("button", name="Close").click()

    until(lambda: picture.get_attribute("src") is None, window)


def test_the_last_change_is_taken_back_and_a_section_reset(window, runtime):
    undo = window.get_by_role("button", name="Undo")
    assert undo.is_hidden()
    window.get_by_label("Light wrap").fill("0.7")
    until(lambda: runtime.settings.current.background.light_wrap == 0.7, window)

    undo.click()
    until(lambda: runtime.settings.current.background.light_wrap == 0.4, window)
    until(undo.is_hidden, window)

    window.get_by_label("Light wrap").fill("0.7")
    window.get_by_role("switch", name="Only me").check()
    until(lambda: runtime.settings.current.matte.people == "only-me", window)
    window.get_by_role("button", name="Reset light").click()
    until(lambda: runtime.settings.current.background.light_wrap == 0.4, window)
    window.get_by_role("button", name="Reset look").click()
    until(lambda: runtime.settings.current.matte.people == "everyone", window)


def test_shortcuts_are_listed_and_messages_can_be_closed(window):
    window.keyboard.press("?")
    assert "Pause or resume" in window.locator("#keys").inner_text()
    window.keyboard.press("Escape")

    window.locator("#file").set_input_files(
        {"name": "no.txt", "mimeType": "text/plain", "buffer": b"."}
    )
    window.get_by_role("button", name="Close this message").click()
    assert window.locator(".toast").count() == 0


@pytest.mark.parametrize(("width", "height"), [(950, 800), (390, 844), (844, 390), (640, 450)])
def test_only_the_picture_sticks_and_never_to_a_low_window(browser, doors, width, height):
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    window = context.new_page()
    window.goto(doors.open_page())
    window.wait_for_selector(".tile img")

    window.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    window.wait_for_timeout(200)
    stuck: list[Any] = window.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((one) => {
            const how = getComputedStyle(one), box = one.getBoundingClientRect();
            return ["sticky", "fixed"].includes(how.position) && box.height
                && box.bottom > 0 && box.top < innerHeight;
        }).map((one) => [one.id, one.getBoundingClientRect().height])"""
    )

    context.close()
    if height < 600:
        assert stuck == []
    else:
        assert [name for name, _ in stuck] == ["frame"]
        assert stuck[0][1] <= 0.35 * height + 1


@pytest.mark.parametrize(("chosen", "kept"), [("forest", "forest"), ("", "")])
def test_a_program_that_watches_for_the_first_time_is_asked_about_once(
    window, runtime, chosen, kept
):
    question = window.locator("#ask")
    question.get_by_text("Zoom watches for the first time").wait_for()

    question.get_by_label("Shown to it, every time").select_option(chosen)
    question.get_by_role("button", name="OK").click()

    until(lambda: runtime.settings.current.profiles.programs == {"zoom": kept}, window)
    assert question.is_hidden()
    window.wait_for_timeout(1500)  # another status
    assert question.is_hidden()


@pytest.mark.parametrize("size", [(1280, 800), (950, 800), (844, 390), (640, 450), (390, 844)])
def test_a_message_never_covers_a_switch(window, size):
    window.set_viewport_size({"width": size[0], "height": size[1]})
    window.evaluate(
        """() => {
            const carried = new DataTransfer();
            for (const name of ["a.txt", "b.txt", "c.txt"])
                carried.items.add(new File([new Uint8Array(9)], name));
            const how = { bubbles: true, cancelable: true, dataTransfer: carried };
            document.body.dispatchEvent(new DragEvent("drop", how));
        }"""
    )
    window.get_by_role("alert").nth(2).wait_for()

    # Wherever the page is scrolled to: the two share no column.
    over, under = window.evaluate(
        """() => [document.getElementById("toasts").getBoundingClientRect().right,
            Math.min(...[...document.querySelectorAll(".switch")].filter((e) => e.clientWidth)
                .map((e) => e.getBoundingClientRect().left))]"""
    )
    assert over < under
