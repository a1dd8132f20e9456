"""Settings come from one file, in a known order, and every mistake is told at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vcam.compose.backdrops import open_backdrop, presets
from vcam.errors import BackgroundError, ConfigError
from vcam.files.watched import watch
from vcam.overlay.tag import Tag
from vcam.settings import config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("VCAM_CONFIG", str(tmp_path / "missing.toml"))

    loaded = config.load(environ={})

    shipped = tomllib.loads(config.default_path().read_text(encoding="utf-8"))
    assert loaded.model_dump() == shipped


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    file = write(tmp_path / "c.toml", '[output]\nfps = 20\nwidth = 640\nsink = "none"\n')
    environ = {"VCAM_OUTPUT_FPS": "24", "VCAM_OUTPUT_WIDTH": "800"}

    loaded = config.load(file, flags={"output": {"width": 320}}, environ=environ)

    out = loaded.output
    assert (out.width, out.fps, out.sink, out.height) == (320, 24.0, "none", 720)


def test_every_problem_is_told_at_once_with_file_key_value_and_expectation(tmp_path):
    file = write(
        tmp_path / "c.toml",
        '[camera]\nwidht = 3\n[output]\nfps = "fast"\nwidth = 1281\n[matte]\nquality = "hihg"\n',
    )

    with pytest.raises(ConfigError) as caught:
        config.load(file, environ={})

    told = "\n".join(caught.value.problems)
    assert caught.value.exit_code == 3
    assert len(caught.value.problems) == 4
    assert f"{file}: [camera] widht is not a setting, did you mean 'width'?" in told
    assert "[output] fps is 'fast', expected a number from 1 to 120" in told
    assert "[output] width is 1281, expected an even number of pixels" in told
    assert "did you mean 'high'?" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[output\n", "not valid TOML"),
        ("output = 3\n", "expected a [section]"),
        ('[background]\nuse = "#12"\n', 'expected "#rrggbb"'),
        ('[background]\nuse = "blur:200"\n', "0 to 100"),
        ("[privacy]\nconfident_frames = 0\n", "from 1 to 120"),
        ("[matte]\nthreads = true\n", "expected"),
        ('[overlay]\nlogo = "a\\u0000b.png"\n', "text that a file can hold"),
        ('[background]\nfolder = "\\u0000"\n', "text that a file can hold"),
    ],
)
def test_bad_files_are_explained(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path / "c.toml", text), environ={})

    assert words in str(caught.value)


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "missing.toml", environ={})


def test_a_file_that_is_not_text_is_explained(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00[output]")

    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "c.toml", environ={})


def test_a_home_that_nobody_has_is_a_file_that_is_not_there():
    choice = "~nobody-has-this-name/logo.png"
    wish = config.load(config.default_path(), environ={}).overlay.model_copy(
        update={"logo": choice}
    )

    with pytest.raises(BackgroundError):
        Tag(wish, 64, 36)
    with pytest.raises(BackgroundError, match="neither a file nor a preset"):
        open_backdrop(choice, 64, 36)
    watch(choice)
    assert presets()
    watch("")
