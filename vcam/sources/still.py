"""A picture as a camera: held still, or gently panned and zoomed with sensor noise (the demo)."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from segmentation.planes import i420, i420_shape
from vcam.foreign_text import plain
from vcam.frame import Frame, FramePool
from vcam.media.pictures import i420_from_image, read_image
from vcam.system import patience
from vcam.system.memory import blank, overwritten_when_freed, scrub

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

PORTRAIT = Path(__file__).resolve().parent.parent / "assets" / "portrait.jpg"
NOISE_SIGMA = 2.0  # luma steps; what a small sensor shows indoors


class StillSource:
    """A picture in motion. Owned by one thread.

    The picture fills the frame (cropped to its shape) and drifts by a few percent, as a person
    in front of a camera does, so that every part of the program has something to do.

    Raises:
        BackgroundError: the picture cannot be read.
    """

    live = True

    def __init__(
        self,
        path: Path | str = PORTRAIT,
        width: int = 1280,
        height: int = 720,
        fps: float = 30.0,
        *,
        motion: bool = True,
        realtime: bool = True,
    ) -> None:
        self.path = Path(path)
        demo = self.path == PORTRAIT
        self.name = "demo picture" if demo else f"picture {plain(self.path.name)}"
        self.width, self.height, self.fps = width, height, fps
        self._pace = fps  # replaced by any thread, until the next frame
        self.motion = motion
        self.live = realtime

    def __enter__(self) -> Self:
        bound = 3 * max(self.width, self.height)
        with overwritten_when_freed():
            image = patience.within(self.path, lambda: read_image(self.path, bound=bound))
        scrub()  # the small pieces that its decoder gave back
        image = _cropped(image, self.width / self.height)
        h, w = image.shape[:2]
        # A little larger than the frame, so that panning never shows an edge.
        scale = max(self.width / w, self.height / h) * (1.08 if self.motion else 1.0)
        size = (max(self.width, round(w * scale)), max(self.height, round(h * scale)))
        size = (size[0] // 2 * 2, size[1] // 2 * 2)  # I420 has even sides
        self._image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # Moving planes rather than a picture that is then converted costs a third.
        self._planes = i420(i420_from_image(self._image))
        rng = np.random.default_rng(7)
        shape = (self.height, self.width)
        self._noise = [
            np.clip(rng.normal(0, NOISE_SIGMA, shape), -8, 8).astype(np.int8) for _ in range(4)
        ]
        self._pool = FramePool()
        self._seq = 0
        self._since = 0, 0.0  # a frame at this rate, and when it was due
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        blank((self._image, *self._planes.each))
        self._pool.wipe()
        del self._image, self._planes

    def pace(self, fps: float) -> None:
        """Go on at so many frames per second. Any thread."""
        self._pace = fps

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame when it is due; `timeout` is never reached."""
        seq, since = self._since
        offset = since + (self._seq - seq) / self.fps
        if self._pace != self.fps:
            self.fps, self._since = self._pace, (self._seq, offset)
        pts = offset
        if self.live:
            delay = self._started + offset - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            elif delay < -1.0:
                self._started -= delay
            pts = time.monotonic()
        data = self._draw(offset)
        self._seq += 1
        return Frame(i420(data), pts, self._seq - 1)

    def _taken(self) -> NDArray[np.uint8]:
        """Memory for the next picture."""
        shape = i420_shape(self.width, self.height)
        return self._pool.take(shape[0] * shape[1]).reshape(shape)

    def _draw(self, t: float) -> NDArray[np.uint8]:
        if not self.motion:
            h, w = self._image.shape[:2]
            top, left = (h - self.height) // 4, (w - self.width) // 2
            view = self._image[top : top + self.height, left : left + self.width]
            data = self._taken()
            cv2.cvtColor(np.ascontiguousarray(view), cv2.COLOR_RGB2YUV_I420, data)
            return data
        h, w = self._image.shape[:2]
        zoom = 1.0 + 0.03 * math.sin(t * 0.5)
        centre_x = w / 2 + 0.03 * self.width * math.sin(t * 0.7)
        half_w, half_h = self.width / 2 / zoom, self.height / 2 / zoom
        # Portraits keep the head near the top.
        centre_y = half_h + 0.012 * self.height * (1 + math.sin(t * 0.9 + 1.0))
        centre_x = min(max(centre_x, half_w), w - half_w)
        centre_y = min(max(centre_y, half_h), h - half_h)
        scale = 1 / zoom
        data = self._taken()
        for plane, moved in zip(self._planes.each, i420(data).each, strict=True):
            part = plane.shape[0] / h  # chroma is half as large, and its pixels lie between four
            x, y = (
                part * at + 0.5 * (part - 1) * (1 - scale)
                for at in (centre_x - half_w, centre_y - half_h)
            )
            cv2.warpAffine(
                plane,
                np.array([[scale, 0, x], [0, scale, y]]),
                moved.shape[::-1],
                moved,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        luma, noise = data[: self.height], self._noise[self._seq % len(self._noise)]
        cv2.add(luma, noise, luma, dtype=cv2.CV_8U)
        return data


def _cropped(image: NDArray[np.uint8], shape: float) -> NDArray[np.uint8]:
    """Cut off what lies far outside a frame of that shape: scaled up it would take gigabytes."""
    h, w = image.shape[:2]
    keep_w, keep_h = math.ceil(h * shape * 2), math.ceil(w / shape * 2)
    left, top = max(0, w - keep_w) // 2, max(0, h - keep_h) // 2
    return image[top : h - top, left : w - left]
