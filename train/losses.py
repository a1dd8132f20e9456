"""Losses: mattes, outlines, features, steadiness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

OUTLINE = 9  # pixels across the band around a person's outline that counts more
SMOOTH = 20.0  # pixels added to both sides of the dice ratio, for pictures without a person

Terms = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each term; 0 leaves it out."""

    bce: float = 1.0
    dice: float = 0.5
    l1: float = 0.5
    outline: float = 3.0  # extra weight of pixels in the band around the outline
    auxiliary: float = 0.3  # of the same loss on the 1/16 and 1/32 heads
    temporal: float = 0.0  # of the change between two views of the same picture


class MattingLoss:
    """Sum of weighted terms for one batch.

    From "BiSeNet" (Yu et al., ECCV 2018), section 3.3: the auxiliary losses.
    From "V-Net" (Milletari et al., 3DV 2016, https://arxiv.org/abs/1606.04797): dice.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __call__(self, outputs: tuple[Tensor, ...], truth: Tensor) -> Terms:
        """Return every term, already weighted; their sum is the loss.

        Shapes:
            outputs: logits (B, 1, H, W) and auxiliary logits (B, 1, h, w), any float dtype;
                H / h is whole
            truth: (B, 1, H, W) float32 alpha in 0..1, soft edges kept soft
        """
        logits, *auxiliary = outputs
        weight = outline_weight(truth, self.weights.outline)
        terms = self._terms(logits, truth, weight)
        if self.weights.auxiliary and auxiliary:
            shrink = truth.shape[-1] // auxiliary[0].shape[-1]
            truth, weight = F.avg_pool2d(truth, shrink), F.avg_pool2d(weight, shrink)
            for name, side in zip(("aux16", "aux32"), auxiliary, strict=False):
                total = torch.stack(list(self._terms(side, truth, weight).values())).sum()
                terms[name] = self.weights.auxiliary * total
        return terms

    def _terms(self, logits: Tensor, truth: Tensor, weight: Tensor) -> Terms:
        logits = logits.float()
        alpha = logits.sigmoid()
        terms: Terms = {}
        if self.weights.bce:
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            terms["bce"] = self.weights.bce * (each * weight).sum() / weight.sum()
        if self.weights.dice:
            terms["dice"] = self.weights.dice * dice(alpha, truth)
        if self.weights.l1:
            apart = ((alpha - truth).abs() * weight).sum() / weight.sum()
            terms["l1"] = self.weights.l1 * apart
        return terms


def dice(alpha: Tensor, truth: Tensor) -> Tensor:
    """One minus the overlap of each picture, averaged over the batch."""
    both = (alpha * truth).sum(dim=(1, 2, 3))
    each = alpha.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))
    return (1 - (2 * both + SMOOTH) / (each + SMOOTH)).mean()


def outline_weight(truth: Tensor, extra: float) -> Tensor:
    """1 everywhere and 1 + `extra` in a band around the outline; same shape as `truth`."""
    near = F.avg_pool2d(truth, (OUTLINE, 1), 1, (OUTLINE // 2, 0))  # a square in two lines
    near = F.avg_pool2d(near, (1, OUTLINE), 1, (0, OUTLINE // 2))
    return 1 + extra * ((near > 0.02) & (near < 0.98)).float()


def temporal(first: Tensor, second: Tensor, truth_change: Tensor) -> Tensor:
    """Mean change of alpha between two views beyond what it should.

    From "Perceptually Motivated Benchmark for Video Matting" (Erofeev et al., BMVC 2015): dtSSD,
    as a mean instead of a root, so that its gradient stays finite.

    Shapes:
        first, second: (B, 1, H, W) logits of two noisy views of the same scene
        truth_change: (B, 1, H, W) change of the true alpha, 0 where the views are aligned
    """
    change = second.float().sigmoid() - first.float().sigmoid()
    return ((change - truth_change) ** 2).mean()


def imitated(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy against the teacher's alpha, which is soft where it is in doubt.

    From "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015,
    https://arxiv.org/abs/1503.02531), at temperature 1.

    Shapes:
        logits: (B, 1, H, W), any float dtype; teacher: (B, 1, H, W) float32 in 0..1
    """
    weight = outline_weight(teacher, 3.0)
    each = F.binary_cross_entropy_with_logits(logits.float(), teacher, reduction="none")
    return (each * weight).sum() / weight.sum()


def features(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of the student's projected features from the teacher's, in its own deviations.

    From "FitNets" (Romero et al., ICLR 2015, https://arxiv.org/abs/1412.6550).
    Differs: smooth L1 after dividing each channel by its deviation in the batch.

    Shapes:
        student, teacher: (B, C, h, w), any float dtype
    """
    teacher = teacher.float()
    deviation = teacher.std(dim=(0, 2, 3), keepdim=True) + 0.05
    return F.smooth_l1_loss(student.float() / deviation, teacher / deviation, beta=0.5)
