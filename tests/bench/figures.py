"""Figures for mattes against ground truth, still and in motion.

Shapes:
    alpha: (H, W) float32 in 0..1, 1 = person; stacks are (T, H, W)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Alpha = NDArray[np.float32]

BOUNDARY = 0.0075  # share of the diagonal within which two outlines count as the same


def person_iou(alpha: Alpha, truth: Alpha) -> float:
    """Overlap of the two persons at threshold 0.5."""
    a, b = alpha > 0.5, truth > 0.5
    return float((a & b).sum() / max((a | b).sum(), 1))


def boundary_f(alpha: Alpha, truth: Alpha) -> float:
    """F-measure of the outline."""
    h, w = truth.shape
    reach = max(1, round(BOUNDARY * float(np.hypot(h, w))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    ours, theirs = _outline(alpha > 0.5), _outline(truth > 0.5)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ours & cv2.dilate(theirs, disc)).sum() / ours.sum()
    recall = (theirs & cv2.dilate(ours, disc)).sum() / theirs.sum()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def leak(alpha: Alpha, truth: Alpha) -> float:
    """Share of the true background that is taken for the person."""
    room = truth < 0.05
    return float(((alpha > 0.5) & room).sum() / max(room.sum(), 1))


def leaked_light(alpha: Alpha, truth: Alpha) -> float:
    """Mean alpha on the true background: how much of the room shines through, softly too."""
    room = truth < 0.05
    return float(alpha[room].mean()) if room.any() else 0.0


def still(alphas: Sequence[Alpha], truths: Sequence[Alpha]) -> dict[str, float]:
    """Means over frames of the figures that look at one frame alone."""
    pairs = list(zip(alphas, truths, strict=True))
    return {
        "person_iou": float(np.mean([person_iou(a, t) for a, t in pairs])),
        "boundary_f": float(np.mean([boundary_f(a, t) for a, t in pairs])),
        "mad": float(np.mean([np.abs(a - t).mean() for a, t in pairs])),
        "leak": float(np.mean([leak(a, t) for a, t in pairs])),
    }


def moving(alphas: Alpha, truths: Alpha) -> dict[str, float]:
    """Figures of change: dtSSD (x100) and flicker where the truth stands still (x1000)."""
    ours, theirs = np.diff(alphas, axis=0), np.diff(truths, axis=0)
    rest = np.abs(theirs) < 0.02
    return {
        "dtssd": float(np.sqrt(((ours - theirs) ** 2).mean(axis=(1, 2))).mean() * 100),
        "flicker": float((np.abs(ours) * rest).sum() / rest.sum() * 1000),
    }


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    solid = mask.astype(np.uint8)
    return np.asarray(solid - cv2.erode(solid, np.ones((3, 3), np.uint8), borderValue=1), np.uint8)
