"""Views: matte and picture stay together, and a seed names a picture."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tests.train.people import person
from train.views.draw import Augment
from train.views.render import degrade, frame, occlude, room, transplant, view
from train.views.walls import walls

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


def test_the_head_is_in_view_however_little_the_view_shows():
    matte = np.zeros((320, 240), np.uint8)
    matte[20:, 70:170] = 255  # an upright picture, of which a webcam's shape shows a strip
    image = np.zeros((320, 240, 3), np.uint8)
    behind = np.zeros((90, 160, 3), np.uint8)

    def heads(options: Augment) -> list[float]:
        """In which part of the views there is room above the person: cropped, and moved."""
        rngs = [np.random.default_rng(seed) for seed in range(100)]
        framed = [frame(image, matte, (90, 160), rng, options)[1] for rng in rngs]
        moved = [transplant(image, matte, behind, rng, options)[1] for rng in rngs]
        return [np.mean([a[0].max() < 0.5 < a.max() for a in views]) for views in (framed, moved)]

    kept, left = heads(dataclasses.replace(PLAIN, head=1.0)), heads(PLAIN)

    assert min(kept) > 0.75
    assert left[0] < 0.4
    assert left[1] < kept[1] - 0.1


def test_a_plain_view_is_the_photograph_in_other_light():
    image, matte = person(3)
    plain = dataclasses.replace(
        Augment(), plain=1.0, empty=1.0, composite=1.0, occlude=1.0, noise=1.0, dark=1.0
    )

    for seed in range(10):
        seen, alpha = view(image, matte, ROOMS, image.shape[:2], np.random.default_rng(seed), plain)

        upright = max((alpha, alpha[:, ::-1]), key=lambda a: float((a * matte).sum()))
        assert np.abs(upright - matte / 255).mean() < 0.2, "the person is where they were"
        assert seen.mean() > 20


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


def test_what_passes_before_the_person_leaves_no_hole_in_the_matte():
    rng = np.random.default_rng(0)
    stuff = room(ROOMS, (64, 96), rng)
    person_there = np.zeros((64, 96), np.float32)
    person_there[:, 30:70] = 1

    seen, alpha = occlude(np.zeros((64, 96, 3), np.uint8), person_there, stuff, rng)

    assert stuff.shape == seen.shape == (64, 96, 3)
    assert np.array_equal(alpha, person_there)
    assert seen.any()


def test_walls_are_patterns_of_every_fineness_and_always_the_same():
    made = walls(40)

    assert all(np.array_equal(a, b) for a, b in zip(made, walls(40), strict=True))
    assert all(w.shape == (384, 512, 3) and w.dtype == np.uint8 for w in made)
    assert np.median([w.std() for w in made]) > 30
    # How much of the pattern is gone at a 16th of the size: nearly all of a fine one.
    small = [cv2.resize(w, (32, 24), interpolation=cv2.INTER_AREA) for w in made]
    left = [few.std() / w.std() for few, w in zip(small, made, strict=True)]
    assert min(left) < 0.2
    assert max(left) > 0.9
    coloured = [np.ptp(w.astype(int), axis=2).max() > 0 for w in made]
    assert 8 < sum(coloured) < 32


def test_degrading_leaves_a_picture_alone_when_told_to():
    image, _ = person(2)

    assert np.array_equal(degrade(image, np.random.default_rng(0), PLAIN), image)
