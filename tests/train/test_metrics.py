"""The figures agree with an independent implementation, where one is at hand."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from train.figures import metrics


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = Path(os.environ.get("REFERENCE_METRICS", "../shared/tools/metrics.py")).resolve()
    if not path.is_file():
        pytest.skip("no independent metrics.py; set REFERENCE_METRICS to one")
    spec = importlib.util.spec_from_file_location("reference_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mattes(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Soft blobs, an empty matte and a full one among them."""
    made = []
    for i in range(count):
        noise = cv2.GaussianBlur(rng.random(size).astype(np.float32), (0, 0), 6)
        noise = (noise - noise.min()) / (noise.max() - noise.min())
        made.append(np.clip(noise * 3 - 1, 0, 1).astype(np.float32))
        if i % 5 == 3:
            made[-1][:] = i % 2
    return made


@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_figures_of_pictures_and_clips_are_those_of_the_reference(reference, size):
    rng = np.random.default_rng(4)
    truth = mattes(rng, 12, size)
    got = [0.8 * t + 0.2 * other for t, other in zip(truth, mattes(rng, 12, size), strict=True)]

    assert metrics.images(got, truth) == pytest.approx(reference.images(got, truth))
    ours = metrics.clip(np.stack(got), np.stack(truth))
    assert ours == pytest.approx(reference.clip(np.stack(got), np.stack(truth)))
