"""Why CUDA is not used, and what to do about it, told without torch and without a GPU."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from segmentation.engines import nvidia


@pytest.fixture
def machine(monkeypatch):
    """A machine with a card, a driver that knows CUDA 12.8, and torch built for 12.6."""
    made = SimpleNamespace(
        card=nvidia.Card("H100", (9, 0), (12, 8)), torch=(12, 6), installed=True, listed="H100",
        asked=0,
    )  # fmt: skip

    def ask():
        made.asked += 1
        return made.card

    monkeypatch.setattr(nvidia, "present", lambda: made.listed)
    monkeypatch.setattr(nvidia, "card", ask)
    monkeypatch.setattr(nvidia, "torch_cuda", lambda: made.torch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: made if made.installed else None)
    nvidia._verdict.cache_clear()
    yield made
    nvidia._verdict.cache_clear()


def test_a_whole_machine_has_no_reason(machine):
    assert (nvidia.why_not(), nvidia.remedy()) == ("", "")


V100, T4 = nvidia.Card("V100", (7, 0), (13, 0)), nvidia.Card("T4", (7, 5), (13, 0))


@pytest.mark.parametrize(
    ("facts", "reason", "remedy"),
    [
        ({"listed": ""}, "there is no NVIDIA GPU", ""),
        (
            {"card": nvidia.Card(reason="there is no NVIDIA driver")},
            "no NVIDIA driver",
            "Install the NVIDIA",
        ),
        (
            {"card": nvidia.Card(reason="the NVIDIA driver does not answer (error 803)")},
            "error 803",
            "`nvidia-smi` says why",
        ),
        ({"card": nvidia.Card("GT 710", (3, 5), (12, 8))}, "GT 710 is too old: compute", ""),
        ({"card": V100, "torch": (13, 0)}, "begins at 7.5", "for CUDA 12"),
        ({"installed": False}, "torch is not installed", f"`{sys.executable} -m pip install torch"),
        ({"torch": None}, "built without CUDA", "--force-reinstall torch"),
        (
            {"card": nvidia.Card("H100", (9, 0), (11, 4))},
            "knows CUDA 11.4, and torch is built for 12.6",
            "newer NVIDIA",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_reason_comes_with_what_to_do(machine, facts, reason, remedy):
    vars(machine).update(facts)

    assert reason in nvidia.why_not()
    assert remedy in nvidia.remedy()
    assert bool(nvidia.remedy()) is bool(remedy)


@pytest.mark.parametrize(
    "facts",
    [
        {"card": V100},
        {"card": T4, "torch": (13, 0)},
        {"card": nvidia.Card("H100", (9, 0), (12, 1))},
    ],
)
def test_cards_and_drivers_that_torch_supports_are_taken(machine, facts):
    vars(machine).update(facts)

    assert nvidia.why_not() == ""


@pytest.mark.parametrize(
    ("facts", "asked"),
    [({}, 1), ({"installed": False}, 0), ({"torch": None}, 0), ({"listed": ""}, 0)],
)
def test_a_gpu_that_sleeps_is_woken_for_a_torch_that_can_use_it_alone(machine, facts, asked):
    vars(machine).update(facts)

    nvidia.why_not()

    assert machine.asked == asked


def test_the_driver_is_asked_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(nvidia, "ask_driver", lambda: pytest.fail("asked in this process"))
    nvidia.card.cache_clear()
    try:
        found = nvidia.card()
    finally:
        nvidia.card.cache_clear()

    assert bool(found.name) is not bool(found.reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", r"does not answer \(in 0.2 s\)"),
        ("import os; os.abort()", r"does not answer \(asking it ended with -6\)"),
        ("print('no JSON')", "does not answer"),
        ("", "does not answer"),
    ],
    ids=["hang", "abort", "nonsense", "nothing"],
)
def test_a_driver_that_hangs_or_crashes_is_a_reason(monkeypatch, code, reason):
    run = subprocess.run
    monkeypatch.setattr(
        nvidia.subprocess, "run", lambda words, **how: run([*words[:2], code], **how)
    )
    monkeypatch.setattr(nvidia, "ANSWER", 0.2 if "sleep" in code else 60.0)
    nvidia.card.cache_clear()
    try:
        found = nvidia.card()
    finally:
        nvidia.card.cache_clear()

    assert re.search(reason, found.reason)


def test_a_card_is_listed_by_the_bus_and_named_by_the_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "PCI", tmp_path / "pci")
    monkeypatch.setattr(nvidia, "GPUS", tmp_path / "gpus")
    monkeypatch.setattr(nvidia, "SIGNS", ())
    assert nvidia.present() == ""

    for place, kind, vendor in (("00", "0x030000", "0x8086"), ("01", "0x040300", "0x10de")):
        (tmp_path / "pci" / place).mkdir(parents=True)
        (tmp_path / "pci" / place / "class").write_text(kind)
        (tmp_path / "pci" / place / "vendor").write_text(vendor)
    assert nvidia.present() == ""  # graphics of Intel, and sound of NVIDIA

    (tmp_path / "pci" / "01" / "class").write_text("0x030200")
    assert nvidia.present() == "NVIDIA GPU"

    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text(
        "Model: \t\t NVIDIA GeForce RTX 4060\nIRQ: 1\n"
    )
    assert nvidia.present() == "NVIDIA GeForce RTX 4060"
