"""Backgrounds: what works, and a sentence for everything that does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from tests.media.made import png
from tests.vcam.clips import make_clip
from vcam.compose import backdrops, drawn
from vcam.compose.backdrops import open_backdrop
from vcam.compose.scene import Blur
from vcam.errors import BackgroundError
from vcam.settings.choice import LEAST_BLUR, Preset
from vcam.system import paths


def luma(backdrop, pts=0.0, height=36):
    return backdrop.at(pts)[:height]


@pytest.mark.parametrize("name", drawn.SCENES)
def test_every_preset_is_drawn_at_any_even_size(name):
    data = open_backdrop(name, 98, 54).at(0)

    assert data.shape == (81, 98)
    assert data[:54].std() > 2
    assert data[:54].min() >= 16
    assert data[:54].max() <= 235


def test_a_picture_fills_the_frame_without_being_squashed(tmp_path):
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 40:60] = 255
    Image.fromarray(image).save(tmp_path / "bar.png")

    row = luma(open_backdrop(str(tmp_path / "bar.png"), 160, 80), height=80)[40]

    assert 28 <= np.count_nonzero(row > 128) <= 36  # a fifth of 160


def test_exif_rotation_is_respected(tmp_path):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif)

    data = luma(open_backdrop(str(tmp_path / "turned.jpg"), 40, 80), height=80)

    assert data[10].mean() > 200
    assert data[70].mean() < 40


def test_colours_blur_and_none_are_what_they_say():
    green = open_backdrop("#00ff00", 64, 36).at(0)

    assert abs(int(green[0, 0]) - 145) <= 1
    assert open_backdrop("blur:30", 64, 36).at(0) == Blur(30)
    assert open_backdrop("blur", 64, 36, blur=70).at(0) == Blur(70)
    assert open_backdrop("blur:5", 64, 36).at(0) == Blur(LEAST_BLUR)
    with pytest.raises(ValueError, match="no background"):
        open_backdrop("none", 64, 36)


def test_a_clip_plays_at_its_own_speed_and_loops(tmp_path):
    clip = open_backdrop(str(make_clip(tmp_path / "c.mp4", 20, fps=10)), 64, 36)
    try:
        seen = []
        for step in range(50):
            time.sleep(0.005)
            seen.append(float(luma(clip, step * 0.1).mean()))
    finally:
        clip.close()

    rising = np.diff(seen[:15])
    assert (rising >= -1).all()
    assert seen[14] > seen[0] + 30
    assert min(seen[20:]) < seen[15]


def bad_files(tmp_path):
    (tmp_path / "huge.png").write_bytes(png(12001, 12001, rows=1))
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((300, 300), 50).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 5000)
    return ["huge.png", "cut.jpg", "empty.png", "text.jpg", "bad.mp4", "missing.png", "."]


def test_every_bad_file_is_told_of_with_a_hint(tmp_path):
    for name in bad_files(tmp_path):
        with pytest.raises(BackgroundError) as caught:
            open_backdrop(str(tmp_path / name), 64, 36)

        assert caught.value.hint, name
        assert name in str(caught.value) or name == ".", name


def test_own_files_become_presets_and_can_be_removed(tmp_path, monkeypatch):
    folder = tmp_path / "backgrounds"
    monkeypatch.setattr(backdrops, "backgrounds_dir", lambda: folder)
    Image.new("RGB", (64, 36), (200, 30, 30)).save(tmp_path / "my room.png")

    added = backdrops.add_file(tmp_path / "my room.png", "../../my room.png")

    assert added.name == "my room"
    assert added.path.parent == folder
    assert added.name in [p.name for p in backdrops.presets()]
    assert backdrops.small(Preset("my room"))[:2] == b"\xff\xd8"
    backdrops.remove("my room")
    assert added.name not in [p.name for p in backdrops.presets()]
    monkeypatch.setattr(backdrops, "KEPT_FOR", 0.0)
    backdrops.sweep()
    assert list(folder.iterdir()) == []


def test_what_is_not_a_picture_is_not_kept(tmp_path, monkeypatch):
    folder = tmp_path / "backgrounds"
    monkeypatch.setattr(backdrops, "backgrounds_dir", lambda: folder)

    with pytest.raises(BackgroundError):
        backdrops.add_file(b"#!/bin/sh", "evil.sh")
    with pytest.raises(BackgroundError):
        backdrops.add_file(b"not a picture", "evil.png")

    assert not folder.exists() or list(folder.iterdir()) == []


def test_the_runtime_directory_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    assert paths.runtime_dir().stat().st_mode & 0o777 == 0o700
