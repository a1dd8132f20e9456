"""Takes the pictures of the settings page in `docs/images` from the daemon that runs.

vcam start --source demo --sink none && python -m tests.control.pictures docs/images
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from vcam.client import Client

SCENES = {"light": "loft", "dark": "forest"}
FILL = 60.0  # seconds until the graphs are full


def take(folder: Path) -> None:
    """Write `page-light.png` and `page-dark.png`."""
    client = Client.connect()
    client.change({"control": {"welcome": False}})
    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        window = browser.new_context(viewport={"width": 1380, "height": 940}).new_page()
        window.goto(client.open_page())
        window.wait_for_timeout(FILL * 1000)
        for scheme, scene in SCENES.items():
            window.emulate_media(color_scheme=scheme)
            client.change({"background": {"use": scene}})
            window.wait_for_timeout(3000)
            until = time.monotonic() + 20
            while client.status()["state"] != "live" and time.monotonic() < until:
                window.wait_for_timeout(500)
            save(window.screenshot(), folder / f"page-{scheme}.png")
        browser.close()


def save(png: bytes, path: Path) -> None:
    """Keep a screenshot in 256 colours, chosen and mixed well: a third of its size."""
    command = ["pngquant", "--speed", "1", "--quality", "70-98", "256", "-"]
    path.write_bytes(subprocess.run(command, input=png, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
