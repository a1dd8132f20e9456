"""Carries a matte from one frame to the next along the optical flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRONG: Final = 18  # levels of 255: a pixel that differs by more was not found again
LOST: Final = 0.015  # share of such pixels above which the network must look itself


class Carrier:
    """Remembers the last frame and its matte. Owned by one thread.

    The flow is from "Fast Optical Flow using Dense Inverse Search" (Kroeger et al., ECCV 2016,
    https://arxiv.org/abs/1603.03590).
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._size = (0, 0)
        self._known = False

    def reset(self) -> None:
        """Forget the last frame."""
        self._known = False

    def keep(self, luma: NDArray[np.uint8], alpha: NDArray[np.float32]) -> None:
        """Remember a frame, given by its luma at model size, and its matte."""
        if luma.shape != self._size:
            h, w = self._size = (luma.shape[0], luma.shape[1])
            self._luma = np.zeros((h, w), np.uint8)
            self._warped = np.zeros((h, w), np.uint8)
            self._alpha = np.zeros((h, w), np.float32)
            self._vectors = np.zeros((h, w, 2), np.float32)
            x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
            self._grid = np.ascontiguousarray(np.stack([x, y], axis=-1))
        np.copyto(self._luma, luma)
        np.copyto(self._alpha, alpha)
        self._known = True

    def carry(self, luma: NDArray[np.uint8], out: NDArray[np.float32]) -> bool:
        """Fill `out` with the last matte moved to where this frame has its pixels.

        Returns False where too little of the frame was found again; `out` is no use then.
        """
        if not self._known or luma.shape != self._size:
            return False
        vectors = self._flow.calc(luma, self._luma, self._vectors)
        np.add(vectors, self._grid, out=vectors)
        cv2.remap(self._luma, vectors, None, cv2.INTER_LINEAR, self._warped, cv2.BORDER_REPLICATE)
        cv2.absdiff(self._warped, luma, self._warped)
        cv2.threshold(self._warped, WRONG, 1, cv2.THRESH_BINARY, self._warped)
        if cv2.countNonZero(self._warped) > LOST * luma.size:
            return False
        cv2.remap(self._alpha, vectors, None, cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE)
        return True
