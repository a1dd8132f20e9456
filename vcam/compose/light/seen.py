"""Light of a person and of a backdrop as it is seen, and the tone that brings them together.

Luma is told from 0, black, to 1, white; chroma in levels about grey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import cv2
import numpy as np

from segmentation.constants import BLACK, CHROMA_SLOPE, GREY, LUMA_SPAN
from segmentation.planes import i420

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from vcam.compose.scene import Picture

    Floats = NDArray[np.float32]

_AROUND: Final = np.ones((5, 5), np.uint8)
Told = TypeVar("Told", "Person", "Backlight")

LEAST: Final = 0.005  # share of the frame that a person covers at least, to be looked at
HEAD: Final = 0.4  # share of a person's height, from the top, in which the face is looked for
SKIN: Final = ((77, 127), (133, 173))  # U and V of skin of every colour
SKIN_LEAST: Final = 0.08  # share of the head that is skin where there is a face
SKIN_HUE: Final = 130.0  # degrees: where the chroma of skin lies under white light
PALE: Final = 14.0  # levels of chroma below which less and less is turned
TURN_MOST: Final = 3.0  # degrees that the hue of skin may turn
STEP: Final = 8  # pixels of a backdrop of which one is looked at

TONE_PULL: Final = 0.55  # of the way to a well lit face, at full strength
DARK_FACE: Final = 0.40  # least luma of a well lit face before a backdrop of `MIDDLE`,
FACES: Final = 0.18  # and how much more the most is
MIDDLE: Final = 0.45
FOLLOWS: Final = 0.45  # how far both go along with the backdrop's luma
LIFT_MOST: Final = 2.1  # of the curve
DROP_MOST: Final = -0.45
SLOPE_LEAST: Final = 0.3  # of the curve: darker stays darker, and no detail is lost
WHITE_PULL: Final = 0.35  # of its luma that white loses before a black backdrop
SPREAD_PULL: Final = 0.55
FRONT: Final = 0.22  # of the key light, on a dark face
SIDE: Final = 0.6
SIDE_MOST: Final = 0.2
NOTED_SIDE: Final = 0.2  # of a backdrop of which the side is known
SHARE: Final = 0.75  # of a change of luma that chroma goes along with
COLOUR_PULL: Final = 0.15  # to the backdrop's mean chroma,
COLOUR_MOST: Final = 5.0  # levels of it at most
HUE_PULL: Final = 0.5  # of skin
VIVID_PULL: Final = 0.3  # to the backdrop's distance from grey,
VIVID: Final = (0.86, 1.1)  # within which chroma may be multiplied
CALM_MOST: Final = 0.7  # weight of what was shown before, where noise is lifted


class Person(NamedTuple):
    """The person in a frame."""

    face: float  # median luma of their face
    spread: float  # of luma, from one tenth to nine tenths of the person
    u: float  # mean chroma of their skin; of all of them where no skin is seen
    v: float
    skin: float  # 1 where skin is seen, else 0
    own_u: float  # mean chroma of the whole person
    own_v: float
    vivid: float  # mean distance of their chroma from grey
    x: float  # middle of the head and its size, as shares of the frame's width,
    y: float  # of its height,
    size: float  # and of its height


class Backlight(NamedTuple):
    """The light of a backdrop."""

    luma: float  # mean, without what is darkest and brightest
    spread: float
    u: float
    v: float
    vivid: float
    side: float  # -1, all light comes from the left, to 1, from the right


def noted(back: Backlight, lit_from: str) -> Backlight:
    """The light of a backdrop of which somebody noted where it comes from; "" was not noted."""
    if lit_from not in ("left", "right"):
        return back._replace(side=0.0) if lit_from else back
    sign = -1.0 if lit_from == "left" else 1.0
    return back._replace(side=sign * max(sign * back.side, NOTED_SIDE))


def towards(before: Told, now: Told, share: float) -> Told:
    """Go a share of the way from one to the other."""
    made = (a + (b - a) * share for a, b in zip(before, now, strict=True))
    return type(before)(*made)


def person_of(matte: Matte, *, full_range: bool) -> Person | None:
    """Look at the person in a frame; None where there is nobody."""
    alpha, (y, u, v) = matte.alpha, matte.picture
    h, w = alpha.shape
    # Not their rim, where pixels of this size hold some of the room.
    mask = cv2.erode((alpha > 0.9).astype(np.uint8), _AROUND)
    rows = np.flatnonzero(mask.sum(axis=1) > 0.02 * w)
    count = int(np.count_nonzero(mask))
    if count < LEAST * h * w or not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    end = top + max(2, round(HEAD * (bottom - top)))
    head = mask[:end]
    (least_u, most_u), (least_v, most_v) = SKIN
    skin = cv2.inRange(u[:end], least_u, most_u) & cv2.inRange(v[:end], least_v, most_v) & head
    is_skin = np.count_nonzero(skin) > SKIN_LEAST * np.count_nonzero(head)
    face = skin if is_skin else head
    black, span, slope = (0, 255, CHROMA_SLOPE) if full_range else (BLACK, LUMA_SPAN, 1.0)
    sparse = mask[::2, ::2] > 0
    low, high = np.percentile(y[::2, ::2][sparse], (10, 90)) if sparse.any() else (0, 1)
    us, vs = (plane[::2, ::2][sparse] - np.float32(GREY) for plane in (u, v))
    moments = cv2.moments(head, binaryImage=True)
    area = max(moments["m00"], 1.0)
    return Person(
        face=(float(np.median(y[:end][face > 0])) - black) / span if face.any() else 0.5,
        spread=float(high - low) / span,
        u=(cv2.mean(u[:end], face)[0] - GREY) * slope,
        v=(cv2.mean(v[:end], face)[0] - GREY) * slope,
        skin=float(is_skin),
        own_u=float(us.mean()) * slope if us.size else 0.0,
        own_v=float(vs.mean()) * slope if vs.size else 0.0,
        vivid=float(np.hypot(us, vs).mean()) * slope if us.size else 0.0,
        x=moments["m10"] / area / w,
        y=moments["m01"] / area / h,
        size=min(1.0, math.sqrt(area) / h),
    )


def backlight_of(picture: Picture) -> Backlight:
    """Look at a backdrop."""
    planes = i420(picture)
    y = (planes.y[::STEP, ::STEP].astype(np.float32) - BLACK) / LUMA_SPAN
    u, v = (p[:: STEP // 2, :: STEP // 2].astype(np.float32) - GREY for p in (planes.u, planes.v))
    low, deep, high, top = np.percentile(y, (5, 10, 90, 95))
    third = max(1, y.shape[1] // 3)
    upper = y[: max(1, y.shape[0] * 2 // 3)]
    left, right = float(upper[:, :third].mean()), float(upper[:, -third:].mean())
    return Backlight(
        luma=float(np.clip(y, low, top).mean()),
        spread=float(high - deep),
        u=float(u.mean()),
        v=float(v.mean()),
        vivid=float(np.hypot(u, v).mean()),
        side=(right - left) / max(right + left, 0.1),
    )


@dataclass(frozen=True, slots=True)
class Tone:
    """A person's tone: luma x becomes x + x (white + (1 - x) (base + key + bend x))."""

    white: float = 0.0  # what white loses, less than 0
    base: float = 0.0
    bend: float = 0.0
    front: float = 0.0  # of the key light, at the middle of the face
    side: float = 0.0  # and towards the right, less of it towards the left
    colour: float = 1.0  # by which chroma is multiplied
    warm_u: float = 0.0  # levels that chroma is moved by, to a level of luma
    warm_v: float = 0.0
    calm: float = 0.0  # weight of what was shown before

    def field(self, shape: tuple[int, ...], person: Person, step: int) -> Floats:
        """Share of the tone at every so many pixels of model size, and one beyond the last ones.

        It is `base` and the key light.
        """
        h, w = shape
        rows, columns = (np.arange(-(-n // step) + 1, dtype=np.float32) * step for n in shape)
        y = (rows[:, None] + 0.5) / h - person.y
        x = ((columns[None] + 0.5) / w - person.x) * (w / h)
        size = max(person.size, 0.1)
        near = np.exp(-(x * x + y * y) / (1.3 * size * size))
        made = self.base + self.front * near + self.side * np.tanh(x / (0.5 * size))
        field: Floats = made.astype(np.float32)
        return field


def tone_of(person: Person, back: Backlight | None, strength: float) -> Tone:
    """The tone for a person before a backdrop; None is their own room, which they match.

    Faces keep their order from dark to light: each goes a share of the way.
    """
    luma = MIDDLE if back is None else back.luma
    least = DARK_FACE + FOLLOWS * (luma - MIDDLE)
    x = min(max(person.face, 0.02), 0.95)
    wanted = x + TONE_PULL * strength * (min(max(x, least), least + FACES) - x)
    change = (wanted - x) / (x * (1 - x))
    # What is dark is lifted by a curve that leaves highlights, or lowered by one that leaves black.
    base, bend = (change / (1 - x), -change / (1 - x)) if change > 0 else (change, 0.0)
    if base > LIFT_MOST:
        base, bend = LIFT_MOST, -LIFT_MOST
    base = max(base, DROP_MOST)
    lift = base
    if back is not None:
        ratio = max(back.spread, 0.05) / max(person.spread, 0.05)
        contrast = SPREAD_PULL * strength * min(max(math.log(ratio), -0.7), 0.7)
        base, bend = base - contrast * x, bend + contrast
    front = FRONT * strength * min(max((0.65 - wanted) / 0.25, 0.0), 1.0)
    side = 0.0 if back is None else SIDE * strength * back.side
    side = min(max(side, -SIDE_MOST), SIDE_MOST)
    white = 1 - WHITE_PULL * strength * min(max((MIDDLE - luma) / MIDDLE, 0.0), 1.0)
    share = white * _safe(base, bend, front, side)
    base, bend, front, side = (share * n for n in (base, bend, front, side))
    warm = _warmth(person, back, strength)
    level = max(white * wanted, 0.08) * LUMA_SPAN
    vivid = 1.0
    if back is not None:
        ratio = back.vivid / max(person.vivid, 1.0) - 1
        vivid = 1 + VIVID_PULL * strength * min(max(ratio, -0.5), 0.4)
    return Tone(
        white - 1,
        base,
        bend,
        front,
        side,
        min(max(vivid, VIVID[0]), VIVID[1]),
        warm[0] / level,
        warm[1] / level,
        CALM_MOST * min(max((lift - 0.3) / 0.7, 0.0), 1.0),
    )


def _safe(base: float, bend: float, front: float, side: float) -> float:
    """Share of a curve that is steep enough everywhere."""
    x = np.linspace(0, 1, 33)
    share = 1.0
    for field in (base - abs(side), base + abs(front) + abs(side)):
        # The slope of x + x (1 - x) (field + bend x), less the one of x alone
        slope = field * (1 - 2 * x) + bend * x * (2 - 3 * x)
        least = float(slope.min())
        if 1 + least < SLOPE_LEAST:
            share = min(share, (1 - SLOPE_LEAST) / -least)
    return share


def _warmth(person: Person, back: Backlight | None, strength: float) -> tuple[float, float]:
    """Levels that the chroma of a face moves by: to the hue of skin, and to the backdrop's."""
    u, v = person.u, person.v
    strong = math.hypot(u, v)
    if strong < 4 or not person.skin:
        return 0.0, 0.0
    hue = math.degrees(math.atan2(v, u))
    turn = math.radians(HUE_PULL * strength * _turned(SKIN_HUE, hue))
    move_u = u * math.cos(turn) - v * math.sin(turn) - u
    move_v = u * math.sin(turn) + v * math.cos(turn) - v
    if back is not None:
        pull_u, pull_v = back.u - person.own_u, back.v - person.own_v
        far = math.hypot(pull_u, pull_v)
        gain = COLOUR_PULL * strength * min(1.0, COLOUR_MOST / (COLOUR_PULL * far)) if far else 0.0
        move_u, move_v = move_u + gain * pull_u, move_v + gain * pull_v
    for _ in range(4):
        turned = abs(_turned(math.degrees(math.atan2(v + move_v, u + move_u)), hue))
        if turned <= TURN_MOST:
            break
        move_u, move_v = (n * TURN_MOST / turned for n in (move_u, move_v))
    sure = min(1.0, strong / PALE)  # the hue of what is nearly grey is anything
    return move_u * sure, move_v * sure


def _turned(to: float, by: float) -> float:
    """Degrees from one hue to another, -180..180."""
    return (to - by + 180) % 360 - 180
