"""A picture's planes: views of one array, and what they are in limited range."""

from __future__ import annotations

import numpy as np
import pytest

from segmentation.planes import Planes, fold, i420, i420_shape, tall

rng = np.random.default_rng(2)


def test_planes_of_one_array_are_views_of_it():
    data = np.zeros(i420_shape(6, 4), np.uint8)

    planes = i420(data)
    planes.u[:], planes.v[:] = 1, 2

    assert (planes.width, planes.height, planes.chroma_rows) == (6, 4, 1)
    assert data.reshape(-1).tolist() == [0] * 24 + [1] * 6 + [2] * 6


def test_planes_of_422_lie_one_after_the_other():
    planes = tall(np.arange(16, dtype=np.uint8), 4, 2)

    assert planes.y.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (planes.u.tolist(), planes.v.tolist()) == (
        [[8, 9], [10, 11]], [[12, 13], [14, 15]],
    )  # fmt: skip
    assert planes.chroma_rows == 2


@pytest.mark.parametrize("rows", [12, 24])
def test_full_range_folds_to_limited_range(rows):
    before = [rng.integers(0, 256, s, np.uint8) for s in ((24, 32), (rows, 16), (rows, 16))]
    planes = Planes(*(plane.copy() for plane in before), full_range=True)

    fold(planes)

    assert np.array_equal(planes.y, np.rint(before[0] * (219 / 255) + 16))
    for plane, wanted in zip(planes.each[1:], before[1:], strict=True):
        assert np.abs(plane - ((wanted - 128.0) * (224 / 255) + 128)).max() <= 0.51
