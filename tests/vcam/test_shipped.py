"""Backgrounds that come with the program: whole, credited, and never in the way of one's own."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from pathlib import Path

import pytest
from PIL import Image

from tests.vcam.running import House, until
from vcam import manual
from vcam.compose import backdrops, library, shipped
from vcam.compose.backdrops import open_backdrop
from vcam.errors import BackgroundError
from vcam.files.watched import watch
from vcam.settings import config
from vcam.settings.choice import Preset
from vcam.system.paths import backgrounds_dir

ALLOWED = {"CC0-1.0", "CC-BY-4.0", "LGPL-3.0", "GPL-2.0-or-later"}
OLD = ("studio", "loft", "paper", "dusk", "lights", "forest", "coast", "slate")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's backgrounds, none yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    backgrounds_dir().mkdir(parents=True)
    return backgrounds_dir()


def paint(path: Path) -> None:
    Image.new("RGB", (64, 36), (250, 10, 10)).save(path)


def test_every_one_is_there_credited_and_not_too_large():
    known = shipped.known().values()

    assert len([one for one in known if one.kind == "picture"]) >= 16
    assert len([one for one in known if one.kind == "clip"]) == 2
    assert sum(one.path.stat().st_size for one in known) <= 12e6
    assert {one.licence for one in known} <= ALLOWED
    assert all(one.author and one.source for one in known)
    for one in known:
        if one.kind == "picture":
            with Image.open(one.path) as image:
                assert image.size == (1920, 1080)


@pytest.mark.parametrize("name", [*OLD, "daily"])
def test_every_name_of_an_older_release_is_still_a_background(name, folder):
    backdrop = open_backdrop(name, 96, 54)
    try:
        assert backdrop.at(0)[:54].std() > 2
        assert library.find(name).light
    finally:
        backdrop.close()


def test_the_page_of_credits_is_as_it_would_be_written():
    written = Path(__file__).parents[2] / "docs" / "credits.md"

    assert written.read_text(encoding="utf-8") == manual.credits(), (
        "run: python -m vcam.manual credits > docs/credits.md"
    )


@pytest.mark.parametrize("name", ["harbour", "Harbour", "daily"])
def test_a_picture_of_ones_own_keeps_its_name(name, folder):
    paint(folder / f"{name}.png")

    assert [p.mine for p in backdrops.presets() if p.name.casefold() == name.casefold()] == [True]
    assert open_backdrop(Preset(name), 64, 36).at(0)[0, 0] < 100  # red, not a harbour's sky


def test_one_that_never_had_the_name_does_not_get_it(folder):
    paint(folder / "coast.png")

    assert [p.mine for p in backdrops.presets() if p.name == "coast"] == [False]


def test_a_look_of_that_name_stays_a_look(folder, monkeypatch):
    fewer = {name: one for name, one in shipped.known().items() if name != "harbour"}
    with monkeypatch.context() as before:
        before.setattr(shipped, "known", lambda: fewer)
        library.keep("harbour", config.load(environ={}))

    assert library.find("harbour").kind == "look"


def test_what_is_shipped_cannot_be_deleted(folder):
    with pytest.raises(BackgroundError, match="not a background of yours"):
        library.remove("coast")


def test_each_day_has_another_picture_and_all_come_round():
    first = datetime.date(2026, 1, 1)
    days = [shipped.of_day(first + datetime.timedelta(days=i)).name for i in range(400)]
    count = len([one for one in shipped.known().values() if one.kind == "picture"])

    assert all(a != b for a, b in itertools.pairwise(days))
    start = -first.toordinal() % count
    assert len(set(days[start : start + count])) == count


@pytest.fixture
def watched(folder, tmp_path):
    """A folder that is watched, beside the user's own."""
    other = tmp_path / "holiday"
    other.mkdir()
    watch(str(other))
    yield other
    watch("")


def test_pictures_come_and_go_with_the_folder_that_is_watched(watched):
    stamp = library.stamp()
    paint(watched / "beach.png")

    assert library.find("beach").watched
    assert library.stamp() != stamp
    assert open_backdrop("beach", 64, 36).at(0)[0, 0] < 100
    with pytest.raises(BackgroundError, match="folder that is watched"):
        library.remove("beach")

    (watched / "beach.png").unlink()
    assert "beach" not in {entry.name for entry in library.entries()}


def test_no_file_in_it_takes_a_name_that_something_else_has(folder, watched):
    for name in ("mine", "Coast", "studio", "none"):
        paint(watched / f"{name}.png")
    paint(folder / "mine.png")

    assert not library.find("mine").watched
    assert {p.name for p in backdrops.presets() if p.watched} == {"none"}
    assert library.find("none").values == {"background": {"use": "preset:none"}}


def test_another_day_is_seen_without_a_restart_and_a_fitting_at_once(folder, tmp_path, monkeypatch):
    day = datetime.date(2026, 3, 1)
    monkeypatch.setattr(shipped, "today", lambda: day)
    with House(monkeypatch, tmp_path) as house:
        house.settings.change({"background": {"use": "daily"}})
        until(lambda: house.pipe.backdrop.name == "daily")
        first = house.pipe.backdrop
        house.daemon.renew()  # the day is the same
        assert not house.pipe._coming
        assert house.pipe.backdrop is first

        day = datetime.date(2026, 3, 2)
        house.daemon.renew()

        until(lambda: house.pipe.backdrop is not first)
        assert (house.pipe.backdrop.at(0) != first.at(0)).any()

        paint(folder / "mine.png")
        house.settings.change({"background": {"use": "mine"}})
        until(lambda: house.pipe.backdrop.name == "mine")
        bright = house.pipe.backdrop.at(0)[0, 0]
        library.place("mine", {"darken": 60})
        house.settings.refresh()
        until(lambda: house.pipe.backdrop.at(0)[0, 0] < bright - 10)


def test_a_picture_of_the_day_that_is_gone_leaves_the_one_before(folder, tmp_path, monkeypatch):
    day = datetime.date(2026, 3, 1)
    monkeypatch.setattr(shipped, "today", lambda: day)
    with House(monkeypatch, tmp_path) as house:
        house.settings.change({"background": {"use": "daily"}})
        until(lambda: house.pipe.backdrop.name == "daily")
        first, gone = house.pipe.backdrop, shipped.known()
        broken = {
            name: dataclasses.replace(one, path=tmp_path / "none.jpg") for name, one in gone.items()
        }
        monkeypatch.setattr(shipped, "known", lambda: broken)
        day = datetime.date(2026, 3, 2)

        house.daemon.renew()

        assert house.pipe.backdrop is first
        assert "daily" in house.daemon.background_problem
