# ruff: noqa: E402
"""The GPU's benchmark, run on the processor: every figure comes out, and the counts are right."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.bisenet import BiSeNet, fold
from segmentation.engines.cuda import STAGES
from segmentation.engines.layout import weights_dir
from vcam import bench_cuda


def test_every_figure_comes_out(monkeypatch):
    monkeypatch.setattr(bench_cuda, "PAPER", (64, 96))
    yuyv = np.random.default_rng(0).integers(0, 256, 64 * 36 * 2, np.uint8)

    report = bench_cuda.measure(
        frames=2,
        sizes={"tiny": (64, 36)},
        pack=lambda width, height: ([], [yuyv, yuyv[::-1].copy()]),
        backdrop=lambda width, height: np.full((height * 3 // 2, width), 90, np.uint8),
        check=True,
        device="cpu",
        model=str(weights_dir() / "bisenet-small.safetensors"),
        kinds=("eager", "fused"),
    )

    case = report["cases"][0]
    assert set(case["stages_ms"]) == set(STAGES)
    assert case["apart"] == {"worst_levels": 0, "mean_levels": 0.0, "frames": 2}
    assert case["p50_ms"] > 0
    assert report["networks"]["fused"]["apart"] < 1e-3
    assert report["paper"]["fps"] > 0


def test_a_network_of_twice_the_area_needs_twice_the_operations():
    network = fold(BiSeNet(0.125))

    small, large = (bench_cuda.operations(network, (64, w)) for w in (64, 128))

    assert small > 1e6
    assert large / small == pytest.approx(2, rel=0.01)
