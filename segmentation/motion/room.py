"""The room behind the person, as a fixed webcam learns it: a picture of it, and where it is known.

What looks as it looked when nobody was there is the room. That is told to the network where the
room is textured, or looks otherwise now: a plain wall that looks as before may be a shirt of its
colour. Where a textured part of the room is found again in what the network calls a person, it has
the last word.
It is a picture of the room: in memory alone, overwritten with all the rest.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from segmentation.constants import ARRIVE
from segmentation.kernels import PERSON, UNSTEADY, compare, learn
from segmentation.motion.furniture import Furniture, hanging_together
from segmentation.motion.state import CELL, TEXTURE, State, give_back, looks_otherwise, textured

RoomWord = Literal["learn", "forget"]  # of the user
RoomCopy = NDArray[np.uint8]  # (4, h, w): Y, U and V, and lessons that each pixel was seen in

ASKED: Final = 2.0  # seconds that all that is seen is room, by the user's word
ALONE: Final = 1.0  # seconds without anybody, after which all that is seen is room
FIRST: Final = 2.0  # seconds that a pixel is no person before it is learnt while somebody is there
AGAIN: Final = 60.0  # the same once it was called a person
TICK: Final = 0.2  # seconds from one lesson to the next while somebody is there
NEAR: Final = 0.05  # alpha from which a pixel may be a person,
MARGIN: Final = 0.05  # and part of the height around it that may be, too
KNOWN: Final = 3  # lessons after which a pixel is known
MOST: Final = 24  # lessons that its mean is taken of: what changes slowly is followed
PATIENCE: Final = 15  # lessons in a row that differ and rest, after which it is learnt anew
RESTLESS: Final = (5.0, 3.0)  # levels, and times the noise, that a pixel changes by from lesson to
AROUND: Final = 0.1  # lesson; nothing is learnt within this part of the height around it
COMES: Final = 0.02  # share of the room that looks otherwise, from which somebody may be there
TOLD: Final = (0.5, 0.6)  # known part of what is around the person, to stay told and to be told

ROWS: Final = 18  # of samples for the fit
FEWEST: Final = 40  # samples that a fit needs
GAINS: Final = (0.6, 1.6)  # of the picture to the room; beyond it is another light
OTHER: Final = (10.0, 5.0)  # levels, and times the noise, from which a sample shows something else
CHANGED: Final = 0.35  # share of samples that do, from which it is another light or another room
MOVED: Final = 0.5  # the same of those on an edge, from which the camera was moved
EDGE: Final = 6.0  # levels that an edge differs from what is around it

LIGHT: Final = 0.15  # part by which a lamp or a shadow may change the light in a part of the room
DARK: Final = 16.0  # levels; below, noise is taken for light
SPREAD: Final = 1.5  # parts, deviation, by which such light is smoothed,
FADES: Final = 0.1  # and the weight of no change at all beside it

LOUD: Final = 5.0  # levels of noise above which what differs says little
APART: Final = (0.6, 0.7)  # share of a person that looks otherwise, to stay told and to be told,
PROVEN: Final = 6  # looks in a row in which the network was told nothing
SAME: Final = (1.2, 1.5)  # levels, and times the noise, that it differs by where it is found again
PIXEL: Final = 2.5  # times the noise that it differs by around a pixel
MOVES: Final = 0.02  # share of a person that changes from lesson to lesson where they move
HELD: Final = 4  # looks in which somebody moved and a plain part was the room, to be the room too,
CONTRAST: Final = 0.75  # where this share of the person looks otherwise
WORTH: Final = 0.3  # share of the picture known, from which a room is worth a copy
SHOWN: Final = 0.003  # share of the picture, of the room within the person, that is told
FRAMES: Final = 5  # looks in a row, likewise


class Room:
    """Remembers the room at the model's size, whatever the light. Owned by one thread.

    Shapes:
        picture: (3, h, w) uint8, Y, U and V at model size; alpha: (h, w) float32
    """

    def __init__(self) -> None:
        self.forgotten = ""  # the reason it was forgotten last
        self._size = (0, 0)
        self._weight = np.zeros((1, 1), np.uint8)
        self._empty = True  # nothing is known
        self._furniture = Furniture(CELL)
        self._version = 0  # of what is known
        self._clear()

    def _clear(self) -> None:
        self._version += 1
        self.since: float | None = None  # time of the first lesson
        self.noise = 2.0  # levels, deviation of a pixel from the room
        self.shown = 0.0  # share of the picture that was room within the person at the last look
        self.stands = 0.0  # the same of what is called a person and looks otherwise than the room
        self._stands_out = False  # most of the person does, and did before
        self._moving = False  # somebody moved since the lesson before
        self._known = 0.0  # share of the picture
        self._fit = np.array([[1, 0]] * 3, np.float32)  # gain and offset of Y, U and V
        self._settled = False
        self._person: float | None = None  # when somebody was there last
        self._lesson = self._asked = float("-inf")
        self._strange = self._suspicious = 0
        self._turn = 1
        self._told = False  # enough is known of where it matters
        self._comes = False  # something stands in the room that was not there
        self._matched = False  # the last picture was of this room
        self._nobody_called = False  # nothing was called a person at the last look
        self._proven = 0  # looks in a row in which a person looked otherwise than the room

    @property
    def known(self) -> float:
        """Share of the picture whose room is known, 0..1."""
        return self._known

    @property
    def showing(self) -> bool:
        """True if the network keeps on taking a part of the room for the person."""
        return self._suspicious >= FRAMES

    @property
    def map(self) -> NDArray[np.uint8]:
        """Where the room is known: (h, w) uint8, 255 where it is."""
        weight = self._weight  # one object, whatever the owner's thread puts there next
        return np.asarray((weight >= KNOWN).view(np.uint8) * np.uint8(255))

    def forget(self, why: str = "") -> None:
        """Know nothing of the room from now on."""
        if not self._empty and why:
            self.forgotten = why
        if self._size != (0, 0):
            planes = self._room, self._lit, self._weight, self._differs, self._seen
            for kept in (*planes, self._apart, self._otherwise, self._texture, self._held):
                kept.fill(0)
            self._edges.fill(False)
            self._plain_parts.fill(False)
            self._light.fill(0)
            self._rich.fill(0)
            self._last_person.fill(-np.inf)
        self._furniture.forget()
        self._empty = True
        self._clear()

    def wipe(self) -> None:
        """Overwrite all that is kept of the room."""
        self.forget()

    def resize(self, h: int, w: int) -> None:
        """Go on at another size; what is known is scaled to it."""
        if self._size in ((0, 0), (h, w)):
            return
        before = self._room, self._weight, self._last_person
        pictures = (*before, self._lit, self._seen, self._apart, self._otherwise, self._texture)
        told, kept_on = dict(self.__dict__), ("_settled", "_person", "_lesson", "_empty")
        self._allocate(h, w)
        if not told["_empty"]:
            for plane, old in zip(self._room, before[0], strict=True):
                cv2.resize(old, (w, h), plane, interpolation=cv2.INTER_LINEAR)
            self._weight[:] = cv2.resize(before[1], (w, h), interpolation=cv2.INTER_NEAREST)
            self._last_person[:] = cv2.resize(before[2], (w, h), interpolation=cv2.INTER_NEAREST)
            self._describe()
        for name in ("since", "noise", "_known", "_fit", *kept_on):
            setattr(self, name, told[name])
        self._furniture.forget()
        for kept in pictures:
            kept.fill(0)

    def look(
        self,
        picture: NDArray[np.uint8],
        before: NDArray[np.float32],
        colours: tuple[NDArray[np.float32], NDArray[np.float32]],
        x: NDArray[np.float32],
    ) -> None:
        """Fill the network's inputs for the room, if it has some, and remember what differs.

        `before` is the last matte, where samples of the room's light are not taken; `colours` are
        the layout's matrix and scale, as for `to_input`.

        Shapes:
            x: (1, 3 or 7, H, W) float32
        """
        if picture.shape[1:] != self._size:
            self._allocate(*picture.shape[1:])
        known = self._matched = not self._empty and self._matches(picture, before)
        tells = self._tells
        if known:
            told = x if tells else x[:, :3]
            lit = self._lit_as(picture[0], before)
            compare(picture, lit, self._weight, self._fit, colours, KNOWN, told, self._apart)
            self._otherwise = looks_otherwise(self._apart, self.noise)
            if told.shape[1] > 3:
                h, w = self._size
                share = np.maximum(self._rich, self._otherwise)
                for plane in told[0, 3:, :h, :w]:
                    plane *= share
        if x.shape[1] > 3 and not (known and tells):
            x[0, 3:].fill(0)

    def _lit_as(self, luma: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
        """The room with the light that falls on it now: a lamp, a screen, a shadow in a part of it.

        From parts that are known, no person and lit much the same, smoothed, and fading to none.
        While nobody is seen, somebody who comes in might pass for it.
        """
        if self._nobody_called or alpha.shape != self._size:
            self._light.fill(0)
            return self._room
        (gain, offset), cells = self._fit[0], self._texture.shape[::-1]
        now, room, person, known = (
            cv2.resize(plane, cells, interpolation=cv2.INTER_AREA)
            for plane in (luma, self._room[0], alpha, (self._weight >= KNOWN).view(np.uint8) * 255)
        )
        change = now / np.maximum(room * gain + offset, DARK) - np.float32(1)
        sure = (known == 255) & (cv2.dilate(person, _square(1)) < NEAR) & (np.abs(change) < LIGHT)
        weight = sure.astype(np.float32)
        total = cv2.GaussianBlur(change * weight, (0, 0), SPREAD)
        total /= cv2.GaussianBlur(weight, (0, 0), SPREAD) + FADES
        self._light[:] = total
        return self._lit_up(self._lit)

    def _lit_up(self, lit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill `lit` with the room in the light that was found at the last look."""
        gain, offset = self._fit[0]
        np.copyto(lit, self._room)
        field = cv2.resize(self._light, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        field *= lit[0] + offset / gain
        lit[0] += field
        return lit

    def object_to(self, alpha: NDArray[np.float32]) -> None:
        """Take out of `alpha`, in place, what is surely the room: found again, and textured."""
        self.shown = self.stands = 0.0
        self._take_out(alpha)
        if self._compared:
            # Of the rest, for furniture that was called a person hides nobody's clothes.
            person = alpha > 0.5
            self.stands = float(((self._otherwise > 0.5) & person).mean())
            share = float(person.mean())
            self._weigh(share)
            self._stands_out = self._proven >= PROVEN and self.stands >= CONTRAST * share
            if self._stands_out:
                give_back(alpha, self._otherwise * (self._apart < 255))

    def _take_out(self, alpha: NDArray[np.float32]) -> None:
        if self._empty or not self._compared:
            self._suspicious = 0
            return
        cells = self._texture.shape[::-1]
        apart = cv2.resize(self._apart, cells, interpolation=cv2.INTER_AREA)
        # The greatest of three planes' noise has a mean of 1.2 times the deviation of one.
        same = apart <= SAME[0] + SAME[1] * self.noise
        room = same & self._firm
        self._plain_parts = self._plain(same, alpha)
        room |= self._plain_parts
        room = room.view(np.uint8)
        # One cell alone may be chance: what is found again has a neighbour that is, too.
        room &= (cv2.boxFilter(room, cv2.CV_8U, (3, 3), normalize=False) >= 3).view(np.uint8)
        if not room.any():
            self._suspicious = 0
            return
        h, w = alpha.shape
        whole = cv2.resize(room * np.float32(1), (w, h), interpolation=cv2.INTER_LINEAR)
        whole *= cv2.blur(self._apart, (3, 3)) <= SAME[0] + PIXEL * self.noise  # a body's rim stays
        self.shown = float(np.count_nonzero((whole > 0.5) & (alpha > 0.5))) / alpha.size
        self._suspicious = self._suspicious + 1 if self.shown > SHOWN else 0
        np.subtract(1, whole, out=whole)
        np.minimum(alpha, whole, out=alpha)

    def _plain(self, same: NDArray[np.bool_], alpha: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The parts that stay `same` while somebody moves, and hang together with what is nobody.

        A shirt may be of the wall's colour, but it has an outline, and that moves.
        """
        held = self._held
        held[~same] = 0
        if self._moving:
            held[same & (held < HELD)] += 1
        if not self._stands_out:
            return np.zeros_like(same)
        person = cv2.resize(alpha, same.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
        return hanging_together((held >= HELD).view(np.uint8), person).view(np.bool_)

    @property
    def version(self) -> int:
        """Number of what is known, another after each lesson; 0 while nothing is known."""
        return 0 if self._empty else self._version

    @property
    def state(self) -> State | None:
        """The part that the next picture may be compared with; None while nothing is known."""
        if self._empty or self._size == (0, 0):
            return None
        firm = self._firm | self._plain_parts if self._compared else np.zeros_like(self._firm)
        there, tells = self._weight >= KNOWN, self._matched and self._tells
        lit, rich, fit = self._lit_up(self._lit), self._rich, self._fit
        return State(self._version, lit, there, rich, firm, fit, self.noise, tells)

    @property
    def _compared(self) -> bool:
        return self._settled and self._matched and self.noise <= LOUD

    @property
    def _tells(self) -> bool:
        sure = self._nobody_called or self._proven >= PROVEN
        return self._told and sure and self.noise <= LOUD

    @property
    def _firm(self) -> NDArray[np.bool_]:
        """Which parts are textured beyond the noise."""
        return np.asarray(self._texture >= max(TEXTURE[0], TEXTURE[1] * self.noise), np.bool_)

    def _weigh(self, person: float) -> None:
        """Tell the network of the room while `person`, a share, wears another colour than it.

        Of clothes of the room's colour little can be told, and a network that is told of the rest
        takes them for the room. They are seen in what it says while it is told nothing.
        """
        self._nobody_called = person < ARRIVE
        if self._nobody_called:
            self._proven = 0
            return
        enough = self.stands >= APART[self._proven < PROVEN] * person
        self._proven = min(self._proven + 1, PROVEN) if enough else 0

    def learn_all(self, pts: float) -> None:
        """Take all that is seen from `pts` on, for `ASKED` seconds, for the room, learnt anew."""
        self.forget()
        self._asked = pts + ASKED

    def learn(
        self, picture: NDArray[np.uint8], alpha: NDArray[np.float32], pts: float, *, present: bool
    ) -> None:
        """Learn what is surely room in a picture whose matte is `alpha`; `pts` in seconds.

        `present` says that somebody was there in the frame before.
        """
        if pts < self._lesson:  # the clock went back
            self._lesson = pts
        if present or self._comes or self._person is None:
            self._person = pts
        alone = pts - self._person >= ALONE or pts < self._asked
        if pts - self._lesson < TICK and not (alone and self._known < 1):
            return
        self._lesson = pts
        if alone:
            near = self._nobody
            self._told = True
        else:
            near = self._near(picture, alpha)
            stands = self._furniture.see(picture[0], alpha, pts)
            if stands is not None:
                near[stands & (near == PERSON)] = 0
                self._last_person[stands] = -np.inf
        if self.since is None:
            self.since = pts
            self._last_person.fill(pts - AGAIN + FIRST)
        self._empty = False
        limit = max(OTHER[0] * 0.8, OTHER[1] * self.noise)
        learn(
            picture,
            near,
            self._fit,
            (pts, -np.inf if alone else AGAIN, limit, MOST, PATIENCE),
            (self._room, self._weight, self._differs, self._last_person),
        )
        np.copyto(self._seen, picture[0])
        self._describe()

    def copy(self) -> RoomCopy | None:
        """Return what is known, for `recall` another day; None while it is little."""
        if self._known < WORTH:
            return None
        kept = np.empty((4, *self._size), np.uint8)
        np.clip(np.rint(self._room), 0, 255, out=kept[:3], casting="unsafe")
        kept[3] = self._weight
        return kept

    def recall(self, kept: RoomCopy, size: tuple[int, int], pts: float) -> None:
        """Know what `copy` returned, scaled to `size`, unless more is known by now.

        The next look compares it with what the camera sees, and forgets it if it is another room.
        """
        if self._known >= WORTH or kept.ndim != 3 or len(kept) != 4 or 0 in kept.shape:
            return
        self._allocate(kept.shape[1], kept.shape[2])
        self._room[:], self._weight[:] = kept[:3], np.minimum(kept[3], MOST)
        self.since, self._empty = pts, False
        self._last_person.fill(pts - AGAIN + FIRST)
        self._describe()
        self.resize(*size)

    def _near(self, picture: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Where somebody may be: near what is called a person, or what does not keep still."""
        h = alpha.shape[0]
        person = cv2.dilate((alpha > NEAR).view(np.uint8), _square(MARGIN * h))
        ring = (person > 0) & (alpha <= 0.5)
        around = np.count_nonzero(ring)
        known = np.count_nonzero(ring & (self._weight >= KNOWN)) / around if around else 1.0
        self._told = known >= TOLD[0 if self._told else 1]
        change = cv2.blur(cv2.absdiff(picture[0], self._seen), (3, 3))
        restless = change > max(RESTLESS[0], RESTLESS[1] * self.noise)
        body = alpha > 0.5
        self._moving = bool(np.count_nonzero(restless & body) > MOVES * np.count_nonzero(body))
        near = cv2.dilate(restless.view(np.uint8), _square(AROUND * h))
        np.copyto(self._differs, 0, where=near > 0)
        return np.where(person > 0, PERSON, near * UNSTEADY)

    def _matches(self, picture: NDArray[np.uint8], alpha: NDArray[np.float32]) -> bool:
        """Fit the room's light to the picture's; False if it is no longer the same room."""
        if alpha.shape != self._size:
            alpha = np.zeros(self._size, np.float32)
        grid = self._grid
        chosen = (self._weight[grid] >= KNOWN) & (alpha[grid] < NEAR)
        if np.count_nonzero(chosen) < FEWEST:
            return True
        there, edges = (
            picture[(slice(None), *grid)][:, chosen].astype(np.float32),
            self._edges[chosen],
        )
        room = self._room[(slice(None), *grid)][:, chosen]
        if self._settled:  # light drifts slowly: one plane of colour at a look is enough
            self._turn = 3 - self._turn
            planes: tuple[int, ...] = (0, self._turn)
        else:
            planes = (0, 1, 2) * 4
        for c in planes:
            self._refit(c, room[c], there[c])
        residue = np.abs(there[0] - room[0] * self._fit[0, 0] - self._fit[0, 1])
        middle = float(np.median(residue))
        strange = residue > max(OTHER[0], OTHER[1] * self.noise)
        self._settled = True
        self._comes = bool(strange.mean() > COMES)
        moved = np.count_nonzero(edges) >= FEWEST / 2 and strange[edges].mean() > MOVED
        if not (strange.mean() > CHANGED or moved or not GAINS[0] < self._fit[0, 0] < GAINS[1]):
            self.noise += 0.1 * (min(max(1.48 * middle, 0.5), 8.0) - self.noise)
            self._strange = 0
            return True
        self._strange += 1
        if self._strange >= 2:
            self.forget("the camera was moved, or the light or the room changed")
        return False

    def _refit(self, c: int, room: NDArray[np.float32], there: NDArray[np.float32]) -> None:
        """One step of trimmed least squares from plane c's fit so far."""
        gain, offset = self._fit[c]
        residue = np.abs(there - room * gain - offset)
        kept = residue <= 2.5 * float(np.median(residue)) + 1
        r, t = room[kept], there[kept]
        mean_r, mean_t = float(r.mean()), float(t.mean())
        r -= mean_r
        # Hardly any contrast says hardly anything of a gain: one, and the offset does the rest.
        firm = 25.0 if c == 0 else 9.0
        slope = (float(r @ t) / len(t) + firm) / (float(r @ r) / len(r) + firm)
        self._fit[c] = slope, mean_t - slope * mean_r

    def _describe(self) -> None:
        """Note where the room is known, textured, and has edges."""
        self._version += 1
        known = self._weight >= KNOWN
        self._known = float(np.count_nonzero(known)) / known.size
        luma = self._room[0]
        whole = textured(luma, known, self.noise, self._texture, self._rich)
        self._texture[~whole] = 0
        self._edges = np.abs(luma - cv2.blur(luma, (9, 9)))[self._grid] > EDGE

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._room = np.zeros((3, h, w), np.float32)
        self._weight = np.zeros((h, w), np.uint8)
        self._differs = np.zeros((h, w), np.uint8)
        self._last_person = np.full((h, w), -np.inf, np.float64)
        self._apart = np.zeros((h, w), np.uint8)
        self._otherwise = np.zeros((h, w), np.float32)  # share, see `looks_otherwise`
        self._lit = np.zeros((3, h, w), np.float32)  # the room in the light of the last look
        self._seen = np.zeros((h, w), np.uint8)  # luma at the last lesson
        self._nobody = np.zeros((h, w), np.uint8)
        self._rich = np.zeros((h, w), np.float32)  # 1 where it is textured
        self._texture = np.zeros((max(1, h // CELL), max(1, w // CELL)), np.float32)
        self._held = np.zeros(self._texture.shape, np.uint8)  # looks, see `_plain`
        self._plain_parts = np.zeros(self._texture.shape, np.bool_)  # that may be found again
        self._light = np.zeros(self._texture.shape, np.float32)  # by how much it is lit otherwise
        step = max(1, h // ROWS)
        self._grid: tuple[slice, ...] = (slice(step // 2, None, step),) * 2
        self._edges = np.zeros(self._weight[self._grid].shape, np.bool_)
        self._empty = True
        self._clear()

    @property
    def info(self) -> dict[str, Any]:
        """Share known, since when, and the reason it was forgotten last, for the status."""
        return {
            "known": round(self._known, 3),
            "since": self.since,
            "forgotten": self.forgotten or None,
            "showing": self.showing,
        }


def _square(reach: float) -> NDArray[np.uint8]:
    """The kernel that dilates a mask by so many pixels."""
    return np.ones((2 * max(1, round(reach)) + 1,) * 2, np.uint8)
