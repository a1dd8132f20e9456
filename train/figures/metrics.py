"""Figures for mattes against ground truth: how much person, how much room, how steady.

Arrays are alpha, float32 (H, W) in 0..1, 1 = person. `Figures` takes one picture at a time, so
that a validation split never has to fit in memory, and its sums can be added across processes.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from train.data.datasets import Alpha

BOUNDARY = 0.0075  # tolerance of the boundary F in parts of the picture's diagonal
ROOM, PERSON = 0.05, 0.95  # true alpha below and above which a pixel is nothing else
STILL = 0.02  # a pixel whose true alpha changes by less than this should not flicker


class Figures:
    """Figures over pictures that are added one by one."""

    def __init__(self) -> None:
        self.histogram = np.zeros((2, 2))
        self.rows: list[dict[str, float]] = []

    def add(self, alpha: Alpha, truth: Alpha) -> dict[str, float]:
        """Count one picture and return its own figures.

        Shapes:
            alpha, truth: (H, W) float32 in 0..1
        """
        got, wanted = alpha > 0.5, truth > 0.5
        self.histogram += np.bincount((2 * wanted + got).ravel(), minlength=4).reshape(2, 2)
        person = truth > PERSON
        row = {
            "iou": float((got & wanted).sum() / max((got | wanted).sum(), 1)),
            "boundary_f": boundary_f(got, wanted),
            "mad": float(np.abs(alpha - truth).mean()),
            "leak": leak(alpha, truth),
            "cut": float((~got & person).sum() / max(person.sum(), 1)),
        }
        self.rows.append(row)
        return row

    def summary(self) -> dict[str, float]:
        """The figures of everything added; mIoU from one histogram over all pixels."""
        if not self.rows:
            return {"n": 0}
        right = np.diag(self.histogram)
        total = self.histogram.sum(0) + self.histogram.sum(1) - right
        classes = right / np.maximum(total, 1)
        column = {key: np.array([row[key] for row in self.rows]) for key in self.rows[0]}
        return {
            "n": len(self.rows),
            "miou": float(classes.mean()),
            "bg_iou": float(classes[0]),
            "person_iou": float(classes[1]),
            "mean_person_iou": float(column["iou"].mean()),
            "p5_person_iou": float(np.percentile(column["iou"], 5)),
            "boundary_f": float(column["boundary_f"].mean()),
            "mad": float(column["mad"].mean()),
            "leak": float(column["leak"].mean()),
            "leak_p95": float(np.percentile(column["leak"], 95)),
            "cut": float(column["cut"].mean()),
        }


def leak(alpha: Alpha, truth: Alpha) -> float:
    """Part of the true room that is taken for the person, (H, W) each."""
    room = truth < ROOM
    return float(((alpha > 0.5) & room).sum() / max(room.sum(), 1))


def light(alpha: Alpha, truth: Alpha) -> float:
    """Mean alpha on the true room, which counts what shines through softly; (H, W) each."""
    room = truth < ROOM
    return float(alpha[room].mean()) if room.any() else 0.0


def boundary_f(got: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """F-measure of the outline, matched within `BOUNDARY` of the diagonal.

    From "What is a good evaluation measure for semantic segmentation?" (Csurka et al., BMVC 2013).

    Shapes:
        got, wanted: (H, W) bool
    """
    height, width = wanted.shape
    radius = max(1, round(BOUNDARY * float(np.hypot(height, width))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    found, true = _outline(got), _outline(wanted)
    if found.sum() == 0 or true.sum() == 0:
        return float(found.sum() == true.sum())
    precision = (found & cv2.dilate(true, disc)).sum() / found.sum()
    recall = (true & cv2.dilate(found, disc)).sum() / true.sum()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def images(alphas: Iterable[Alpha], truths: Iterable[Alpha]) -> dict[str, float]:
    """Figures of a list of pictures."""
    figures = Figures()
    for alpha, truth in zip(alphas, truths, strict=True):
        figures.add(alpha, truth)
    return figures.summary()


def clip(alphas: Alpha, truths: Alpha) -> dict[str, float]:
    """Figures of a clip: those of its pictures, dtSSD and flicker.

    dtSSD from "Perceptually Motivated Benchmark for Video Matting" (Erofeev et al., BMVC 2015),
    times 100; flicker is the mean change per frame where the true alpha stands still, times 1000.

    Shapes:
        alphas, truths: (T, H, W) float32 in 0..1
    """
    out = images(alphas, truths)
    moved, should = np.diff(alphas, axis=0), np.diff(truths, axis=0)
    out["dtssd"] = float(np.sqrt(((moved - should) ** 2).mean(axis=(1, 2))).mean() * 100)
    still = np.abs(should) < STILL
    out["flicker"] = float((np.abs(moved) * still).sum() / max(still.sum(), 1) * 1000)
    return out


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    filled = mask.astype(np.uint8)
    inner = cv2.erode(filled, np.ones((3, 3), np.uint8), borderValue=1)
    return np.asarray(filled - inner, np.uint8)
