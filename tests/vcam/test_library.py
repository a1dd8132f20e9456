"""Looks: none is lost by keeping another."""

from __future__ import annotations

import json
import threading

import pytest

from vcam.compose import library
from vcam.settings import config
from vcam.system.paths import backgrounds_dir


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The file looks are kept in, which is not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    backgrounds_dir().mkdir(parents=True)
    return backgrounds_dir().parent / "looks.json"


def test_looks_of_another_version_stay_when_one_is_kept_or_removed(stored):
    strange = {"background": {"use": "hologram:7"}, "depth": 3}
    stored.write_text(json.dumps({"later": strange}))

    library.keep("mine", config.load(environ={}))
    library.keep("second", config.load(environ={}))
    library.remove("mine")

    kept = json.loads(stored.read_text())
    assert set(kept) == {"later", "second"}
    assert kept["later"] == strange


@pytest.mark.parametrize("damage", [b'{"mine": {"backgr', b"\xff\x00", b"[1, 2]", b""])
def test_a_file_that_cannot_be_understood_is_put_aside(stored, damage):
    stored.write_bytes(damage)
    (stored.parent / "looks.damaged.json").write_bytes(b"an older one")

    library.keep("new", config.load(environ={}))

    assert set(json.loads(stored.read_text())) == {"new"}
    assert (stored.parent / "looks.damaged 2.json").read_bytes() == damage
    assert (stored.parent / "looks.damaged.json").read_bytes() == b"an older one"


def test_a_look_keeps_the_light_and_one_of_before_there_was_light_stays(stored):
    base = config.load(config.default_path(), environ={})
    lit = base.with_changes({"look": {"light": "off", "sharp": True}})
    library.keep("mine", lit)
    older = json.loads(stored.read_text())
    del older["mine"]["look"]
    stored.write_text(json.dumps(older | {"lit": json.loads(stored.read_text())["mine"]}))

    assert library.find("lit").values["look"] == {"light": 0, "sharp": True}
    assert "look" not in library.find("mine").values
    assert base.with_changes(library.find("mine").values).look == base.look


def test_looks_that_are_kept_at_once_are_all_kept(stored):
    now = config.load(environ={})
    threads = [threading.Thread(target=library.keep, args=(f"look {i}", now)) for i in range(24)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(json.loads(stored.read_text())) == {f"look {i}" for i in range(24)}
