"""Held things and seats: what is before the body is kept, what is behind it is room."""

from __future__ import annotations

import numpy as np
import pytest

from train.views.draw import Augment
from train.views.render import view
from train.views.things import KINDS, held, paste, seat, thing

STUFF = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def body() -> np.ndarray:
    alpha = np.zeros((96, 128), np.float32)
    alpha[20:, 40:90] = 1
    return alpha


def grey() -> np.ndarray:
    return np.full((96, 128, 3), 128, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_thing_is_drawn_inside_its_square_and_its_outline_is_soft(kind: str):
    for seed in range(8):
        picture, cover = thing(kind, 24, STUFF, np.random.default_rng(seed))

        assert picture.shape == (48, 48, 3)
        assert cover.shape == (48, 48)
        assert 0 <= picture.min() <= picture.max() <= 255
        assert 0.005 < cover.mean() < 0.9
        assert ((cover > 0) & (cover < 1)).any()


def test_a_thing_before_the_body_leaves_no_hole_and_never_takes_from_the_person():
    before, moved, grown = body(), 0, 0

    for seed in range(60):
        seen, alpha = held(grey(), before, STUFF, np.random.default_rng(seed))

        assert (alpha >= before).all()
        moved += (seen != 128).any()
        # Whatever became the person's is a thing that was drawn there.
        gained = (alpha > 0.5) & (before < 0.5)
        assert (seen[gained] != 128).any(axis=1).mean() > 0.8 if gained.any() else True
        grown += gained.any()

    assert moved == 60
    assert 5 < grown < 60


def test_nothing_is_held_where_nobody_is():
    nobody = np.zeros((96, 128), np.float32)

    seen, alpha = held(grey(), nobody, STUFF, np.random.default_rng(0))

    assert np.array_equal(seen, grey())
    assert np.array_equal(alpha, nobody)


def test_a_seat_stands_behind_the_person_and_beside_them():
    beside = 0

    for seed in range(40):
        seen, none = seat(grey(), body(), STUFF, np.random.default_rng(seed))
        _, room = seat(grey(), body(), STUFF, np.random.default_rng(seed), grey())

        assert none is None
        assert np.array_equal(room[body() == 0], seen[body() == 0]), "it stands in the room as well"
        assert np.array_equal(seen[body() > 0], grey()[body() > 0])
        changed = (seen != 128).any(axis=2)
        beside += changed[:, 30:40].any() or changed[:, 90:100].any()

    assert beside > 20


def test_a_patch_is_laid_where_it_is_told():
    patch, cover = np.full((20, 20, 3), 250.0, np.float32), np.ones((20, 20), np.float32)

    seen, where = paste(grey(), patch, cover, (60.0, 40.0), 0.0)

    assert where[35:45, 55:65].min() == 1
    assert seen[40, 60].tolist() == [250, 250, 250]
    assert where.sum() == pytest.approx(400, rel=0.05)


def test_views_hold_things_only_when_told_and_plain_ones_never():
    matte = (body() * 255).astype(np.uint8)
    photograph = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
    silent = dict.fromkeys(
        ("empty", "composite", "occlude", "rotate", "colour", "dark", "blur", "soft", "noise",
         "jpeg", "chroma", "stretch"), 0.0
    )  # fmt: skip

    def made(**told: float) -> list[np.ndarray]:
        options = Augment(**{**silent, "plain": 0.0, **told})
        rngs = [np.random.default_rng(seed) for seed in range(12)]
        return [view(photograph, matte, [STUFF], (96, 128), rng, options)[0] for rng in rngs]

    same = [np.array_equal(a, b) for a, b in zip(made(), made(held=1.0), strict=True)]
    plain = zip(made(plain=1.0), made(plain=1.0, held=1.0, seat=1.0), strict=True)

    assert not any(same)
    assert all(np.array_equal(a, b) for a, b in plain)
