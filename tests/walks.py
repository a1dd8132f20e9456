"""Walks through the code: files that one frame enters, and one change of a setting.

Each is the way of a real run: functions are noted as threads enter them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.fakes import settings
from tests.house import PACKAGES, ROOT
from tests.vcam.driver import Driver, plugged_in
from tests.vcam.running import House
from vcam.client import Client
from vcam.commands.bench import pack
from vcam.compose.backdrops import open_backdrop
from vcam.compose.card import Card
from vcam.control.server import serve
from vcam.frame import Frame
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.sinks.base import Wanted
from vcam.sinks.demand import Demand
from vcam.sinks.file import FileSink
from vcam.sinks.outlet import Outlet
from vcam.sources import webcam
from vcam.sources.capture import Capture
from vcam.stats import Stats
from vcam.system import paths
from vcam.system.devices import CameraInfo

WIDTH, HEIGHT = 1280, 720
WARM, STEADY = 12, 15  # frames before those that are followed, and those
PATIENCE = 300.0  # seconds


class Steps:
    """Files of ours whose functions the threads of these names enter while it listens."""

    def __init__(self, *threads: str) -> None:
        self._threads = threads
        self.listens = False
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and self.listens and threading.current_thread().name in self._threads:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
                self.files.add(str(path.relative_to(ROOT)))


@contextmanager
def noted(steps: Callable[..., None]) -> Iterator[None]:
    """Have threads that start inside of the block report their steps."""
    before = threading.getprofile()
    threading.setprofile(steps)
    try:
        yield
    finally:
        threading.setprofile(before)


def _until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


@contextmanager
def _camera(folder: Path) -> Iterator[tuple[Driver, Iterator[bytes]]]:
    """A camera's driver, and pictures of somebody for it to send."""
    pictures, _ = pack(WIDTH, HEIGHT)
    driver = Driver(folder / "video0", {("MJPG", WIDTH, HEIGHT): [30.0]})
    info = CameraInfo("Test Camera", str(driver.path), str(driver.path))
    with pytest.MonkeyPatch.context() as patched, plugged_in(driver, patched):
        patched.setattr(webcam, "find_camera", lambda _: info)
        yield driver, cycle(pictures)


class Followed(Pipeline):
    """A loop that counts the files of frames that were shown, and drops those of cards."""

    def follow(self, loop: Steps) -> None:
        """Note the files of the frames to come."""
        self.loop, self.shown = loop, 0
        self.found: Counter[str] = Counter()  # last: the loop goes by it

    def step(self, stop: threading.Event) -> None:
        if not hasattr(self, "found"):
            super().step(stop)
            return
        before, self.loop.files, self.loop.listens = self.stats.composited, set(), True
        super().step(stop)
        self.loop.listens = False
        if self.stats.composited > before:
            self.found.update(self.loop.files)
            self.shown += 1


class Camera(webcam.Webcam):
    """A webcam that counts the files of pictures that came."""

    steps, found = Steps("camera"), Counter[str]()

    def read(self, timeout: float) -> Frame | None:
        self.steps.files, self.steps.listens = set(), True
        try:
            frame = super().read(timeout)
        finally:
            self.steps.listens = False
        if frame is not None:
            self.found.update(self.steps.files)
        return frame


def _usual(found: Counter[str]) -> set[str]:
    """Files that at least a third of the frames enter."""
    return {file for file, times in found.items() if 3 * times >= max(found.values())}


def frame() -> set[str]:
    """Files that a frame enters from a camera's driver to a recording.

    720p MJPG, a blurred room, the shipped network on the processor; both of its turns: the network
    looks at one frame, and the next one's matte is carried along. What fewer than a third of the
    frames enter is left out: a step down to a smaller input, on a machine that is busy.
    """
    steps = Steps("loop")

    def both(*event: Any) -> None:
        Camera.steps(*event)
        steps(*event)

    with tempfile.TemporaryDirectory() as folder, _camera(Path(folder)) as (driver, pictures):
        wishes = settings(
            output={"on_demand": False, "width": WIDTH, "height": HEIGHT},
            matte={"engine": "cpu"},
            privacy={"deadline": 10.0},
        )
        background, stop = wishes.current.background, threading.Event()
        sink = FileSink(Path(folder) / "shown.mp4", WIDTH, HEIGHT, 30.0)
        outlet = Outlet([Wanted("file", lambda: sink)], Card(WIDTH, HEIGHT), Stats(), fps=30)
        with (
            outlet,
            noted(both),
            Capture(lambda: Camera("auto", WIDTH, HEIGHT, 30.0)) as capture,
            Matting(wishes.current.matte, None) as matting,
        ):
            loop = Followed(
                capture,
                matting,
                open_backdrop(background.choice, WIDTH, HEIGHT, blur=background.blur),
                outlet,
                wishes,
                Demand(outlet, on_demand=False, idle_after=5.0),
            )
            thread = threading.Thread(target=loop.run, args=(stop,), name="loop")
            thread.start()
            try:
                _send(driver, pictures, lambda: outlet.stats.composited >= WARM)
                loop.follow(steps)
                _send(driver, pictures, lambda: loop.shown >= STEADY)
            finally:
                stop.set()
                thread.join()
                loop.close()
    return _usual(loop.found) | _usual(Camera.found)


def _send(driver: Driver, pictures: Iterator[bytes], enough: Callable[[], bool]) -> None:
    """Send another picture whenever the last one was taken, until that is enough."""

    def more() -> bool:
        if not driver.pictures:
            driver.pictures.append(next(pictures))
        return enough()

    _until(more)


CHANGES = {
    "a slider": {"background": {"light_wrap": 0.5}},
    "a background": {"background": {"use": "#204060"}},
    "a model": {"matte": {"threads": 2}},
}


def changes() -> dict[str, set[str]]:
    """Files that changes of settings enter, from the door to the loop, which takes them."""
    steps, found = Steps("control", "control-aside"), dict[str, set[str]]()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            patched.setenv(name, folder)
        with noted(steps), House(patched, Path(folder)) as house:
            kept = house.settings.kept_in(Path(folder) / "config.toml", environ={})
            with kept, serve(house.daemon, socket_path=paths.socket_path()):
                client = Client.connect()
                client.status()  # once it answers, the door's thread is through with its start
                for name, wish in CHANGES.items():
                    steps.files, steps.listens = set(), True
                    client.change(wish)
                    steps.listens = False
                    assert "vcam/settings/live.py" in steps.files, "a worker was not noted"
                    found[name] = {*steps.files, "vcam/pipeline.py"}
    return found


def ways() -> dict[str, list[str]]:
    """The files of each way."""
    return {name: sorted(files) for name, files in {"a frame": frame(), **changes()}.items()}


def main() -> int:
    """Print the files of each way as JSON."""
    print(json.dumps(ways()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
