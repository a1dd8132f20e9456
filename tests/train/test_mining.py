"""Mining: rooms that are taken for a person come more often, and a resumed run knows which."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from segmentation.bisenet import MEAN, STD
from tests.train.people import write_folder
from train.data.datasets import Pictures, find_pairs
from train.engine import Stepper, predict
from train.errors import DataError
from train.fit import fit
from train.place import Place
from train.recipe import Data, Fit, Network, Recipe
from train.run import Run
from train.start import make_learner
from train.views.batches import Material
from train.views.draw import Augment
from train.views.mining import MOST, drawn_from, shares
from train.views.on_device import DeviceViews
from train.views.plan import Plan
from train.views.sets import read_sets
from train.weights.checkpoint import load_checkpoint

ALONE = Place(workers=0)


class BrightIsPerson(nn.Module):
    """Takes what is brighter than the middle for a person."""

    room = False

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grey = (x * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).mean(1)
        return 40 * self.gain * (grey[:, None] - 0.5)


def rooms() -> list[np.ndarray]:
    """Dark, half bright, bright."""
    made = [np.full((64, 96, 3), 20, np.uint8) for _ in range(3)]
    made[1][:, :48] = 240
    made[2][:] = 240
    return made


def data(root: Path) -> Path:
    write_folder(root / "train", 8)
    write_folder(root / "val", 2, seed=100)
    (root / "rooms").mkdir()
    for number, room in enumerate(rooms()):
        cv2.imwrite(str(root / "rooms" / f"{number}.png"), room)
    return root


def recipe(**changes) -> Recipe:
    told = {"epochs": 3, "views": 16, "batch": 4, "side": 48, "warmup": 2, "validate": 3,
            "sheet": 9, "amp": "off", "mine": 2} | changes  # fmt: skip
    return Recipe(
        name="tiny",
        network=Network(width=0.05),
        data=Data(train=("train",), validation=("val",), rooms="rooms", walls=1),
        fit=Fit(**told),
    )


def test_the_share_taken_for_a_person_is_found_for_each_room():
    found = shares(lambda room: predict(BrightIsPerson(), room, 64), rooms())

    assert found == pytest.approx([0, 0.5, 1], abs=0.03)


def test_a_room_taken_for_a_person_stands_in_the_list_more_often_and_every_room_once():
    numbers = drawn_from([0.0, 0.001, 0.02, 1.0])

    assert [numbers.count(n) for n in range(4)] == [1, 1, 2, 1 + MOST]


def test_views_are_drawn_from_the_rooms_that_were_found(tmp_path: Path):
    told = recipe()
    sets = read_sets(told, data(tmp_path))
    stepper = Stepper(make_learner(told, tmp_path, sets, ALONE.device), told,
                      device=ALONE.device, amp=None)  # fmt: skip
    run = Run(told, tmp_path / "run", ALONE, sets, stepper, None)

    assert run._rooms() is sets.rooms
    run.mined = [0.0, 0.0, 0.5, 0.0]
    drawn = run._rooms()

    assert sum(room is sets.rooms[2] for room in drawn) == len(drawn) - 3 > 1


def test_what_was_found_is_in_the_checkpoint_and_a_resumed_run_is_the_same(tmp_path: Path):
    root, told = data(tmp_path), recipe()
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    fit(told, root, straight, ALONE)
    stop = threading.Event()
    sets = read_sets(told, root)
    torch.manual_seed(told.fit.seed)
    learner = make_learner(told, root, sets, ALONE.device)
    run = Run(told, broken, ALONE, sets,
              Stepper(learner, told, device=ALONE.device, amp=None), None)  # fmt: skip
    stop.set()
    assert run(stop) is False
    assert len(load_checkpoint(broken / "last.pt")["mined"]) == 4

    fit(told, root, broken, ALONE, resume=True)

    one, other = (load_checkpoint(f / "last.pt") for f in (straight, broken))
    assert one["mined"] == other["mined"]
    assert all(torch.equal(one["ema"][k], other["ema"][k]) for k in one["ema"])


def test_on_a_device_rooms_come_as_often(tmp_path: Path):
    pictures = Pictures(find_pairs(write_folder(tmp_path / "train", 2)), longest=96, memory=1e9)
    empty = Augment(**dict.fromkeys((f.name for f in dataclasses.fields(Augment)), 0.0)
                    | {"empty": 1.0, "zoom": 1.0})  # fmt: skip
    plan = Plan(0, 64, 16, ((64, 64),))
    views = DeviceViews(Material(pictures, None, 0, rooms()[::2], empty), plan, ALONE.device)

    views.draw_rooms([0, 1, 1, 1, 1, 1, 1])
    images, _ = views(0, 0)

    assert (images.float().mean((1, 2, 3)) > 128).sum() > 8


def test_only_pictures_under_the_licences_told_are_learnt_from(tmp_path: Path):
    root = data(tmp_path)
    told = recipe()
    told = dataclasses.replace(told, data=dataclasses.replace(told.data, licences=("CC0",)))

    with pytest.raises(DataError, match="no picture under CC0"):
        read_sets(told, root)

    (root / "manifest.csv").write_text(
        "name,licence\n" + "".join(f"{i:03d},CC0\n" for i in range(3)) + "0,CC0\n"
    )
    sets = read_sets(told, root)
    assert len(sets.train) == 3
    assert len(sets.rooms) == 1 + told.data.walls
