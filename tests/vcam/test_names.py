"""Names that are not UTF-8: as background, as source, in and out of `vcam render`, in settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.hostile import harmful
from tests.vcam.clips import make_clip
from vcam import cli
from vcam.client import Client
from vcam.compose.backdrops import open_backdrop
from vcam.settings import choice, config
from vcam.settings.live import Settings
from vcam.system import paths

NAME = os.fsdecode(b"caf\xe9 \xff.")  # Latin-1, as old archives and USB sticks have it
VCAM = [sys.executable, "-m", "vcam"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    try:
        (tmp_path / (NAME + "png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    Image.new("RGB", (64, 36), (200, 30, 30)).save(tmp_path / (NAME + "png"))
    shutil.copy(make_clip(tmp_path / "clip.mp4", 20), tmp_path / (NAME + "mp4"))
    return tmp_path


@pytest.mark.parametrize("suffix", ["png", "mp4"])
def test_a_background_is_shown_kept_and_told(files, suffix):
    use = str(choice.File(str(files / (NAME + suffix))))

    backdrop = open_backdrop(use, 64, 36)
    shown = backdrop.at(0.0)
    backdrop.close()

    assert use.isascii()
    assert use.startswith("file:///")
    assert choice.parse(use) == choice.File(str(files / (NAME + suffix)))
    assert isinstance(shown, np.ndarray)
    settings, kept = Settings(config.load(config.default_path(), environ={})), files / "config.toml"
    with settings.kept_in(kept, environ={}):
        settings.change({"background": {"use": use}})
        assert settings.flush()
    assert config.load(kept, environ={}).background.choice == choice.parse(use)


def test_an_address_as_file_managers_give_it_is_a_file(files):
    (files / "my room.png").write_bytes((files / (NAME + "png")).read_bytes())

    open_backdrop((files / "my room.png").as_uri(), 64, 36).close()


@pytest.mark.parametrize("suffix", ["png", "mp4"])
def test_render_reads_and_writes_them(files, suffix, capsys):
    out = files / (os.fsdecode(b"\xe9t\xe9.") + suffix)

    status = cli.main(
        ["render", str(files / (NAME + suffix)), "-o", str(out), "--background", "#00ff00"]
    )

    assert status == 0
    assert "\\xe9t\\xe9" in capsys.readouterr().out
    if suffix == "png":
        with Image.open(out) as picture:
            assert picture.size == (64, 36)
    else:
        with av.open(os.fsencode(out).decode(errors="surrogateescape")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 20


def test_a_running_camera_takes_them_and_tells_of_them_harmlessly(files, monkeypatch):
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        (files / name.lower()).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(files / name.lower()))
    source, picture = str(files / (NAME + "mp4")), str(files / (NAME + "png"))
    told = os.environ | {"PYTHONUTF8": "1", "VCAM_OUTPUT_ON_DEMAND": "false"}  # nobody watches
    start = [*VCAM, "start", "--source", source, "--sink", "none", "--background", picture]
    begun = subprocess.run(start, env=told, capture_output=True, timeout=120, check=False)
    client = Client.connect()
    try:
        status = client.status()
        used = subprocess.run(
            [*VCAM, "background", picture], env=told, capture_output=True, timeout=60, check=True
        )
        listed = client.status()
        as_json = subprocess.run(
            [*VCAM, "status", "--json"], env=told, capture_output=True, timeout=60, check=True
        )
        written = paths.log_path().read_text("utf-8")
    finally:
        client.stop()

    assert status["source"]["open"], begun
    assert status["background"].isascii()
    assert "clip caf" in written
    assert not any("cannot" in problem for problem in status["problems"])
    assert listed["background"] == "cafxe9 xff"
    for text in (json.dumps(status, ensure_ascii=False), used.stdout.decode(), written):
        assert harmful(text) == []
    assert json.loads(as_json.stdout)["source"]["name"] == status["source"]["name"]
