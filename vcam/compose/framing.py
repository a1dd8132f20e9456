"""The part of a frame that is shown: head and shoulders, a third from the top, followed smoothly.

Everything is found in the matte, at model size. Lengths are in widths of the frame, down as well
as across, so that the picture is never stretched.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.compose.scene import Look

    Floats = NDArray[np.float32]

MOST: Final = 2.0  # how much the frame is enlarged at most
SPEED: Final = 0.08  # widths a second: no edge of the part moves faster, or a head is leaving it
TALL: Final = {"head-and-shoulders": 3.0, "close": 2.1}  # of the part, in heads
HEAD: Final = 1.3  # height of a head, in its widths
REACH: Final = 1.45  # of shoulders, from the middle of the head, in its widths
THIRD: Final = 1 / 3  # of the part above the middle of the head
ASIDE: Final = 0.3  # of the part: how far the user may shift it beside the head

COLUMNS: Final = 96  # of the matte that heads are looked for in
DEEP: Final = 0.65  # of a head's width: how far below its top it is widest
LEAST: Final = 0.35  # of the largest head's width: less is a hand
HEADS: Final = 5

OFF_X: Final = 0.12  # of the part: how far from its place a head may go before it is followed
OFF_Y: Final = 0.10
OFF_SIZE: Final = 1.22  # how much larger or smaller, too
NEAR: Final = 0.015  # of the part: close enough to stop following
STEADY: Final = 0.5  # seconds over which a head's place is averaged
QUICK: Final = 0.04  # the same, to see whether it is leaving the part
GONE: Final = 1.0  # seconds without anybody after which the whole frame is shown again
STIFF: Final = 2.4  # of the movement, per second: critically damped
STIFF_BY_HAND: Final = 14.0
ARRIVED: Final = 4e-4  # widths: half a pixel
ALIKE: Final = 1e-6
GRID: Final = 32  # pixels: nine sixteenths of it are even as well
TIGHT: Final = 0.12  # heads: the margin around a head that is never given up
LOOSE: Final = 0.24  # the margin where there is time


class Crop(NamedTuple):
    """A part of a frame, in shares of the frame's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def inside(self) -> bool:
        """True if all of it lies in the frame."""
        right, bottom = self.left + self.width, self.top + self.height
        return min(self.left, self.top) >= -ALIKE and max(right, bottom) <= 1 + ALIKE

    @property
    def mirrored(self) -> Crop:
        """The same part of the frame flipped left to right."""
        return self._replace(left=1 - self.left - self.width)


class Head(NamedTuple):
    """A head in a frame, in widths of the frame: its middle, its top, and how wide it is."""

    x: float
    top: float
    width: float


class _Box(NamedTuple):
    """A part of the frame that must be seen, in widths of the frame."""

    left: float
    right: float
    top: float
    bottom: float


class _Part(NamedTuple):
    """A part of the frame's shape: its middle and its width, in widths of the frame."""

    x: float
    y: float
    width: float


def heads_of(alpha: Floats) -> list[Head]:
    """Find the heads in a matte, the highest first.

    A head is a peak of the outline that is as deep as a head of its width is.

    Shapes:
        alpha: (h, w) float32, 0..1
    """
    h, w = alpha.shape
    rows = max(2, round(COLUMNS * h / w))
    small = cv2.resize(alpha, (COLUMNS, rows), interpolation=cv2.INTER_AREA)
    inside = small > 0.5
    there = inside.any(axis=0)
    tops = np.where(there, inside.argmax(axis=0), rows)
    free = there.copy()
    found: list[Head] = []
    while free.any() and len(found) < HEADS:
        column = _middle(np.flatnonzero(free & (tops == tops[free].min())))
        top = int(tops[column])
        width = _width(inside, column, top)
        reach = max(1, round(REACH * width))
        about = slice(max(0, column - reach), column + reach + 1)
        beside = slice(max(0, column - max(1, width // 2)), column + max(1, width // 2) + 1)
        # Beside somebody's head their shoulders slope down: what is highest there is no peak.
        peak = width > 0 and top <= tops[beside].min()
        if peak and (not found or width >= LEAST * COLUMNS * max(head.width for head in found)):
            found.append(_head(small, column, top, width))
        free[about] = False
    return found


def _middle(columns: NDArray[np.intp]) -> int:
    """The middle one of the first run of columns."""
    gaps = np.flatnonzero(np.diff(columns) > 1)
    end = int(gaps[0]) if gaps.size else len(columns) - 1
    return int(columns[end // 2])


def _width(inside: NDArray[np.bool_], column: int, top: int) -> int:
    """Width of the head whose top lies there; 0 if nothing there is as deep as a head."""
    below = ~inside[top:]
    gone = below[:, column]
    edge = np.ones((len(below), 1), bool)
    left = np.argmax(np.hstack([below[:, column::-1], edge]), axis=1)
    right = np.argmax(np.hstack([below[:, column:], edge]), axis=1)
    across = np.where(gone, 0, left + right - 1)
    deep = np.arange(len(below)) + 1 >= np.maximum(DEEP * across, 2)
    ended = int(np.argmax(gone)) if gone.any() else len(below)
    at = int(np.argmax(deep)) if deep.any() else len(below)
    return int(across[at]) if at < ended else 0


def _head(small: Floats, column: int, top: int, width: int) -> Head:
    """The head there, more finely than in whole columns and rows."""
    left, right = max(0, column - width), min(COLUMNS, column + width + 1)
    part = small[top : top + max(2, round(HEAD * width)), left:right]
    across = part.sum(axis=0)
    x = float((across * (np.arange(left, right) + 0.5)).sum() / max(float(across.sum()), 1e-6))
    peak = slice(max(0, column - max(1, width // 4)), column + max(1, width // 4) + 1)
    above = float(small[top - 1, peak].mean()) if top else 0.0
    wide = float(part[round(DEEP * width) : round(DEEP * width) + 2].sum(axis=1).mean())
    wide = min(max(wide, 0.75 * width), 1.25 * width)
    return Head(x / COLUMNS, (top - above) / COLUMNS, wide / COLUMNS)


class Framer:
    """Follows the people of a frame with a part of it. Owned by one thread."""

    def __init__(self, aspect: float) -> None:
        self._aspect = aspect  # of the part: width by height
        self._size = 1, 1  # of the frame
        self.reset()

    def reset(self) -> None:
        """Forget where everybody was: whoever is seen next is framed at once."""
        self._part: _Part | None = None  # None: the whole frame
        self.rests = True  # the whole frame is shown, and nothing else was asked for
        self._target: _Part | None = None
        self._speed = (0.0, 0.0, 0.0)
        self._held: list[Head] = []  # heads that were in the part
        self._steady: _Part | None = None  # where the part would stand, averaged
        self._quick: _Box | None = None  # of the heads, averaged over a moment
        self._seen_at = self._at = -math.inf
        self._follows = False
        self._fresh = True

    def crop(self, alpha: Floats, size: tuple[int, int], look: Look, pts: float) -> Crop | None:
        """Return the part of the frame to show; None for the whole of it.

        Shapes:
            alpha: (h, w) float32, of a frame of `size` (width, height)
        """
        if size != self._size:  # a part of a frame of another shape may lie beyond this one
            self._size = size
            self.reset()
        wanted = look.framing != "off" or look.zoom > 1
        if not wanted and self._part is None:
            self._fresh = False
            return None
        tall = size[1] / size[0]
        whole = _Part(0.5, tall / 2, min(1.0, tall * self._aspect))
        seconds = min(max(pts - self._at, 0.0), 0.2)
        self._at = pts
        part = self._part or whole
        if look.framing == "off":
            part = self._by_hand(part, whole, tall, look, seconds)
        else:
            part = self._framed(part, whole, alpha, look, (tall, seconds, pts))
        # What still grows may have grown past the frame.
        part = part._replace(width=min(part.width, whole.width))
        part = _within(part, tall, self._aspect)
        self._fresh = False
        if math.dist(part, whole) < ALIKE:
            self._part = part if wanted else None
            self.rests = not wanted
            if abs(tall * self._aspect - 1) < ALIKE:
                return None
        else:
            self._part, self.rests = part, False
        down = part.width / self._aspect
        left = min(max(part.x - part.width / 2, 0.0), 1.0 - part.width)
        top = min(max(part.y - down / 2, 0.0), tall - down)
        return Crop(left, top / tall, part.width, down / tall)

    def _by_hand(self, part: _Part, whole: _Part, tall: float, look: Look, seconds: float) -> _Part:
        """The part that the user chose, approached within a few frames."""
        width = whole.width / min(max(look.zoom, 1.0), MOST)
        target = _within(
            _Part(
                0.5 + look.shift[0] * (1 - width) / 2,
                tall / 2 + look.shift[1] * (tall - width / self._aspect) / 2,
                width,
            ),
            tall,
            self._aspect,
        )
        self._target = self._steady = self._quick = None
        if self._fresh:
            return target
        return self._moved(part, target, seconds, STIFF_BY_HAND, math.inf)

    def _framed(
        self,
        part: _Part,
        whole: _Part,
        alpha: Floats,
        look: Look,
        now: tuple[float, float, float],
    ) -> _Part:
        tall, seconds, pts = now
        heads = heads_of(alpha)
        if heads:
            self._seen_at = pts
            wanted = self._wanted(heads, whole, tall, look)
            self._remember(heads, wanted, part, seconds)
            if self._fresh:
                self._target = self._at_rest(wanted, whole, tall)
                return self._target
            self._decide(part, whole, tall)
        elif pts - self._seen_at > GONE or self._target is None:
            self._target, self._steady, self._quick, self._follows = whole, None, None, False
        assert self._target is not None
        part = self._moved(part, self._target, seconds, STIFF, SPEED)
        if heads and self._quick is not None:
            part = self._around(part, self._quick, whole, tall)
        return part

    def _wanted(self, heads: list[Head], whole: _Part, tall: float, look: Look) -> _Part:
        """The part in which these heads stand as they should."""
        head = HEAD * max(head.width for head in heads)
        top = min(head.top for head in heads)
        left = min(head.x - REACH * head.width for head in heads)
        right = max(head.x + REACH * head.width for head in heads)
        deep = max(head.top + HEAD * head.width for head in heads) - top
        down = max(TALL[look.framing] * head, deep / 0.6)
        width = max(down * self._aspect, right - left) / max(look.zoom, 1.0)
        width = min(max(width, whole.width / MOST), whole.width)
        down = width / self._aspect
        x = (left + right) / 2 - look.shift[0] * ASIDE * width
        y = top + head / 2 + (0.5 - THIRD - look.shift[1] * ASIDE) * down
        part = _within(_Part(x, y, width), tall, self._aspect)
        return self._around(part, _box(heads, LOOSE), whole, tall)

    def _remember(self, heads: list[Head], wanted: _Part, part: _Part, seconds: float) -> None:
        """Average where the part would stand, slowly, and where heads are, quickly.

        Heads that have not been in the part yet, of somebody who comes, are not pulled into it.
        """
        down = part.width / self._aspect
        shown = _Box(
            part.x - part.width / 2, part.x + part.width / 2, part.y - down / 2, part.y + down / 2
        )
        held = [
            head
            for head in heads
            if self._fresh
            or _holds(shown, _box([head], 0.0))
            or any(math.dist(head[:2], old[:2]) < head.width / 2 for old in self._held)
        ]
        self._held = held
        slow, quick = (1 - math.exp(-seconds / over) for over in (STEADY, QUICK))
        steady = self._steady or wanted
        self._steady = _Part(*(a + (b - a) * slow for a, b in zip(steady, wanted, strict=True)))
        if not held:
            self._quick = None
            return
        now = _box(held, TIGHT)
        box = self._quick or now
        self._quick = _Box(*(a + (b - a) * quick for a, b in zip(box, now, strict=True)))

    def _decide(self, part: _Part, whole: _Part, tall: float) -> None:
        """Follow once somebody went far from their place, until they are back in it."""
        steady = self._steady
        assert steady is not None
        dx, dy = (abs(a - b) / part.width for a, b in zip(steady[:2], part[:2], strict=True))
        dy *= self._aspect
        ratio = max(steady.width / part.width, part.width / steady.width)
        if self._target is None or dx > OFF_X or dy > OFF_Y or ratio > OFF_SIZE:
            self._follows = True
        if self._follows:
            self._target = steady
            if max(dx, dy, ratio - 1) < NEAR:
                self._follows = False
                self._target = self._at_rest(steady, whole, tall)

    def _around(self, part: _Part, box: _Box, whole: _Part, tall: float) -> _Part:
        """The part, moved and widened as far as it takes to hold the heads, however fast."""
        left, right = max(box.left, 0.0), min(box.right, 1.0)
        top, bottom = max(box.top, 0.0), min(box.bottom, tall)
        width = min(max(part.width, right - left, (bottom - top) * self._aspect), whole.width)
        down = width / self._aspect
        x = min(max(part.x, right - width / 2), left + width / 2)
        y = min(max(part.y, bottom - down / 2), top + down / 2)
        return _within(_Part(x, y, width), tall, self._aspect)

    def _at_rest(self, part: _Part, whole: _Part, tall: float) -> _Part:
        """The part with its edges on whole pixels, where it is sharpest."""
        columns = self._size[0]
        width = round(part.width * columns / GRID) * GRID / columns
        width = min(max(width, whole.width / MOST), whole.width)
        part = _within(part._replace(width=width), tall, self._aspect)
        down = width / self._aspect
        left = math.floor((part.x - width / 2) * columns / 2) * 2 / columns
        top = math.floor((part.y - down / 2) * columns / 2) * 2 / columns
        return _within(_Part(left + width / 2, top + down / 2, width), tall, self._aspect)

    def _moved(
        self, part: _Part, target: _Part, seconds: float, stiff: float, most: float
    ) -> _Part:
        """One step towards the target, critically damped and no faster than `most`."""
        if seconds <= 0:
            return part
        steps = max(1, math.ceil(seconds * stiff / 0.25))
        step = seconds / steps
        speed = self._speed
        for _ in range(steps):
            pull = [
                v + (stiff * stiff * (t - p) - 2 * stiff * v) * step
                for v, p, t in zip(speed, part, target, strict=True)
            ]
            grows = abs(pull[2]) / 2
            fastest = max(abs(pull[0]) + grows, abs(pull[1]) + grows / self._aspect, 1e-9)
            slow = min(1.0, most / fastest)
            speed = (pull[0] * slow, pull[1] * slow, pull[2] * slow)
            part = _Part(*(p + v * step for p, v in zip(part, speed, strict=True)))
        away = max(abs(p - t) for p, t in zip(part, target, strict=True))
        if away < ARRIVED and max(map(abs, speed)) < 0.01:
            part, speed = target, (0.0, 0.0, 0.0)
        self._speed = speed
        return part


def _within(part: _Part, tall: float, aspect: float) -> _Part:
    """The part, moved into the frame where it reaches beyond it."""
    across, down = part.width / 2, part.width / aspect / 2
    x = min(max(part.x, across), 1 - across)
    y = min(max(part.y, down), tall - down)
    return _Part(x, y, part.width)


def _holds(outer: _Box, inner: _Box) -> bool:
    """True if one holds the other."""
    across = outer.left <= inner.left and inner.right <= outer.right
    return across and outer.top <= inner.top and inner.bottom <= outer.bottom


def _box(heads: list[Head], margin: float) -> _Box:
    """The least that has to be seen of these heads, with a margin of so many heads around it."""
    return _Box(
        min(head.x - (0.6 + margin) * head.width for head in heads),
        max(head.x + (0.6 + margin) * head.width for head in heads),
        min(head.top - margin * head.width for head in heads),
        max(head.top + (HEAD + margin) * head.width for head in heads),
    )
