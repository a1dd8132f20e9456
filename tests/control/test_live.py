"""A running camera whose settings change all the time, from every side, goes on without a hitch.

python -m pytest tests/control/test_live.py -m slow -s    tells the figures of the long run
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.control.doors import Page
from vcam.client import Client
from vcam.errors import ConfigError
from vcam.matting import Matting
from vcam.settings import config
from vcam.settings.config import MatteSettings

VCAM = [sys.executable, "-m", "vcam"]
PACE = 0.03  # seconds between changes: about what a dragged slider sends
LOST = ("dropped", "late", "stalled")


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A real daemon on the demo picture in motion, live."""
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~/.cache").expanduser())
    environ = os.environ | {"XDG_CACHE_HOME": cache, "HOME": str(Path.home())}
    environ["VCAM_OUTPUT_ON_DEMAND"] = "false"  # nobody watches
    subprocess.run(
        [*VCAM, "start", "--source", "demo", "--sink", "none"],
        env={k: v for k, v in environ.items() if k != "NOTIFY_SOCKET"},
        check=True,
        timeout=120,
    )
    client = Client.connect()
    yield client
    client.stop()


class Hands:
    """Everybody who may change a setting, one after the other."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pid = int(client.status()["pid"])
        self.file = config.user_path()
        self.page = Page(client.open_page())
        self.dice = random.Random(6)

    def anything(self) -> dict[str, dict[str, Any]]:
        dice = self.dice
        return dice.choice(
            [
                {"background": {"use": dice.choice(["studio", "coast", "blur", "#204060"])}},
                {"background": {"blur": dice.randrange(101)}},
                {"background": {"light_wrap": dice.randrange(20) / 20}},
                {"background": {"decontaminate": dice.random() < 0.5}},
                {"camera": {"mirror": dice.random() < 0.5}, "matte": {"smoothing": dice.random()}},
                {"matte": {"people": dice.choice(["everyone", "only-me"])}},
            ]
        )

    def change(self, number: int) -> None:
        if number % 250 == 249:
            os.kill(self.pid, signal.SIGHUP)
        elif number % 100 == 50:
            self.by_hand()
        elif number % 20 == 10:
            self.dice.choice(
                [
                    lambda: self.client.step(1),
                    lambda: self.client.step(-1),
                    lambda: self.client.use("loft"),
                ]
            )()
        elif number % 2:
            self.client.change(self.anything())
        else:
            body = json.dumps(self.anything())
            status, _, raw = self.page.ask("PATCH", "/settings", body, self.page.signed)
            assert status == 200, raw

    def by_hand(self) -> None:
        """What an editor does: the whole file written anew, with a remark."""
        with self.file.open("a") as file:
            file.write(f"# edited at {time.monotonic():.0f}\n")


def watch(file: Path, done: threading.Event, broken: list[str], reads: list[int]) -> None:
    while not done.is_set():
        if file.exists():
            try:
                config.load(file, environ={})
            except ConfigError as error:
                broken.append(str(error))
            reads.append(1)
        time.sleep(0.03)


@pytest.mark.parametrize("changes", [pytest.param(60), pytest.param(1000, marks=pytest.mark.slow)])
def test_settings_change_from_every_side_and_the_picture_goes_on(camera, changes):
    hands = Hands(camera)
    time.sleep(2)
    done, broken, reads = threading.Event(), [], []
    reader = threading.Thread(target=watch, args=(hands.file, done, broken, reads))
    reader.start()
    before, began, states = camera.status(), time.monotonic(), set()

    for number in range(changes):
        hands.change(number)
        if number % 10 == 0:
            states.add(camera.status()["state"])
        time.sleep(PACE)
    time.sleep(1.5)

    after, took = camera.status(), time.monotonic() - began
    done.set()
    reader.join()
    seen = {key: after["frames"][key] - before["frames"][key] for key in after["frames"]}
    lost = sum(seen[key] for key in LOST)
    print(f"\n{changes} changes in {took:.1f} s, {len(reads)} readings of the file, {seen}")
    assert not broken
    assert len(reads) > changes / 10
    assert states == {"live"}, states
    assert seen["composited"] > 5 * took
    kept = config.load(hands.file, environ={}).model_dump()
    now = camera.settings()["values"]
    for section in ("background", "matte"):
        assert kept[section] == now[section]
    if changes == 1000:
        assert lost * 300 <= seen["composited"]


def test_a_dragged_slider_does_not_open_the_model_again():
    opened: list[MatteSettings] = []
    adjusted: list[dict[str, Any]] = []

    def opener(settings: MatteSettings, cache_dir: Path | None) -> Any:
        opened.append(settings)
        return SimpleNamespace(
            adjust=lambda **light: adjusted.append(light), close=lambda: None, info={}
        )

    first = config.load(config.default_path(), environ={}).matte
    with Matting(first, None, opener) as matting:
        until(lambda: len(opened) == 1 and matting.ready)
        matting.matte(None)

        for percent in range(0, 100, 5):
            matting.apply(first.model_copy(update={"smoothing": percent / 100}))
        matting.apply(first.model_copy(update={"smoothing": 0.5, "people": "only-me"}))
        assert len(adjusted) == 1  # the frame loop's to do
        matting.matte(None)
        until(lambda: adjusted[-1:] == [{"smoothing": 0.5, "people": "only-me"}])

        assert len(opened) == 1
        matting.apply(first.model_copy(update={"quality": "high"}))
        until(lambda: len(opened) == 2)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
