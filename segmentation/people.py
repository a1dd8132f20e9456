"""Tells people in a matte apart and knows one of them again: by place, size and colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Look = NDArray[np.float32]

CORE: Final = 0.45  # of the depth of a piece's thickest body: what is deeper inside is a core
HAND: Final = 0.02  # share of the frame: a larger piece of its own is somebody else
NEAR: Final = 0.05  # of the height: two pieces with less between them may be one person
ALONE: Final = 3.0  # seconds after which somebody alone, whom nobody knows, becomes me
KNOWN: Final = 10.0  # and somebody who was seen beside me
MISSED: Final = 0.5  # seconds for which somebody who is not seen counts as being where they were
FAR: Final = 0.6  # of a body's size: nobody moves further from where they are expected
GROWN: Final = 2.2  # nobody is so much larger, or smaller, from one frame to the next
SAME: Final = 0.94  # likeness of colours above which somebody who comes is who went
OTHER: Final = 0.6  # and below which somebody in the same place is another
CLEAR: Final = 0.02  # difference of two likenesses that counts
PART: Final = 0.3  # of a body: a neighbour that grew by so much has taken it in
LEARN: Final = 2.0  # seconds in which two thirds of what is known of somebody's colours is new
_EDGES: Final = np.array([-0.35, -0.2, -0.1, -0.04, 0.04, 0.1, 0.2, 0.35], np.float32)
_HUES: Final = len(_EDGES) + 1
_STEPS: Final = 10  # of brightness, from an eighth of the room's to four times
_BANDS: Final = 2  # head and chest, and what is below


@dataclass(slots=True)
class Body:
    """One body in one matte; lengths as shares of the frame's height."""

    x: float
    y: float
    size: float  # side of a square of its area
    look: Look | None  # its colours, see `_Looks`

    def score(self, middle: float) -> float:
        """Likelihood that this is who sits at the camera: large, and near the middle."""
        return self.size**2 * math.exp(-(((self.x - middle) / middle / 0.7) ** 2))


@dataclass(slots=True)
class Person:
    """Somebody who was seen, and where."""

    body: Body
    seen: float  # when
    speed: tuple[float, float] = (0.0, 0.0)
    beside: bool = False  # seen together with me
    since: float = 0.0  # alone since

    def expected(self, now: float) -> tuple[float, float]:
        """Where the body should be."""
        gone = min(max(0.0, now - self.seen), MISSED)
        return self.body.x + self.speed[0] * gone, self.body.y + self.speed[1] * gone

    def cost(self, body: Body, now: float) -> float:
        """Unlikeliness that `body` is theirs; above 1: it is not."""
        x, y = self.expected(now)
        size = max(self.body.size, body.size)
        moved = math.hypot(body.x - x, body.y - y) / size / FAR
        grown = abs(math.log(body.size / self.body.size)) / math.log(GROWN)
        like = alike(self.body.look, body.look)
        if moved > 1 or grown > 1 or like < OTHER:
            # Somebody who jumped, as where frames are missing, is known by the colours alone.
            jumped = like > (1 + SAME) / 2 and moved < 3 and self.body.look is not None
            return 0.9 if jumped else 9.0
        return 0.6 * moved + 0.4 * grown + 1.5 * (1 - like)

    def follow(self, body: Body, now: float, *, learn: bool = True) -> None:
        """Take over where they are now, and slowly how they look."""
        gap = now - self.seen
        if gap > 0:
            keep = math.exp(-gap / 0.2)
            moved = (body.x - self.body.x) / gap, (body.y - self.body.y) / gap
            self.speed = (
                keep * self.speed[0] + (1 - keep) * moved[0],
                keep * self.speed[1] + (1 - keep) * moved[1],
            )
        look = self.body.look
        if look is None:
            look = body.look
        elif learn and body.look is not None and gap > 0:
            keep = math.exp(-gap / LEARN)
            look = keep * look + np.float32(1 - keep) * body.look
        self.body = Body(body.x, body.y, body.size, look)
        self.seen = now


class Me:
    """Holds on to one person among several. Owned by one thread.

    The largest and most central person is me, at first. From then on I am known by where I am from
    frame to frame, and by my colours when I come back. While I am gone nobody is: another takes my
    place after `ALONE` seconds as the only one there, or `KNOWN` seconds if they sat beside me.

    Two people who touch are one body, and that is shown while I am part of it, unless its colours
    say that only the other one is left. When it parts, colours tell who is who, or the direction
    in which each of us went.
    """

    def __init__(self) -> None:
        self._looks = _Looks()
        self._anew = False
        self.reset()

    def reset(self) -> None:
        """Forget everybody."""
        self._me: Person | None = None
        self._here = False  # I was seen in the last frame
        self._others: list[Person] = []
        self._last = -math.inf
        self._joined: Person | None = None  # who is one body with me
        self._covered = False  # and of the two only they are seen

    def wipe(self) -> None:
        """Leave no colours behind."""
        self.reset()
        self._looks.wipe()

    def choose_anew(self) -> None:
        """Choose the largest and most central person at the next frame; any thread."""
        self._anew = True

    def __call__(
        self,
        alpha: NDArray[np.float32],
        picture: NDArray[np.uint8] | None = None,
        pts: float | None = None,
    ) -> None:
        """Take everybody but me out of `alpha`, in place.

        Shapes:
            alpha: (h, w) float32
            picture: (3, h, w) uint8, Y, U and V; without it colours are not known
        """
        now = self._last + 1 / 30 if pts is None else pts
        if not math.isfinite(now):
            now = 0.0
        if self._anew:
            self._anew = False
            self.reset()
        found = _Bodies(alpha)
        bodies = self._looks(found, picture)
        mine = self._find(bodies, now, alpha.shape[1] / alpha.shape[0] / 2)
        self._last = now
        if mine is None:
            alpha[:] = 0
        else:
            alpha[~found.of(mine)] = 0

    def _find(self, bodies: list[Body], now: float, middle: float) -> int | None:
        """Return which of the bodies is mine, or None."""
        if self._me is None:
            if not bodies:
                return None
            first = max(range(len(bodies)), key=lambda i: bodies[i].score(middle))
            self._take(bodies, first, now)
            return first
        pairs = self._paired(bodies, now)
        mine = pairs.pop(-1, None)
        taken = {*pairs.values()} | ({mine} if mine is not None else set())
        fresh = [i for i in range(len(bodies)) if i not in taken]
        mine = self._together(bodies, mine, pairs, fresh, now)
        for n, i in pairs.items():
            if i != mine:
                self._others[n].follow(bodies[i], now)
        if mine is None:
            mine = self._returned(bodies, fresh, now)
        self._meet(bodies, [i for i in fresh if i != mine], now)
        if mine is None:
            mine = self._successor(bodies, now)
        self._here = mine is not None
        if mine is not None:
            self._me.follow(bodies[mine], now, learn=self._joined is None)
            for other in self._others:
                other.beside, other.since = True, now
        horizon = now - MISSED
        self._others = [o for o in self._others if o.seen >= horizon or o is self._joined]
        return mine

    def _paired(self, bodies: list[Body], now: float) -> dict[int, int]:
        """Pair people with bodies, the likeliest first; me is number -1."""
        people = dict(enumerate(self._others))
        if self._me is not None and now - self._me.seen <= MISSED and not self._covered:
            people[-1] = self._me
        costs = sorted(
            (person.cost(body, now), n, i)
            for n, person in people.items()
            for i, body in enumerate(bodies)
        )
        pairs: dict[int, int] = {}
        for cost, n, i in costs:
            if cost < 1 and n not in pairs and i not in pairs.values():
                pairs[n] = i
        return pairs

    def _together(
        self,
        bodies: list[Body],
        mine: int | None,
        pairs: dict[int, int],
        fresh: list[int],
        now: float,
    ) -> int | None:
        """Return my body after two that touched were told apart, or None if it is the other's."""
        if self._joined is None:
            mine = self._join(bodies, mine, pairs, now)
        other, me = self._joined, self._me
        if other is None or me is None:
            return mine
        number = next(n for n, person in enumerate(self._others) if person is other)
        held = pairs.pop(number, None)
        one = held if mine is None else mine
        if one is None:
            self._joined, self._covered = None, False
            return None
        second = held if held != one else None
        near = [i for i in fresh if _apart(bodies[i], bodies[one]) < 1]
        if second is None and near:
            second = min(near, key=lambda i: _apart(bodies[i], bodies[one]))
        if second is not None:
            mine, theirs = one, second
            if self._swapped(bodies[one], bodies[second], other):
                mine, theirs = second, one
            if not self._covered or alike(me.body.look, bodies[mine].look) > SAME - 2 * CLEAR:
                self._joined, self._covered = None, False
                fresh[:] = [i for i in fresh if i not in (mine, theirs)]
                other.follow(bodies[theirs], now)
                return mine
        # What only the one in front shows must not become what is known of the other.
        body = bodies[one]
        look = body.look
        to_me, to_other = alike(me.body.look, look), alike(other.body.look, look)
        if look is not None and to_other > SAME and to_other > to_me + 2 * CLEAR:
            self._covered = True
        elif to_me > to_other + CLEAR:
            self._covered = False
        other.body = Body(body.x, body.y, other.body.size, other.body.look)
        other.seen = now
        return None if self._covered else one

    def _join(
        self, bodies: list[Body], mine: int | None, pairs: dict[int, int], now: float
    ) -> int | None:
        """Notice that somebody and I are one body now, and return that; else mine as it was."""
        me = self._me
        if me is None or not self._here:
            return mine
        for n, other in enumerate(self._others):
            # Of two who were near each other one is gone, and the other is where both should be.
            where = mine if n not in pairs else pairs[n] if mine is None else None
            if where is None or now - other.seen > MISSED:
                continue
            left, lost = (me, other) if n not in pairs else (other, me)
            grown = bodies[where].size ** 2 - left.body.size**2 > PART * lost.body.size**2
            if grown and all(_close(person, bodies[where], now) for person in (me, other)):
                self._joined, self._covered = other, False
                return where
        return mine

    def _swapped(self, mine: Body, second: Body, other: Person) -> bool:
        """True if of two bodies that were one the second is mine."""
        me = self._me
        assert me is not None
        kept = alike(me.body.look, mine.look) + alike(other.body.look, second.look)
        changed = alike(me.body.look, second.look) + alike(other.body.look, mine.look)
        if mine.look is not None and abs(kept - changed) > CLEAR:
            return changed > kept
        # Alike: whoever moved to the right is now on the right.
        ahead = me.speed[0] - other.speed[0]
        return (second.x - mine.x) * ahead > 0 and abs(ahead) > 0.02

    def _returned(self, bodies: list[Body], fresh: list[int], now: float) -> int | None:
        """Return who of those that nobody knows is me, by the colours."""
        me = self._me
        assert me is not None
        new = [n for n, other in enumerate(self._others) if not other.beside and other.seen == now]
        where: dict[int, int | None] = dict.fromkeys(fresh)
        where |= {i: n for n in new for i, b in enumerate(bodies) if b.x == self._others[n].body.x}
        best: tuple[float, int] | None = None
        for i in where:
            look = bodies[i].look
            if look is None or me.body.look is None:
                continue
            like = alike(me.body.look, look)
            rival = max((alike(o.body.look, look) for o in self._others if o.beside), default=0.0)
            if like > SAME and like > rival and (best is None or like > best[0]):
                best = like, i
        if best is None:
            return None
        number = where[best[1]]
        if number is not None:
            del self._others[number]
        me.speed, me.seen = (0.0, 0.0), now
        return best[1]

    def _meet(self, bodies: list[Body], fresh: list[int], now: float) -> None:
        self._others.extend(Person(bodies[i], now, since=now) for i in fresh)

    def _successor(self, bodies: list[Body], now: float) -> int | None:
        """Return who has been alone for long enough to be me from now on."""
        if len(bodies) != 1:
            for other in self._others:
                other.since = now
            return None
        for other in self._others:
            if other.seen == now:
                if now - other.since >= (KNOWN if other.beside else ALONE):
                    self._take(bodies, 0, now)
                    return 0
            else:
                other.since = now
        return None

    def _take(self, bodies: list[Body], chosen: int, now: float) -> None:
        self.reset()
        self._me, self._here = Person(bodies[chosen], now), True
        self._meet(bodies, [i for i in range(len(bodies)) if i != chosen], now)
        for other in self._others:
            other.beside = True


def alike(one: Look | None, other: Look | None) -> float:
    """Return how alike two bodies' colours are, 0 to 1; 1 where they are not known."""
    if one is None or other is None:
        return 1.0
    return float(np.sqrt(one * other).sum())


def _close(person: Person, body: Body, now: float) -> bool:
    """True if a person is expected in or beside `body`."""
    x, y = person.expected(now)
    return _apart(body, Body(x, y, person.body.size, None)) < 1


def _apart(one: Body, other: Body) -> float:
    """Distance of two bodies; below 1 they may touch."""
    return math.hypot(one.x - other.x, one.y - other.y) / (0.6 * (one.size + other.size))


class _Bodies:
    """The bodies in one matte: which pixels are whose.

    `whose` numbers every pixel by the body nearest to it, from 0.
    """

    def __init__(self, alpha: NDArray[np.float32]) -> None:
        self._alpha = alpha
        self.solid = alpha > 0.5
        self.count = 0
        count, pieces, boxes, _ = cv2.connectedComponentsWithStats(self.solid.view(np.uint8))
        # Two people whose shoulders touch are one piece; their cores are not.
        depth = cv2.distanceTransform(self.solid.view(np.uint8), cv2.DIST_L2, 3)
        deepest = np.zeros(count, np.float32)
        for n in range(1, count):
            left, top, wide, high, _ = boxes[n]
            there = slice(top, top + high), slice(left, left + wide)
            deepest[n] = depth[there][pieces[there] == n].max()
        core = (depth > CORE * deepest[pieces]) & self.solid
        count, labels, stats, _ = cv2.connectedComponentsWithStats(core.view(np.uint8))
        if count <= 1:
            return
        _, nearest = cv2.distanceTransformWithLabels(
            1 - core.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
        )
        # OpenCV numbers the cores once more: the two numbers meet in the cores themselves.
        renamed = np.zeros(int(nearest.max()) + 1, np.intp)
        renamed[nearest[core]] = labels[core] - 1
        piece = np.zeros(count - 1, np.int32)
        piece[labels[core] - 1] = pieces[core]
        # A head and the shoulders under it have a core each, one above the other.
        whose = _columns(stats[1:], boxes, piece, NEAR * len(alpha))[renamed[nearest]]
        # What is small is a hand, or nothing: it belongs to the nearest body that is not.
        areas = np.bincount(whose[self.solid], minlength=whose.max() + 1)
        large = np.flatnonzero(areas >= HAND * alpha.size)
        if len(large) == 0:
            large = np.array([areas.argmax()])
        order = np.full(len(areas), -1)
        order[large] = np.arange(len(large))
        self.count, self.whose = len(large), order[whose]
        if (order < 0).any() and (self.whose < 0).any():
            self._adopt()

    def _adopt(self) -> None:
        """Give what is small to the nearest body."""
        known = ((self.whose >= 0) & self.solid).view(np.uint8)
        _, nearest = cv2.distanceTransformWithLabels(
            1 - known, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        names = np.zeros(int(nearest.max()) + 1, np.intp)
        names[nearest[known.view(np.bool_)]] = self.whose[known.view(np.bool_)]
        small = self.whose < 0
        self.whose[small] = names[nearest[small]]

    def of(self, body: int) -> NDArray[np.bool_]:
        """Return the pixels of one body, its faint rim and its hands."""
        mask: NDArray[np.bool_] = self.whose == body
        return mask


class _Looks:
    """Measures the colours of bodies so that more or less light changes nothing.

    For the upper and the lower part of a body each: how many of its pixels have which colour, as
    chroma over luma, and which brightness, as luma over the room's.
    """

    def __init__(self) -> None:
        self._hue = np.empty((0, 0), np.intp)

    def wipe(self) -> None:
        """Leave nothing of a picture behind."""
        self._hue = np.empty((0, 0), np.intp)

    def __call__(self, found: _Bodies, picture: NDArray[np.uint8] | None) -> list[Body]:
        """Return the bodies with where they are and how they look."""
        if found.count == 0:
            return []
        h, _ = found.solid.shape
        rows, columns = np.nonzero(found.solid)
        whose = found.whose[rows, columns]
        n = found.count
        areas = np.maximum(np.bincount(whose, minlength=n), 1)
        x = np.bincount(whose, weights=columns, minlength=n) / areas / h
        y = np.bincount(whose, weights=rows, minlength=n) / areas / h
        size = np.sqrt(areas) / h
        looks: list[Look | None] = [None] * n
        if picture is not None:
            looks = list(self._measure(found, picture, rows, columns, whose, y * h))
        return [Body(float(x[i]), float(y[i]), float(size[i]), looks[i]) for i in range(n)]

    def _measure(
        self,
        found: _Bodies,
        picture: NDArray[np.uint8],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        whose: NDArray[np.intp],
        middles: NDArray[np.float64],
    ) -> list[Look]:
        luma, u, v = (picture[c, rows, columns].astype(np.float32) for c in range(3))
        outside = picture[0][~found.solid]
        room = max(8.0, float(outside.mean()) - 16) if outside.size else 100.0
        light = np.maximum(luma - 16, 4)
        hue = np.searchsorted(_EDGES, (u - 128) / (light + 12)) * _HUES
        hue += np.searchsorted(_EDGES, (v - 128) / (light + 12))
        step = np.clip(np.log2(light / room) * 2 + 6, 0, _STEPS - 1).astype(np.intp)
        band = whose * _BANDS + (rows > middles[whose])
        looks = []
        hues = np.bincount(band * _HUES**2 + hue, minlength=found.count * _BANDS * _HUES**2)
        steps = np.bincount(band * _STEPS + step, minlength=found.count * _BANDS * _STEPS)
        hues = hues.reshape(found.count, _BANDS, _HUES, _HUES).astype(np.float32)
        steps = steps.reshape(found.count, _BANDS, 1, _STEPS).astype(np.float32)
        for i in range(found.count):
            # What lies near the edge of a bin is in the next one a frame later.
            parts = [cv2.GaussianBlur(part, (3, 3), 0) for part in hues[i]]
            parts += [cv2.GaussianBlur(part, (3, 1), 0) for part in steps[i]]
            whole = [part.ravel() / max(1.0, float(part.sum())) / len(parts) for part in parts]
            looks.append(np.concatenate(whole).astype(np.float32))
        return looks


def _columns(
    cores: NDArray[np.int32], boxes: NDArray[np.int32], piece: NDArray[np.int32], near: float
) -> NDArray[np.intp]:
    """Tell for each core, the background left out, which person it is part of, numbered from 0.

    Cores belong together where half of the narrower is above or below the other, and they are of
    one piece, or of two with less than `near` pixels between them: a head above a scarf.

    Shapes:
        cores, boxes: (n, 5) int32, as `cv2.connectedComponentsWithStats` gives them
        piece: (cores,) the number of each core's piece
    """
    left = cores[:, cv2.CC_STAT_LEFT]
    wide = cores[:, cv2.CC_STAT_WIDTH]
    right = left + wide
    top = boxes[piece, cv2.CC_STAT_TOP]
    bottom = top + boxes[piece, cv2.CC_STAT_HEIGHT]
    whose = np.arange(len(left))
    for i in range(len(left)):
        for j in range(i):
            shared = min(right[i], right[j]) - max(left[i], left[j])
            apart = max(top[i], top[j]) - min(bottom[i], bottom[j])
            close = piece[i] == piece[j] or apart < near
            if close and 2 * shared >= min(wide[i], wide[j]):
                whose[whose == whose[i]] = whose[j]
    return np.unique(whose, return_inverse=True)[1].reshape(-1)
