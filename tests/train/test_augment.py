"""Views: matte and picture stay together, and a seed names a picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.train.people import person
from train.augment import Augment, degrade, frame, occlude, room, transplant, view

ROOMS = [np.random.default_rng(i).integers(0, 255, (72, 96, 3), np.uint8) for i in range(2)]
PLAIN = Augment(**{f.name: 0.0 for f in dataclasses.fields(Augment)} | {"zoom": 1.5})


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (64, 64)])
def test_a_view_has_the_size_and_range_asked_for(size):
    image, matte = person(0)

    for seed in range(30):
        seen, alpha = view(image, matte, ROOMS, size, np.random.default_rng(seed), Augment())

        assert seen.shape == (*size, 3)
        assert seen.dtype == np.uint8
        assert alpha.shape == size
        assert alpha.dtype == np.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1


def test_the_same_seed_gives_the_same_view():
    image, matte = person(0)

    one, two = (
        view(image, matte, ROOMS, (64, 96), np.random.default_rng(5), Augment()) for _ in range(2)
    )

    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_the_source_is_not_written_to():
    image, matte = person(0)
    image.flags.writeable = matte.flags.writeable = False

    for seed in range(10):
        view(image, matte, ROOMS, (64, 96), np.random.default_rng(seed), Augment())


def test_matte_and_picture_move_together():
    matte = np.zeros((96, 128), np.uint8)
    matte[30:, 40:90] = 255
    image = np.repeat(matte[..., None], 3, axis=2)  # the person is white, the room black

    for seed in range(20):
        options = dataclasses.replace(PLAIN, rotate=12.0)
        seen, alpha = frame(image, matte, (64, 96), np.random.default_rng(seed), options)

        assert np.abs(seen[..., 0] / 255 - alpha).max() < 0.01


def test_a_transplanted_person_brings_nothing_of_the_old_room():
    matte = np.zeros((96, 128), np.uint8)
    matte[30:, 40:90] = 255
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 0] = 255  # the old room is red
    image[matte > 0] = (0, 0, 255)
    green = np.zeros((64, 96, 3), np.uint8)
    green[..., 1] = 200

    for seed in range(20):
        seen, alpha = transplant(image, matte, green, np.random.default_rng(seed), PLAIN)

        assert seen[alpha < 0.01].max(initial=0, axis=0)[0] < 40
        assert (seen[..., 0] < 90).all()


def test_soft_edges_stay_soft():
    image, matte = person(1)

    _, alpha = frame(image, matte, (96, 128), np.random.default_rng(0), PLAIN)

    assert ((alpha > 0.1) & (alpha < 0.9)).any()


def test_a_room_is_part_of_one_and_an_occluder_hides_the_person():
    rng = np.random.default_rng(0)
    stuff = room(ROOMS, (64, 96), rng)

    seen, alpha = occlude(
        np.zeros((64, 96, 3), np.uint8), np.ones((64, 96), np.float32), stuff, rng
    )

    assert stuff.shape == seen.shape == (64, 96, 3)
    assert alpha.min() < 0.1
    assert seen[alpha < 0.1].any()


def test_degrading_leaves_a_picture_alone_when_told_to():
    image, _ = person(2)

    assert np.array_equal(degrade(image, np.random.default_rng(0), PLAIN), image)
