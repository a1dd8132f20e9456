"""What stands still while the person moves, called a person or not, and what only seems to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation.motion.furniture import MOVES, STILL, Furniture
from segmentation.motion.room import CELL, TICK

H, W = 144, 256
NOISE = 1.5
BODY = slice(40, H), slice(80, 176)
CHAIR = slice(64, 112), slice(176, 208)  # beside the body, called a person with it
MUG = slice(88, 120), slice(112, 144)  # before the body
ARM = slice(96, 112), slice(144, 256)  # to the edge of the picture


def texture(seed, h=H, w=W):
    """Something like cloth: (h, w) float32 around 128."""
    rough = np.random.default_rng(seed).standard_normal((h // 2, w // 2)).astype(np.float32)
    return 128 + 60 * cv2.resize(rough, (w, h), interpolation=cv2.INTER_LINEAR)


class Scene:
    """A body of moving cloth before a plain wall, with a part of it that is someone's choice."""

    def __init__(self, part, *, moves=4.0, part_moves=0.0, plain=False, arm=None, called=1.0):
        self.part, self.moves, self.part_moves, self.arm = part, moves, part_moves, arm
        self.called = called  # part of the time that the part is called a person
        self.cloth, self.stuff = texture(1), texture(2)
        if plain:  # cloth without a pattern, in one piece with the outline of the body
            self.cloth[48:136, 92:164] = 128
        self.rng = np.random.default_rng(3)
        self.alpha = np.zeros((H, W), np.float32)
        self.alpha[BODY] = 1
        self.alpha[part] = 1

    def matte(self, lesson):
        """The matte at this lesson."""
        alpha = self.alpha.copy()
        alpha[self.part] = lesson % 10 < 10 * self.called
        return alpha

    def frame(self, t):
        """Luma at the time `t` in seconds."""
        picture = np.full((H, W), 90, np.float32)
        step = round(self.moves * np.sin(t))
        picture[BODY] = np.roll(self.cloth, step, axis=1)[BODY]
        if self.arm is not None:
            picture[self.arm] = 40
        picture[self.part] = np.roll(self.stuff, round(self.part_moves * np.sin(t)), 1)[self.part]
        picture *= 1 + 0.03 * np.sin(t / 7)  # exposure drifts
        noisy = picture + NOISE * self.rng.standard_normal((H, W))
        return np.clip(noisy, 0, 255).astype(np.uint8)


def seen(scene, seconds=STILL + 4, furniture=None, start=0.0):
    """What is found after so many seconds."""
    furniture = furniture or Furniture(CELL)
    found = None
    for lesson in range(round(seconds / TICK)):
        moment = start + lesson * TICK
        found = furniture.see(scene.frame(moment), scene.matte(lesson), moment)
    return found


def test_a_chair_beside_a_body_that_moves_is_the_room():
    found = seen(Scene(CHAIR, called=0.4))

    assert found[CHAIR].mean() > 0.7  # all but what the body passes next to
    assert not found[BODY].any()
    assert found[:, :64].all()  # the wall


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(Scene(MUG), id="a thing before the body"),
        pytest.param(Scene(MUG, arm=ARM), id="a microphone on an arm"),
        pytest.param(Scene(MUG, plain=True), id="a thing before plain cloth"),
        pytest.param(Scene(MUG, plain=True, arm=ARM), id="a microphone before plain cloth"),
        pytest.param(Scene(CHAIR, part_moves=1.0, called=0.4), id="what moves by a pixel"),
        pytest.param(Scene(CHAIR), id="an arm that rests, called a person all the time"),
    ],
)
def test_what_may_be_a_person_is_not_the_room(scene):
    found = seen(scene)

    assert found[:, :64].all()  # the wall
    assert not found[scene.part].any()
    assert not found[56:128, 100:156].any()  # the middle of the body


def test_of_what_keeps_as_still_as_the_person_nothing_can_be_told():
    assert seen(Scene(CHAIR, moves=0.0, called=0.4)) is None


def test_it_takes_its_time():
    assert seen(Scene(CHAIR, called=0.4), seconds=STILL - 1) is None


@pytest.mark.parametrize("jump", [600.0, -600.0], ids=["forwards", "back"])
def test_a_clock_that_jumps_is_no_time(jump):
    furniture, scene = Furniture(CELL), Scene(CHAIR, called=0.4)

    assert seen(scene, STILL / 2, furniture) is None
    assert seen(scene, STILL / 4, furniture, start=jump) is None
    assert seen(scene, STILL / 2, furniture, start=jump + STILL / 4)[CHAIR].mean() > 0.7


def test_a_body_that_hardly_ever_moves_proves_nothing():
    scene = Scene(CHAIR, called=0.4)
    furniture, found = Furniture(CELL), None
    for lesson in range(round(2 * STILL / TICK)):
        moment = lesson * TICK
        often = MOVES // 2
        found = furniture.see(scene.frame(min(moment, often * TICK)), scene.matte(lesson), moment)

    assert found is None


def test_nothing_of_what_was_seen_is_left():
    furniture = Furniture(CELL)
    seen(Scene(CHAIR), seconds=2, furniture=furniture)
    assert furniture._detail.any()
    furniture.forget()

    assert not furniture._detail.any()
    assert not furniture._moves.any()
