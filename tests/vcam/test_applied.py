"""Every setting is applied while the camera runs, or is marked as one that waits for a restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import H, W
from tests.vcam.running import House, until
from vcam.compose import backdrops
from vcam.errors import BackgroundError, ConfigError
from vcam.files import watched
from vcam.settings.config import Config, needs_restart
from vcam.settings.schema import settings_schema

BLUE = 41  # the luma of the card that is chosen here
EVERY = [
    (section, key)
    for section, held in Config.model_fields.items()
    for key in held.annotation.model_fields
]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[House]:
    level = logging.getLogger().level
    with House(monkeypatch, tmp_path) as made:
        yield made
    watched.watch("")
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


def overlay(value: object) -> tuple[object, Callable[[House], bool]]:
    return value, lambda house: house.pipe.compositor.overlay is not None


def read(section: str, key: str, value: object) -> tuple[object, Callable[[House], bool]]:
    """A setting that whoever needs it, the page or a receipt, reads when it needs it."""
    return value, lambda house: getattr(getattr(house.settings.current, section), key) == value


def remembers(house: House) -> bool:
    """True once the daemon has made the folder that rooms are kept in."""
    house.daemon.keep_rooms()
    return (house.folder / "rooms").is_dir()


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
    ("look", "framing"): look("framing", "close"),
    ("look", "zoom"): look("zoom", 1.5),
    ("look", "shift_x"): (0.5, lambda house: house.looks[-1].shift == (0.5, 0.0)),
    ("look", "shift_y"): (-0.5, lambda house: house.looks[-1].shift == (0.0, -0.5)),
    ("overlay", "show"): read("overlay", "show", False),
    ("overlay", "name"): overlay("Anna"),
    ("overlay", "title"): overlay("Pilot"),
    ("overlay", "pronouns"): overlay("she/her"),
    ("overlay", "logo"): overlay("DIR/card.png"),
    ("overlay", "clock"): overlay(True),
    ("overlay", "corner"): read("overlay", "corner", "top-right"),
    ("background", "folder"): ("DIR", lambda house: any(p.watched for p in backdrops.presets())),
    ("look", "light"): look("light", 80),
    ("look", "sharp"): look("sharp", True),
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
    ("privacy", "remember_room"): (True, lambda house: remembers(house)),
    ("profiles", "programs"): read("profiles", "programs", {"zoom": "#00ff00"}),
    ("control", "mirror_preview"): read("control", "mirror_preview", False),
    ("control", "welcome"): read("control", "welcome", False),
    ("control", "room_offer"): read("control", "room_offer", False),
    ("control", "receipts"): read("control", "receipts", False),
    ("control", "language"): read("control", "language", "de"),
    ("control", "log"): ("error", lambda house: logging.getLogger().level == logging.ERROR),
}  # fmt: skip
MARKED = {
    ("output", "width"): 640,
    ("output", "height"): 480,
    ("output", "format"): "yuyv",
    ("control", "port"): 8765,
}


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


def test_framing_asks_a_webcam_for_a_larger_picture_when_it_opens_again(house):
    house.settings.change({"look": {"framing": "close"}})
    assert len(house.cameras) == 1

    house.settings.set_mode("paused")
    until(lambda: house.capture.source is None)
    house.settings.set_mode("live")
    until(lambda: len(house.cameras) == 2)

    assert [(camera.width, camera.height) for camera, _ in house.cameras] == [
        (1280, 720),
        (1920, 1080),
    ]


def test_a_logo_that_cannot_be_read_is_refused_and_the_tag_in_use_stays(house):
    house.settings.change({"overlay": {"name": "Anna"}})
    until(lambda: house.pipe.compositor.overlay)
    before = house.pipe.compositor.overlay

    with pytest.raises(BackgroundError, match=r"gone\.png"):
        house.settings.change({"overlay": {"logo": str(house.folder / "gone.png")}})
    shown = len(house.sink.frames)
    until(lambda: len(house.sink.frames) > shown + 3)

    assert house.pipe.compositor.overlay is before


def test_a_logo_that_vanished_is_told_of_and_stands_in_the_way_of_no_other_change(house):
    logo = Path(card(house.folder))
    house.settings.change({"overlay": {"name": "Anna", "logo": str(logo)}})
    until(lambda: house.pipe.compositor.overlay)
    wide = house.pipe.compositor.overlay.place[2]
    logo.unlink()

    house.settings.change({"overlay": {"title": "Pilot"}})
    until(lambda: house.pipe.compositor.overlay.place[2] < wide)

    problem = house.daemon.status()["problems"][-1]
    assert "without its logo" in problem
    assert "card.png" in problem
    house.settings.change({"overlay": {"logo": ""}})
    assert not house.daemon.times.problem


def test_a_pause_counts_down_while_the_machine_sleeps(house, monkeypatch):
    house.settings.set_mode("paused", 300)
    assert house.daemon.status()["back_in_s"] == 300
    clock = time.clock_gettime
    asleep = {time.CLOCK_BOOTTIME: 200}
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + asleep.get(which, 0))

    assert house.daemon.status()["back_in_s"] == 100


def test_a_pause_counts_down_and_is_never_ended_by_the_clock(house):
    house.settings.set_mode("paused", 1.5)
    house.daemon.times.tend()
    until(lambda: house.sink.frames[-1].is_card)
    pictures = [house.outlet.card.frame(0, 0, "back").data]
    assert house.daemon.status()["back_in_s"] == 2

    end = time.monotonic() + 3
    while time.monotonic() < end:
        house.daemon.times.tend()
        time.sleep(0.05)
        if not np.array_equal(pictures[-1], house.outlet.card.frame(0, 0, "back").data):
            pictures.append(house.outlet.card.frame(0, 0, "back").data)

    assert len(pictures) == 3  # two, one, soon
    assert np.array_equal(house.last, pictures[-1])
    assert house.settings.mode == "paused"
    house.settings.set_mode("live")
    house.settings.set_mode("paused")
    house.daemon.times.tend()
    until(lambda: not np.array_equal(house.last, pictures[-1]))
