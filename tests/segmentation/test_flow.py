"""A matte goes where the picture goes, or nowhere."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation.flow import LOOKS, Carrier


def scene(shift: float, radius: int = 35) -> tuple[np.ndarray, np.ndarray]:
    """A textured wall and the matte of a disc in front of it, both moved by `shift` pixels."""
    rng = np.random.default_rng(2)
    big = cv2.GaussianBlur(rng.integers(0, 256, (120, 240)).astype(np.uint8), (0, 0), 2)
    big = cv2.normalize(big, None, 0, 255, cv2.NORM_MINMAX)
    alpha = np.zeros((120, 240), np.float32)
    cv2.circle(alpha, (110, 70), radius, 1.0, -1)
    move = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    return tuple(
        cv2.warpAffine(plane, move, (240, 120), borderMode=cv2.BORDER_REPLICATE)
        for plane in (big, alpha)
    )


@pytest.fixture
def sure() -> Carrier:
    """A carrier that has seen the scene at rest as often as it asks for."""
    carrier = Carrier()
    for _ in range(LOOKS):
        carrier.keep(*scene(0))
    return carrier


@pytest.mark.parametrize("shift", [3, -3, 0.5])
def test_a_matte_is_carried_to_where_the_person_went(sure, shift):
    luma, truth = scene(shift)
    out = np.zeros_like(truth)

    carried = sure.carry(luma, out)

    stale = np.abs(scene(0)[1] - truth).mean()
    assert carried
    assert np.abs(out - truth).mean() < 0.25 * stale


def test_it_is_carried_on_from_where_it_was_carried_to(sure):
    out = np.zeros((120, 240), np.float32)
    for shift in (3, 6, 9):
        assert sure.carry(scene(shift)[0], out)

    truth = scene(9)[1]
    assert np.abs(out - truth).mean() < 0.2 * np.abs(scene(0)[1] - truth).mean()


def test_a_frame_that_is_not_found_again_is_not_carried(sure):
    luma, alpha = scene(0)

    assert not sure.carry(np.asarray(255 - luma, np.uint8), np.zeros_like(alpha))


def test_nothing_is_carried_after_a_reset(sure):
    luma, alpha = scene(0)

    sure.reset()

    assert not sure.carry(luma, alpha)


def test_what_was_said_out_of_the_blue_is_not_carried_until_it_was_said_again(sure):
    luma, alpha = scene(0, radius=50)
    out = np.zeros_like(alpha)

    carried = []
    for _ in range(LOOKS):
        sure.keep(luma, alpha)
        carried.append(sure.carry(luma, out))

    assert carried == [False] * (LOOKS - 1) + [True]


def test_copies_of_a_matte_do_not_count_as_looks():
    carrier = Carrier()
    luma, alpha = scene(0)
    carrier.keep(luma, alpha)

    for _ in range(2 * LOOKS):
        assert not carrier.carry(luma, alpha)


def test_noise_in_an_empty_room_agrees_with_itself():
    carrier = Carrier()
    luma, _ = scene(0)
    rng = np.random.default_rng(3)
    for _ in range(LOOKS):
        carrier.keep(luma, rng.uniform(0, 0.004, luma.shape).astype(np.float32))

    assert carrier.carry(luma, np.zeros(luma.shape, np.float32))


def test_a_matte_that_is_no_number_is_not_carried():
    carrier = Carrier()
    luma, alpha = scene(0)
    broken = np.full_like(alpha, np.nan)
    for _ in range(2 * LOOKS):
        carrier.keep(luma, broken)

    assert not carrier.carry(luma, alpha)
