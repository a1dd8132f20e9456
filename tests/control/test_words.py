"""The page in other languages: nothing left in English, nothing too long, the right one chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.control.doors import PlayRuntime
from vcam import words
from vcam.client import Client
from vcam.doctor.finding import Finding
from vcam.receipts import Receipt

browsing = pytest.importorskip("tests.control.browsing")
until, pytestmark = browsing.until, browsing.pytestmark

SIZES = ((1280, 800), (950, 800), (640, 800), (390, 844))
MARK = "⟦"
# Names: of programs, of the camera, of what a test's daemon calls things.
NAMES = {"VBG Camera", "Zoom", "Teams", "Meet", "Discord", "CPU", "English", "Deutsch", "Français"}
NAMES |= {"Español", "Português", "日本語", "简体中文", "config.toml", "Zoom…"}

# Texts of the page, those that screen readers read too, which do not come from the catalogue.
LEFT_IN_ENGLISH = """(names) => {
    const out = new Set();
    const look = (text) => {
        const plain = text.trim();
        const said = /\\p{L}{3,}/u.test(plain) && !plain.includes("⟦");
        if (said && !names.includes(plain)) out.add(plain);
    };
    const unsaid = "script, style, code, kbd, h1, #version, #engine, [translate=no]";
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const untold = "script, style, code, kbd, h1, #version, #engine, [translate=no]";
    for (let node = walk.nextNode(); node; node = walk.nextNode())
        if (!node.parentElement.closest(untold))
            look(node.textContent);
    for (const name of ["aria-label", "alt", "title"])
        for (const e of document.body.querySelectorAll(`[${name}]`)) look(e.getAttribute(name));
    return [...out];
}"""

# One-line labels that are cut off by the box they stand in.
CUT_OFF = """() => {
    const labels = ".tile:not(:has(.delete)) .name, button, .badge, .kind";
    return [...document.querySelectorAll(labels)].filter((e) => e.clientWidth
        && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 3))
        .map((e) => `${e.textContent.trim()}: ${e.scrollWidth} in ${e.clientWidth}`);
}"""


class Busy(browsing.ColourRuntime):
    """A daemon with something to say in every corner of the page."""

    def matte(self):
        return np.full((90, 160), 255, np.uint8)

    def status(self):
        receipt = Receipt(("Zoom",), 1.7e9, 125.0, 3700, 40, 0.0)
        engine = super().status()["engine"] | {"problem": "engine failed"}
        return super().status() | {
            "programs": ["zoom"],
            "problems": ["no picture from the camera"],
            "receipts": [receipt.told()],
            "engine": engine,
            "restart_needed": True,
        }


@pytest.fixture
def runtime() -> PlayRuntime:
    return Busy()


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding(
            "error",
            "The kernel module v4l2loopback is not installed.",
            "It makes the virtual camera that other programs choose.",
            "vcam start",
            True,
        ),
        Finding(
            "warning", "webcam grants 15 of 30 frames a second.", "No program can see the camera."
        ),
    ]
    monkeypatch.setattr("vcam.doctor.report.run_checks", lambda: list(found))


def test_no_text_of_the_page_is_left_in_english(browser, doors, monkeypatch):
    known = words.of("de").entries
    pretended = words.Words("de", {text: f"{MARK}{text}⟧" for text in known})
    monkeypatch.setattr(words, "of", lambda language: pretended)
    with browsing.signed_in(browser, doors.open_page()) as window:
        until(lambda: window.locator("#findings .note").count() == 2, window)
        left = set(window.evaluate(LEFT_IN_ENGLISH, sorted(NAMES)))
        for press in ("#pause", "#pause", "#freeze", "#freeze"):
            window.locator(press).click()
            window.wait_for_timeout(400)
            left |= set(window.evaluate(LEFT_IN_ENGLISH, sorted(NAMES)))
        window.locator("#steps").click()
        for _ in range(3):
            left |= set(window.evaluate(LEFT_IN_ENGLISH, sorted(NAMES)))
            window.locator("#welcome-next").click()

        assert left == set()


def fits(browser, doors, language: str, kind: str) -> None:
    with browsing.signed_in(browser, doors.open_page(), kind, language=language) as window:
        until(lambda: window.locator("#findings .note").count() == 2, window)
        window.get_by_role("radio", name=words.of(language).say("Blur"), exact=True).check()
        for width, height in SIZES:
            window.set_viewport_size({"width": width, "height": height})
            window.wait_for_timeout(150)

            assert not browsing.sticking_out(window), width
            assert window.evaluate(CUT_OFF) == [], width
        assert not browsing.axe_faults(window)


@pytest.mark.parametrize("language", ["de", "ja"])
def test_nothing_is_too_long_at_any_width_and_axe_is_content(browser, doors, language):
    fits(browser, doors, language, "light")


@pytest.mark.slow
@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("kind", ["light", "dark"])
def test_in_every_language_it_fits_and_axe_is_content(browser, doors, language, kind):
    fits(browser, doors, language, kind)


def test_what_the_daemon_says_is_told_in_the_readers_language(browser, doors):
    with browsing.signed_in(browser, doors.open_page(), language="de-DE") as window:
        checkup = window.locator("#findings")
        until(lambda: "Kernelmodul" in checkup.inner_text(), window)

        assert window.locator("#state").inner_text() == "Live"
        assert "kein Bild von der Kamera" in window.locator("#problems").inner_text()
        assert "webcam gewährt 15 von 30 Bildern je Sekunde" in checkup.inner_text()
        assert "Zoom sah 2 min 5 s lang zu" in window.locator("#receipt").inner_text()
        assert window.evaluate("document.documentElement.lang") == "de"


def test_the_setting_outranks_the_browser_and_an_open_page_follows(browser, doors, runtime):
    with browsing.signed_in(browser, doors.open_page(), language="de-DE") as window:
        assert window.locator("#pause").inner_text().strip() == "Pause"

        window.locator("#language").select_option("ja")

        window.wait_for_selector("html[lang=ja] body[data-state=live]")
        assert runtime.settings.current.control.language == "ja"
        assert window.locator("#pause").inner_text().strip() == "一時停止"

        Client.connect().change({"control": {"language": "en"}})

        window.wait_for_selector("html[lang=en] body[data-state=live]")


def test_a_refusal_is_told_in_the_readers_language(browser, doors):
    with browsing.signed_in(browser, doors.open_page(), language="fr-FR") as window:
        window.evaluate("""() => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(9)], "a.txt"));
            const how = { bubbles: true, cancelable: true, dataTransfer: carried };
            document.body.dispatchEvent(new DragEvent("drop", how));
        }""")

        window.get_by_role("alert").filter(has_text="ni une image ni une vidéo").wait_for()


def test_a_window_that_is_not_signed_in_reads_it_in_its_language(browser, doors):
    context = browser.new_context(locale="es-ES")
    window = context.new_page()
    window.goto(doors.open_page().partition("#")[0])

    window.get_by_text("Esta ventana no tiene acceso").wait_for()
    assert "un solo uso" in window.locator("#signed-out-why").inner_text()
    context.close()


def test_before_signing_in_a_window_gets_words_and_nothing_else(page):
    _, _, raw = page.ask("GET", "/catalogue.js", headers={"Accept-Language": "de"})
    text = raw.decode()

    found = json.loads(text.removeprefix("export default ").rstrip(";\n"))
    assert found["language"] == "de"
    assert found["words"] == words.of("de").entries
