"""Proofs: empty rooms, held things and clips of rooms are measured for what they are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")

from tests.train.people import person, write_folder
from train.__main__ import main
from train.data.datasets import find_pairs
from train.data.manifests import find_rooms
from train.figures import proofs


class Bright:
    """Takes what is brighter than 200 for a person."""

    name = "bright"

    def alpha(self, image: np.ndarray) -> np.ndarray:
        return (image.mean(axis=2) > 200).astype(np.float32)

    def close(self) -> None:
        """Hold nothing."""


class Everything(Bright):
    """Takes the whole picture for a person."""

    def alpha(self, image: np.ndarray) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


def test_rooms_are_counted_by_what_is_taken_for_a_person(tmp_path: Path):
    folder = tmp_path / "rooms"
    folder.mkdir()
    names = ("bedroom", "kitchen", "sofa", "office")
    told = "\n".join(["name,kind", *(f"{i},{kind}" for i, kind in enumerate(names))])
    (folder / "manifest.csv").write_text(told)
    for number, lit in enumerate((0, 50, 0, 4)):  # columns of 100 that are bright
        picture = np.full((80, 100, 3), 60, np.uint8)
        picture[:, :lit] = 250
        cv2.imwrite(str(folder / f"{number}.png"), picture)

    figures = proofs.on_rooms(Bright(), find_rooms(folder))

    assert figures["to rest and cook"] == {"n": 2, "person": 0.25, "over": 0.5, "nothing": 0.5}
    assert figures["to live and work"] == {"n": 2, "person": 0.02, "over": 0.5, "nothing": 0.5}
    assert figures["all rooms"]["n"] == 4


def test_a_held_thing_that_is_taken_for_the_room_is_a_hole(tmp_path: Path):
    pairs = find_pairs(write_folder(tmp_path / "val", 5))
    dark = [np.full((60, 80, 3), 10, np.uint8)]

    kept, _ = proofs.on_held(Everything(), pairs, dark)
    lost, rows = proofs.on_held(Bright(), pairs, dark)

    assert kept["all things"] == {"n": 20, "lost": 0, "holes": 0}
    assert lost["mug"]["n"] == 5
    assert lost["all things"]["holes"] > 0.3
    assert len(rows) == 20
    assert rows[0][0].split()[-1] in proofs.HELD
    image, truth = rows[0][1], rows[0][3]
    assert image.shape[:2] == truth.shape


def test_things_are_held_before_the_body_and_belong_to_it(tmp_path: Path):
    pairs = find_pairs(write_folder(tmp_path / "val", 3))

    for name, seen, truth, where in proofs.held_things(pairs, [np.zeros((40, 40, 3), np.uint8)]):
        own = person(int(name.split()[0]))[1] / 255
        assert (truth >= own - 0.01).all()
        assert truth[where].min() > 0.9
        assert own[where].mean() > 0.5, f"{name} is before the body"
        assert seen.shape[:2] == truth.shape


def test_one_command_reports_rooms_things_and_every_clip(tmp_path: Path, capsys):
    folder = write_folder(tmp_path / "val", 2)
    rooms, clips = tmp_path / "rooms", tmp_path / "clips"
    rooms.mkdir()
    clips.mkdir()
    cv2.imwrite(str(rooms / "a.png"), np.full((64, 96, 3), 90, np.uint8))
    for name in ("one", "two"):
        for end, of in ((".mp4", 0), ("_alpha.mkv", 1)):
            path, codec = clips / f"{name}{end}", "mp4v" if end == ".mp4" else "MJPG"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (128, 96))
            for _ in range(3):
                picture = person(3)[of]
                writer.write(picture[..., ::-1] if of == 0 else cv2.merge([picture] * 3))
            writer.release()
    out, sheet = tmp_path / "out.json", tmp_path / "held.png"

    code = main(["evaluate", str(folder), "--rooms", str(rooms), "--held", "--clips", str(clips),
                 "--json", str(out), "--held-sheet", str(sheet)])  # fmt: skip

    assert code == 0
    printed = capsys.readouterr().out
    assert "| all rooms | bisenet-small | 1 |" in printed
    assert "| mug | bisenet-small | 2 |" in printed
    assert "| all clips | bisenet-small | 6 |" in printed
    told = json.loads(out.read_text())[0]
    both = [told["clips"][name]["leak"] for name in ("one", "two")]
    assert told["clips"]["all clips"]["worst_leak"] == max(both)
    assert cv2.imread(str(sheet)) is not None
    assert main(["evaluate", str(folder), "--clips", str(rooms)]) == 1
    assert "holds no NAME.mp4" in capsys.readouterr().err
