"""Tidies a matte and makes its edges follow the picture: islands, holes, fast guided filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import cv2
import numpy as np

from segmentation import kernels
from segmentation.constants import (
    ARRIVE,
    BODY,
    DOUBT,
    EPSILON,
    FAINT,
    FIRM,
    FLOATING,
    HALF,
    HOLE,
    ISLAND,
    LEAVE,
    LEVELS,
    REACH,
    RIM,
    SOLID,
    SURE,
)
from segmentation.people import Me

if TYPE_CHECKING:
    from numpy.typing import NDArray

People = Literal["everyone", "only-me"]

_BLOCK: Final = np.ones((3, 3), np.uint8)
# How far alpha, in 255ths, is believed near the most that is around it.
TRUST: Final = np.clip((np.arange(256) / 255 - BODY[0]) / (BODY[1] - BODY[0]) * 255, 0, 255).astype(
    np.uint8
)


class Tidy:
    """Removes what is no person from mattes at model size. Owned by one thread.

    `people` says who stays: everyone, or me, see `people.Me`.
    """

    def __init__(self, people: People = "everyone") -> None:
        self.people = self._before = people
        self.present = False
        self._me = Me()
        self._size = (0, 0)

    def reset(self) -> None:
        """Forget who was there."""
        self.present = False
        self._me.reset()

    @property
    def changed(self) -> bool:
        """True if others are to stay than in the matte before."""
        return self.people != self._before

    def choose_anew(self) -> None:
        """Take the largest and most central person for me at the next frame; any thread."""
        self._me.choose_anew()

    def wipe(self) -> None:
        """Leave nothing behind of who was there."""
        self.reset()
        self._me.wipe()
        if self._size != (0, 0):
            for kept in (self._half, self._near, self._whole, self._bits):
                kept.fill(0)

    def __call__(
        self,
        alpha: NDArray[np.float32],
        picture: NDArray[np.uint8] | None = None,
        pts: float | None = None,
        *,
        stands: float = 0.0,
    ) -> None:
        """Take islands, small holes and strangers out of `alpha`, in place.

        `picture`, of the same frame at the same size, and `pts`, its time, tell who I am.
        `stands` is the share of the picture that is called a person and surely not the room: where
        that is enough for a person, one who wears the room's colour need not be told surely.
        """
        h, w = alpha.shape
        if (h, w) != self._size:
            self._allocate(h, w)
        if self.people != self._before:
            self._before = self.people
            self._me.reset()
        if self.people == "only-me":
            self._me(alpha, picture, pts)
        # Pieces are told apart at half the size: a quarter of the cost, and as sure.
        cv2.resize(alpha, self._half.shape[::-1], self._half, interpolation=cv2.INTER_LINEAR)
        stands_there = stands >= ARRIVE
        self._drop_islands(alpha, keep=stands_there)
        self._fill_holes(alpha)
        np.greater(self._half, HALF, out=self._bits)
        share = np.count_nonzero(self._bits) / self._half.size
        sure = self._mean()
        least, trust = (LEAVE, DOUBT) if self.present else (ARRIVE, SURE)
        if stands_there:
            trust = DOUBT
        self.present = bool(share >= least and sure >= trust)
        if self.present:
            self._drop_doubts(alpha)
        else:
            alpha[:] = 0

    def _drop_islands(self, alpha: NDArray[np.float32], *, keep: bool) -> None:
        """Take small and faint pieces out; with `keep` the largest stays however faint it is."""
        half = self._half
        np.greater(half, FAINT, out=self._bits)
        count, labels, stats, _ = self._pieces(8)
        if count <= 1:
            return
        areas = stats[:, cv2.CC_STAT_AREA]
        if count == 2:  # nearly always: no need to add up each piece by itself
            sums = np.array([0.0, areas[1] * self._mean()])
        else:
            sums = np.bincount(labels.ravel(), weights=half.ravel(), minlength=count)
        drop = (areas < ISLAND * half.size) | (sums < FIRM * areas)
        if count > 2:
            drop |= self._afloat(labels, stats, sums)
        drop[0] = False
        if keep:
            drop[int(sums[1:].argmax()) + 1] = False
        if drop.any():
            # One pixel more takes the faint rim along.
            island = cv2.dilate(drop[labels].view(np.uint8), _BLOCK)
            np.copyto(half, 0, where=island.view(np.bool_))
            np.copyto(alpha, 0, where=self._enlarged(island))

    def _afloat(
        self, labels: NDArray[np.int32], stats: NDArray[np.int32], sums: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which pieces are small and reach neither the largest nor the picture's edge.

        A hand comes from a body or from outside the picture: what floats is a chair.
        """
        h, w = self._half.shape
        right = stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH]
        bottom = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
        inside = (stats[:, cv2.CC_STAT_LEFT] > 0) & (stats[:, cv2.CC_STAT_TOP] > 0)
        inside &= (right < w) & (bottom < h)
        afloat: NDArray[np.bool_] = inside & (stats[:, cv2.CC_STAT_AREA] < FLOATING * h * w)
        body = int(sums[1:].argmax()) + 1
        afloat[body] = False
        if afloat.any():
            reach = np.ones((2 * max(1, round(REACH * h)) + 1,) * 2, np.uint8)
            near = cv2.dilate((labels == body).view(np.uint8), reach)
            afloat[labels[near.view(np.bool_)]] = False
        return afloat

    def _fill_holes(self, alpha: NDArray[np.float32]) -> None:
        half = self._half
        h, w = half.shape
        np.less(half, SOLID, out=self._bits)
        count, labels, stats, _ = self._pieces(4)
        if count <= 2:
            return
        fill = stats[:, cv2.CC_STAT_AREA] < HOLE * half.size
        fill &= (stats[:, cv2.CC_STAT_LEFT] > 0) & (stats[:, cv2.CC_STAT_TOP] > 0)
        fill &= stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH] < w
        fill &= stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] < h
        fill[0] = False
        if fill.any():
            hole = fill[labels].view(np.uint8)
            np.copyto(half, 1, where=hole.view(np.bool_))
            np.copyto(alpha, 1, where=self._enlarged(cv2.dilate(hole, _BLOCK)))

    def _drop_doubts(self, alpha: NDArray[np.float32]) -> None:
        """Take out what is faint and not the rim of a body: there the network only has a doubt."""
        # In bytes: four times as quick, and a doubt is not known any finer.
        np.multiply(self._half, np.float32(255), out=self._near, casting="unsafe")
        cv2.dilate(self._near, self._square, self._near)
        cv2.LUT(self._near, TRUST, self._near)
        whole = cv2.resize(self._near, alpha.shape[::-1], dst=self._whole)
        cv2.multiply(alpha, whole, alpha, 1 / 255, cv2.CV_32F)

    def _mean(self) -> float:
        """Mean alpha of the pixels picked out; 0 if there are none."""
        return float(cv2.mean(self._half, self._bits.view(np.uint8))[0])

    def _pieces(self, connectivity: int) -> Any:
        return cv2.connectedComponentsWithStats(
            self._bits.view(np.uint8), connectivity=connectivity
        )

    def _enlarged(self, mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
        h, w = self._size
        whole: NDArray[np.uint8] = cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST)
        return whole.view(np.bool_)

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._half = np.zeros((max(1, h // 2), max(1, w // 2)), np.float32)
        self._near = np.zeros(self._half.shape, np.uint8)
        self._whole = np.zeros((h, w), np.uint8)
        self._square = np.ones((rim(len(self._half)),) * 2, np.uint8)
        self._bits = np.zeros(self._half.shape, np.bool_)


def rim(height: int) -> int:
    """Return the side, in pixels, of the square around a pixel in which a body has to be."""
    return 2 * max(1, round(RIM * height)) + 1


class Guided:
    """Fast guided filter: alpha as a local linear function of luma, to be evaluated at full size.

    From "Fast Guided Filter" (He, Sun, 2015, https://arxiv.org/abs/1505.00996), algorithm 2.
    Differs: the levels next to 0 and 1 are stretched first, so that flat parts are exactly so;
    windows are five pixels across.
    """

    def __init__(self, *, epsilon: float = EPSILON) -> None:
        self.epsilon = epsilon
        self._scratch = kernels.guide_scratch(1)

    def wipe(self) -> None:
        """Overwrite the rows worked on last."""
        self._scratch.fill(0)

    def __call__(
        self,
        alpha: NDArray[np.float32],
        luma: NDArray[np.uint8],
        a: NDArray[np.float32],
        b: NDArray[np.float32],
    ) -> None:
        """Fill `a` and `b` such that alpha = clip(a * Y + b), Y = luma / 255.

        Shapes:
            alpha, luma, a, b: (h, w); alpha is stretched in place
        """
        w = alpha.shape[1]
        if self._scratch.shape[1] != w + 4:
            self._scratch = kernels.guide_scratch(w)
        low, high = LEVELS
        kernels.guide(alpha, luma, a, b, low, 1 / (high - low), self.epsilon, self._scratch)
