"""Motion of a picture: edges held still while there is none, and whether anything changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from segmentation.constants import CUT, FOLLOW, NOISE_GAIN, NOISE_STEP, NOISIEST, STILL
from segmentation.kernels import smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Mean difference, in levels of 0..255, above which two planes are certainly not the same.
MOVED: Final = 1.0
# In dim light whoever leaves changes less than that. Means of blocks hardly feel noise: they may
# differ by no more than noise leaves of itself, a part of the plane's contrast, and rounding.
BLOCK: Final = 8  # pixels
NOISE: Final = 2 / BLOCK  # of the mean difference of pixels; noise alone comes to half of that
PART: Final = 0.02
ROUNDING: Final = 0.03


class Smoother:
    """Moving average of mattes with a decay of its own for each pixel. Owned by one thread.

    `strength` is 0 (none) to 1.
    """

    def __init__(self, strength: float) -> None:
        self.steady(strength)
        self._size = (0, 0)
        self._noise = -1.0  # not known yet
        self._fresh = True

    def steady(self, strength: float) -> None:
        """Smooth by another strength from the next matte on."""
        self.decay = 0.96 * min(max(strength, 0.0), 1.0) ** 0.17  # 0.88 at 0.6

    def reset(self) -> None:
        """Forget the frames before."""
        self._fresh = True

    def wipe(self) -> None:
        """Forget the frames before, and overwrite what is kept of them."""
        self.reset()
        if self._size != (0, 0):
            for kept in (self._before, self._change, self._sum, self._motion, self._held):
                kept.fill(0)

    def resize(self, h: int, w: int) -> None:
        """Go on with mattes of another size; what was seen so far is scaled to it."""
        if self._size in ((0, 0), (h, w)):
            return
        held, before, noise, fresh = self._held, self._before, self._noise, self._fresh
        self._allocate(h, w)
        self._held[:] = cv2.resize(held, (w, h), interpolation=cv2.INTER_LINEAR)
        for channel in range(3):
            self._before[channel] = cv2.resize(before[channel], (w, h))
        self._noise, self._fresh = noise, fresh

    def __call__(self, alpha: NDArray[np.float32], picture: NDArray[np.uint8]) -> bool:
        """Smooth `alpha` in place; return whether the scene was cut, and smoothing began afresh.

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
            np.copyto(alpha, self._held)
        self._fresh = False
        return cut

    def _look(self, picture: NDArray[np.uint8]) -> bool:
        """Update the motion map and the picture remembered; say whether the scene was cut."""
        if self._fresh:
            np.copyto(self._before, picture)
            return False
        cv2.absdiff(picture, self._before, self._change)
        brightness = abs(cv2.mean(picture[0])[0] - cv2.mean(self._before[0])[0])
        moved = cv2.mean(self._change[0])[0]
        np.copyto(self._before, picture)
        if moved - brightness > CUT * 255:
            return True
        np.maximum(self._change[1], self._change[2], out=self._change[1])
        cv2.add(self._change[0], self._change[1], self._sum)
        np.multiply(self._sum, np.float32(1), out=self._motion)
        cv2.blur(self._motion, (5, 5), self._motion)
        # What the sensor's noise alone does: little of the picture moves less than that.
        quiet = float(np.partition(self._motion[::8, ::8].ravel(), self._quarter)[self._quarter])
        known = quiet if self._noise < 0 else self._noise * NOISE_GAIN + NOISE_STEP
        self._noise = min(quiet, known, NOISIEST)
        np.subtract(self._motion, np.float32(self._noise), out=self._motion)
        np.maximum(self._motion, 0, out=self._motion)
        return False

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._before = np.zeros((3, h, w), np.uint8)
        self._change = np.zeros((3, h, w), np.uint8)
        self._sum = np.zeros((h, w), np.uint8)
        self._motion = np.zeros((h, w), np.float32)
        self._held = np.zeros((h, w), np.float32)
        self._quarter = ((h + 7) // 8) * ((w + 7) // 8) // 4
        self._noise = -1.0  # not known yet
        self._fresh = True


def moved(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Say whether the picture certainly changed, in luma or in chroma.

    Shapes:
        before, now: (3, h, w) uint8, Y, U and V
    """
    for old, new in zip(before, now, strict=True):
        change = new.astype(np.float32) - old
        differ = float(np.abs(change).mean())
        if differ > MOVED:
            return True
        contrast = min(float(_blocks(p).std()) for p in (old, new))
        if np.abs(_blocks(change)).mean() > NOISE * differ + PART * contrast + ROUNDING:
            return True
    return False


def _blocks(plane: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of each whole block."""
    h, w = plane.shape
    across, down = min(BLOCK, w), min(BLOCK, h)
    whole = plane[: h // down * down, : w // across * across]
    return np.asarray(
        whole.reshape(h // down, down, w // across, across).mean(axis=(1, 3)), np.float32
    )
