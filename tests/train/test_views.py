"""Views: matte and picture stay together, and a seed names a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import person
from train.views import draw, filters, on_device, render
from train.views.draw import Augment
from train.views.render import view
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
        framed = draw.framed(matte, (64, 96), np.random.default_rng(seed), options)
        seen, alpha = render.framed(framed, image, matte, (64, 96))

        assert np.abs(seen[..., 0] / 255 - alpha).max() < 0.01


def test_the_head_is_in_view_however_little_the_view_shows():
    matte = np.zeros((320, 240), np.uint8)
    matte[20:, 70:170] = 255  # an upright picture, of which a webcam's shape shows a strip
    image = np.zeros((320, 240, 3), np.uint8)
    behind, size = np.zeros((90, 160, 3), np.uint8), (90, 160)

    def heads(options: Augment) -> list[float]:
        """In which part of the views there is room above the person: cropped, and moved."""
        rngs = [np.random.default_rng(seed) for seed in range(100)]
        cropped = [draw.framed(matte, size, rng, options) for rng in rngs]
        framed = [render.framed(drawn, image, matte, size)[1] for drawn in cropped]
        placed = [draw.moved(matte, size, rng, options) for rng in rngs]
        moved = [render.moved(drawn, image, matte, behind)[1] for drawn in placed]
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
        moved = draw.moved(matte, (64, 96), np.random.default_rng(seed), PLAIN)
        seen, alpha = render.moved(moved, image, matte, green)

        assert seen[alpha < 0.01].max(initial=0, axis=0)[0] < 40
        assert (seen[..., 0] < 90).all()


def test_soft_edges_stay_soft():
    image, matte = person(1)

    framed = draw.framed(matte, (96, 128), np.random.default_rng(0), PLAIN)
    _, alpha = render.framed(framed, image, matte, (96, 128))

    assert ((alpha > 0.1) & (alpha < 0.9)).any()


def test_what_passes_before_the_person_leaves_no_hole_in_the_matte():
    image, matte = person(0)
    rng = np.random.default_rng(0)
    before = draw.Scene((64, 96), draw.framed(matte, (64, 96), rng, PLAIN))
    after = dataclasses.replace(before, cover=draw.cover(ROOMS, (64, 96), rng))

    (bare, alpha), (seen, same) = (
        render.scene(drawn, image, matte, ROOMS) for drawn in (before, after)
    )

    assert seen.shape == (64, 96, 3)
    assert np.array_equal(alpha, same)
    assert 0.01 < (seen != bare).any(axis=2).mean() < 0.5


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

    camera = draw.camera(np.random.default_rng(0), PLAIN, grain=image.shape[:2])

    assert np.array_equal(render.camera(camera, image), image)


def test_what_is_drawn_is_drawn_in_one_place():
    for renderer in (on_device, filters):
        assert "rng." not in Path(renderer.__file__).read_text()
    drawn = Path(render.__file__).read_text().split("\n\n\ndef ")
    assert [text.split("(")[0] for text in drawn if "rng." in text] == ["view"]
