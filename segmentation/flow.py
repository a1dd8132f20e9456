"""Carries a matte from one frame to the next along the optical flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRONG: Final = 18  # levels of 255: a pixel that differs by more was not found again
LOST: Final = 0.015  # share of such pixels above which the network must look itself
AGREED: Final = 0.2  # part of the person that may differ between two mattes that agree
LEAST: Final = 0.02  # of the picture, the smallest person that is meant by that
LOOKS: Final = 3  # looks in a row that must agree before a matte is carried on


class Carrier:
    """Remembers the last frame and its matte. Owned by one thread.

    The flow is from "Fast Optical Flow using Dense Inverse Search" (Kroeger et al., ECCV 2016,
    https://arxiv.org/abs/1603.03590).
    Differs: it is looked for at half the model's size, at a third of the cost. What small and fast
    motion that loses, the check at the model's size refuses, and then the network looks.

    What the network says out of the blue is not carried on until it has said it `LOOKS` times: who
    waits for several mattes to agree before showing one must not count copies.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._size = (0, 0)
        self._agreed = 0  # looks in a row that agree with what was known before them

    def reset(self) -> None:
        """Forget the last frame."""
        self._agreed = 0

    def wipe(self) -> None:
        """Forget the last frame, and overwrite what is kept of it."""
        self.reset()
        if self._size != (0, 0):
            now, before = self._halves
            held: list[NDArray[Any]] = [self._luma, now, before, self._warped, self._alpha]
            for kept in (*held, self._from):
                kept.fill(0)
            # It keeps pictures of its own. After its `collectGarbage` the next flow is a crash.
            self._flow.calc(now, before, None)

    def keep(self, luma: NDArray[np.uint8], alpha: NDArray[np.float32]) -> None:
        """Remember a frame that was looked at, given by its luma at model size, and its matte."""
        if luma.shape != self._size:
            self._make(*luma.shape)
        if self._agreed:
            least = LEAST * alpha.size  # what an empty room has of person is noise
            person = max(cv2.sumElems(alpha)[0], cv2.sumElems(self._alpha)[0], least)
            differ = cv2.norm(alpha, self._alpha, cv2.NORM_L1)
            self._agreed = self._agreed if differ <= AGREED * person else 0
        self._agreed += 1
        self._remember(luma, alpha)

    def carry(self, luma: NDArray[np.uint8], out: NDArray[np.float32]) -> bool:
        """Fill `out` with the last matte moved to where this frame has its pixels; remember both.

        Returns False where too little of the frame was found again, or the looks before it did
        not agree; `out` is no use then.
        """
        if self._agreed < LOOKS or luma.shape != self._size:
            return False
        now, before = self._halves
        _halve(luma, now)
        flow = self._flow.calc(now, before, None)
        # Scaled while it is small, and added by OpenCV: NumPy takes ten times as long over pairs.
        flow *= (luma.shape[1] / now.shape[1], luma.shape[0] / now.shape[0])
        cv2.resize(flow, luma.shape[::-1], self._from, interpolation=cv2.INTER_LINEAR)
        cv2.add(self._from, self._grid, self._from)
        moved, replicate = self._from, cv2.BORDER_REPLICATE
        cv2.remap(self._luma, moved, None, cv2.INTER_LINEAR, self._warped, replicate)
        cv2.absdiff(self._warped, luma, self._warped)
        cv2.threshold(self._warped, WRONG, 1, cv2.THRESH_BINARY, self._warped)
        if cv2.countNonZero(self._warped) > LOST * luma.size:
            return False
        cv2.remap(self._alpha, moved, None, cv2.INTER_LINEAR, out, replicate)
        self._remember(luma, out)
        return True

    def _make(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._agreed = 0
        self._luma = np.zeros((h, w), np.uint8)
        self._halves = [np.zeros((max(1, h // 2), max(1, w // 2)), np.uint8) for _ in range(2)]
        self._warped = np.zeros((h, w), np.uint8)
        self._alpha = np.zeros((h, w), np.float32)
        self._from = np.zeros((h, w, 2), np.float32)
        x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        self._grid = np.ascontiguousarray(np.stack([x, y], axis=-1))

    def _remember(self, luma: NDArray[np.uint8], alpha: NDArray[np.float32]) -> None:
        np.copyto(self._luma, luma)
        _halve(luma, self._halves[1])
        np.copyto(self._alpha, alpha)


def _halve(luma: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    # Linear weights at half the size are the mean of the four nearest; sides may be odd.
    cv2.resize(luma, out.shape[::-1], out, interpolation=cv2.INTER_LINEAR)
