"""A program's background is taken up while it watches, and given back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import settings
from vcam.errors import BackgroundError, ConfigError
from vcam.settings.live import Settings
from vcam.settings.profiles import Profiles

WISHES = {"zoom": "coast", "Discord": "forest", "*": "blur"}


def values_of(name: str) -> dict[str, dict[str, Any]]:
    if name == "gone":
        raise BackgroundError("it is gone")
    if name == "look:Soft":
        return {"background": {"use": "dusk", "light_wrap": 0.5}, "matte": {"smoothing": 0.9}}
    return {"background": {"use": name}}


def made(**programs: str) -> tuple[Settings, Profiles]:
    kept = settings(background={"use": "studio"}, profiles={"programs": programs or WISHES})
    return kept, Profiles(kept, values_of)


def test_each_program_has_its_own_and_the_one_of_before_comes_back():
    kept, profiles = made()
    seen = []
    for watchers in (["settings page"], ["zoom"], [], ["discord"], ["chrome"], ["chrome"], []):
        profiles.follow(watchers)
        seen.append(kept.current.background.use)

    assert seen == ["studio", "coast", "studio", "forest", "blur", "blur", "studio"]
    assert profiles.seen == ["zoom", "discord", "chrome"]


def test_what_is_changed_during_a_call_stays():
    kept, profiles = made(zoom="look:Soft")
    profiles.follow(["zoom"])
    kept.change({"background": {"use": "loft"}})

    profiles.follow([])

    assert kept.current.background.use == "loft"
    assert kept.current.background.light_wrap == 0.4
    assert kept.current.matte.smoothing == 0.6


def test_a_background_that_is_gone_is_tried_once_and_nothing_changes(caplog):
    kept, profiles = made(zoom="gone")
    for _ in range(3):
        profiles.follow(["zoom"])

    assert kept.current.background.use == "studio"
    assert len(caplog.records) == 1


def test_no_program_is_shown_the_room_and_a_shown_one_is_hidden():
    with pytest.raises(ConfigError, match="no program is shown your room"):
        made(zoom="none")
    kept, profiles = made()
    kept.show_room("test")

    profiles.follow(["zoom"])

    assert kept.revealed is None
    assert kept.current.background.use == "coast"


def test_a_room_that_the_file_shows_does_not_come_back_with_the_end_of_a_call():
    kept = settings(background={"use": "none"}, profiles={"programs": WISHES})
    profiles = Profiles(kept, values_of)

    profiles.follow(["zoom"])
    profiles.follow([])

    assert kept.revealed is None
    assert kept.current.background.use == "coast"


def test_a_program_left_as_it_is_gets_no_other_ones_background(caplog):
    kept, profiles = made(**{"*": "forest", "zoom": ""})

    profiles.follow(["zoom"])
    assert kept.current.background.use == "studio"
    assert not caplog.records  # nothing was tried that cannot be

    profiles.follow(["discord"])
    assert kept.current.background.use == "forest"
