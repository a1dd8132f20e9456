"""Light on the person of a frame: looked up at model size, calmed over seconds, drawn by loops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.planes import Planes, flat, flat_chroma
from vcam.compose.light import loops
from vcam.compose.light.seen import (
    SHARE,
    Backlight,
    Person,
    Tone,
    backlight_of,
    noted,
    person_of,
    tone_of,
    towards,
)
from vcam.compose.scene import Blur
from vcam.system.memory import blank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from vcam.compose.arrays import Grid
    from vcam.compose.scene import Look, Picture

    Floats = NDArray[np.float32]

EVERY: Final = 10  # frames between two looks at what there is
SECONDS: Final = 2.0  # in which two thirds of a change are followed
SURE: Final = (0.8, 0.98)  # alpha from which a pixel may be sharpened, and from which it is wholly
SHARP: Final = 0.55  # share of what stands out of its surroundings that is added once more
SHARP_MOST: Final = 10.0  # levels
CALM_LEAST: Final = 0.05  # less is not worth its cost
EASE: Final = 0.25  # of the way to the tone that is wanted, with each frame
STILL: Final = (1.5, 4.0)  # levels at model size: a change that is noise, and one that is movement
RECENT: Final = 0.25  # seconds within which a frame is the one before
CALM_Y: Final = 32.0  # levels of change in luma from which a pixel is not averaged,
CALM_C: Final = 24.0  # and in chroma


class Light:
    """A person's light as it is known, and their planes under a better one.

    For frames of one size in the output. Owned by one thread; the planes that `shown` returns are
    overwritten by the next frame.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, ...]) -> None:
        (h, w), (low_h, low_w) = size, small
        y, u, v = (np.zeros(n, np.uint8) for n in (h * w, h * w // 4, h * w // 4))
        self._planes = y, u, v
        half = (h // 2, w // 2)
        self._shown = Planes(y.reshape(h, w), u.reshape(half), v.reshape(half))
        coarse = loops.strength_shape((low_h, low_w))
        self._strength = np.zeros(coarse, np.float32)  # of the tone
        self._wanted = np.zeros(coarse, np.float32)  # that soon
        self._core = np.zeros((low_h, low_w), np.float32)  # where the person is for certain
        self._before = np.zeros((low_h, low_w), np.float32)  # where the person was for certain
        self._picture = np.zeros((low_h, low_w), np.uint8)  # their luma then
        self._bounds = np.zeros((2, low_h), np.float32)  # see `loops.relight`
        self._scratch = loops.scratch_for(size, (low_h, low_w))
        self._lines = np.zeros((2, low_w + loops.COARSE), np.float32)
        # As far as sharpness looks, on pictures not much larger than the matte.
        around = (
            2 * max(1, math.ceil(loops.REACH * n / m)) + 1 for n, m in ((low_w, w), (low_h, h))
        )
        self._cross = cv2.getStructuringElement(cv2.MORPH_RECT, tuple(around))
        self._person: Person | None = None
        self._backlight: Backlight | None = None
        self._behind: Picture | None = None  # whose light that is
        self._pts = float("-inf")
        self._drawn = float("-inf")  # when the frame was seen whose planes these are
        self._grid: Grid | None = None  # where the planes lie in the frame, as they were drawn last
        self._count = 0  # of frames since the last look
        self._asked: tuple[float, bool, bool] | None = None
        self._numbers, self._wanted_numbers = _numbers_of(Tone()), _numbers_of(Tone())

    def wipe(self) -> None:
        """Forget the person, and overwrite what is kept of the frame."""
        blank((*self._planes, self._strength, self._wanted, self._core, self._before))
        blank((self._picture, self._bounds, self._scratch, self._lines))
        self._person = self._backlight = self._behind = self._asked = None
        self._numbers, self._wanted_numbers = _numbers_of(Tone()), _numbers_of(Tone())
        self._pts = float("-inf")

    def shown(
        self,
        planes: Planes,
        matte: Matte,
        low: Floats,
        look: Look,
        behind: Picture | Blur,
        grid: Grid,
    ) -> Planes:
        """Return the planes of a frame, limited range and 4:2:0, with the person under their light.

        Elsewhere they hold anything. `low` has its colours of person and room lit, too.

        Shapes:
            planes: as they are drawn; low: (PLANES, h, w), as the compositor filled it
        """
        if look.light > 0:
            self._follow(matte, look, behind, full_range=planes.full_range)
        elif self._asked is not None:
            self._numbers, self._asked, self._person = _numbers_of(Tone()), None, None
            self._strength[:] = 0
        gap, self._drawn = matte.pts - self._drawn, matte.pts
        # Another part of the frame is shown, or what was drawn last was seen a while ago.
        if grid is not self._grid or not 0 <= gap < RECENT:
            self._grid = grid
            self._before[:] = 0
        calm = self._numbers[loops.CALM] > CALM_LEAST
        if look.sharp or calm:
            self._find_core(matte, mirror=look.mirror, calm=calm)
        if not calm:
            self._before[:] = 0
        loops.relight(
            flat(planes.y),
            flat_chroma(planes),
            low,
            (self._strength, self._core),
            self._numbers,
            (planes.full_range, look.sharp, bool(calm)),
            grid,
            (self._planes, self._bounds, self._scratch),
        )
        if look.decontaminate and look.light > 0:
            loops.relight_low(low, self._strength, self._numbers, self._bounds, self._lines)
        return self._shown

    def _find_core(self, matte: Matte, *, mirror: bool, calm: bool) -> None:
        """Find where the person is for certain: nothing of the room may be drawn into them.

        What is averaged with the frame before must have been the person there as well, and still.
        """
        core, (least, most) = self._core, SURE
        cv2.erode(matte.alpha, self._cross, core)
        np.subtract(core, np.float32(least), out=core)
        np.multiply(core, np.float32(1 / (most - least)), out=core)
        np.clip(core, 0, 1, out=core)
        if calm:
            now = core.copy()
            np.minimum(core, self._before, out=core)
            self._before[:] = now
            moved = cv2.absdiff(matte.picture[0], self._picture)
            cv2.blur(moved, (3, 3), moved)
            still = (STILL[1] - moved.astype(np.float32)) * np.float32(1 / (STILL[1] - STILL[0]))
            np.multiply(core, np.clip(still, 0, 1), out=core)
            self._picture[:] = matte.picture[0]
        if mirror:
            cv2.flip(core, 1, core)

    def _follow(
        self, matte: Matte, look: Look, behind: Picture | Blur, *, full_range: bool
    ) -> None:
        """Go a part of the way to the tone that is wanted; see what that is every few frames."""
        picture = None if isinstance(behind, Blur) else behind
        asked = (look.light, look.mirror, picture is None)
        self._count += 1
        same = self._asked == asked and self._person is not None
        if not same or self._count >= EVERY:
            self._look(matte, look, picture, full_range=full_range)
            if self._asked is None or self._asked[1] != look.mirror:
                self._before[:] = 0
            self._asked = asked
        if self._person is None:
            return
        ease = np.float32(EASE if same else 1.0)
        self._strength += (self._wanted - self._strength) * ease
        self._numbers += (self._wanted_numbers - self._numbers) * ease

    def _look(self, matte: Matte, look: Look, picture: Picture | None, *, full_range: bool) -> None:
        """See how the person is lit, and the backdrop, and what tone they want."""
        gap, self._pts, self._count = matte.pts - self._pts, matte.pts, 0
        share = 1 - math.exp(-gap / SECONDS) if 0 <= gap < 3 * SECONDS else 1.0
        found = person_of(matte, full_range=full_range)
        if found is not None:
            self._person = towards(self._person, found, share) if self._person else found
        if picture is None:
            self._backlight = self._behind = None
        elif picture is not self._behind or self._backlight is None:
            light, before = noted(backlight_of(picture), look.lit_from), self._backlight
            self._backlight = light if before is None else towards(before, light, share)
            self._behind = picture
        if self._person is None:
            return
        tone = tone_of(self._person, self._backlight, look.light / 100)
        person = self._person
        if look.mirror:
            person = person._replace(x=1 - person.x)
        self._wanted[:] = tone.field(matte.alpha.shape, person, loops.COARSE)
        self._wanted_numbers = _numbers_of(tone)


def _numbers_of(tone: Tone) -> Floats:
    """A tone as the loops take it."""
    return np.array(
        (
            tone.white, tone.bend, SHARE, tone.colour, tone.warm_u, tone.warm_v,
            SHARP, SHARP_MOST, tone.calm, 1 / CALM_Y, 1 / CALM_C,
        ),
        np.float32,
    )  # fmt: skip
