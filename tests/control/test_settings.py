"""Settings that survive: written back with care, picked up when edited, never half a file."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vcam.errors import ConfigError, VcamError
from vcam.settings import config
from vcam.settings.edit import edited
from vcam.settings.live import UNDO_WITHIN, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = """\
# My notes stay.

[background]
use = "loft"   # the nice one
# softer
blur = 30

[camera]
mirror = true

[output]
sink = "none"
"""


def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own" / "config.toml"
    path.parent.mkdir()
    path.write_text(OWN)
    return path


def loaded(file: Path) -> Settings:
    return Settings(config.load(file, environ={}))


def test_a_change_is_in_force_before_it_is_in_the_file(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"blur": 77}})

        assert settings.current.background.blur == 77
        assert settings.flush()
        assert tomllib.loads(file.read_text())["background"]["blur"] == 77


def test_comments_order_and_layout_stay(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"use": "dusk"}, "matte": {"smoothing": 0.25}})
        settings.flush()

    text = file.read_text()
    assert text.startswith(OWN.replace('"loft"', '"dusk"'))
    assert text.removeprefix(OWN.replace('"loft"', '"dusk"')).split() == (
        ["[matte]", "smoothing", "=", "0.25"]
    )


def test_what_equals_the_file_already_leaves_it_untouched(file):
    settings = loaded(file)
    before = file.stat().st_mtime_ns, file.stat().st_ino
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"blur": 30}})
        settings.flush()

    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_a_missing_file_is_made_with_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "config.toml"
    settings = loaded(config.default_path())
    with settings.kept_in(path, environ={}):
        settings.change({"camera": {"mirror": True}})
        assert settings.flush()

    assert path.read_text().startswith("# VBG Camera")
    assert config.load(path, environ={}).camera.mirror


def test_a_linked_file_stays_a_link_and_keeps_its_mode(file, tmp_path):
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    settings = loaded(link)
    with settings.kept_in(link, environ={}):
        settings.change({"background": {"blur": 1}})
        settings.flush()

    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "blur = 1" in file.read_text()


def test_an_edit_by_hand_is_taken_up(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        time.sleep(0.5)
        file.write_text(OWN.replace("blur = 30", "blur = 90"))

        until(lambda: settings.current.background.blur == 90)
        assert settings.problem is None


def test_an_editor_that_replaces_the_file_is_noticed_too(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        time.sleep(0.5)
        other = file.with_suffix(".new")
        other.write_text(OWN.replace('"loft"', '"forest"'))
        os.replace(other, file)

        until(lambda: settings.current.background.use == "forest")


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (OWN.replace("blur = 30", "blur = 300"), "blur"),
        (OWN.replace("blur = 30", "blurr = 30"), "did you mean 'blur'"),
        (OWN + "\n[[[", "TOML"),
        ("\x00\x01", ""),
    ],
)
def test_a_bad_edit_is_reported_and_the_settings_in_force_stay(file, bad, word):
    settings = loaded(file)
    before = settings.current
    with settings.kept_in(file, environ={}):
        file.write_text(bad)
        settings.reload()

        assert settings.problem is not None
        assert word in settings.problem
        assert "stay as they were" in settings.problem
        assert settings.current is before

        file.write_text(OWN.replace("blur = 30", "blur = 40"))
        settings.reload()

        assert settings.problem is None
        assert settings.current.background.blur == 40


def test_a_file_that_is_emptied_before_it_is_written_never_means_all_defaults(file):
    settings = loaded(file)
    seen = []
    settings.subscribe(seen.append)
    with settings.kept_in(file, environ={}):
        for blur in (31, 32, 33):
            with file.open("w") as edited:
                reader = threading.Thread(target=settings.reload)
                reader.start()
                time.sleep(0.02)
                edited.write(OWN.replace("blur = 30", f"blur = {blur}"))
            reader.join()
        until(lambda: settings.current.background.blur == 33)

    assert all(config.camera.mirror for config in seen)


def test_a_change_while_the_file_is_broken_is_in_force_and_said_to_be_unsaved(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        file.write_text("[[[")
        settings.reload()
        settings.change({"background": {"blur": 5}})
        settings.flush(1.0)

        assert settings.current.background.blur == 5
        assert settings.unsaved
        assert "not saved" in settings.unsaved
        assert file.read_text() == "[[["


def test_both_an_edit_and_a_change_at_the_same_time_survive(file):
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"blur": 11}})
        file.write_text(OWN.replace("mirror = true", "mirror = false"))
        settings.flush()

        until(lambda: not settings.current.camera.mirror)
        assert settings.current.background.blur == 11
        kept = tomllib.loads(file.read_text())
        assert (kept["background"]["blur"], kept["camera"]["mirror"]) == (11, False)


def test_flag_and_environment_outrank_an_edit_but_yield_to_a_change(file):
    flags, environ = {"background": {"use": "coast"}}, {"VCAM_BACKGROUND_BLUR": "60"}
    settings = Settings(config.load(file, flags=flags, environ=environ))
    with settings.kept_in(file, flags=flags, environ=environ):
        file.write_text(OWN.replace("mirror = true", "mirror = false"))
        settings.reload()

        now = settings.current
        assert (now.background.use, now.background.blur, now.camera.mirror) == ("coast", 60, False)

        settings.change({"background": {"use": "paper", "blur": 12}})
        settings.flush()
        file.write_text(file.read_text().replace("mirror = false", "mirror = true"))
        settings.reload()

        now = settings.current
        assert (now.background.use, now.background.blur, now.camera.mirror) == ("paper", 12, True)


def test_a_check_can_refuse_a_change_and_nothing_happens(file):
    def refuse(old: config.Config, new: config.Config) -> None:
        raise VcamError("the background does not open", hint="Choose another.")

    settings = loaded(file)
    settings.check(refuse)
    with settings.kept_in(file, environ={}):
        before = settings.current

        with pytest.raises(VcamError, match="does not open"):
            settings.change({"background": {"use": "dusk"}})
        settings.flush()

        assert settings.current is before
        assert file.read_text() == OWN


def test_a_thousand_changes_leave_a_file_that_was_readable_all_the_time(file):
    settings = loaded(file)
    done, broken, seen = threading.Event(), [], 0

    def read() -> None:
        nonlocal seen
        while not done.is_set():
            try:
                config.load(file, environ={})
                seen += 1
            except ConfigError as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    with settings.kept_in(file, environ={}):
        reader.start()
        slowest = 0.0
        for number in range(1000):
            started = time.monotonic()
            settings.change(
                {"background": {"blur": number % 101}, "camera": {"mirror": number % 2 == 0}}
            )
            slowest = max(slowest, time.monotonic() - started)
            if number % 50 == 0:
                settings.flush()
        assert settings.flush()
        done.set()
        reader.join(5)

    assert not broken
    assert seen > 20
    kept = config.load(file, environ={})
    assert (kept.background.blur, kept.camera.mirror) == (999 % 101, False)
    assert "# My notes stay." in file.read_text()
    assert not list(file.parent.glob(".config-*"))


def test_a_folder_that_cannot_be_written_is_said(file, monkeypatch):
    settings = loaded(file)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with settings.kept_in(file, environ={}):
        monkeypatch.setattr("os.replace", full)
        settings.change({"background": {"blur": 3}})

        assert not settings.flush(1.0)
        assert settings.current.background.blur == 3
        assert settings.unsaved
        assert "No space left" in settings.unsaved
        assert file.read_text() == OWN


def test_every_observer_hears_of_changes_modes_and_problems(file):
    settings = loaded(file)
    heard = []
    forget = settings.observe(lambda: heard.append(settings.revision))
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"blur": 1}})
        settings.set_mode("paused")
        file.write_text("[[[")
        settings.reload()
        count = len(heard)
        forget()
        settings.set_mode("live")

    assert count >= 3
    assert heard == sorted(heard)
    assert len(heard) == count


def test_dotted_and_inline_tables_of_a_hand_written_file_are_kept():
    text = 'background.use = "loft"\ncamera = { mirror = true } # mine\n'

    changed = edited(text, {"background": {"use": "dusk"}, "camera": {"mirror": False}})

    assert changed == 'background.use = "dusk"\ncamera = { mirror = false } # mine\n'


BOM = "\ufeff"


def test_a_mark_of_windows_editors_before_the_settings_is_skipped_and_kept(file):
    file.write_text(BOM + OWN, encoding="utf-8")
    settings = loaded(file)
    with settings.kept_in(file, environ={}):
        settings.change({"background": {"blur": 77}})
        assert settings.flush()
        assert settings.problem is None

    text = file.read_text(encoding="utf-8")
    assert text.startswith(BOM)
    assert text.count(BOM) == 1
    assert config.load(file, environ={}).background.blur == 77


@pytest.mark.parametrize("empty", ["", "\n\n", BOM])
def test_a_file_that_stays_empty_for_long_does_not_count_and_what_is_written_then_does(file, empty):
    settings = loaded(file)
    before = settings.current
    with settings.kept_in(file, environ={}):
        file.write_text(empty, encoding="utf-8")
        time.sleep(3)
        settings.reload()
        assert settings.current == before
        assert settings.problem is None
        file.write_text(OWN.replace("blur = 30", "blur = 44"))
        until(lambda: settings.current.background.blur == 44)


def test_the_last_change_can_be_taken_back_for_a_minute_and_never_brings_the_room(monkeypatch):
    settings = Settings(config.load(config.default_path(), environ={}))
    settings.change({"background": {"use": "coast"}})
    settings.change({"background": {"blur": 60}})
    settings.change({"background": {"blur": 70}})  # one drag

    assert settings.undo() == ["background.blur"]
    assert settings.current.background.blur == 50
    with pytest.raises(VcamError, match="nothing to take back"):
        settings.undo()

    settings.show_room("test")
    settings.change({"background": {"use": "loft"}})
    settings.show_room("test")
    assert settings.undo() == ["background.use"]
    assert settings.current.background.use == "coast"
    assert settings.revealed is None

    settings.change({"camera": {"mirror": True}, "matte": {"smoothing": 0.1}})
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + UNDO_WITHIN + 1)
    assert settings.step is None


def test_a_room_that_the_file_shows_is_not_brought_back():
    values = config.load(config.default_path(), environ={}).model_dump()
    values["background"]["use"] = "none"
    settings = Settings(config.validate(values, origin="test"))
    settings.change({"background": {"use": "coast", "blur": 60}})

    assert settings.undo() == ["background.blur"]
    assert settings.current.background.use == "coast"
    assert settings.revealed is None
