"""The part of a frame that is shown: the head stays in it, and it stays where it is."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.bench.framing import FPS, SCENES, H, W, play
from tests.vcam.test_compositor import (
    BLUE,
    GREEN,
    RED,
    disc,
    image_frame,
    matte_for,
    pictured,
    plain,
    rgb,
)
from tests.vcam.test_compositor import H as TALL
from tests.vcam.test_compositor import W as WIDE
from vcam.compose.compositor import Compositor
from vcam.compose.framing import SPEED, THIRD, Crop, Framer, heads_of
from vcam.compose.scene import Blur, Look

MODES = ("head-and-shoulders", "close")


def edges(step, size=(1.0, 1.0)):
    left, top, across, down = step.crop
    return left * size[0], (left + across) * size[0], top * size[1], (top + down) * size[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCENES)
def test_a_head_that_is_shown_never_leaves_the_picture(name, mode):
    for step in play(SCENES[name], mode):
        left, right, top, bottom = edges(step, (W, H))
        for head in step.heads[:1]:  # another one comes in by and by
            if head[0] > 0 and head[1] < W:
                assert left <= head[0]
                assert head[1] <= right
                assert top <= head[2]
                assert head[3] <= bottom


@pytest.mark.parametrize("mode", MODES)
def test_somebody_who_sits_sways_and_nods_moves_nothing(mode):
    shown = {step.crop for step in play(SCENES["sits still"], mode)}

    assert len(shown) == 1
    assert next(iter(shown)).width < 0.8


def test_the_head_comes_to_stand_at_a_third_and_both_of_two_are_shown():
    (_, _, top, bottom) = (steps := play(SCENES["moves across"], seconds=9))[-1].heads[0]
    _, _, upper, lower = edges(steps[-1], (W, H))
    assert abs(((top + bottom) / 2 - upper) / (lower - upper) - THIRD) < 0.06

    steps = play(SCENES["another one comes and goes"], seconds=9)
    left, right, *_ = edges(steps[-1], (W, H))
    assert all(left < head[0] and head[1] < right for head in steps[-1].heads)


def test_the_whole_frame_is_shown_when_somebody_has_left_and_no_edge_hurries():
    steps = play(SCENES["leaves"])
    alone = [edges(step) for step in steps if not step.heads]

    assert alone[-1] == (0, 1, 0, 1)
    fastest = max(
        abs(a - b) * FPS * (1 if n < 2 else H / W)
        for one, other in itertools.pairwise(alone)
        for n, (a, b) in enumerate(zip(one, other, strict=True))
    )
    assert fastest < SPEED * 1.01


def test_heads_are_found_and_hands_and_shoulders_are_not():
    alpha = disc(384, 216, x=0.3, radius=0.2)
    alpha = np.maximum(alpha, disc(384, 216, x=0.7, radius=0.15))
    alpha[100:110, :40] = 1  # an arm that comes in

    heads = sorted(heads_of(alpha))

    assert [round(head.x, 1) for head in heads] == [0.3, 0.7]
    assert math.isclose(heads[0].width, 0.4 * 216 / 384, rel_tol=0.15)


def test_a_look_that_crops_nothing_shows_the_frame_as_it_is():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))
    compositor = Compositor(WIDE, TALL)

    compositor.compose(frame, matte_for(frame, alpha), plain(BLUE), Look())

    assert Framer(16 / 9).crop(alpha, (WIDE, TALL), Look(), 0.0) is None
    assert compositor._fitted.crop is None


@pytest.mark.parametrize("size", [(480, 360), (360, 640), (960, 540)])
def test_a_frame_of_another_shape_or_size_fills_the_picture(size):
    alpha = disc(*size, x=0.5, radius=0.07)
    frame = image_frame(pictured(alpha, RED, GREEN))

    safe = Compositor(WIDE, TALL).compose(
        frame, matte_for(frame, alpha), plain(BLUE), Look(framing="head-and-shoulders")
    )

    shown = rgb(safe.data)
    person = np.abs(shown - RED).max(axis=2) < 25
    rows, columns = np.nonzero(person)
    assert math.isclose(np.ptp(rows), np.ptp(columns), rel_tol=0.05)  # round, as it was
    assert (shown[..., 1] <= np.maximum(shown[..., 0], shown[..., 2]) + 20).all()


@pytest.mark.parametrize("aspect", [16 / 9, 3 / 4])
def test_the_part_lies_in_the_frame_whatever_comes(aspect):
    luck = np.random.default_rng(7)
    framer = Framer(aspect)
    sizes = [(160, 90), (90, 160), (400, 64), (64, 48)]
    size, pts, look = sizes[0], 0.0, Look()
    for _ in range(1500):
        if luck.random() < 0.05:
            size = sizes[luck.integers(4)]
        if luck.random() < 0.1:
            mode = ("off", *MODES)[luck.integers(3)]
            look = Look(framing=mode, zoom=luck.uniform(1, 2), shift=tuple(luck.uniform(-1, 1, 2)))
        pts += luck.choice((0.03, 0.1, 2.0))
        alpha = disc(64, 36, x=luck.uniform(0, 1), radius=luck.choice((0, 0.1, 0.3, 0.6)))

        crop = framer.crop(alpha, size, look, pts)

        assert crop is None or crop.inside, crop


def test_a_part_beyond_the_frame_is_never_drawn():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))
    compositor = Compositor(WIDE, TALL)
    compositor._framer = SimpleNamespace(rests=False, crop=lambda *_: Crop(0.0, -0.02, 1.0, 1.02))

    with pytest.raises(ValueError, match="expected a part of the frame"):
        compositor.compose(frame, matte_for(frame, alpha), plain(BLUE), Look())


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.31, 0.0)])
def test_the_person_is_enlarged_the_backdrop_stays_and_nothing_of_the_room_is_seen(mirror, shift):
    alpha = disc(radius=0.2)
    frame = image_frame(pictured(alpha, RED, GREEN))
    behind = plain(BLUE)
    behind[:40, :40] = 16
    look = Look(zoom=1.7, shift=shift, mirror=mirror)

    safe = Compositor(WIDE, TALL).compose(frame, matte_for(frame, alpha), behind, look)

    shown = rgb(safe.data)
    person = np.abs(shown - RED).max(axis=2) < 25
    assert math.isclose(person.sum() / (alpha > 0.5).sum(), 1.7**2, rel_tol=0.04)
    x = np.flatnonzero(person.any(axis=0)).mean() / WIDE
    aside = shift[0] * (1 - 1.7) / 2  # the part goes one way, the person the other
    assert abs(x - (0.5 + (-aside if mirror else aside))) < 0.01
    assert (safe.data[:40, :40] == 16).all()
    assert (safe.data[:40, 60:100] != 16).all()
    assert ((shown[..., 1] > shown[..., 0] + 20) & (shown[..., 1] > shown[..., 2] + 20)).sum() == 0


def test_a_blur_is_enlarged_with_the_room():
    alpha = disc(x=0.05, radius=0.05)
    stripes = np.where(np.arange(WIDE)[None, :, None] // 24 % 2, 40, 210)
    room = np.broadcast_to(stripes, (TALL, WIDE, 3))
    frame = image_frame(pictured(alpha, RED, room))
    matte = matte_for(frame, alpha)
    whole = Compositor(WIDE, TALL).compose(frame, matte, Blur(25), Look())
    part = Compositor(WIDE, TALL).compose(frame, matte, Blur(25), Look(zoom=2.0))

    middle = np.s_[100:260, 160:480]

    assert part.data[middle].std() < 1.1 * whole.data[middle].std()


def test_what_is_wiped_keeps_nothing_of_the_frame():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))
    compositor = Compositor(WIDE, TALL)
    compositor.compose(frame, matte_for(frame, alpha), Blur(50), Look(zoom=1.5, shift=(0.3, 0.3)))

    fit = compositor._fitted
    compositor.wipe()

    kept = [fit._between, *fit._scaled, *fit._flipped, fit.colours._bytes, *fit.colours.room_bytes]
    assert not any(array.any() for array in kept)


def test_what_is_left_behind_when_frames_of_another_size_come_is_wiped():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))
    compositor = Compositor(WIDE, TALL)
    compositor.compose(frame, matte_for(frame, alpha), Blur(50), Look(zoom=1.5, mirror=True))
    fit = compositor._fitted

    half = image_frame(pictured(alpha, RED, GREEN)[::2, ::2])
    compositor.compose(half, matte_for(half, alpha[::2, ::2]), Blur(50), Look())

    assert fit is not compositor._fitted
    assert not any(array.any() for array in (*fit._scaled, *fit._flipped, fit.colours.room_bytes))
