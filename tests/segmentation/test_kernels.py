"""The loops at model size: compiled and plain agree, colours are right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation import kernels
from segmentation.motion.flow import Carrier, _blocks

rng = np.random.default_rng(3)


@pytest.mark.parametrize("matrix", [kernels.FULL, kernels.LIMITED], ids=["full", "limited"])
@pytest.mark.parametrize("size", [(160, 284), (5, 7), (1, 1)], ids=str)
def test_compiled_and_plain_inputs_are_the_same_bits(matrix, size):
    h, w = size
    small = rng.integers(0, 256, (3, h, w), dtype=np.uint8)
    small.setflags(write=False)
    matrix = np.ascontiguousarray(matrix, np.float32)
    scale = np.array([[4.4, -2.1], [4.5, -2.0], [4.4, -1.8]], np.float32)
    ours, theirs = (np.full((1, 3, h + 3, w + 5), np.nan, np.float32) for _ in "ab")

    kernels._to_input_compiled(small, matrix, scale, ours)
    kernels._to_input_plain(small, matrix, scale, theirs)

    assert np.array_equal(ours, theirs)


def test_the_network_sees_the_colours_of_the_frame():
    image = rng.integers(0, 256, (1, 40, 3), dtype=np.uint8)
    image = np.repeat(np.repeat(image, 32, axis=0), 4, axis=1)
    y, cr, cb = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))  # full range
    planes = np.stack([y, cb, cr])
    x = np.zeros((1, 3, *y.shape), np.float32)

    kernels.to_input(planes, kernels.FULL.astype(np.float32), np.array([[1, 0]] * 3, np.float32), x)

    assert np.abs(x[0].transpose(1, 2, 0) * 255 - image).max() < 3


def test_limited_range_black_and_white_are_0_and_1():
    planes = np.zeros((3, 1, 2), np.uint8)
    planes[:] = [[[16, 235]], [[128, 128]], [[128, 128]]]
    x = np.zeros((1, 3, 1, 2), np.float32)

    kernels.to_input(
        planes, kernels.LIMITED.astype(np.float32), np.array([[1, 0]] * 3, np.float32), x
    )

    assert np.allclose(x[0, :, 0], [[0, 1]] * 3, atol=1e-6)


def test_padding_repeats_the_edge():
    planes = rng.integers(0, 256, (3, 4, 6), dtype=np.uint8)
    x = np.zeros((1, 3, 32, 32), np.float32)

    kernels.to_input(planes, kernels.FULL.astype(np.float32), np.array([[1, 0]] * 3, np.float32), x)

    assert np.array_equal(x[0, :, :4, 20], x[0, :, :4, 5])
    assert np.array_equal(x[0, :, 20, :], x[0, :, 3, :])


def test_compiled_and_plain_smoothing_are_the_same_bits():
    alpha, motion, held = (rng.random((31, 57)).astype(np.float32) for _ in "abc")
    motion *= 20
    ours, theirs = held.copy(), held.copy()
    alpha.setflags(write=False)

    kernels._smooth_compiled(alpha, motion, ours, 0.9, 4.0, 0.2, 0.6)
    kernels._smooth_plain(alpha, motion, theirs, 0.9, 4.0, 0.2, 0.6)

    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(160, 284), (5, 7), (2, 3), (1, 1)], ids=str)
def test_compiled_and_plain_guides_are_the_same_bits(size):
    alpha = cv2.GaussianBlur(rng.random(size).astype(np.float32), (0, 0), 2) * 3 - 1
    luma = rng.integers(0, 256, size, dtype=np.uint8)
    luma.setflags(write=False)
    made = []
    for guide in (kernels._guide_compiled, kernels._guide_plain):
        p, a, b = alpha.copy(), np.zeros(size, np.float32), np.zeros(size, np.float32)
        guide(p, luma, a, b, 0.1, 1 / 0.85, 1e-3, kernels.guide_scratch(size[1]))
        made.append((p, a, b))

    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*made, strict=True))


def test_the_guide_is_the_one_of_the_paper():
    alpha = np.clip(cv2.GaussianBlur(rng.random((40, 60), np.float32), (0, 0), 2) * 6 - 2.5, 0, 1)
    luma = rng.integers(0, 256, alpha.shape, dtype=np.uint8)
    a, b = np.zeros_like(alpha), np.zeros_like(alpha)
    guide = luma.astype(np.float64) / 255

    def box(x):
        return cv2.boxFilter(x, -1, (5, 5), borderType=cv2.BORDER_REPLICATE)

    slope = box(guide * alpha) - box(guide) * box(alpha)
    slope /= box(guide * guide) - box(guide) ** 2 + 1e-3
    offset = box(alpha.astype(np.float64)) - slope * box(guide)

    kernels.guide(alpha.copy(), luma, a, b, 0.0, 1.0, 1e-3, kernels.guide_scratch(60))

    assert np.abs(a - box(slope)).max() < 1e-4
    assert np.abs(b - box(offset)).max() < 1e-4


@pytest.mark.parametrize("size", [(108, 192), (72, 96), (4, 4), (8, 20)], ids=str)
def test_means_over_blocks_are_the_same_bits_compiled_plain_and_by_halving_twice(size):
    moved, now = rng.integers(0, 256, (2, 3, *size), dtype=np.uint8)
    ours, theirs = np.full((2, 7, size[0] // 4, size[1] // 4), np.nan, np.float32)
    carrier = Carrier()
    carrier._make(2 * size[0], 2 * size[1])
    carrier._moved[:] = moved

    kernels._in_blocks_compiled(moved, now, ours)
    kernels._in_blocks_plain(moved, now, theirs)

    assert np.array_equal(ours, theirs)
    for c in range(3):
        assert np.array_equal(ours[c], _blocks(cv2.absdiff(moved[c], now[c])))
        assert np.array_equal(ours[3 + c], _blocks(now[c]))
    steep = np.zeros((2, *size), np.uint8)
    cv2.absdiff(moved[0][:, 1:], moved[0][:, :-1], steep[0][:, :-1])
    cv2.absdiff(moved[0][1:], moved[0][:-1], steep[1][:-1])
    assert np.array_equal(ours[6], 0.5 * (_blocks(steep[0]) + _blocks(steep[1])))
    carrier._compare(now)
    assert np.array_equal(carrier._seven, ours)


def test_sides_of_no_whole_blocks_are_compared_up_to_their_ends():
    carrier, now = Carrier(), rng.integers(0, 40, (3, 71, 90), dtype=np.uint8)
    carrier._make(142, 180)
    carrier._moved[:] = now
    now[:, -2:, -2:] += 200

    carrier._compare(now)

    assert (carrier._seven[:3, -1, -1] > 20).all()
    assert not carrier._seven[:3, :-1, :-1].any()
