"""Steady where nothing moves, at once where something does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.motion.temporal import Smoother

SIZE = (90, 160)


def texture(seed: int = 0) -> np.ndarray:
    """A room at model size: soft blotches of every brightness, Y, U and V."""
    rng = np.random.default_rng(seed)
    planes = [cv2.resize(rng.integers(40, 220, (9, 16)).astype(np.uint8), SIZE[::-1])]
    planes += [np.full(SIZE, 128, np.uint8)] * 2
    return np.stack(planes)


def person(at: float, *, picture: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The alpha and the picture of somebody standing at column `at`."""
    x = np.arange(SIZE[1], dtype=np.float32)
    column = np.clip((16 - np.abs(x - at)) / 2 + 0.5, 0, 1)
    alpha = np.repeat(column[None], SIZE[0], axis=0).astype(np.float32)
    frame = (texture() if picture is None else picture).copy()
    stripes = (np.sin(np.arange(SIZE[1]) - at) * 30 + 120).astype(np.uint8)
    frame[0] = frame[0] * (1 - alpha) + stripes * alpha
    return alpha, frame


def noisy(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


@given(st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_constant_matte_stays_as_it_is_and_within_0_and_1(strength, seed):
    rng = np.random.default_rng(seed)
    smoother = Smoother(strength)
    alpha, picture = rng.random(SIZE, np.float32), texture(seed)

    for _ in range(4):
        out = alpha.copy()
        smoother(out, noisy(picture, 4, rng))

        assert np.allclose(out, alpha, atol=1e-6)
        assert 0 <= out.min() <= out.max() <= 1


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_what_comes_out_lies_between_what_went_in(seed):
    rng = np.random.default_rng(seed)
    smoother = Smoother(0.8)
    seen = []

    for _ in range(4):
        alpha = rng.random(SIZE, np.float32)
        seen.append(alpha.copy())
        smoother(alpha, texture(seed))

        assert (alpha >= np.min(seen, axis=0) - 1e-6).all()
        assert (alpha <= np.max(seen, axis=0) + 1e-6).all()


@pytest.mark.parametrize("sigma", [0.5, 3.0], ids=["good light", "dim light"])
def test_jitter_is_taken_out_while_nobody_moves(sigma):
    rng = np.random.default_rng(1)
    smoother = Smoother(0.6)
    raw, out = [], []

    for _ in range(40):
        alpha, picture = person(80 + rng.normal(0, 0.15))
        _, picture = person(80)
        raw.append(alpha.copy())
        smoother(alpha, noisy(picture, sigma, rng))
        out.append(alpha)

    flicker = [np.abs(np.diff(stack[10:], axis=0)).mean() for stack in (raw, out)]
    assert flicker[1] < 0.4 * flicker[0]


@pytest.mark.parametrize("speed", [1.0, 3.0, 12.0])
def test_nothing_trails_behind_somebody_who_moves(speed):
    smoother = Smoother(0.6)
    leaks = []

    for i in range(10):
        alpha, picture = person(20 + speed * i)
        room = alpha < 0.01
        smoother(alpha, picture)
        leaks.append(float(alpha[room].mean()))

    assert max(leaks[1:]) < 0.01


def test_somebody_who_appears_in_the_colour_of_the_wall_is_there_at_once():
    smoother = Smoother(1.0)
    picture = texture()
    empty = np.zeros(SIZE, np.float32)
    for _ in range(5):
        smoother(empty.copy(), picture)

    alpha, _ = person(80)
    smoother(alpha, picture)

    assert alpha[:, 80].min() > 0.99


def test_a_new_scene_starts_afresh():
    smoother = Smoother(1.0)
    first, picture = person(40)
    for _ in range(5):
        smoother(first.copy(), picture)
    second, _ = person(110)
    dark = np.stack([255 - picture[0], picture[1], picture[2]])

    out = second.copy()
    cut = smoother(out, dark)

    assert cut
    assert np.array_equal(out, second)


def test_a_lamp_that_is_switched_on_is_no_new_scene():
    smoother = Smoother(0.6)
    alpha, picture = person(80)
    picture[0] //= 2
    smoother(alpha.copy(), picture)

    brighter = picture.copy()
    brighter[0] += 60

    assert not smoother(alpha.copy(), brighter)


def test_another_size_of_matte_goes_on_where_the_last_left_off():
    smoother = Smoother(1.0)
    alpha, picture = person(80)
    for _ in range(3):
        smoother(alpha.copy(), picture)
    h, w = 45, 80

    smoother.resize(h, w)
    wavering = cv2.resize(alpha, (w, h)) * np.float32(0.9)
    out = wavering.copy()
    small = np.stack([cv2.resize(plane, (w, h)) for plane in picture])
    smoother(out, small)

    assert out[:, w // 2].mean() > wavering[:, w // 2].mean() + 0.05


def test_no_strength_changes_nothing():
    smoother = Smoother(0.0)

    for at in (40.0, 41.0, 90.0):
        alpha, picture = person(at)
        out = alpha.copy()
        smoother(out, picture)

        assert np.array_equal(out, alpha)


@pytest.mark.parametrize("level", [0, 3, 12, 60])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_whoever_leaves_is_let_go_at_once_however_dark_it_is(level, strength):
    """In the dark no picture moves: what lets go is the change of the matte itself."""
    smoother = Smoother(strength)
    picture = np.full((3, *SIZE), 128, np.uint8)
    picture[0] = level
    was = np.repeat(np.linspace(0, 1, SIZE[1], dtype=np.float32)[None], SIZE[0], axis=0)
    for _ in range(20):
        smoother(was.copy(), picture)

    gone = np.zeros(SIZE, np.float32)
    smoother(gone, picture)

    assert gone.max() < 0.22  # the tenth below that counts as nothing: an eighth of a pixel shines
    assert gone[was > 0.6].max() < 0.01
