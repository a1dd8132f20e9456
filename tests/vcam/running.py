"""A daemon that runs inside a test: its loop on a thread, small stand-ins for what it opens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import H, ListSink, ListSource, W, left_half, room, settings
from vcam import running
from vcam.compose.backdrops import open_backdrop
from vcam.compose.card import Card
from vcam.files.rooms import KeptRooms
from vcam.frame import Frame
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.running import Daemon
from vcam.settings.config import Camera, MatteSettings, Output
from vcam.sinks.base import Wanted
from vcam.sinks.demand import Demand
from vcam.sinks.outlet import Outlet
from vcam.sources.capture import Capture
from vcam.stats import Stats


class Model:
    """A model that finds the left half, and knows what it was told."""

    info, draws = {"engine": "test"}, False

    def __init__(self, house: House) -> None:
        self._house = house

    def adjust(self, **light: Any) -> None:
        self._house.adjusted.append(light)

    def matte(self, planes, *, seq, pts, scene=None):
        return left_half(Frame(planes, pts, seq))

    def copy_room(self) -> None: ...
    def lend_room(self) -> None: ...
    def reset(self) -> None: ...
    def wipe(self) -> None: ...
    def close(self) -> None: ...


class House:
    """A daemon with its loop on a thread; the camera, the model and a sink are small stand-ins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.cameras: list[tuple[Camera, Output]] = []  # as they were opened
        self.models: list[MatteSettings] = []
        self.adjusted: list[dict[str, Any]] = []
        self.looks: list[Any] = []
        monkeypatch.setattr(running, "source_opener", self.source)
        self.settings = settings(
            background={"use": "blur"},
            output={"on_demand": False, "sink": "/dev/list"},
            privacy={"deadline": 5.0},
        )
        config = self.settings.current
        self.sink = ListSink()
        wanted = [Wanted("/dev/list", lambda: self.sink)]
        self.outlet = Outlet(wanted, Card(W, H), Stats(), fps=30, opened=[self.sink])
        self.demand = Demand(self.outlet, on_demand=False, idle_after=5.0)
        self.capture = Capture(self.source(config.camera, config.output))
        self.matting = Matting(config.matte, None, self.model)
        backdrop = open_backdrop(config.background.choice, W, H, blur=config.background.blur)
        self.pipe = Pipeline(
            self.capture, self.matting, backdrop, self.outlet, self.settings, self.demand
        )
        compose = self.pipe.compositor.compose
        self.pipe.compositor.compose = lambda frame, matte, behind, look: (
            self.looks.append(look),
            compose(frame, matte, behind, look),
        )[1]
        self.stop = threading.Event()
        self.daemon = Daemon(self.pipe, folder / "config.toml", self.stop, threading.Event())
        self.daemon.rooms = KeptRooms(folder / "rooms")
        self.settings.check(self.daemon.prepare)
        self.settings.opens(self.daemon)
        self.settings.subscribe(self.daemon.apply)
        self.loop = threading.Thread(target=self.pipe.run, args=(self.stop,), name="loop")

    def source(self, camera: Camera, output: Output) -> Callable[[], ListSource]:
        def opened() -> ListSource:
            self.cameras.append((camera, output))
            return Endless([])

        return opened

    def model(self, wanted: MatteSettings, cache_dir: Path | None) -> Model:
        self.models.append(wanted)
        return Model(self)

    def __enter__(self) -> House:
        self.outlet.__enter__()
        self.capture.__enter__()
        self.matting.__enter__()
        self.loop.start()
        until(lambda: self.sink.frames and not self.sink.frames[-1].is_card)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.loop.join(10)
        self.matting.__exit__()
        self.capture.__exit__()
        self.outlet.__exit__()
        self.pipe.close()

    @property
    def last(self) -> np.ndarray:
        return self.sink.frames[-1].data

    def opened_with(self, key: str, value: object) -> bool:
        """True once a camera is open that was asked for with `value`."""
        if key == "controls" and len(self.cameras) == 1:  # turned while it is open; kept for later
            self.settings.set_mode("paused")
            until(lambda: self.capture.source is None)
            self.settings.set_mode("live")
        return len(self.cameras) > 1 and getattr(self.cameras[-1][0], key) == value


class Endless(ListSource):
    """A camera of a hundred frames a second."""

    seq = 0

    def read(self, timeout: float) -> Frame:
        time.sleep(0.01)
        Endless.seq += 1
        return room(Endless.seq)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
