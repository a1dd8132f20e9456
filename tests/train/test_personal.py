"""The default network taught on with a take: what is kept out, and when the result is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import write_folder
from train import personal
from train.errors import DataError
from train.personal import Shot, Told, Verdict, parted, recipe_of, shots_of, teach
from train.recipe import load_recipe
from train.weights.checkpoint import load_checkpoint, load_folded

BEFORE = Told(miou=0.96, known=0.97, leak=0.004, known_leak=0.002, rooms=0.01, stranger=0.95)


def verdict(**changes: float) -> Verdict:
    better = {"miou": 0.965, "known": 0.975}
    return Verdict(BEFORE, replace(BEFORE, **(better | changes)), "net.xml")


def test_what_judges_lies_whole_seconds_apart_from_what_is_learnt():
    shots = [Shot(Path(f"{s}{i}"), s, 60 * n + i / 4) for n, s in enumerate(("a", "b"))
             for i in range(56)]  # fmt: skip
    learnt, judged = parted([Shot(Path("e"), "0-empty", 0.0), *shots])

    assert len(learnt) > 60
    assert len(judged) > 20
    for step in ("a", "b"):
        times = [shot.seconds for shot in judged if shot.step == step]
        others = [shot.seconds for shot in learnt if shot.step == step]
        assert max(times) - min(times) > 2
        assert min(abs(t - o) for t in times for o in others) >= 1
    assert not {shot.path for shot in judged} & {shot.path for shot in learnt}


def test_a_network_is_taken_for_a_gain_that_costs_nobody():
    assert verdict().better
    assert not verdict(miou=0.9605, known=0.9705).better, "a gain that is chance"
    assert not verdict(known=0.965, miou=0.99).better, "the room known is worse"
    assert not verdict(leak=0.005).better, "more of the room is shown"
    assert not verdict(rooms=0.012).better, "strange rooms are taken for a person"
    assert not verdict(stranger=0.94).better, "somebody else loses"
    assert json.loads(verdict().as_json())["verdict"]["better"] is True


def test_a_take_without_an_empty_room_is_refused(tmp_path):
    for step in ("1-sit_000000", "1-sit_000250"):
        cv2.imwrite(str(tmp_path / f"{step}.jpg"), np.zeros((36, 64, 3), np.uint8))

    with pytest.raises(DataError, match="2 pictures"):
        shots_of(tmp_path)


def test_only_the_last_stages_learn(tmp_path, monkeypatch):
    write_folder(tmp_path / "train", 6)
    write_folder(tmp_path / "val", 2, seed=50)
    (tmp_path / "rooms").mkdir()
    cv2.imwrite(str(tmp_path / "rooms" / "0.jpg"), np.full((36, 64, 3), 90, np.uint8))
    monkeypatch.setattr(personal, "LEAST", 2)
    monkeypatch.setattr(personal, "MOST", 2)
    own = load_recipe(Path("own"))
    base = replace(own, fit=replace(own.fit, batch=2, side=64, low_side=0, amp="off"))
    told = []

    last = teach(base, tmp_path, 30, lambda *step: told.append(step))

    assert told[0] == ("learn", 0, 2)
    assert recipe_of(base, steps=2, epochs=2).network.start.endswith("bisenet-small.safetensors")
    learnt, shipped = load_checkpoint(last)["model"], load_folded(Path(
        recipe_of(base, steps=2, epochs=2).network.start)).state_dict()  # fmt: skip
    same = {n: bool((learnt[n] == shipped[n]).all()) for n in shipped
            if n in learnt and n.endswith("weight") and shipped[n].ndim == 4}  # fmt: skip
    assert all(same[n] for n in same if n.startswith("context.") and "layer4" not in n)
    assert not all(same.values())
