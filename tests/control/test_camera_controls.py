"""A webcam's own controls through the doors: told, set, refused, kept for that webcam."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes import ListSource, room
from vcam.running import Daemon
from vcam.settings import config
from vcam.settings.live import Settings
from vcam.sources.base import Source
from vcam.sources.capture import Capture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_the_webcams_controls_are_told_with_range_and_choices(local, webcam):
    status, told = local.json("GET", "/camera")

    assert (status, told["camera"], told["reason"]) == (200, "Test Camera", "")
    brightness, exposure = told["controls"]
    assert {key: brightness[key] for key in ("name", "minimum", "maximum", "value")} == {
        "name": "brightness", "minimum": 0, "maximum": 255, "value": 128,
    }  # fmt: skip
    assert exposure["choices"] == [[1, "Manual Mode"], [3, "Aperture Priority Mode"]]


def test_a_control_is_set_at_once_and_kept_for_this_webcam_alone(local, webcam, runtime):
    runtime.settings.change({"camera": {"controls": {"contrast": 3, "Other": {"zoom": 9}}}})

    status, told = local.json("PATCH", "/camera", {"brightness": 140, "auto_exposure": 1})

    assert (status, [knob["value"] for knob in told["controls"]]) == (200, [140, 1])
    assert (webcam.knobs[0x980900][4], webcam.knobs[0x9A0901][4]) == (140, 1)
    assert runtime.settings.current.camera.controls == {
        "contrast": 3,
        "Other": {"zoom": 9},
        "Test Camera": {"brightness": 140, "auto_exposure": 1},
    }


def test_what_is_set_is_written_to_the_users_file(local, webcam, runtime, tmp_path):
    path = tmp_path / "config.toml"

    with runtime.settings.kept_in(path, environ={}):
        local.json("PATCH", "/camera", {"brightness": 7})
        assert runtime.settings.flush()

    kept = tomllib.loads(path.read_text())["camera"]["controls"]
    assert kept == {"Test Camera": {"brightness": 7}}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"zoom": 3}, "no control 'zoom'"),
        ({"auto_exposure": 1, "brightness": 256}, "brightness is 256, expected a number from 0"),
        ({"brightness": "high"}, "brightness is 'high', expected"),
        ({"brightness": True}, "brightness is True, expected"),
        ({"brightness": 1.5}, "brightness is 1.5, expected"),
        ([1], "not a JSON object"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_turned(local, webcam, runtime, wanted, words):
    status, told = local.json("PATCH", "/camera", wanted)

    assert 400 <= status < 500
    assert words in told["error"]
    assert told["hint"]
    assert (webcam.knobs[0x980900][4], webcam.knobs[0x9A0901][4]) == (128, 3)
    assert runtime.settings.current.camera.controls == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("demo", "There is no webcam in use: 'demo' stands in for one."),
        ("C920", "there is no camera 'C920'; connected: 'Test Camera'."),
    ],
)
def test_where_there_is_no_webcam_the_reason_is_told(local, webcam, runtime, source, words):
    runtime.settings.change({"camera": {"source": source}})

    assert local.json("GET", "/camera")[1] == {"camera": "", "controls": [], "reason": words}
    assert local.json("PATCH", "/camera", {"brightness": 1})[0] == 422


def test_a_camera_without_controls_says_so(local, webcam):
    webcam.knobs.clear()

    told = local.json("GET", "/camera")[1]

    assert told["controls"] == []
    assert told["reason"].startswith("Test Camera has no controls")


def daemon(path: Path) -> tuple[Daemon, list[str]]:
    """A daemon as far as it takes in settings; what it asks of the camera's thread is noted."""
    done: list[str] = []
    source = SimpleNamespace(live=True, path=str(path))
    pipeline = SimpleNamespace(
        settings=Settings(config.load(config.default_path(), environ={})),
        matting=SimpleNamespace(apply=lambda _: None),
        demand=SimpleNamespace(),
        outlet=SimpleNamespace(width=64, height=36, card=None),
        show_overlay=lambda _: None,
        forget=done.append,
        capture=SimpleNamespace(
            source=source,
            switch=lambda _: done.append("switched"),
            next_time=lambda _: done.append("next time"),
        ),
    )
    return Daemon(pipeline, None, SimpleNamespace(), SimpleNamespace()), done  # type: ignore[arg-type]


def test_a_turned_knob_leaves_the_camera_open_and_the_next_opening_has_it(webcam):
    made, done = daemon(webcam.path)

    made.settings.change({"camera": {"controls": {"brightness": 99}}})
    made.apply(made.settings.current)

    assert done == ["next time"]
    assert webcam.knobs[0x980900][4] != 99  # no device is opened while a change takes effect

    made.turn_controls()

    assert webcam.knobs[0x980900][4] == 99

    made.settings.change({"camera": {"width": 640, "controls": {"brightness": 5}}})
    made.apply(made.settings.current)

    assert done == ["next time", "switched", "camera switched"]


def test_the_open_camera_goes_on_and_the_next_opening_takes_what_changed():
    opened: list[str] = []

    def opener(name: str) -> Callable[[], Source]:
        def make() -> Source:
            opened.append(name)
            return ListSource([item for i in range(999) for item in (room(i), None)])

        return make

    def until_closed(closed: bool) -> None:
        end = time.monotonic() + 10
        while (capture.source is None) is not closed:
            assert time.monotonic() < end
            time.sleep(0.01)

    with Capture(opener("before")) as capture:
        capture.want(True)
        until_closed(False)
        capture.next_time(opener("after"))
        time.sleep(0.1)  # long enough for it to be closed, if it were
        assert (opened, capture.source is None) == (["before"], False)

        capture.want(False)
        until_closed(True)
        capture.want(True)
        until_closed(False)

    assert opened == ["before", "after"]
