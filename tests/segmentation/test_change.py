"""A picture that changed is told from one that only has noise, in any light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation.motion.temporal import moved

SIZE = (108, 192)
LIGHTS = [1.0, 0.3, 0.1, 0.05]


def picture(light: float, *, person: bool, noise: float = 0.4, seed: int = 0) -> np.ndarray:
    """A wall with lamps and shades, and somebody before it, in so much light."""
    rng = np.random.default_rng(1)
    wall = cv2.resize(rng.integers(40, 180, (6, 10)).astype(np.float32), SIZE[::-1])
    planes = np.stack([wall, np.full(SIZE, 120, np.float32), np.full(SIZE, 130, np.float32)])
    if person:
        planes[:, 40:, 70:120] = np.array([140, 112, 150], np.float32)[:, None, None]
    planes[0] *= light
    planes[1:] = 128 + (planes[1:] - 128) * min(1, 2 * light)
    grain = np.random.default_rng((2, seed)).normal(0, noise, planes.shape)
    return np.clip(np.rint(planes + grain), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("light", LIGHTS)
def test_whoever_leaves_changes_the_picture(light):
    assert moved(picture(light, person=True), picture(light, person=False, seed=1))


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_noise_changes_nothing(light, noise):
    before = picture(light, person=True, noise=noise)

    if noise < 1:  # more than that was always taken for a change: no model answers alike to it
        assert not moved(before, picture(light, person=True, noise=noise, seed=1))
    assert not moved(before, before.copy())


@pytest.mark.parametrize("light", [1.0, 0.3, 0.1])
def test_a_change_of_colour_alone_is_one(light):
    before = picture(light, person=True)
    after = picture(light, person=False)
    after[0] = before[0]

    assert moved(before, after)


def test_any_size_of_picture_can_be_told():
    for shape in [(3, 1, 1), (3, 5, 7), (3, 13, 40)]:
        dark, bright = np.zeros(shape, np.uint8), np.full(shape, 200, np.uint8)

        assert moved(dark, bright)
        assert not moved(dark, dark)
