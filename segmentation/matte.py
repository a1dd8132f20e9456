"""The matte of one frame: alpha, its linear form for edges, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Matte:
    """Where the person is in one frame. The arrays are overwritten two mattes later.

    At full size alpha is `clip(a * Y + b, 0, 1)`, with a and b enlarged linearly and Y the
    frame's own luma as stored, divided by 255.

    Shapes:
        alpha, raw, a, b: (h, w) float32; the whole frame at model size
        picture: (3, h, w) uint8, the frame's Y, U and V at model size, range as stored
        composite: (H * 3 // 2, W) uint8; where there is one, the other arrays are thinned out
    """

    alpha: NDArray[np.float32]  # 0..1, 1 = person, smoothed
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    seq: int  # the frame it belongs to
    pts: float
    raw: NDArray[np.float32]  # what the network said, 0..1, of this frame or the one before
    picture: NDArray[np.uint8]
    cut: bool  # the scene changed here; smoothing started afresh
    present: bool  # somebody is there
    # Engines that draw the picture themselves: the person before the scene asked for, I420.
    composite: NDArray[np.uint8] | None = None
    looked: bool = True  # the network looked at this very frame; else carried along the flow
