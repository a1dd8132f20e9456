"""Losses: right is cheaper than wrong, edges count more, and gradients are finite."""

from __future__ import annotations

import pytest
import torch

from train import losses
from train.losses import MattingLoss, Weights


def disc(size: int = 48) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((x - 24) ** 2 + (y - 24) ** 2 < 144).float()[None, None]


def total(logits: torch.Tensor, truth: torch.Tensor, weights: Weights | None = None) -> float:
    small = torch.nn.functional.avg_pool2d(logits, 4)
    terms = MattingLoss(weights or Weights())((logits, small, small), truth)
    return float(torch.stack(list(terms.values())).sum())


def test_the_right_answer_costs_less_than_any_other():
    truth = disc()
    right = 20 * (2 * truth - 1)

    assert total(right, truth, Weights(auxiliary=0)) < 0.01
    assert total(-right, truth) > total(torch.zeros_like(truth), truth) > 1


def test_the_side_heads_are_told_the_share_of_person_in_each_of_their_pixels():
    truth, right = disc(), 20 * (2 * disc() - 1)
    share = torch.nn.functional.avg_pool2d(truth, 4)

    def cost(side: torch.Tensor) -> float:
        terms = MattingLoss(Weights())((right, side, side), truth)
        return float(terms["aux16"] + terms["aux32"])

    exact = cost(torch.logit(share, 1e-6))
    assert exact < cost(20 * (2 * share - 1))
    assert exact < cost(torch.logit(share, 1e-6).roll(1, -1))
    assert exact < cost(torch.zeros_like(share))


def test_an_error_at_the_outline_counts_more_than_one_far_away():
    truth = disc()
    near, far = 10 * (2 * truth - 1), 10 * (2 * truth - 1)
    near[..., 24, 36:38] *= -1
    far[..., 2, 2:4] *= -1
    weights = Weights(bce=1, dice=0, l1=0, auxiliary=0)

    assert total(near, truth, weights) > 2 * total(far, truth, weights)


def test_a_picture_without_a_person_does_not_break_dice():
    truth = torch.zeros(2, 1, 32, 32)

    assert float(losses.dice(truth, truth)) == 0
    assert float(losses.dice(truth + 1, truth)) > 0.9


def test_soft_truth_is_matched_by_soft_alpha():
    truth = torch.full((1, 1, 32, 32), 0.5)

    assert total(torch.zeros_like(truth), truth) < total(torch.ones_like(truth), truth)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_gradients_stay_finite_however_sure_the_network_is(scale: float):
    logits = torch.full((1, 1, 32, 32), scale, requires_grad=True)

    terms = MattingLoss(Weights())((logits, logits, logits), disc(32))
    torch.stack(list(terms.values())).sum().backward()

    assert torch.isfinite(logits.grad).all()


def test_steadiness_asks_nothing_of_what_does_not_change():
    logits = torch.randn(1, 1, 8, 8)

    assert float(losses.temporal(logits, logits, torch.zeros_like(logits))) == 0
    assert float(losses.temporal(logits, -logits, torch.zeros_like(logits))) > 0


def test_features_that_agree_cost_nothing():
    wanted = torch.randn(2, 4, 6, 6)

    assert float(losses.features(wanted, wanted)) == 0
    assert float(losses.features(-wanted, wanted)) > 0.5
