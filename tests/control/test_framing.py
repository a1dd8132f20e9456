"""The picture is moved on the preview itself; the tag is read where the preview is a mirror."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.control.doors import PlayRuntime
from vcam.frame import SafeFrame
from vcam.media.pictures import i420_from_image
from vcam.system.systemd import boottime

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark

TAG = (0.1, 0.7, 0.2, 0.2)  # left, top, width, height


class Tagged(browsing.ColourRuntime):
    """Shows a tag whose left half is white, and the right one black."""

    def latest(self) -> SafeFrame:
        picture = np.full((360, 640, 3), 120, np.uint8)
        picture[252:324, 64:128], picture[252:324, 128:192] = 255, 0
        now = time.monotonic()
        return SafeFrame(i420_from_image(picture), now, 0, is_card=False, maker="vcam.compose.card")

    def status(self) -> dict[str, Any]:
        return super().status() | {"overlay": TAG}


@pytest.fixture
def runtime() -> PlayRuntime:
    return Tagged()


def test_drag_wheel_and_keys_move_the_picture(window, runtime):
    def look() -> Any:
        return runtime.settings.current.look

    window.locator('[name="framing"][value="close"]').check()
    until(lambda: look().framing == "close", window)
    box = window.locator("#frame").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    window.mouse.move(*middle)
    window.mouse.down()
    window.mouse.move(middle[0] + 0.09 * box["width"], middle[1], steps=4)
    window.mouse.up()
    # In a mirror one drags to the other side.
    until(lambda: abs(look().shift_x + 0.3) < 0.03, window)

    window.locator('[data-reset^="look.framing"]').click()
    until(lambda: (look().framing, look().shift_x) == ("off", 0), window)
    window.locator("#frame").focus()
    window.locator("#frame").hover()
    window.mouse.wheel(0, -300)
    until(lambda: 1.4 < look().zoom < 1.7, window)
    window.keyboard.press("ArrowUp")
    until(lambda: look().shift_y > 0.1, window)
    window.keyboard.press("-")
    until(lambda: look().zoom < 1.45, window)
    window.keyboard.press("0")
    until(lambda: (look().zoom, look().shift_y) == (1, 0), window)


def test_a_wheel_over_a_preview_that_nobody_clicked_scrolls_the_page(window, runtime):
    window.mouse.move(300, 300)
    window.mouse.wheel(0, 200)
    until(lambda: window.evaluate("scrollY") > 0, window)

    assert runtime.settings.current.look.zoom == 1


def test_the_tag_is_the_right_way_round_on_a_mirror(window):
    window.locator("#tag-view img[src]").wait_for()
    png = window.locator("#frame").screenshot()
    image = np.asarray(Image.open(io.BytesIO(png)).convert("L"), int)
    h, w = image.shape
    row = image[round(0.8 * h)]

    left, right = 1 - TAG[0] - TAG[2], 1 - TAG[0]
    assert row[round((left + 0.05) * w)] > 230
    assert row[round((right - 0.05) * w)] < 30
    assert 90 < row[round((left - 0.05) * w)] < 150


def test_name_tag_and_countdown_are_set_and_nothing_is_wrong_for_a_screen_reader(window, runtime):
    window.locator("#tag-name").fill("Anna Müller")
    window.keyboard.press("Enter")
    until(lambda: runtime.settings.current.overlay.name == "Anna Müller", window)
    window.locator("#tag-corner").select_option("top-right")
    until(lambda: runtime.settings.current.overlay.corner == "top-right", window)
    window.locator("#back").select_option("300")
    until(lambda: runtime.settings.mode == "paused" and runtime.settings.now.back_at, window)

    left = runtime.settings.now.back_at - boottime()
    assert 280 < left <= 300
    assert not browsing.axe_faults(window)
    assert not browsing.sticking_out(window)
