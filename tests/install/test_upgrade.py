"""A newer version meets the settings file of an older one."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from vcam.errors import ConfigError
from vcam.settings import config
from vcam.settings.edit import edited
from vcam.settings.live import Settings

# Stand-ins: a name that changed, a setting that moved, a section that is gone.
RENAMED = {
    ("output", "rate"): ("output", "fps"),
    ("camera", "people"): ("matte", "people"),
    ("glow", "wrap"): ("background", "light_wrap"),
}
OLD = """\
# my own
[output]
# for the old projector
rate = 24  # it stutters above
width = 640

[camera]
people = "only-me"  # the children

[glow]
wrap = 0.5
"""
NEW = """\
# my own
[output]
# for the old projector
fps = 24  # it stutters above
width = 640

[camera]

[matte]
people = "only-me"  # the children

[background]
light_wrap = 0.5
"""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "RENAMED", RENAMED)
    path = tmp_path / "config.toml"
    path.write_text(OLD)
    return path


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def test_settings_under_old_names_count_and_are_told(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = config.load(old, environ={})

    assert (loaded.output.fps, loaded.matte.people, loaded.background.light_wrap) == (
        24.0,
        "only-me",
        0.5,
    )
    assert f"{old}: [output] rate is called [output] fps now" in caplog.messages
    assert len(caplog.messages) == len(RENAMED)


def test_an_old_name_in_the_environment_counts_too(old: Path) -> None:
    assert config.load(old, environ={"VCAM_OUTPUT_RATE": "12"}).output.fps == 12.0


def test_the_new_name_counts_where_a_file_has_both(old: Path) -> None:
    old.write_text("[output]\nrate = 24\nfps = 15\n")

    assert config.load(old, environ={}).output.fps == 15.0
    assert edited(old.read_text(), {}) == "[output]\nfps = 15\n"


def test_the_file_is_written_under_the_new_names_and_keeps_its_comments(old: Path) -> None:
    settings = Settings(config.load(old, environ={}))

    with settings.kept_in(old, environ={}):
        until = time.monotonic() + 10
        while old.read_text() == OLD and time.monotonic() < until:
            time.sleep(0.02)

        assert lines(old.read_text()) == lines(NEW)
        settings.change({"output": {"fps": 20.0}})
        assert settings.flush()

    assert "fps = 20.0  # it stutters above" in old.read_text()
    again = config.load(old, environ={})
    assert again == settings.current
    assert again.output.width == 640


def test_a_file_without_old_names_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "RENAMED", RENAMED)
    path = tmp_path / "config.toml"
    text = "[output]\nfps   =   24\n\n\n"
    path.write_text(text)
    before = path.stat().st_mtime_ns

    with Settings(config.load(path, environ={})).kept_in(path, environ={}):
        time.sleep(0.5)

    assert (path.read_text(), path.stat().st_mtime_ns) == (text, before)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[output]\nfsp = 24\n", "[output] fsp is not a setting, did you mean 'fps'?"),
        ("[output]\nsmoothing = 1\n", "smoothing belongs into [matte]"),
        ("[outptu]\nfps = 24\n", "[outptu] is not a setting, did you mean 'output'?"),
    ],
)
def test_an_unknown_setting_is_explained(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match="is not a setting") as told:
        config.load(path, environ={})

    assert said in told.value.message
