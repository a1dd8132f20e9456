"""A matte goes where the picture goes, or nowhere."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from segmentation.motion.flow import LOOKS, Carrier
from segmentation.motion.words import Words
from segmentation.segmenter import Segmenter


def scene(shift: float, radius: int = 35) -> tuple[np.ndarray, np.ndarray]:
    """A textured grey wall and the matte of a disc in front of it, both moved by `shift` pixels.

    Shapes:
        returns: (3, 120, 240) uint8, Y, U and V; (120, 240) float32
    """
    rng = np.random.default_rng(2)
    big = cv2.GaussianBlur(rng.integers(0, 256, (120, 240)).astype(np.uint8), (0, 0), 2)
    big = cv2.normalize(big, None, 0, 255, cv2.NORM_MINMAX)
    alpha = np.zeros((120, 240), np.float32)
    cv2.circle(alpha, (110, 70), radius, 1.0, -1)
    move = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    luma, alpha = (
        cv2.warpAffine(plane, move, (240, 120), borderMode=cv2.BORDER_REPLICATE)
        for plane in (big, alpha)
    )
    grey = np.full_like(luma, 128)
    return np.stack([luma, grey, grey]), alpha


INTERVAL = 1 / 30


class Timed:
    """A carrier whose frames come thirty times a second."""

    def __init__(self) -> None:
        self.carrier, self.now = Carrier(), 100.0
        self.reset = self.carrier.reset

    def keep(self, picture: np.ndarray, alpha: np.ndarray, after: float = INTERVAL) -> None:
        self.now += after
        self.carrier.keep(picture, alpha, self.now)

    def carry(self, picture: np.ndarray, out: np.ndarray, after: float = INTERVAL) -> bool:
        self.now += after
        return self.carrier.carry(picture, (out, np.zeros_like(out)), self.now)


@pytest.fixture
def sure() -> Timed:
    """A carrier that has seen the scene at rest as often as it asks for, to be calm too."""
    carrier = Timed()
    for _ in range(LOOKS + 1):
        carrier.keep(*scene(0))
    return carrier


@pytest.mark.parametrize("shift", [3, -3, 0.5])
def test_a_matte_is_carried_to_where_the_person_went(sure, shift):
    picture, truth = scene(shift)
    out = np.zeros_like(truth)

    carried = sure.carry(picture, out)

    stale = np.abs(scene(0)[1] - truth).mean()
    assert carried
    assert np.abs(out - truth).mean() < 0.25 * stale


def test_a_person_is_calm_up_to_a_pixel_and_a_half_and_a_quarter_of_a_second(sure):
    out = scene(0)[1]
    calm = []
    for shift in (0.5, 1.0, 1.5, 2.0, 2.5):
        assert sure.carry(scene(shift)[0], out)
        calm.append(sure.carrier.calm(sure.now))

    assert calm[0]
    assert not calm[-1]
    assert 1.3 < sure.carrier._moved_by / 2.5 * 1.5 < 1.7  # near to what it was moved by
    sure.keep(*scene(2.5))
    assert sure.carrier.calm(sure.now + 0.24)
    assert not sure.carrier.calm(sure.now + 0.26)


def test_a_step_that_would_leave_the_calm_is_known_from_the_one_before(sure):
    out = scene(0)[1]
    assert sure.carrier.calm(sure.now, ahead=True)

    told = []
    for shift in (0.7, 1.4, 1.4):
        assert sure.carry(scene(shift)[0], out)
        told.append([sure.carrier.calm(sure.now, ahead=ahead) for ahead in (False, True)])
    sure.keep(*scene(1.4))

    assert told == [[True, True], [True, False], [True, True]]
    assert sure.carrier.calm(sure.now, ahead=True)


@pytest.mark.parametrize(("carried", "tried"), [(1, True), (2, True), (3, False), (5, False)])
def test_the_flow_is_not_looked_for_where_the_network_would_look_anyway(carried, tried):
    tries = []
    carrier = SimpleNamespace(
        calm=lambda pts, ahead=False: not ahead, carry=lambda *_: bool(tries.append(1)) or True
    )
    segmenter = SimpleNamespace(
        _every=3,
        _carried=carried,
        _carrier=carrier,
        _tidy=SimpleNamespace(changed=False),
        _words=Words(),
    )

    assert Segmenter._carry(segmenter, (None, None), None, 1.0) == tried
    assert len(tries) == tried


def test_what_a_look_takes_for_a_person_for_the_first_time_is_soon_looked_at_again(sure):
    picture, alpha = scene(0)
    assert sure.carrier.calm(sure.now)
    mistaken = alpha.copy()
    mistaken[10:26, 180:196] = 0.6  # a part of the room

    told = []
    for seen in (*[mistaken] * (LOOKS + 1), alpha):
        sure.keep(picture, seen)
        told.append(sure.carrier.calm(sure.now))

    assert told == [*[False] * LOOKS, True, False]


def test_what_becomes_another_too_slowly_to_be_lost_is_looked_at_no_less_often():
    carrier, (picture, alpha) = Timed(), scene(0)
    picture[0, 50:90, 90:130] = 90  # a shirt
    for _ in range(LOOKS + 1):
        carrier.keep(picture, alpha)
    calm = []
    for more in range(1, 6):
        later = picture.copy()
        later[0, 56:84, 96:124] += np.uint8(more)
        assert carrier.carry(later, alpha)
        calm.append(carrier.carrier.calm(carrier.now))

    assert calm[0]
    assert not calm[-1]
    carrier.keep(later, alpha)
    assert carrier.carrier.calm(carrier.now)


def test_what_was_tidied_is_carried_beside_what_was_not():
    carrier, (picture, alpha) = Carrier(), scene(0)
    untidy = alpha.copy()
    untidy[5:9, 5:9] = 1
    for look in range(LOOKS):
        carrier.keep(picture, untidy, look * INTERVAL)
        carrier.settle(alpha)

    for step, shift in ((1, 3), (2, 6)):
        out, tidied = np.zeros_like(alpha), np.zeros_like(alpha)
        now = (LOOKS - 1 + step) * INTERVAL
        assert carrier.carry(scene(shift)[0], (out, tidied), now)
        assert out[:16, :20].max() > 0.5
        assert tidied[:16, :20].max() == 0
        assert np.abs(tidied - scene(shift)[1]).mean() < 0.003
    carrier.wipe()
    assert not carrier._tidied.any()
    assert not carrier._seen.any()


def test_it_is_carried_on_from_where_it_was_carried_to(sure):
    out = np.zeros((120, 240), np.float32)
    for shift in (3, 6, 9):
        assert sure.carry(scene(shift)[0], out)

    truth = scene(9)[1]
    assert np.abs(out - truth).mean() < 0.2 * np.abs(scene(0)[1] - truth).mean()


def test_a_frame_that_is_not_found_again_is_not_carried(sure):
    picture, alpha = scene(0)

    assert not sure.carry(np.asarray(255 - picture, np.uint8), np.zeros_like(alpha))


def test_nothing_is_carried_after_a_reset(sure):
    picture, alpha = scene(0)

    sure.reset()

    assert not sure.carry(picture, alpha)


def test_what_was_said_out_of_the_blue_is_not_carried_until_it_was_said_again(sure):
    picture, alpha = scene(0, radius=50)
    out = np.zeros_like(alpha)

    carried = []
    for _ in range(LOOKS):
        sure.keep(picture, alpha)
        carried.append(sure.carry(picture, out))

    assert carried == [False] * (LOOKS - 1) + [True]


def test_copies_of_a_matte_do_not_count_as_looks():
    carrier = Timed()
    picture, alpha = scene(0)
    carrier.keep(picture, alpha)

    for _ in range(2 * LOOKS):
        assert not carrier.carry(picture, alpha)


def test_noise_in_an_empty_room_agrees_with_itself():
    carrier = Timed()
    picture, _ = scene(0)
    rng = np.random.default_rng(3)
    for _ in range(LOOKS):
        carrier.keep(picture, rng.uniform(0, 0.004, picture.shape[1:]).astype(np.float32))

    assert carrier.carry(picture, np.zeros(picture.shape[1:], np.float32))


def test_a_matte_that_is_no_number_is_not_carried():
    carrier = Timed()
    picture, alpha = scene(0)
    broken = np.full_like(alpha, np.nan)
    for _ in range(2 * LOOKS):
        carrier.keep(picture, broken)

    assert not carrier.carry(picture, alpha)


def room(light: float, *, clothes: str = "", noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A room in so much light, 1 = ordinary, and somebody in it if there are clothes.

    A head of its own colour and a body: "wall" has the wall's colours but for a shade, "colour" has
    the wall's luma.
    """
    rng = np.random.default_rng(4)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (216, 384)).astype(np.float32), (0, 0), 6)
    luma = cv2.normalize(wall, None, 60, 150, cv2.NORM_MINMAX)
    u, v = np.full_like(luma, 122), np.full_like(luma, 134)
    if clothes:
        head, body = (m.astype(bool) for m in parts())
        v[head], luma[head] = 146, 165
        if clothes == "wall":
            luma[body] += 6
        else:
            u[body], v[body] = 104, 150
    grain = np.random.default_rng((5, seed)).normal(0, noise, (3, 216, 384))
    planes = [luma * light, *(128 + (p - 128) * min(1, 1.5 * light) for p in (u, v))]
    return np.clip(np.rint(np.stack(planes) + grain), 0, 255).astype(np.uint8)


def parts() -> list[np.ndarray]:
    head, body = np.zeros((216, 384), np.uint8), np.zeros((216, 384), np.uint8)
    cv2.circle(head, (190, 80), 34, 1, -1)
    cv2.ellipse(body, (190, 216), (90, 100), 0, 180, 360, 1, -1)
    return [head, body & ~head & 1]


def carries(before: list[np.ndarray], after: np.ndarray, *, gap: float = INTERVAL) -> bool:
    """True if the matte of whoever is in the frames before is carried on to the one after."""
    carrier = Timed()
    alpha = np.maximum(*parts()).astype(np.float32)
    for picture in before:
        carrier.keep(picture, alpha)
    return carrier.carry(after, np.zeros_like(alpha), gap)


LIGHTS = [1.0, 0.5, 0.25, 0.1]
GRAINS = [0.3, 1.0, 2.0]


@pytest.mark.parametrize("noise", GRAINS)
@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("clothes", ["wall", "colour"])
def test_nobody_is_carried_into_an_empty_room_in_any_light(light, noise, clothes):
    film = [room(light, clothes=clothes, noise=noise, seed=n) for n in range(LOOKS)]

    for seed in range(20, 24):
        assert not carries(film, room(light, noise=noise, seed=seed))


@pytest.mark.parametrize("clothes", ["wall", "colour"])
def test_the_same_film_is_carried_while_the_person_stays(clothes):
    for light, noise in [(1.0, 0.3), (1.0, 1.0), (1.0, 2.0), (0.5, 1.0), (0.25, 0.3)]:
        film = [room(light, clothes=clothes, noise=noise, seed=n) for n in range(LOOKS + 1)]

        assert carries(film[:-1], film[-1]), (light, noise)


@pytest.mark.parametrize("light", LIGHTS)
def test_a_change_of_colour_alone_is_seen(light):
    """The body turns into the wall, whose luma it has; the head stays."""
    film = [room(light, clothes="colour", noise=0.5, seed=n) for n in range(LOOKS)]
    after = room(light, clothes="colour", noise=0.5, seed=9)
    gone, body = room(light, noise=0.5, seed=9), parts()[1].astype(bool)
    after[1:, body] = gone[1:, body]
    assert np.abs(after[0].astype(int) - room(light, noise=0.5, seed=9)[0])[body].mean() < 1

    assert not carries(film, after)


def test_an_arm_that_is_gone_is_seen():
    film = [room(0.3, clothes="wall", noise=0.5, seed=n) for n in range(LOOKS)]
    after = room(0.3, clothes="wall", noise=0.5, seed=9)
    arm = np.s_[:, 165:195, 225:290]
    after[arm] = room(0.3, noise=0.5, seed=9)[arm]

    assert not carries(film, after)


def test_a_mouth_that_opens_is_no_window():
    film = [room(1.0, clothes="wall", noise=0.5, seed=n) for n in range(LOOKS)]
    after = room(1.0, clothes="wall", noise=0.5, seed=9)
    after[0, 70:80, 182:198] = 30

    assert carries(film, after)


def test_where_noise_drowns_everything_the_network_looks():
    film = [room(0.1, clothes="wall", noise=8, seed=n) for n in range(LOOKS + 1)]

    assert not carries(film[:-1], film[-1])


@pytest.mark.parametrize("gap", [2.2 * INTERVAL, 0.2, 3.0, 0.0, -INTERVAL, float("nan")])
def test_nothing_is_carried_over_a_stall_nor_back_in_time(sure, gap):
    picture, alpha = scene(0)

    assert not sure.carry(picture, alpha, gap)


def test_one_frame_that_was_dropped_is_no_stall(sure):
    picture, alpha = scene(0)

    assert sure.carry(picture, alpha, 1.9 * INTERVAL)


def test_a_camera_that_slows_down_is_known_after_a_few_frames():
    carrier, (picture, alpha) = Timed(), scene(0)
    for _ in range(12):
        carrier.keep(picture, alpha)
    carried = []
    for _ in range(6):
        carried.append(carrier.carry(picture, alpha.copy(), 0.1))
        if not carried[-1]:
            carrier.keep(picture, alpha, 0.0)

    assert not carried[0]
    assert carried[-1]


def test_no_camera_is_slow_enough_to_carry_a_matte_for_half_a_second():
    carrier, (picture, alpha) = Timed(), scene(0)
    for _ in range(12):
        carrier.keep(picture, alpha, 0.5)

    assert not carrier.carry(picture, alpha, 0.5)


def test_a_piece_that_was_never_said_before_is_not_carried_at_once(sure):
    picture, alpha = scene(0)
    more = alpha.copy()
    more[10:40, 190:220] = 1
    out = np.zeros_like(alpha)

    carried = []
    for _ in range(2):
        sure.keep(picture, more)
        carried.append(sure.carry(picture, out))

    assert carried == [False, True]


@pytest.mark.parametrize("size", [(3, 3), (2, 64), (24, 200), (63, 300)])
def test_strips_too_small_for_the_flow_are_looked_at(size):
    carrier = Timed()
    picture, alpha = np.full((3, *size), 90, np.uint8), np.full(size, 0.5, np.float32)
    for _ in range(LOOKS):
        carrier.keep(picture, alpha)

    assert not carrier.carry(picture, alpha)
