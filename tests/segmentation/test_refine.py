"""Islands, holes, strangers, absence, and edges that follow the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation.refine import Guided, Tidy

H, W = 160, 284


def blob(*discs: tuple[int, int, int]) -> np.ndarray:
    """Soft discs of (column, row, radius)."""
    alpha = np.zeros((H, W), np.float32)
    for x, y, radius in discs:
        cv2.circle(alpha, (x, y), radius, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), 1.0), np.float32)


def test_the_person_stays_and_a_speck_in_the_room_goes():
    alpha = blob((140, 100, 50), (30, 30, 4))

    Tidy()(alpha)

    assert np.abs(alpha[:, 80:] - blob((140, 100, 50))[:, 80:]).max() < 1e-3
    assert alpha[:, :60].max() < 0.02


@pytest.mark.parametrize(
    "hand", [(8, 60, 14), (40, 150, 14), (76, 100, 13), (40, 60, 22)],
    ids=["from the side", "from below", "close to the body", "as large as somebody"],
)  # fmt: skip
def test_a_raised_hand_apart_from_the_body_stays(hand):
    alpha = blob((140, 100, 50), hand)

    Tidy()(alpha)

    assert alpha[hand[1], hand[0]] > 0.99


@pytest.mark.parametrize("radius", [9, 14])
def test_a_small_piece_afloat_in_the_room_is_a_chair_and_goes(radius):
    alpha = blob((140, 100, 50), (40, 60, radius))
    assert (alpha > 0.5).mean() > 0.004

    Tidy()(alpha)

    assert alpha[:, :80].max() == 0
    assert alpha[100, 140] > 0.99


def test_a_large_ghost_of_low_confidence_goes():
    alpha = blob((140, 100, 45)) + 0.3 * blob((30, 60, 25))

    Tidy()(alpha)

    assert alpha[:, :60].max() < 0.02
    assert alpha[100, 140] > 0.99


def test_a_small_hole_in_the_person_is_filled():
    alpha = blob((140, 100, 50))
    alpha[98:103, 138:143] = 0

    Tidy()(alpha)

    assert alpha[90:110, 130:150].min() > 0.99


def test_the_gap_between_arm_and_body_stays_open():
    alpha = blob((140, 90, 60))
    cv2.circle(alpha, (140, 90), 15, 0.0, -1)

    Tidy()(alpha)

    assert alpha[90, 140] == 0


def test_hair_fades_out_as_it_did():
    alpha = blob((140, 110, 48))
    fading = np.clip(1 - np.abs(np.arange(H) - 60) / 14, 0, 0.6)[:, None]
    alpha[:, 120:160] = np.maximum(alpha[:, 120:160], fading).astype(np.float32)
    before = alpha.copy()

    Tidy()(alpha)

    assert np.abs(alpha - before)[before > 0.4].max() < 0.02
    assert np.abs(alpha - before).max() < 0.16  # the last tips


def test_a_smear_of_doubt_beside_the_body_goes():
    alpha = np.maximum(blob((140, 110, 48)), 0.44 * blob((100, 140, 45), (60, 150, 20)))
    doubt = (alpha > 0.1) & (cv2.dilate(blob((140, 110, 48)), np.ones((17, 17))) < 0.01)
    assert np.count_nonzero(doubt) > 1000

    Tidy()(alpha)

    assert alpha[doubt].max() == 0
    assert alpha[110, 140] > 0.99


def test_nobody_there_gives_an_empty_matte():
    alpha = blob((60, 80, 9)) * np.float32(0.9)

    Tidy()(alpha)

    assert alpha.max() == 0


def test_a_doubtful_chair_is_nobody():
    tidy = Tidy()
    alpha = blob((140, 110, 40)) * np.float32(0.6)

    tidy(alpha)

    assert not tidy.present
    assert alpha.max() == 0


def test_somebody_in_clothes_of_the_rooms_colour_is_there_where_a_known_room_looks_otherwise():
    doubtful, faint = blob((140, 100, 50)) * 0.78, blob((140, 100, 50)) * 0.3
    faint[55:95, 120:160] = 0.8  # the face alone is sure
    for alpha in (doubtful, faint):
        without, within = alpha.copy(), alpha.copy()

        Tidy()(without)
        Tidy()(within, stands=0.03)

        assert not without.any()
        assert within.max() > 0.7


def test_somebody_who_leans_out_is_kept_longer_than_somebody_new_is_noticed():
    sliver = blob((0, 100, 20))
    share = float((sliver > 0.5).mean())
    assert 0.008 < share < 0.015
    tidy, fresh = Tidy(), Tidy()
    tidy(blob((140, 100, 50)))

    stays, comes = sliver.copy(), sliver.copy()
    tidy(stays)
    fresh(comes)

    assert stays.max() > 0.9
    assert comes.max() == 0


def test_a_chair_that_somebody_leaves_behind_goes_with_them():
    tidy = Tidy()
    tidy(blob((140, 100, 50)))
    assert tidy.present
    chair = blob((140, 120, 35)) * np.float32(0.62)

    tidy(chair)

    assert chair.max() == 0


def test_only_me_shows_the_large_central_person_alone():
    alpha = blob((140, 110, 50), (40, 110, 26), (250, 100, 20))

    Tidy("only-me")(alpha)

    assert alpha[110, 140] > 0.99
    assert alpha[:, :70].max() == 0
    assert alpha[:, 235:].max() == 0


def test_everyone_shows_everyone():
    alpha = blob((140, 110, 50), (40, 110, 26))

    Tidy("everyone")(alpha)

    assert alpha[110, 40] > 0.99


def test_only_me_parts_two_people_whose_shoulders_touch():
    alpha = blob((110, 100, 45), (200, 100, 46))
    alpha[120:135, 140:170] = 1
    alpha[:, :60] = 0

    Tidy("only-me")(alpha)

    assert alpha[100, 110] > 0.99
    assert alpha[100, 225] == 0


def test_only_me_does_not_jump_to_somebody_a_little_larger():
    tidy = Tidy("only-me")
    tidy(blob((110, 100, 40)))
    both = blob((110, 100, 40), (220, 100, 44))

    tidy(both)

    assert both[100, 110] > 0.99
    assert both[100, 220] == 0


def test_only_me_does_not_follow_somebody_much_larger():
    tidy = Tidy("only-me")
    tidy(blob((60, 100, 20)))
    both = blob((60, 100, 20), (170, 90, 60))

    tidy(both)

    assert both[100, 60] > 0.99
    assert both[90, 170] == 0


@pytest.mark.parametrize("size", [(160, 284), (33, 17), (2, 2), (1, 1)], ids=str)
def test_mattes_of_every_size_are_tidied(size):
    alpha = np.ones(size, np.float32)

    Tidy("only-me")(alpha)

    assert alpha.min() == 1


def guided(alpha: np.ndarray, luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.zeros_like(alpha), np.zeros_like(alpha)
    Guided()(alpha.copy(), luma, a, b)
    return a, b


def test_flat_parts_are_exactly_person_and_exactly_room():
    rng = np.random.default_rng(0)
    alpha = blob((140, 100, 50))
    luma = rng.integers(0, 256, alpha.shape).astype(np.uint8)

    a, b = guided(alpha, luma)

    inside, outside = np.s_[95:105, 135:145], np.s_[:20, :40]
    assert np.abs(a[inside]).max() < 5e-3
    assert np.abs(b[inside] - 1).max() < 5e-3
    assert np.abs(a[outside]).max() == 0
    assert np.abs(b[outside]).max() == 0


def test_a_blurred_edge_snaps_to_the_edge_of_the_picture():
    alpha = np.zeros((H, W), np.float32)
    alpha[:, 142:] = 1
    luma = np.asarray(40 + 160 * alpha, np.uint8)
    soft = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 1.2), np.float32)

    a, b = guided(soft, luma)

    sharp = np.clip(a * (luma / 255) + b, 0, 1)
    assert np.abs(sharp - alpha).mean() < 0.8 * np.abs(soft - alpha).mean()


def test_a_flat_picture_leaves_the_matte_as_soft_as_it_was():
    soft = blob((140, 100, 50))
    luma = np.full(soft.shape, 90, np.uint8)

    a, b = guided(soft, luma)

    assert np.abs(a).max() < 1e-3
    assert np.abs(np.clip(b, 0, 1) - soft).max() < 0.3


def test_a_head_stays_on_its_shoulders_when_only_one_person_is_wanted():
    alpha = np.zeros((160, 284), np.float32)
    cv2.circle(alpha, (130, 45), 38, 1, -1)  # a large head, a slender neck
    cv2.rectangle(alpha, (118, 75), (142, 110), 1, -1)
    cv2.ellipse(alpha, (135, 160), (85, 60), 0, 180, 360, 1, -1)
    whole = alpha.copy()

    Tidy("only-me")(alpha)

    assert np.array_equal(alpha > 0.5, whole > 0.5)
