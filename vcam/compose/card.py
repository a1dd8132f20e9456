"""The privacy card: what others see whenever it is not certain that they may see you."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vcam import words
from vcam.compose import drawn
from vcam.errors import BackgroundError
from vcam.frame import SafeFrame
from vcam.media import pictures
from vcam.settings.choice import path_of
from vcam.system import patience, typefaces
from vcam.system.paths import expanded
from vcam.words import Words

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME: Final = "VBG Camera"
BACK: Final = "back"  # the reason of a pause that says how long it lasts
INK: Final = (232, 236, 242)
_KEPT: Final = 16  # cards with a reason that stay drawn
OWN: Final = "", 0  # the typeface that Pillow brings, which knows English letters alone
Typeface = tuple[str, int]  # a file, "" for Pillow's own, and the number in it


class Card:
    """Draws the card once, when it is made; showing it later allocates nothing that could fail.

    `picture` is the user's own; where it cannot be read the drawn one stands in, and `problem`
    says why. Reasons are drawn in `language`, in English where no typeface here can write it. Any
    thread may call `frame`.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        picture: str = "",
        reasons: bool = True,
        language: str = "en",
    ) -> None:
        self.width, self.height = width, height
        self.problem: str | None = None
        self._reasons = reasons
        self._words, self._typeface = typeface_for(language)
        self._image = self._base(picture)
        self._own = bool(picture) and self.problem is None
        self._plain = self._render("")
        self._drawn: dict[str, NDArray[np.uint8]] = {"": self._plain}
        self._notice: NDArray[np.uint8] | None = None

    def prepare(self, other: Card) -> None:
        """Draw every reason that `other` shows by now, so that none is drawn in the frame loop."""
        for reason in tuple(other._drawn):
            self.frame(0.0, -1, reason)

    def announce(self, notice: str) -> None:
        """Draw what the card says while the user is away for a while, "" for nothing.

        Never on the loop's thread: it takes milliseconds.
        """
        self._notice = self._render(notice, large=True) if notice else None

    def frame(self, pts: float, seq: int, reason: str = "") -> SafeFrame:
        """Return the card as a frame; with `reason` if it was prepared or can be drawn now."""
        if reason == BACK:
            notice = self._notice  # replaced as a whole
            if notice is not None:
                return SafeFrame(notice, pts, seq, is_card=True, maker=__name__)
            reason = "paused"
        data = self._plain
        if reason and self._reasons:
            data = self._drawn.get(reason, self._plain)
            if data is self._plain and len(self._drawn) < _KEPT:
                try:
                    data = self._drawn[reason] = self._render(reason)
                except (MemoryError, OSError, ValueError):
                    data = self._plain
        return SafeFrame(data, pts, seq, is_card=True, maker=__name__)

    def _base(self, picture: str) -> NDArray[np.uint8]:
        if picture:
            try:
                path = expanded(path_of(picture))
                bound = 2 * max(self.width, self.height)
                image = patience.within(path, lambda: pictures.read_image(path, bound=bound))
                return pictures.cover(image, self.width, self.height)
            except BackgroundError as error:
                self.problem = str(error)
        return drawn.draw("slate", self.width, self.height)

    def _render(self, reason: str, *, large: bool = False) -> NDArray[np.uint8]:
        canvas = Image.fromarray(self._image)
        draw = ImageDraw.Draw(canvas)
        unit = self.height / 100
        middle = self.width / 2
        if not self._own:
            self._draw_mark(draw, middle, 40 * unit, 9 * unit)
            title = ImageFont.load_default(max(6 * unit, 8))
            draw.text((middle, 60 * unit), NAME, INK, title, anchor="mm")
        if reason:
            reason = self._words.told(reason)
            small = typeface(self._typeface, max((6.5 if large else 3.4) * unit, 8))
            at = (middle, (70 if large else 68) * unit if not self._own else 93 * unit)
            if self._own:
                box = draw.textbbox(at, reason, small, anchor="mm")
                pad = 1.6 * unit
                draw.rounded_rectangle(
                    (box[0] - pad, box[1] - pad, box[2] + pad, box[3] + pad), pad, (20, 24, 30)
                )
            draw.text(at, reason, INK if large else (150, 162, 178), small, anchor="mm")
        return pictures.i420_from_image(np.asarray(canvas))

    @staticmethod
    def _draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
        """A camera with its eye closed."""
        line = max(round(r / 9), 1)
        ink = INK
        draw.rounded_rectangle(
            (x - r * 1.25, y - r * 0.8, x + r * 0.55, y + r * 0.8), r / 4, None, ink, line
        )
        draw.line(
            [
                (x + r * 0.75, y - r * 0.25),
                (x + r * 1.25, y - r * 0.6),
                (x + r * 1.25, y + r * 0.6),
                (x + r * 0.75, y + r * 0.25),
                (x + r * 0.75, y - r * 0.25),
            ],
            ink,
            line,
            joint="curve",
        )
        draw.arc((x - r * 0.85, y - r * 0.55, x + r * 0.15, y + r * 0.45), 20, 160, ink, line)


def typeface_for(language: str) -> tuple[Words, tuple[str, int]]:
    """The words of a language and the typeface that can write them; no file: Pillow's own.

    English, where there is none.
    """
    said = words.of(language)
    text = "".join(said.entries.values())
    for found in (OWN, *typefaces.of(language)):
        with contextlib.suppress(OSError):
            if _writes(typeface(found, 16), text):
                return said, found
    return words.of("en"), OWN


def typeface(found: Typeface, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A typeface in a size, in pixels.

    Raises:
        OSError: it cannot be read.
    """
    path, index = found
    return ImageFont.truetype(path, size, index) if path else ImageFont.load_default(size)


def _writes(face: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> bool:
    """True if no letter of the text is drawn as the box that stands for what a typeface lacks."""
    lacking = bytes(face.getmask("\uffff"))
    return all(bytes(face.getmask(letter)) != lacking for letter in {*text} if letter.isalpha())
