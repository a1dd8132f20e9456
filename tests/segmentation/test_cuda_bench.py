# ruff: noqa: E402
"""The GPU's benchmark, run on the processor: every figure comes out, and the counts are right."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.bisenet import BiSeNet
from segmentation.engines import nvidia
from segmentation.engines.layout import weights_dir
from segmentation.engines.weights_file import fold
from vcam.cli import main
from vcam.commands import bench, bench_gpu
from vcam.gpu.plan import STAGES

SMALL = str(weights_dir() / "bisenet-small.safetensors")


@pytest.fixture
def tiny(monkeypatch):
    """A benchmark whose GPU is the processor, whose pictures are tiny; torch.compile does nothing,
    and torchvision has a network of one convolution."""

    class Vision(torch.nn.Conv2d):
        def forward(self, x):
            return {"out": super().forward(x)}

    models = SimpleNamespace(lraspp_mobilenet_v3_large=lambda **_: Vision(3, 1, 1))
    asked = {}
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.models.segmentation", models)
    monkeypatch.setattr(torch, "compile", lambda network, **how: asked.update(how) or network)
    monkeypatch.setattr(bench_gpu, "PAPER", (64, 96))
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(bench, "SIZES", {"720p": (64, 36)})
    measure = bench_gpu.measure
    monkeypatch.setattr(
        bench_gpu,
        "measure",
        lambda material, **given: measure(
            material, **{**given, "frames": 2, "device": "cpu", "model": SMALL}
        ),
    )
    return asked


def test_one_command_measures_and_checks_all_there_is(tiny, capsys):
    assert main(["bench", "--engine", "cuda", "--check"]) == 0

    report = json.loads(capsys.readouterr().out)
    (case,) = report["cases"]
    assert set(case["stages_ms"]) == set(STAGES)
    assert case["apart"] == {
        "worst_levels": 0, "mean_levels": 0.0, "worst_alpha": 0.0, "frames": 12,
    }  # fmt: skip
    assert case["p50_ms"] > 0
    assert case["jpeg"]["host_ms"] > 0
    assert case["jpeg"]["problem"] == "libnvjpeg.so.0 is not installed"
    assert set(case["floor_ms"]) == {"bus", "memory", "network"}
    forms = report["networks"]
    for kind in ("eager", "fused", "compile"):
        assert forms[kind]["logits"] < 1e-3
        assert forms[kind]["apart"] < 1e-3
    assert "tensorrt" in forms["tensorrt"]["problem"]
    assert tiny == {"mode": "max-autotune-no-cudagraphs", "dynamic": False}
    assert report["paper"]["fps"] > 0 < report["square"]["ms"]
    assert report["lraspp"]["fps"] > 0
    assert report["meets"]["720p worst_levels <= 4"]
    assert len(report["meets"]) == 11


def test_what_fails_says_so_and_the_rest_is_printed(tiny, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for name in ("_frames", "apart", "_lraspp"):
        monkeypatch.setattr(bench_gpu, name, full)

    assert main(["bench", "--engine", "cuda", "--check"]) == 0

    report = json.loads(capsys.readouterr().out)
    (case,) = report["cases"]
    problem = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert case["problem"] == case["apart"]["problem"] == report["lraspp"]["problem"] == problem
    assert case["jpeg"]["host_ms"] > 0
    assert report["square"]["ms"] > 0
    assert not report["meets"]["720p p50_ms <= 0.4"]
    assert not report["meets"]["720p worst_levels <= 4"]


def test_what_was_hoped_for_and_is_not_is_named():
    case = {
        "name": "720p", "p50_ms": 0.41, "p99_ms": 0.5, "over_floor": 4.0, "host_cpu_ms": 0.6,
        "torch_memory_mb": 300,
        "apart": {"worst_levels": 5, "mean_levels": 0.06, "worst_alpha": float("nan")},
    }  # fmt: skip
    report = {
        "cases": [case, {**case, "name": "1080p"}],
        "networks": {"fused": {"logits": 0.002, "apart": 0.02}},
        "network": "fused",
        "paper": {"times_paper": 9.9},
    }

    missed = {name for name, so in bench_gpu.meets(report).items() if not so}

    assert missed == {
        "720p p50_ms <= 0.4", "720p host_cpu_ms <= 0.5", "1080p host_cpu_ms <= 0.5",
        *(f"{size} {what}" for size in ("720p", "1080p") for what in (
            "worst_levels <= 4", "mean_levels <= 0.05", "worst_alpha <= 0.01")),
        "alpha <= 0.01 from float32", "paper's frames a second x 10",
    }  # fmt: skip


def test_a_network_of_twice_the_area_needs_twice_the_operations():
    network = fold(BiSeNet(0.125))

    small, large = (bench_gpu.operations(network, (64, w)) for w in (64, 128))

    assert small > 1e6
    assert large / small == pytest.approx(2, rel=0.01)
