"""Makes the pictures in `docs/images`, by the program on a desktop of its own.

    python tests/tray/pictures.py docs/images

The camera is the demo portrait, held still so that each time the same is seen; a PipeWire session
takes the picture, as on a desktop. No figure of this machine is in view.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from desktop import Desktop, desktop, until
from PIL import Image
from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).parents[2]
PORTRAIT = REPOSITORY / "vcam" / "assets" / "portrait.jpg"
VCAM = (sys.executable, "-m", "vcam")
NEEDED = {"pngquant": "pngquant", "pipewire": "pipewire", "wireplumber": "wireplumber"}
SCENES = {"light": "loft", "dark": "forest"}
STRIP = ("loft", "dusk")  # beside the matte
PART = (1280, 720)  # of the strip, as rendered; shown at a third
SIZE = (1380, 690)
MARGIN = 12  # pixels around the tray's menu


@contextlib.contextmanager
def camera(screen: Desktop) -> Iterator[None]:
    """The program as it is shipped, live, with a virtual camera and a tray icon."""
    screen.environ["PYTHONPATH"] = str(REPOSITORY)
    screen.environ["VCAM_OUTPUT_ON_DEMAND"] = "false"
    screen.environ["VCAM_CONTROL_WELCOME"] = "false"
    screen.start("pipewire", "pipewire")
    until(lambda: (screen.home / "run/pipewire-0").exists())
    screen.start("wireplumber", "wireplumber")
    asked = ("start", "--foreground", "--source", str(PORTRAIT), "--sink", "pipewire")
    screen.start("daemon", *VCAM, *asked, "--background", SCENES["light"])
    until(lambda: status(screen).get("state") == "live", 120)
    screen.start("tray", *VCAM, "tray")
    until(lambda: "StatusNotifierItem" in (screen.watched() or ""), 30)
    try:
        yield
    finally:
        for name in ("tray", "daemon", "wireplumber", "pipewire"):
            screen.end(name)


def status(screen: Desktop) -> dict[str, object]:
    """What the daemon says; nothing before it answers."""
    with contextlib.suppress(ValueError):
        told: dict[str, object] = json.loads(screen.say(*VCAM, "status", "--json"))
        return told
    return {}


def page(screen: Desktop, folder: Path) -> None:
    """Write `page-light.png` and `page-dark.png`."""
    url = screen.say(*VCAM, "open").splitlines()[0]
    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        width, height = SIZE
        window = browser.new_context(viewport={"width": width, "height": height}).new_page()
        window.goto(url)
        for scheme, scene in SCENES.items():
            window.emulate_media(color_scheme=scheme)
            screen.say(*VCAM, "background", scene)
            save(live(window), folder / f"page-{scheme}.png")
        browser.close()


def live(window: Any) -> bytes:
    """A screenshot with the person in it: on a busy machine the card comes in between."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        window.wait_for_selector('body[data-state="live"]', timeout=120_000)
        window.wait_for_timeout(2000)
        window.evaluate("document.getElementById('undo').hidden = true")
        before = window.locator("body").get_attribute("data-state")
        png = window.screenshot()
        if before == window.locator("body").get_attribute("data-state") == "live":
            return bytes(png)
    raise TimeoutError("the camera was not live for two seconds")


def menu(screen: Desktop, folder: Path) -> None:
    """Write `tray-menu.png`: the menu, open at its backgrounds."""
    from test_desktop import open_menu

    shots = screen.home
    open_menu(screen, shots)
    screen.keys("Down", "Right", "Down")
    time.sleep(0.5)
    whole = screen.picture(shots / "whole.png")
    box = whole.convert("L").point(lambda luma: 255 * (luma > 40)).crop((0, 0, 1280, 680)).getbbox()
    assert box, "the menu is not open"
    left, top = max(box[0] - MARGIN, 0), max(box[1] - MARGIN, 0)
    whole.crop((left, top, 1280, 720)).save(shots / "menu.png")
    save((shots / "menu.png").read_bytes(), folder / "tray-menu.png")
    screen.keys("Escape", "Escape")


def strip(folder: Path, home: Path) -> None:
    """Write `replaced.jpg`: the matte of the demo portrait, and the person in other places."""
    with Image.open(PORTRAIT) as whole:
        height = whole.width * PART[1] // PART[0]
        whole.crop((0, 0, whole.width, height)).resize(PART).save(home / "portrait.png")
    parts = [home / "alpha" / "portrait.png"]
    for scene in STRIP:
        parts.append(home / f"{scene}.png")
        asked = ("--background", scene, "--alpha", "alpha", "--force")
        command = [*VCAM, "render", "portrait.png", "-o", parts[-1].name, *asked]
        environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        subprocess.run(command, cwd=home, env=environ, check=True, stdout=subprocess.DEVNULL)
    width, height = PART[0] // 3, PART[1] // 3
    made = Image.new("RGB", (width * len(parts) + 8 * (len(parts) - 1), height), "white")
    for place, part in enumerate(parts):
        with Image.open(part) as image:
            made.paste(image.convert("RGB").resize((width, height)), (place * (width + 8), 0))
    made.save(folder / "replaced.jpg", quality=88)


def save(png: bytes, path: Path) -> None:
    """Keep a screenshot in 256 colours, chosen and mixed well: a third of its size."""
    command = ["pngquant", "--speed", "1", "--quality", "70-98", "256", "-"]
    path.write_bytes(subprocess.run(command, input=png, stdout=subprocess.PIPE, check=True).stdout)


def make(folder: Path, home: Path) -> None:
    """Write all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    strip(folder, home)
    with desktop(home) as screen, camera(screen):
        page(screen, folder)
        screen.say(*VCAM, "background", SCENES["light"])
        menu(screen, folder)


if __name__ == "__main__":
    os.umask(0o077)
    with tempfile.TemporaryDirectory() as made:
        make(Path(sys.argv[1]).absolute(), Path(made))
    for each in sorted(Path(sys.argv[1]).glob("*.*")):
        with Image.open(each) as image:
            print(each, image.size)
