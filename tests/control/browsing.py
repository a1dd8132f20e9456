"""A browser in front of a daemon's real doors, and looks at what it shows."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.control.doors import PlayRuntime
from vcam.doctor.finding import Finding
from vcam.frame import SafeFrame
from vcam.media.pictures import i420_from_image

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.desktop,
    pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium"),
]


LOOPBACK = Finding(
    "error",
    "The kernel module v4l2loopback is not installed.",
    "It makes the virtual camera that other programs choose.",
    "bash install/linux.sh",
    True,
    "v4l2loopback",
)


class ColourRuntime(PlayRuntime):
    """Shows the background it was given as one colour, so that a change of it can be seen."""

    def latest(self) -> SafeFrame:
        use = self.settings.current.background.use
        colour = (40, 40, 40)
        if self.settings.mode == "live":
            known = {"studio": (200, 30, 30), "coast": (30, 60, 220), "green wall": (20, 200, 40)}
            colour = known.get(use, (220, 220, 30))
        picture = np.full((108, 192, 3), colour, np.uint8)
        now = time.monotonic()
        return SafeFrame(i420_from_image(picture), now, 0, is_card=False, maker="vcam.compose.card")

    def status(self) -> dict[str, Any]:
        return super().status() | {
            "latency_ms": {"p50": 21.0, "p95": 30.0},
            "stages_ms": {"prepare": 0.5, "infer": 6.0, "compose": 7.0},
            "cpu_percent": 31.0,
            "sinks": [{"name": "VBG Camera", "width": 1280, "height": 720, "watchers": ["Zoom"]}],
            "problems": ["The other virtual camera is busy."],
            "watchers": ["Zoom"],
            "engine": {"model": "small", "device": "CPU", "size": [288, 160]},
            "quality": {"asked": "auto", "now": "balanced"},
            "source": {"name": "webcam", "open": True, "width": 1280, "height": 720, "fps": 30.0},
        }


class Told(ColourRuntime):
    """A daemon in the state that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, Any] = {}
        self.is_card = False

    def status(self) -> dict[str, Any]:
        return super().status() | {"programs": ["zoom"]} | self.told

    def pulse(self) -> str:
        return super().pulse() + str(self.told)

    def latest(self) -> SafeFrame:
        frame = super().latest()
        frame.is_card = self.is_card
        return frame

    def matte(self) -> np.ndarray:
        return np.full((90, 160), 255, np.uint8)


@contextmanager
def started() -> Iterator[Any]:
    """A browser of one's own."""
    with playwright.sync_playwright() as player:
        running = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def signed_in(
    browser: Any, url: str, kind: str = "light", state: str = "live", language: str = "en-US"
) -> Iterator[Any]:
    """A window on the page, `kind` light, dark or phone; it must not complain of anything."""
    context = browser.new_context(
        viewport={"width": 390 if kind == "phone" else 1380, "height": 900},
        color_scheme="dark" if kind == "dark" else "light",
        reduced_motion="reduce",
        locale=language,
    )
    context.set_default_timeout(30_000)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if is_fault(said) else None)
    opened.goto(url)
    opened.wait_for_selector(f'body[data-state="{state}"]')
    opened.wait_for_selector(".tile img")
    yield opened
    context.close()
    assert not faults, faults


def is_fault(said: Any) -> bool:
    return said.type == "error" and "status of 422" not in said.text  # a refusal is told in words


def until(holds: Callable[[], object], window: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        window.wait_for_timeout(50)


def colour(window: Any) -> tuple[int, ...]:
    """The middle of the preview as it is on the screen."""
    png = window.locator("#preview").screenshot()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return tuple(image.getpixel((image.width // 2, image.height // 4)))


def close_to(seen: tuple[int, ...], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 25 for a, b in zip(seen, wanted, strict=True))


def axe_faults(window: Any) -> list[tuple[str, list[str]]]:
    """What axe calls serious or critical."""
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in axe.Axe().run(window).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def sticking_out(window: Any) -> list[str]:
    """What reaches over the side of the page or of its own box, and how far; empty is right."""
    found: list[str] = window.evaluate(
        """() => {
            const page = document.documentElement, out = [];
            if (page.scrollWidth > innerWidth)
                out.push(`the page: ${page.scrollWidth} > ${innerWidth}`);
            const clipped = (e) => e && (getComputedStyle(e).overflowX !== "visible"
                || getComputedStyle(e).position === "fixed" || clipped(e.parentElement));
            for (const e of document.body.querySelectorAll("*:not(.skip, .gone, svg *)")) {
                const box = e.getBoundingClientRect(), style = getComputedStyle(e);
                const name = `${e.tagName}#${e.id}.${e.getAttribute("class") ?? ""}`;
                if (!box.width || clipped(e.parentElement)) continue;
                if (box.right > innerWidth + 0.5 || box.left < -0.5)
                    out.push(`${name}: ${box.left.toFixed()} to ${box.right.toFixed()}`);
                else if (style.overflowX === "visible" && e.clientWidth
                         && e.scrollWidth > e.clientWidth + 1)
                    out.push(`inside ${name}: ${e.scrollWidth} > ${e.clientWidth}`);
            }
            return out;
        }"""
    )
    return found
