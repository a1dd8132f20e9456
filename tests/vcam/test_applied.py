"""Every setting is applied while the camera runs, or is marked as one that waits for a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import H, ListSink, ListSource, W, left_half, room, settings
from vcam import daemon as daemon_module
from vcam.compose.backdrops import open_backdrop
from vcam.compose.card import Card
from vcam.daemon import Daemon
from vcam.errors import BackgroundError, ConfigError
from vcam.frame import Frame
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.settings.config import Camera, Config, MatteSettings, Output, needs_restart
from vcam.settings.schema import settings_schema
from vcam.sinks.base import Wanted
from vcam.sinks.demand import Demand
from vcam.sinks.outlet import Outlet
from vcam.sources.capture import Capture
from vcam.stats import Stats

BLUE = 41  # the luma of the card that is chosen here
EVERY = [
    (section, key)
    for section, held in Config.model_fields.items()
    for key in held.annotation.model_fields
]


class Model:
    """A model that finds the left half, and knows what it was told."""

    info, draws = {"engine": "test"}, False

    def __init__(self, house: House) -> None:
        self._house = house

    def adjust(self, **light: Any) -> None:
        self._house.adjusted.append(light)

    def matte(self, y, u, v, *, full_range, seq, pts):
        return left_half(Frame(y, u, v, full_range, pts, seq))

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
        monkeypatch.setattr(daemon_module, "source_opener", self.source)
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
            self.capture, self.matting, backdrop, self.outlet, self.settings, self.demand,
            self.outlet.stats,
        )  # fmt: skip
        compose = self.pipe.compositor.compose
        self.pipe.compositor.compose = lambda frame, matte, behind, look: (
            self.looks.append(look),
            compose(frame, matte, behind, look),
        )[1]
        self.stop = threading.Event()
        self.daemon = Daemon(self.pipe, folder / "config.toml", self.stop, threading.Event())
        self.settings.check(self.daemon.prepare)
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


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[House]:
    level = logging.getLogger().level
    with House(monkeypatch, tmp_path) as made:
        yield made
    logging.getLogger().setLevel(level)


def card(folder: Path) -> str:
    path = folder / "card.png"
    Image.fromarray(np.full((H, W, 3), (0, 0, 255), np.uint8)).save(path)
    return str(path)


def camera(key: str, value: object) -> tuple[object, Callable[[House], bool]]:
    return value, lambda house: house.opened_with(key, value)


def model(key: str, value: object) -> tuple[object, Callable[[House], bool]]:
    return (
        value,
        lambda house: (
            len(house.models) > 1 and (key == "engine" or getattr(house.models[-1], key) == value)
        ),
    )


def light(key: str, value: object) -> tuple[object, Callable[[House], bool]]:
    return value, lambda house: bool(house.adjusted) and house.adjusted[-1][key] == value


def look(key: str, value: object) -> tuple[object, Callable[[House], bool]]:
    return value, lambda house: getattr(house.looks[-1], key) == value


# For each setting that is applied live: another value, and the proof that it is in force.
LIVE: dict[tuple[str, str], tuple[Any, Callable[[House], bool]]] = {
    ("camera", "source"): camera("source", "demo"),
    ("camera", "width"): camera("width", 640),
    ("camera", "height"): camera("height", 360),
    ("camera", "fps"): camera("fps", 15.0),
    ("camera", "format"): camera("format", "mjpg"),
    ("camera", "fill"): camera("fill", True),
    ("camera", "controls"): camera("controls", {"brightness": 7}),
    ("camera", "mirror"): look("mirror", True),
    ("output", "sink"): (
        "file:DIR/a.mp4",
        lambda house: [sink.kind for sink in house.outlet.sinks] == ["file"],
    ),
    ("output", "fps"): (24.0, lambda house: house.outlet.interval == 1 / 24),
    ("output", "on_demand"): (True, lambda house: house.demand.on_demand),
    ("output", "idle_after"): (9.0, lambda house: house.demand.idle_after == 9),
    ("background", "use"): (
        "#00ff00",
        lambda house: house.last[0, -1] == 0x91 and house.last[H // 2, -1] == 0x91,
    ),
    ("background", "blur"): (90, lambda house: house.pipe.backdrop.at(0.0).strength == 90),
    ("background", "light_wrap"): look("light_wrap", 0.7),
    ("background", "decontaminate"): look("decontaminate", False),
    ("matte", "model"): model("model", "other.onnx"),
    ("matte", "engine"): model("engine", "cpu"),
    ("matte", "threads"): model("threads", 2),
    ("matte", "quality"): model("quality", "low"),
    ("matte", "max_cpu_percent"): model("max_cpu_percent", 80),
    ("matte", "smoothing"): light("smoothing", 0.1),
    ("matte", "people"): light("people", "only-me"),
    ("privacy", "card"): (
        "DIR/card.png",
        lambda house: bool((house.outlet.card.frame(0, 0).data[:4, :4] == BLUE).all()),
    ),
    ("privacy", "card_reason"): (
        False,
        lambda house: np.array_equal(
            house.outlet.card.frame(0, 0, "paused").data, house.outlet.card.frame(0, 0).data
        ),
    ),
    ("privacy", "confident_frames"): (7, lambda house: house.pipe.guard.confident_frames == 7),
    ("privacy", "deadline"): (2.0, lambda house: house.pipe.guard.deadline == 2.0),
    ("control", "log"): ("error", lambda house: logging.getLogger().level == logging.ERROR),
}  # fmt: skip
MARKED = {("output", "width"): 640, ("output", "height"): 480, ("control", "port"): 8765}


@pytest.mark.parametrize(("section", "key"), EVERY)
def test_every_setting_is_applied_or_marked_as_one_that_waits_for_a_restart(house, section, key):
    field = Config.model_fields[section].annotation.model_fields[key]
    assert needs_restart(field) is ((section, key) in MARKED)
    assert settings_schema()[section][key]["restart"] is needs_restart(field)
    before = getattr(getattr(house.settings.current, section), key)

    if needs_restart(field):
        house.settings.change({section: {key: MARKED[section, key]}})
        assert house.daemon.status()["restart_needed"]
        house.settings.change({section: {key: before}})
    else:
        value, proof = LIVE[section, key]
        card(house.folder)
        if isinstance(value, str):
            value = value.replace("DIR", str(house.folder))
        assert value != before
        house.settings.change({section: {key: value}})
        until(lambda: proof(house))

    assert not house.daemon.status()["restart_needed"]


def test_another_card_is_shown_in_mid_call_and_shows_nothing_else(house):
    house.settings.change({"privacy": {"card": card(house.folder)}})
    shown = len(house.sink.frames)
    until(lambda: len(house.sink.frames) > shown + 5)
    assert not any(frame.is_card for frame in house.sink.frames[shown:])  # costs no frame

    house.settings.set_mode("paused")
    until(lambda: house.sink.frames[-1].is_card)

    assert (house.last[:4, :4] == BLUE).all()


def test_a_card_that_cannot_be_read_is_refused_and_the_one_in_use_stays(house):
    before = house.outlet.card

    with pytest.raises(BackgroundError, match=r"gone\.png"):
        house.settings.change({"privacy": {"card": str(house.folder / "gone.png")}})
    house.settings.change({"background": {"light_wrap": 0.5}})
    until(lambda: house.looks[-1].light_wrap == 0.5)

    assert house.outlet.card is before
    assert house.settings.current.privacy.card == ""


def test_a_sink_that_means_nothing_is_refused_and_one_that_is_missing_is_told_of(house):
    with pytest.raises(ConfigError, match="is unknown"):
        house.settings.change({"output": {"sink": "nonsense"}})
    assert house.sink in house.outlet.sinks

    house.settings.change({"output": {"sink": "/dev/video-none"}})

    until(
        lambda: any("/dev/video-none" in problem for problem in house.daemon.status()["problems"])
    )


def test_another_rate_leaves_camera_and_sinks_open(house):
    shown = len(house.sink.frames)
    house.settings.change({"output": {"fps": 24.0}})
    until(lambda: len(house.sink.frames) > shown + 5)

    assert len(house.cameras) == 1
    assert not any(frame.is_card for frame in house.sink.frames[shown:])
