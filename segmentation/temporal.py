"""Keeps the matte's edges still while nothing moves, and lets them go as soon as something does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.kernels import smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUT: Final = 0.14  # mean change of the picture, brightness shift removed, that is a new scene
STILL: Final = 5.0  # levels of 255: change of colour that counts as movement
FOLLOW: Final = (0.30, 0.75)  # the matte changed by this much: follow it, whatever the colours say


class Smoother:
    """Moving average of mattes with a decay of its own for each pixel. Owned by one thread.

    `strength` is 0 (none) to 1.
    """

    def __init__(self, strength: float) -> None:
        self.decay = 0.0 if strength <= 0 else min(0.55 + 0.4 * strength, 0.95)
        self._size = (0, 0)
        self._fresh = True

    def reset(self) -> None:
        """Forget the frames before."""
        self._fresh = True

    def __call__(
        self, alpha: NDArray[np.float32], picture: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], bool]:
        """Return the smoothed matte, overwritten by the next call, and whether the scene was cut.

        Shapes:
            alpha: (h, w) float32 in 0..1, of the same frame as `picture`
            picture: (3, h, w) uint8, Y, U and V at model size
        """
        if alpha.shape != self._size:
            self._allocate(*alpha.shape)
        cut = self._look(picture)
        if self._fresh or self.decay == 0 or cut:
            np.copyto(self._held, alpha)
        else:
            smooth(alpha, self._motion, self._held, self.decay, STILL, *FOLLOW)
        self._fresh = False
        return self._held, cut

    def _look(self, picture: NDArray[np.uint8]) -> bool:
        """Update the motion map and the picture remembered; say whether the scene was cut."""
        if self._fresh:
            np.copyto(self._before, picture)
            return False
        cv2.absdiff(picture, self._before, self._change)
        brightness = abs(float(picture[0].mean()) - float(self._before[0].mean()))
        moved = float(self._change[0].mean())
        np.copyto(self._before, picture)
        if moved - brightness > CUT * 255:
            return True
        np.maximum(self._change[1], self._change[2], out=self._change[1])
        cv2.addWeighted(self._change[0], 1.0, self._change[1], 1.0, 0, self._sum)
        cv2.blur(self._sum, (5, 5), self._sum)
        np.copyto(self._motion, self._sum)
        return False

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._before = np.zeros((3, h, w), np.uint8)
        self._change = np.zeros((3, h, w), np.uint8)
        self._sum = np.zeros((h, w), np.uint8)
        self._motion = np.zeros((h, w), np.float32)
        self._held = np.zeros((h, w), np.float32)
        self._fresh = True
