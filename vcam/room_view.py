"""A look at one's own room, for the person in it: while a button of the settings page is held.

What passes here never leaves the daemon but as an answer to that page. It is a `RoomView`, which
no sink takes, and it is kept only while somebody asks again and again: see `LEASE`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.constants import BLACK, CHROMA_SPAN, GREY, LUMA_SPAN
from vcam.system.memory import blank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.frame import Frame

LEASE: Final = 1.0  # seconds one question keeps the view open
SIZE: Final = (854, 480)  # pixels; the view is scaled down to fit


@dataclass(frozen=True, slots=True)
class RoomView:
    """The room as the webcam sees it, small. Not a `SafeFrame`, and nothing makes one of it.

    Shapes:
        bgr: (h, w, 3) uint8 BGR, full range
    """

    bgr: NDArray[np.uint8]
    pts: float  # capture time, seconds on the monotonic clock


class RoomWindow:
    """Holds the newest frame while somebody looks, and nothing at any other time.

    `offer` belongs to the pipeline thread, `look` may be called from any.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._view: RoomView | None = None
        self._changed = threading.Condition()

    def offer(self, frame: Frame | None, *, mirror: bool = False) -> None:
        """Keep `frame` if somebody looks right now; None, or nobody looking, wipes the last."""
        if self._view is None and self._clock() >= self._until:
            return  # one comparison a frame for everybody who never looks
        view = None
        if frame is not None and self._clock() < self._until:
            view = _view(frame, mirror=mirror)
        with self._changed:
            if self._view is not None:
                blank([self._view.bgr])
            self._view = view
            self._changed.notify_all()

    def wipe(self) -> None:
        """Overwrite the view that nobody has fetched."""
        self.offer(None)

    def look(self, timeout: float = 0.5) -> RoomView | None:
        """The next view of the room, or None if none came in time. Opens the view for `LEASE`."""
        end = self._clock() + timeout
        with self._changed:
            self._until = self._clock() + LEASE
            while self._view is None:
                left = end - self._clock()
                if left <= 0:
                    return None
                self._changed.wait(left)
            view, self._view = self._view, None
            return view


def _view(frame: Frame, *, mirror: bool) -> RoomView:
    """Shrink a frame and turn it into BGR; memory of its own."""
    scale = min(1.0, SIZE[0] / frame.width, SIZE[1] / frame.height)
    size = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    y, u, v = frame.planes.each
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (y, v, u)]
    if not frame.planes.full_range:
        planes = [table[plane] for table, plane in zip((_Y, _C, _C), planes, strict=True)]
    bgr = cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2BGR)
    if mirror:
        bgr = np.ascontiguousarray(bgr[:, ::-1])
    return RoomView(bgr, frame.pts)


def _stretched(black: float, span: float, centre: float) -> NDArray[np.uint8]:
    values = (np.arange(256) - black) * 255 / span + centre
    table: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return table


# Limited range to full.
_Y, _C = _stretched(BLACK, LUMA_SPAN, 0), _stretched(GREY, CHROMA_SPAN, GREY)
