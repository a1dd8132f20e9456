"""A program in a call, as small as it gets: streams from a V4L2 device through mapped buffers."""

from __future__ import annotations

import functools
import os
import select
import time
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vcam.compose.card import Card
from vcam.system import v4l2

GREEN = (145, 54, 34)  # #00ff00 in Y, U and V

# Where to look in a picture: the person's half and the background's, as shares of its size; below
# what the webcam writes into it.
PERSON, BACKGROUND = (0.06, 0.95), (0.8, 0.95)


class Reader:
    """Streams I420 pictures from `path`."""

    def __init__(self, path: str) -> None:
        self.fd = v4l2.open_node(path)
        self.format = v4l2.get_format(self.fd, v4l2.CAPTURE)
        self._mapped = v4l2.Mapped(self.fd, v4l2.CAPTURE, 2)
        v4l2.stream_on(self.fd, v4l2.CAPTURE)

    def picture(self, timeout: float) -> bytes | None:
        """The next picture, None if none comes in time."""
        until = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
            buffer = self._mapped.take()
            if buffer is not None:
                data = self._mapped.memory[buffer.index][: self.format.size]
                self._mapped.queue(buffer.index)
                return bytes(data)
            time.sleep(0.005)
        return None

    def pixel(self, data: bytes, where: tuple[float, float]) -> tuple[int, int, int]:
        """Y, U and V at a place."""
        return pixel(data, where, self.format.width, self.format.height)

    def shows(self, data: bytes) -> str:
        """The kind of a picture: see `shown`."""
        return shown(data, self.format.width, self.format.height)

    def until(self, wanted: str, seconds: float) -> float:
        """Read until a picture shows what is wanted; how long that took.

        Raises:
            AssertionError: it never came, or something else than a composite or the card did.
        """
        begun = time.monotonic()
        last = "nothing"
        while time.monotonic() - begun < seconds:
            data = self.picture(2)
            last = "nothing for two seconds" if data is None else self.shows(data)
            assert data is None or last != "other", self.describe(data)
            if last == wanted:
                return time.monotonic() - begun
        raise AssertionError(f"no {wanted} picture within {seconds} s, the last was {last}")

    def describe(self, data: bytes) -> str:
        """A few of a picture's colours, for a message."""
        places = [(x / 10 + 0.05, y) for y in (0.2, 0.6) for x in range(10)]
        return f"a picture of something else: {[self.pixel(data, place) for place in places]}"

    def close(self) -> None:
        """Leave the call."""
        self._mapped.close()
        os.close(self.fd)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def pixel(data: bytes, where: tuple[float, float], w: int, h: int) -> tuple[int, int, int]:
    """Y, U and V at a place of an I420 picture."""
    x, y = int(where[0] * w), int(where[1] * h)
    chroma = (y // 2) * (w // 2) + x // 2
    return data[y * w + x], data[w * h + chroma], data[w * h * 5 // 4 + chroma]


def shown(data: bytes, w: int, h: int) -> str:
    """The kind of a picture: "live", "card", or "other", which nobody may ever see.

    Live is green on the whole right side and the webcam's white on the left, as the settings
    and the webcam say; a card is the very card, apart from the line with its reason.
    """
    planes = _planes(np.frombuffer(data, np.uint8), w, h)
    if all(_same(a, b) for a, b in zip(planes, _card(w, h), strict=True)):
        return "card"
    green = all(
        np.abs(plane[:, int(plane.shape[1] * 0.62) :].astype(int) - level).max() <= 8
        for plane, level in zip(planes, GREEN, strict=True)
    )
    y, u, v = pixel(data, PERSON, w, h)
    white = y > 150 and abs(u - 128) < 16 and abs(v - 128) < 16
    return "live" if green and white else "other"


def _planes(flat: NDArray[np.uint8], w: int, h: int) -> tuple[NDArray[np.uint8], ...]:
    area, half = w * h, (h // 2, w // 2)
    return (
        flat[:area].reshape(h, w),
        flat[area : area * 5 // 4].reshape(half),
        flat[area * 5 // 4 :].reshape(half),
    )


@functools.cache
def _card(width: int, height: int) -> tuple[NDArray[np.uint8], ...]:
    return _planes(Card(width, height).frame(0.0, 0).data.reshape(-1), width, height)


def _same(plane: NDArray[np.uint8], card: NDArray[np.uint8]) -> bool:
    """Whether they agree above and below the line that says why."""
    top, bottom = int(plane.shape[0] * 0.63), int(plane.shape[0] * 0.73)
    return np.array_equal(plane[:top], card[:top]) and np.array_equal(plane[bottom:], card[bottom:])
