"""A program in a call, as small as it gets: streams from a V4L2 device through mapped buffers."""

from __future__ import annotations

import os
import select
import time
from types import TracebackType

from vcam import v4l2

# Where to look in a picture: the person's half and the background's, as shares of its size.
PERSON, BACKGROUND = (0.06, 0.6), (0.8, 0.6)


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
        w, h = self.format.width, self.format.height
        x, y = int(where[0] * w), int(where[1] * h)
        chroma = (y // 2) * (w // 2) + x // 2
        return data[y * w + x], data[w * h + chroma], data[w * h * 5 // 4 + chroma]

    def shows(self, data: bytes) -> str:
        """ "live": white in front of green, as the webcam and the settings say; else "card"."""
        y, u, v = self.pixel(data, BACKGROUND)
        green = abs(y - 145) < 8 and abs(u - 54) < 8 and abs(v - 34) < 8
        y, u, v = self.pixel(data, PERSON)
        white = y > 150 and abs(u - 128) < 16 and abs(v - 128) < 16
        return "live" if green and white else "half" if green or white else "card"

    def until(self, wanted: str, seconds: float) -> float:
        """Read until a picture shows what is wanted; how long that took.

        Raises:
            AssertionError: it never came, or half of one and half of the other was seen.
        """
        begun = time.monotonic()
        last: str | tuple[object, ...] = "nothing"
        while time.monotonic() - begun < seconds:
            data = self.picture(2)
            if data is None:
                last = "nothing for two seconds"
                continue
            shown = self.shows(data)
            last = shown, self.pixel(data, PERSON), self.pixel(data, BACKGROUND)
            if shown == wanted:
                return time.monotonic() - begun
        raise AssertionError(f"no {wanted} picture within {seconds} s, the last was {last}")

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
