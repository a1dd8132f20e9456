"""Tidies a matte and makes its edges follow the picture: islands, holes, fast guided filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

People = Literal["everyone", "only-me"]

FAINT: Final = 0.1  # below this a pixel joins nothing
ISLAND: Final = 0.004  # share of the frame: detached pieces smaller than this go
HOLE: Final = 0.0012  # share of the frame: enclosed gaps smaller than this are filled
ARRIVE: Final = 0.015  # share of the frame that a person covers at least, to be noticed
LEAVE: Final = 0.008  # and below which a person who was there counts as gone
CORE: Final = 0.45  # of the depth of the thickest body: what is deeper inside is a body's core
HAND: Final = 0.02  # share of the frame: a larger piece of its own is somebody else
FIRM: Final = 0.4  # mean alpha of a piece, below which it is a ghost
SURE: Final = 0.85  # mean alpha where it is above a half, for a person to be noticed
DOUBT: Final = 0.7  # and below which who was there counts as gone, and the rest as furniture
BODY: Final = (0.45, 0.6)  # alpha that is a mere doubt at most, and a body at least
RIM: Final = 0.025  # share of the height: how far from a body alpha may be faint
_BLOCK: Final = np.ones((3, 3), np.uint8)
LEVELS: Final = (0.1, 0.95)  # alpha outside these is pure background or pure person


class Tidy:
    """Removes what is no person from mattes at model size. Owned by one thread.

    `people` says who stays: everyone, or the largest and most central person, kept until
    somebody else is clearly larger.
    """

    def __init__(self, people: People = "everyone") -> None:
        self.people = people
        self.present = False
        self._mine: NDArray[np.bool_] | None = None
        self._size = (0, 0)

    def reset(self) -> None:
        """Forget who was there."""
        self.present = False
        self._mine = None

    def __call__(self, alpha: NDArray[np.float32]) -> None:
        """Take islands, small holes and strangers out of `alpha`, in place."""
        h, w = alpha.shape
        if (h, w) != self._size:
            self._allocate(h, w)
        if self.people == "only-me":
            self._keep_mine(alpha)
        # Pieces are told apart at half the size: a quarter of the cost, and as sure.
        cv2.resize(alpha, self._half.shape[::-1], self._half, interpolation=cv2.INTER_LINEAR)
        self._drop_islands(alpha)
        self._fill_holes(alpha)
        np.greater(self._half, 0.5, out=self._bits)
        share = np.count_nonzero(self._bits) / self._half.size
        sure = float(self._half[self._bits].mean()) if share else 0.0
        least, trust = (LEAVE, DOUBT) if self.present else (ARRIVE, SURE)
        self.present = bool(share >= least and sure >= trust)
        if self.present:
            self._drop_doubts(alpha)
        else:
            alpha[:] = 0

    def _drop_islands(self, alpha: NDArray[np.float32]) -> None:
        half = self._half
        np.greater(half, FAINT, out=self._bits)
        count, labels, stats, _ = self._pieces(8)
        if count <= 1:
            return
        areas = stats[:, cv2.CC_STAT_AREA]
        sums = np.bincount(labels.ravel(), weights=half.ravel(), minlength=count)
        drop = (areas < ISLAND * half.size) | (sums < FIRM * areas)
        drop[0] = False
        if drop.any():
            # One pixel more takes the faint rim along.
            island = cv2.dilate(drop[labels].view(np.uint8), _BLOCK)
            half[island.view(np.bool_)] = 0
            alpha[self._enlarged(island)] = 0

    def _fill_holes(self, alpha: NDArray[np.float32]) -> None:
        half = self._half
        h, w = half.shape
        np.less(half, 0.9, out=self._bits)
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
            half[hole.view(np.bool_)] = 1
            alpha[self._enlarged(cv2.dilate(hole, _BLOCK))] = 1

    def _drop_doubts(self, alpha: NDArray[np.float32]) -> None:
        """Take out what is faint and not the rim of a body: there the network only has a doubt."""
        reach = rim(self._half.shape[0])
        cv2.dilate(self._half, np.ones((reach, reach), np.uint8), self._near)
        low, high = BODY
        np.subtract(self._near, np.float32(low), out=self._near)
        np.multiply(self._near, np.float32(1 / (high - low)), out=self._near)
        np.clip(self._near, 0, 1, out=self._near)
        np.multiply(alpha, cv2.resize(self._near, alpha.shape[::-1]), out=alpha)

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
        self._near = np.zeros(self._half.shape, np.float32)
        self._bits = np.zeros(self._half.shape, np.bool_)
        self._mine = None

    def _keep_mine(self, alpha: NDArray[np.float32]) -> None:
        h, w = alpha.shape
        solid = alpha > 0.5
        # Two people whose shoulders touch are one piece; their cores are not.
        depth = cv2.distanceTransform(solid.view(np.uint8), cv2.DIST_L2, 3)
        core = (depth > CORE * float(depth.max())).view(np.uint8)
        count, labels, stats, centres = cv2.connectedComponentsWithStats(core, connectivity=8)
        if count <= 1:
            self._mine = None
            return
        areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
        aside = np.abs(centres[1:, 0] / w - 0.5)
        score = areas * np.exp(-((aside / 0.35) ** 2))
        if self._mine is not None and self._mine.shape == alpha.shape:
            shared = np.bincount(labels[self._mine], minlength=count)[1:]
            score *= 1 + shared / np.maximum(areas, 1)
        best = 1 + int(score.argmax())
        _, nearest = cv2.distanceTransformWithLabels(
            1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
        )
        mine = nearest == nearest[labels == best][0]
        # A raised hand has no core of its own and is small; somebody far behind is larger.
        _, pieces, sizes, _ = cv2.connectedComponentsWithStats((alpha > FAINT).view(np.uint8))
        keep = sizes[:, cv2.CC_STAT_AREA] < HAND * h * w
        keep[np.unique(pieces[labels == best])] = True
        mine &= keep[pieces]
        alpha[~mine] = 0
        self._mine = mine & solid


def rim(height: int) -> int:
    """Return the side, in pixels, of the square around a pixel in which a body has to be."""
    return 2 * max(1, round(RIM * height)) + 1


class Guided:
    """Fast guided filter: alpha as a local linear function of luma, to be evaluated at full size.

    From "Fast Guided Filter" (He, Sun, 2015, https://arxiv.org/abs/1505.00996), algorithm 2.
    Differs: the levels next to 0 and 1 are stretched first, so that flat parts are exactly so.
    """

    def __init__(self, *, radius: int = 2, epsilon: float = 1e-3) -> None:
        self.window = (2 * radius + 1, 2 * radius + 1)
        self.epsilon = epsilon
        self._size = (0, 0)

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
        if alpha.shape != self._size:
            self._allocate(*alpha.shape)
        guide, p, mean_i, mean_p, work = self._buffers
        low, high = LEVELS
        np.subtract(alpha, np.float32(low), out=p)
        np.multiply(p, np.float32(1 / (high - low)), out=p)
        np.clip(p, 0, 1, out=p)
        np.copyto(alpha, p)
        np.multiply(luma, np.float32(1 / 255), out=guide)
        box = self._box
        box(guide, mean_i)
        box(p, mean_p)
        np.multiply(guide, p, out=work)
        box(work, a)  # mean of I p
        np.multiply(mean_i, mean_p, out=work)
        np.subtract(a, work, out=a)  # covariance
        np.multiply(guide, guide, out=work)
        box(work, b)
        np.multiply(mean_i, mean_i, out=work)
        np.subtract(b, work, out=b)  # variance
        np.maximum(b, 0, out=b)
        np.add(b, np.float32(self.epsilon), out=b)
        np.divide(a, b, out=work)
        np.multiply(work, mean_i, out=guide)
        np.subtract(mean_p, guide, out=mean_p)
        box(work, a)
        box(mean_p, b)

    def _box(self, source: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        cv2.boxFilter(source, -1, self.window, out, borderType=cv2.BORDER_REPLICATE)

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._buffers = [np.zeros((h, w), np.float32) for _ in range(5)]
