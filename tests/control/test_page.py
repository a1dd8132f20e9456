"""The settings page as people use it, in a real browser, over a daemon's real doors."""

from __future__ import annotations

import errno
import io
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from tests.control.doors import PlayRuntime
from tests.hostile import NAMES, harmful
from vcam.client import Client
from vcam.compose import library
from vcam.control.server import serve
from vcam.doctor.finding import Finding, Severity
from vcam.system import paths
from vcam.system.devices import CameraInfo

BRIGHTNESS = re.compile("^Brightness")  # the camera's, among other labels with that word

browsing = pytest.importorskip("tests.control.browsing")
axe_faults, close_to, colour, sticking_out, until = (
    browsing.axe_faults,
    browsing.close_to,
    browsing.colour,
    browsing.sticking_out,
    browsing.until,
)
pytestmark = browsing.pytestmark


@pytest.fixture
def runtime() -> PlayRuntime:
    return browsing.ColourRuntime()


def test_a_click_in_the_gallery_changes_the_background_and_the_preview(window, runtime):
    until(lambda: close_to(colour(window), (200, 30, 30)), window)

    window.get_by_role("radio", name="Coast").check()

    until(lambda: runtime.settings.current.background.use == "coast", window)
    until(lambda: close_to(colour(window), (30, 60, 220)), window)


def test_a_picture_of_ones_own_is_placed_by_slider_drag_and_wheel(window, runtime, home):
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), (20, 200, 40)).save(folder / "green wall.png")
    window.get_by_role("radio", name="green wall").check()
    window.locator("#placing summary").click()

    def wish(key: str) -> float:
        return float(getattr(library.find("green wall").fitting, key))

    window.get_by_label("Darker").focus()
    window.keyboard.press("ArrowRight")
    until(lambda: wish("darken") == 1, window)
    frame = window.locator("#frame").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    window.mouse.move(x, y)
    window.mouse.wheel(0, -100)
    until(lambda: wish("zoom") > 1, window)
    window.mouse.down()
    window.mouse.move(x, y + 60, steps=3)
    window.mouse.up()
    until(lambda: wish("y") < 0, window)
    window.get_by_role("button", name="As it was at first").click()
    until(lambda: wish("zoom") == 1, window)


def test_pause_shows_the_card_and_resume_the_person(window, runtime):
    window.get_by_role("button", name="Pause").click()

    window.wait_for_selector('body[data-state="paused"]')
    assert runtime.settings.mode == "paused"
    assert window.locator("#state").inner_text() == "Paused"
    until(lambda: close_to(colour(window), (40, 40, 40)), window)

    window.get_by_role("button", name="Resume").click()

    window.wait_for_selector('body[data-state="live"]')
    until(lambda: close_to(colour(window), (200, 30, 30)), window)


def test_an_uploaded_picture_becomes_the_background_and_can_be_deleted(window, runtime, home):
    file = home / "green wall.png"
    Image.new("RGB", (64, 36), (20, 200, 40)).save(file)

    window.locator("#file").set_input_files(str(file))

    until(lambda: runtime.settings.current.background.use == "green wall", window)
    tile = window.get_by_role("radio", name="green wall")
    until(tile.is_checked, window)
    until(lambda: close_to(colour(window), (20, 200, 40)), window)
    tile.hover()
    window.get_by_role("button", name="Delete green wall").click()

    until(lambda: runtime.settings.current.background.use == "studio", window)
    tile.wait_for(state="detached")

    window.locator(".toast").get_by_role("button", name="Undo").click()

    until(lambda: runtime.settings.current.background.use == "green wall", window)
    until(tile.is_checked, window)
    until(lambda: close_to(colour(window), (20, 200, 40)), window)


def test_a_logo_is_chosen_shown_and_removed_by_keyboard(window, runtime, home):
    file = home / "mark.png"
    Image.new("RGBA", (90, 30), (20, 200, 40, 255)).save(file)

    with window.expect_file_chooser() as chooser:
        window.locator("#choose-logo").press("Enter")
    chooser.value.set_files(str(file))
    window.locator("#tag-logo[src]").wait_for()
    until(lambda: window.evaluate("document.getElementById('tag-logo').naturalWidth") == 90, window)
    assert runtime.settings.current.overlay.logo.startswith(str(home))

    window.locator("#remove-logo").press("Enter")
    until(lambda: not runtime.settings.current.overlay.logo, window)
    window.locator("#tag-logo").wait_for(state="hidden")
    until(lambda: window.evaluate("document.activeElement.id") == "choose-logo", window)


def test_a_picture_dropped_on_the_page_is_added(window, runtime, home):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 36), (20, 200, 40)).save(buffer, "PNG")

    window.evaluate(
        """(bytes) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "green wall.png"));
            const how = { bubbles: true, cancelable: true, dataTransfer: carried };
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, how));
        }""",
        list(buffer.getvalue()),
    )

    until(lambda: runtime.settings.current.background.use == "green wall", window)


def test_sliders_switches_and_choices_reach_the_settings(window, runtime):
    window.get_by_role("radio", name="Blur").check()
    window.get_by_label("Blur strength").fill("80")
    window.get_by_label("Light wrap").fill("0.7")
    window.get_by_role("switch", name="Only me").check()
    window.get_by_role("switch", name="Fill the frame").check()
    window.get_by_role("switch", name="Flip what others see").check()
    window.get_by_role("radio", name="High").check()
    window.get_by_label("Picture asked of it").select_option("640x480")

    def settled() -> bool:
        now = runtime.settings.current
        return (
            (now.background.use, now.background.blur, now.background.light_wrap)
            == ("blur", 80, 0.7)
            and (now.matte.people, now.matte.quality) == ("only-me", "high")
            and (now.camera.mirror, now.camera.fill) == (True, True)
            and (now.camera.width, now.camera.height) == (640, 480)
        )

    until(settled, window)


def test_a_change_by_another_door_shows_up_at_once(window):
    Client.connect().change({"background": {"use": "coast"}, "camera": {"mirror": True}})

    until(window.get_by_role("radio", name="Coast").is_checked, window, 10)
    until(window.get_by_role("switch", name="Flip what others see").is_checked, window, 10)


def test_a_mirrored_preview_is_ones_own_and_says_so(window, runtime):
    mirror = window.get_by_role("button", name="Mirror my preview")
    caption = window.locator("#caption")
    flipped = "getComputedStyle(document.getElementById('preview')).transform"
    assert mirror.get_attribute("aria-pressed") == "true"
    assert window.evaluate(flipped) == "matrix(-1, 0, 0, 1, 0, 0)"
    assert caption.inner_text() == "This is what others see, mirrored for you."

    window.keyboard.press("m")

    until(lambda: not runtime.settings.current.control.mirror_preview, window)
    until(lambda: caption.inner_text() == "This is what others see.", window)
    until(lambda: window.evaluate(flipped) == "none", window)
    assert runtime.settings.current.camera.mirror is False


def test_a_refused_change_is_said_and_taken_back(window, runtime):
    def refuse(old: object, new: object) -> None:
        from vcam.errors import VcamError

        raise VcamError("that background does not open", hint="Choose another.")

    runtime.settings.check(refuse)
    with window.expect_response("**/settings"):
        window.get_by_role("radio", name="Coast").click()

    window.get_by_role("alert").filter(has_text="does not open").wait_for()
    until(window.get_by_role("radio", name="Studio").is_checked, window)


def test_the_room_is_shown_only_after_a_second_yes(window, runtime):
    window.get_by_text("Show my room", exact=True).click()
    window.once("dialog", lambda dialog: dialog.dismiss())
    window.get_by_role("button", name="Show my room as it is").click()
    window.wait_for_timeout(200)
    assert runtime.settings.revealed is None

    window.once("dialog", lambda dialog: dialog.accept())
    window.get_by_role("button", name="Show my room as it is").click()

    until(lambda: runtime.settings.revealed is not None, window)
    window.wait_for_selector('body[data-state="room"]')
    window.get_by_role("button", name="Hide my room").click()
    until(lambda: runtime.settings.revealed is None, window)
    window.wait_for_selector('body[data-state="live"]')
    assert runtime.settings.current.background.use == "studio"


def middle_of(window: Any, box: Any) -> tuple[int, int, int]:
    return colour(window) if box.is_visible() else (0, 0, 0)


def test_the_room_is_seen_while_the_button_is_held_and_not_a_moment_longer(window, runtime):
    view = window.locator("#room-view")
    asked = []
    window.on("request", lambda r: asked.append(r) if r.url.endswith("/room") else None)
    window.get_by_role("button", name="Hold to see your room").hover()

    for release in (
        window.mouse.up,
        lambda: window.evaluate("dispatchEvent(new Event('blur'))"),
        lambda: window.evaluate("document.dispatchEvent(new Event('visibilitychange'))"),
    ):
        window.mouse.down()
        until(lambda: close_to(middle_of(window, view), (255, 0, 0)), window)
        assert "Only you" in window.locator("#caption").inner_text()

        release()

        until(view.is_hidden, window, 1)
        window.wait_for_timeout(150)
        count = len(asked)
        window.wait_for_timeout(300)
        assert len(asked) == count
        assert view.get_attribute("src") is None
        window.mouse.up()
    assert runtime.settings.current.background.use == "studio"


def test_the_room_is_seen_with_the_space_bar_too(window):
    window.get_by_role("button", name="Hold to see your room").focus()

    window.keyboard.down("Space")
    window.locator("#room-view").wait_for(state="visible")
    window.keyboard.up("Space")

    window.locator("#room-view").wait_for(state="hidden")


def test_next_previous_and_a_kept_look(window, runtime):
    window.get_by_role("button", name="Next background").click()
    until(window.get_by_role("radio", name="Paper").is_checked, window)
    window.keyboard.press("b")
    until(window.get_by_role("radio", name="Studio").is_checked, window)

    window.get_by_label("Light wrap").fill("0.7")
    until(lambda: runtime.settings.current.background.light_wrap == 0.7, window)
    window.once("dialog", lambda dialog: dialog.accept("Morning"))
    window.get_by_role("button", name="Keep this look").click()
    look = window.get_by_role("radio", name="Morning")
    until(lambda: look.count() and look.is_checked(), window)
    window.get_by_label("Light wrap").fill("0")
    until(window.get_by_role("radio", name="Studio").is_checked, window)
    look.check()

    until(lambda: runtime.settings.current.background.light_wrap == 0.7, window)
    until(look.is_checked, window)


def test_a_picture_put_into_the_folder_appears_by_itself(window):
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True, exist_ok=True)

    Image.new("RGB", (64, 36), (20, 200, 40)).save(folder / "Garden.png")

    window.get_by_role("radio", name="Garden").wait_for(timeout=5000, state="attached")


def test_the_size_of_the_virtual_camera_is_chosen_and_said_to_wait_for_a_start(window, runtime):
    size = window.get_by_label("Picture size")
    assert "next start" in size.locator("..").inner_text()

    size.select_option("1920x1080")

    until(lambda: runtime.settings.current.output.width == 1920, window)
    assert runtime.settings.current.output.height == 1080


def test_everything_can_be_done_from_the_keyboard(window, runtime):
    window.keyboard.press("p")
    until(lambda: runtime.settings.mode == "paused", window)
    window.keyboard.press("p")
    until(lambda: runtime.settings.mode == "live", window)
    window.get_by_role("radio", name="Studio").focus()
    window.keyboard.press("ArrowRight")
    until(lambda: runtime.settings.current.background.use == "paper", window)


def test_health_names_the_camera_who_watches_and_what_is_wrong(window):
    assert window.locator("#who").inner_text() == "In use by Zoom"
    assert "VBG Camera" in window.locator("#sinks").inner_text()
    assert "busy" in window.locator("#problems").inner_text()


@pytest.mark.parametrize("window", ["light", "phone"], indirect=True)
def test_the_webcams_own_controls_are_set_here_and_kept_for_it(webcam, window, runtime):
    window.get_by_text("Exposure, colour, zoom").click()
    window.get_by_label(BRIGHTNESS).fill("200")
    window.get_by_label("Auto exposure").select_option("Manual Mode")

    until(lambda: (webcam.knobs[0x980900][4], webcam.knobs[0x9A0901][4]) == (200, 1), window)
    kept = {"Test Camera": {"brightness": 200, "auto_exposure": 1}}
    until(lambda: runtime.settings.current.camera.controls == kept, window)
    assert "0 to 255" in window.get_by_label(BRIGHTNESS).locator("..").inner_text()
    assert not sticking_out(window)
    assert not axe_faults(window)


def test_a_control_that_the_camera_holds_itself_is_grey_and_a_refusal_is_said(webcam, window):
    from vcam.system.v4l2 import S_CTRL  # on Linux alone

    window.get_by_text("Exposure, colour, zoom").click()
    webcam.refuse[S_CTRL] = errno.EACCES
    window.get_by_label(BRIGHTNESS).fill("200")
    window.get_by_role("alert").filter(has_text="cannot be set").wait_for()
    until(lambda: window.get_by_label(BRIGHTNESS).input_value() == "128", window)

    webcam.refuse.clear()
    webcam.inactive.add(0x980900)
    window.get_by_label("Auto exposure").select_option("Manual Mode")

    until(window.get_by_label(BRIGHTNESS).is_disabled, window)
    assert "by itself" in window.get_by_label(BRIGHTNESS).locator("..").inner_text()


def test_without_a_webcam_its_controls_are_grey_with_the_reason(window, runtime):
    runtime.settings.change({"camera": {"source": "demo"}})

    window.get_by_text("There is no webcam in use").wait_for()
    assert window.locator("#knobs").evaluate("(e) => e.inert && !e.open")


@pytest.mark.parametrize("window", ["light", "dark", "phone"], indirect=True)
def test_axe_finds_no_serious_fault_and_nothing_is_cut_off(window):
    window.get_by_role("radio", name="Blur").check()
    window.wait_for_timeout(500)

    assert not axe_faults(window)
    assert not sticking_out(window)


# What sets the page's width on machines we never see: other fonts, long names, long commands.
LONG = "/dev/v4l/by-id/usb-Manufacturer_of_Very_Long_Names_HD_Webcam_C920_8F2A_ABCDEF-video-index0"
SAID = {
    "what": f"No virtual camera is called “VBG Camera”; there is {LONG} “Another one”.",
    "why": f"Programs list cameras by that label. Unbroken/{'and-on-' * 30}it-goes.",
    "command": f"sudo install -m 0644 {LONG} {LONG} && sudo modprobe v4l2loopback",
    "needs_root": True,
}
FONTS = {"own": "", "wide": "'DejaVu Sans'; font-stretch: expanded; letter-spacing: .12em"}


@pytest.mark.parametrize("kind", NAMES)
def test_what_others_wrote_is_text_on_the_page_and_only_shows(
    browser, doors, runtime, kind, monkeypatch
):
    name = NAMES[kind][:3000]
    told = browsing.ColourRuntime.status(runtime)
    told["sinks"][0] |= {"name": name, "watchers": [name]}
    told |= {"watchers": [name], "problems": [name], "config_problem": name, "config_path": name}
    told |= {"state": "fault", "reason": name}
    told["engine"] = {"model": name, "device": name, "size": [288, 160], "problem": name}
    told["source"] |= {"name": name}
    monkeypatch.setattr(runtime, "status", lambda: told)
    said = {"what": name, "why": name, "command": name, "needs_root": False}
    monkeypatch.setattr("vcam.doctor.report.run_checks", lambda: [Finding("warning", **said)])
    monkeypatch.setattr("vcam.system.devices.list_cameras", lambda: [CameraInfo(name, name, name)])
    entry = library.Entry(name, "picture", True, {"background": {"use": "loft"}})
    monkeypatch.setattr(library, "entries", lambda: [entry])
    window = browser.new_page()
    window.goto(doors.open_page())
    window.wait_for_selector('body[data-state="fault"]')
    window.wait_for_selector("#findings .note")
    window.wait_for_function("document.querySelector('#source').options.length > 2")

    shown = window.evaluate(
        """() => [document.body.textContent, ...[...document.querySelectorAll("*")].flatMap(
            (one) => [one.title ?? "", one.ariaLabel ?? ""])].join("\\n")"""
    )
    made = window.locator('img[src=x], b:text-is("bold")').count()
    window.close()

    assert harmful(shown) == []
    assert made == 0


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("width", [320, 390, 700, 1024])
def test_long_names_and_wide_letters_stay_within_the_page(
    browser, doors, runtime, width, font, monkeypatch
):
    told = browsing.ColourRuntime.status(runtime)
    told["sinks"][0] |= {"name": LONG, "watchers": [LONG, "Zoom"]}
    told |= {"watchers": [LONG], "problems": [f"{LONG} is busy."], "config_problem": LONG * 2}
    told |= {"restart_needed": True, "config_path": LONG, "state": "fault", "reason": LONG}
    told["engine"] = {"model": LONG, "device": LONG, "size": [288, 160], "problem": LONG}
    told["source"] |= {"name": LONG}
    monkeypatch.setattr(runtime, "status", lambda: told)
    monkeypatch.setattr(
        "vcam.doctor.report.run_checks",
        lambda: [Finding(kind, **SAID) for kind in get_args(Severity)],
    )
    monkeypatch.setattr("vcam.system.devices.list_cameras", lambda: [CameraInfo(LONG, LONG, LONG)])
    paths.backgrounds_dir().mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 36)).save(paths.backgrounds_dir() / f"{'Wide_' * 30}.png")
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    window = context.new_page()
    window.goto(doors.open_page())
    window.wait_for_selector('body[data-state="fault"]')
    window.wait_for_selector("#findings .note")
    if FONTS[font]:
        window.evaluate(
            """(font) => {
                const sheet = new CSSStyleSheet();
                sheet.replaceSync(`:root, :root * { font-family: ${font} !important }`);
                document.adoptedStyleSheets = [sheet];
            }""",
            FONTS[font],
        )
    window.get_by_text("Show my room", exact=True).click()
    window.get_by_role("radio", name="Blur").check()
    window.locator("#file").set_input_files(
        {"name": f"{'no' * 60}.txt", "mimeType": "text/plain", "buffer": b"."}
    )
    window.wait_for_selector(".toast")
    window.wait_for_timeout(300)

    out = sticking_out(window)

    context.close()
    assert not out


def test_the_page_says_when_the_daemon_is_gone(browser, runtime, home):
    context = browser.new_context()
    window = context.new_page()
    with serve(runtime, socket_path=paths.socket_path()) as doors:
        window.goto(doors.open_page())
        window.wait_for_selector('body[data-state="live"]')

    window.wait_for_selector("#lost:not([hidden])")
    assert "does not answer" in window.locator("#lost").inner_text()
    context.close()


def test_the_page_is_small():
    page = Path(__file__).parents[2] / "vcam" / "control" / "page"

    assert sum(file.stat().st_size for file in page.iterdir()) < 130_000
