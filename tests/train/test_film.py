"""Clips of a fixed webcam: somebody comes, the truth is known, and the room stands still."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import write_folder
from train.__main__ import main
from train.figures import film
from train.figures.evaluate import frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "people", 4)
    (tmp_path / "rooms").mkdir()
    for i in range(4):
        coarse = np.random.default_rng(i).integers(0, 255, (9, 16, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "rooms" / f"{i}.png"), cv2.resize(coarse, (320, 180)))
    return tmp_path


def scene(kind: str) -> film.Scene:
    person = np.full((180, 160, 3), (200, 60, 40), np.uint8)
    alpha = np.zeros((180, 160), np.float32)
    cv2.circle(alpha, (80, 120), 50, 1.0, -1)
    room = cv2.resize(np.random.default_rng(3).integers(0, 255, (9, 16, 3), np.uint8), (320, 180))
    return film.Scene(f"{kind}-00", kind, person, alpha, room)


@pytest.mark.parametrize("kind", sorted(set(film.KINDS)))
def test_somebody_comes_in_and_what_is_said_to_happen_happens(kind):
    seen = list(film.frames(scene(kind)))
    pictures = np.stack([cv2.resize(s, (64, 36)) for s, _ in seen]).astype(float)
    cover = np.array([alpha.mean() for _, alpha in seen])

    assert len(seen) == film.FRAMES
    assert (cover[: film.ALONE].max() == 0) == (kind != "late")
    assert cover[-1] > 0.05
    away = np.abs(pictures[film.HAPPENS + 20, :12] - pictures[film.HAPPENS - 5, :12]).mean()
    if kind in ("lamp", "nudge"):
        assert away > 5
    elif kind != "chair":
        assert away < 5, "the room stands still"
    for picture, alpha in seen[:: film.FRAMES // 3]:
        inside = alpha > 0.99
        if inside.any():
            assert np.abs(picture[inside].mean(axis=0) - (200, 60, 40)).max() < 45
        assert 0 <= alpha.min() <= alpha.max() <= 1


def test_clips_are_written_for_evaluate(folder: Path, capsys):
    code = main(
        ["film", str(folder / "people"), "--rooms", str(folder / "rooms"), "--count", "2",
         "-o", str(folder / "clips")]
    )  # fmt: skip

    assert code == 0
    clip = folder / "clips" / "sit-00.mp4"
    assert str(clip) in capsys.readouterr().out
    pictures, truths = list(frames(clip)), list(frames(clip.with_name("sit-00_alpha.mkv")))
    assert len(pictures) == len(truths) == film.FRAMES
    assert pictures[0].shape == (film.HEIGHT, film.WIDTH, 3)
    assert truths[0].max() == 0
    assert truths[-1].max() == 255


def test_too_few_people_are_named(folder: Path, capsys):
    code = main(
        ["film", str(folder / "people"), "--rooms", str(folder / "rooms"), "--count", "9",
         "-o", str(folder / "clips")]
    )  # fmt: skip

    assert code == 1
    assert "4 people and 4 rooms for 9 clips" in capsys.readouterr().err
