"""Prune: a narrow network does what the channels it keeps did in the wide one."""

from __future__ import annotations

import copy

import pytest
import torch

from segmentation.bisenet import BiSeNet
from train.weights.prune import prune

WIDE = 0.25


@pytest.fixture(scope="module")
def wide() -> BiSeNet:
    torch.manual_seed(0)
    network = BiSeNet(WIDE).train()
    with torch.no_grad():
        for _ in range(3):
            network(photographs(4))
    return network.eval()


def photographs(count: int) -> torch.Tensor:
    coarse = torch.randn(count, 3, 12, 12)
    return torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bilinear")


def apart(a: BiSeNet, b: BiSeNet, x: torch.Tensor) -> float:
    with torch.no_grad():
        theirs, ours = a(x), b(x)
    return float(((ours - theirs) ** 2).mean() / theirs.var())


def test_at_the_same_width_it_is_the_same_network(wide):
    other = BiSeNet(WIDE)

    prune(wide, other, [photographs(8) for _ in range(3)])

    assert apart(wide, other, photographs(4)) < 0.02


def test_a_narrower_one_is_far_closer_than_chance_and_learns_on(wide):
    torch.manual_seed(1)
    narrow = BiSeNet(WIDE / 2)
    random = copy.deepcopy(narrow).eval()
    x = photographs(4)

    prune(wide, narrow, [photographs(8) for _ in range(3)])

    assert apart(wide, narrow, x) < 0.5 * apart(wide, random, x)
    trained = narrow.train()(x)
    assert all(torch.isfinite(part).all() for part in trained)
    # BatchNorm begins with the statistics of what it is given: training does not start by a jump.
    assert apart(wide, narrow.eval(), x) < 0.6 * apart(wide, random, x)


def test_a_lean_one_is_far_closer_than_chance(wide):
    torch.manual_seed(1)
    lean = BiSeNet(WIDE, lean=True)
    random = copy.deepcopy(lean).eval()
    x = photographs(4)

    prune(wide, lean, [photographs(8) for _ in range(3)])

    assert apart(wide, lean.eval(), x) < 0.5 * apart(wide, random, x)
