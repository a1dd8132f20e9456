"""Why CUDA is not used, and what to do about it, told without torch and without a GPU."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from segmentation.engines import nvidia


@pytest.fixture
def machine(monkeypatch):
    """A machine with a card, a driver that knows CUDA 12.8, and torch built for 12.6."""
    made = SimpleNamespace(card=("H100", ""), driver=(12, 8), torch=(12, 6), installed=True)
    monkeypatch.setattr(nvidia, "card", lambda: made.card)
    monkeypatch.setattr(nvidia, "driver_cuda", lambda: made.driver)
    monkeypatch.setattr(nvidia, "torch_cuda", lambda: made.torch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: made if made.installed else None)
    nvidia._verdict.cache_clear()
    yield made
    nvidia._verdict.cache_clear()


def test_a_whole_machine_has_no_reason(machine):
    assert (nvidia.why_not(), nvidia.remedy()) == ("", "")


@pytest.mark.parametrize(
    ("facts", "reason", "remedy"),
    [
        ({"card": ("", "there is no NVIDIA driver")}, "no NVIDIA driver", "Install the NVIDIA"),
        (
            {"card": ("", "the NVIDIA driver does not answer (error 803)")},
            "error 803",
            "`nvidia-smi` says why",
        ),
        ({"card": ("", "the GT 710 is too old: compute capability 3.5")}, "too old", ""),
        ({"installed": False}, "torch is not installed", f"`{sys.executable} -m pip install torch"),
        ({"torch": None}, "built without CUDA", "--force-reinstall torch"),
        ({"driver": (11, 4)}, "knows CUDA 11.4, and torch is built for 12.6", "newer NVIDIA"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_reason_comes_with_what_to_do(machine, facts, reason, remedy):
    vars(machine).update(facts)

    assert reason in nvidia.why_not()
    assert remedy in nvidia.remedy()
    assert bool(nvidia.remedy()) is bool(remedy)
