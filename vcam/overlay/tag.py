"""Name, title, logo and clock over a corner of the picture: drawn once, laid over every composite.

A plate keeps the writing readable on any background. Nothing of the camera is kept here.
"""

from __future__ import annotations

import contextlib
import functools
import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from segmentation.planes import i420
from vcam.compose.card import OWN, Typeface, typeface
from vcam.compose.scene import Overlay
from vcam.errors import BackgroundError
from vcam.media import pictures
from vcam.overlay import bidi, logos
from vcam.system import typefaces
from vcam.words import mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.settings.config import OverlaySettings

    Bytes = NDArray[np.uint8]
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PLATE: Final = (12, 16, 22, 168)  # white on it is readable before white, too
INK: Final = (255, 255, 255, 255)
SOFT: Final = (208, 216, 228, 255)
WIDEST: Final = 0.45  # of the picture's width
SMALLEST: Final = 0.6  # of a line's size: what is still too long is cut off
LEAST: Final = 9.0  # pixels: the smallest letters that can be read


def clock_now(wish: OverlaySettings) -> str:
    """The time of day, to be written; "" if it is not wanted."""
    return time.strftime("%H:%M") if wish.clock and wish.show else ""


class Tag:
    """Writing that the settings ask for, for pictures of one size; the logo is read once.

    Any thread may draw it but the frame loop's: asking for a typeface takes its time.

    Raises:
        BackgroundError: the logo cannot be read; unless `strict` is false: then it goes without.
    """

    def __init__(
        self, wish: OverlaySettings, width: int, height: int, *, strict: bool = True
    ) -> None:
        self.wish = wish
        self._size = width, height
        self._logo = None
        self.problem = ""  # why it has no logo, where it goes without
        if not wish.show:
            return
        texts = _clean(wish.name + wish.title + wish.pronouns)
        if lacking := "".join(dict.fromkeys(c for c in texts if _is_drawn(c) and not _face(c))):
            hint = mark("Install a typeface for it, such as fonts-noto-cjk, or leave it out.")
            without = mark(f"the name tag goes without {lacking}: no typeface here writes it")
            self.problem = without + "\n" + hint
        if not wish.logo:
            return
        try:
            self._logo = logos.read(wish.logo, (round(0.2 * width), round(0.1 * height)))
        except BackgroundError as error:
            if strict:
                raise
            hint = mark("Choose a logo on the settings page, or run `vcam set overlay.logo ''`.")
            self.problem = (
                mark(f"the name tag goes without its logo: {error.message}") + "\n" + hint
            )

    def drawn(self, clock: str = "") -> Overlay | None:
        """Draw it, with that time of day; None where there is nothing to write."""
        wish, (width, height) = self.wish, self._size
        lines = _lines(wish, clock)
        if not wish.show or (self._logo is None and not lines):
            return None
        right, bottom = wish.corner.endswith("right"), wish.corner.startswith("bottom")
        image = _plate(lines, self._logo, (width, height), right=right)
        margin = round(0.035 * height)
        # On a small picture the plate may be larger than what is left beside it.
        image = image[: height // 2 * 2, : width // 2 * 2]
        h, w = image.shape[:2]
        left = max(0, width - margin - w if right else min(margin, width - w))
        top = max(0, height - margin - h if bottom else min(margin, height - h))
        return _planes(image, left // 2 * 2, top // 2 * 2)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a line: its text, its size in hundredths of the height, and its colour."""

    text: str
    size: float
    ink: tuple[int, int, int, int]


def _lines(wish: OverlaySettings, clock: str) -> list[list[_Piece]]:
    above = [_Piece(_clean(wish.name), 4.2, INK), _Piece(_clean(wish.pronouns), 2.7, SOFT)]
    below = [_Piece(_clean(wish.title), 2.9, SOFT), _Piece(clock, 2.9, INK)]
    lines = [[piece for piece in line if piece.text] for line in (above, below)]
    return [line for line in lines if line]


def _clean(text: str) -> str:
    """One line without what cannot be drawn; joiners stay, which scripts need."""
    line = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(c for c in line if unicodedata.category(c)[0] != "C" or c in "\u200c\u200d")


def _plate(
    lines: list[list[_Piece]], logo: Bytes | None, size: tuple[int, int], *, right: bool
) -> Bytes:
    """Draw the lines on a plate, the logo at its outer end; a logo alone needs no plate."""
    width, height = size
    drawn = [_line(line, width * WIDEST, height) for line in lines]
    if not drawn:
        assert logo is not None
        return _even(logo)
    gap = round(0.013 * height)
    pad = round(0.02 * height)
    wide = max(line.shape[1] for line in drawn)
    tall = sum(line.shape[0] for line in drawn) + gap * (len(drawn) - 1)
    beside = 0 if logo is None else logo.shape[1] + pad
    inner = max(tall, 0 if logo is None else logo.shape[0])
    full = (wide + beside + 2 * pad, inner + 2 * pad)
    # Drawn larger and scaled down, for smooth corners.
    corner = Image.new("L", (full[0] * 4, full[1] * 4), 0)
    box = (0, 0, full[0] * 4 - 1, full[1] * 4 - 1)
    ImageDraw.Draw(corner).rounded_rectangle(box, 4 * pad, PLATE[3])
    plate = np.zeros((full[1], full[0], 4), np.uint8)
    plate[..., :3] = PLATE[:3]
    plate[..., 3] = np.asarray(corner.resize(full, Image.Resampling.BOX))
    canvas = Image.fromarray(plate)
    if logo is not None:
        at = full[0] - pad - logo.shape[1] if right else pad
        canvas.alpha_composite(Image.fromarray(logo), (at, (full[1] - logo.shape[0]) // 2))
    y = pad + (inner - tall) // 2
    for line in drawn:
        x = pad + (0 if right else beside)
        x += wide - line.shape[1] if right else 0
        canvas.alpha_composite(Image.fromarray(line), (x, y))
        y += line.shape[0] + gap
    return _even(np.asarray(canvas))


def _line(pieces: list[_Piece], most: float, height: int) -> Bytes:
    """Draw one line, smaller where it would get too wide, and cut off where that is not enough."""
    if bidi.base_is_rtl(pieces[0].text):
        pieces = pieces[::-1]
    scale = 1.0
    parts = [_text(piece, height, scale) for piece in pieces]
    wide = _width(parts, height)
    if wide > most:
        scale = max(most / wide, SMALLEST)
        parts = [_text(piece, height, scale) for piece in pieces]
    while (wide := _width(parts, height)) > most and max(len(piece.text) for piece in pieces) > 2:
        longest = max(pieces, key=lambda piece: len(piece.text))
        # Half of what is too much at once: drawing all of a long line again takes its time.
        less = max(1, round(len(longest.text) * (wide - most) / wide / 2))
        shorter = _Piece(longest.text.rstrip("…")[:-less] + "…", longest.size, longest.ink)
        pieces = [shorter if piece is longest else piece for piece in pieces]
        parts = [_text(piece, height, scale) for piece in pieces]
    base = max(part[1] for part in parts)
    tall = base + max(part[0].shape[0] - part[1] for part in parts)
    line = np.zeros((tall, _width(parts, height), 4), np.uint8)
    x = 0
    for image, up in parts:
        line[base - up : base - up + image.shape[0], x : x + image.shape[1]] = image
        x += image.shape[1] + _space(height)
    return line


def _space(height: int) -> int:
    return round(0.014 * height)


def _width(parts: list[tuple[Bytes, int]], height: int) -> int:
    return sum(int(part[0].shape[1]) for part in parts) + _space(height) * (len(parts) - 1)


def _text(piece: _Piece, height: int, scale: float) -> tuple[Bytes, int]:
    """Draw a text in one ink on nothing; also how far its letters stand above their line."""
    size = max(piece.size * height / 100 * scale, LEAST)
    marks: list[tuple[str, Any, dict[str, Any]]] = []
    for run in bidi.runs(piece.text):
        cut = _by_typeface(run.text)
        for letters, found in cut[::-1] if run.rtl else cut:
            font = typeface(found, size)
            if _shapes(font):
                marks.append((letters, font, {"direction": "rtl" if run.rtl else "ltr"}))
            else:
                marks.append((bidi.drawn(bidi.Run(letters, run.rtl)), font, {}))
    if not marks:
        return np.zeros((1, 1, 4), np.uint8), 1
    up, down = (max(font.getmetrics()[n] for _, font, _ in marks) for n in (0, 1))
    wide = sum(font.getlength(letters, **how) for letters, font, how in marks)
    canvas = Image.new("L", (max(1, round(wide) + 1), up + down), 0)
    draw, x = ImageDraw.Draw(canvas), 0.0
    for letters, font, how in marks:
        draw.text((x, up), letters, 255, font, anchor="ls", **how)
        x += font.getlength(letters, **how)
    image = np.zeros((canvas.height, canvas.width, 4), np.uint8)
    image[..., :3] = piece.ink[:3]
    image[..., 3] = np.asarray(canvas)
    return image, up


def _shapes(font: Font) -> bool:
    """True if letters are joined and put in order where they are drawn."""
    raqm = getattr(font, "layout_engine", None) == ImageFont.Layout.RAQM
    return raqm and bool(features.check("raqm"))


def _by_typeface(text: str) -> list[tuple[str, Typeface]]:
    """Cut a text where another typeface has to write; one writes all of it if there is one.

    Signs that none can draw are left out.
    """
    letters = "".join(sorted({letter for letter in text if _is_drawn(letter)}))
    if (one := _face(letters)) is not None:
        return [("".join(letter for letter in text if _fits(letter, one)), one)]
    found: list[tuple[str, Typeface]] = []
    face: Typeface | None = OWN
    for letter in text:
        face = _face(letter) if _is_drawn(letter) else face
        if face is None or not _fits(letter, face):
            continue
        if found and found[-1][1] == face:
            found[-1] = found[-1][0] + letter, face
        else:
            found.append((letter, face))
    return found


def _is_drawn(letter: str) -> bool:
    """True if a letter or sign needs a typeface that knows it."""
    return not letter.isspace() and unicodedata.category(letter)[0] not in "CM"


@functools.lru_cache(maxsize=1000)
def _fits(letter: str, face: Typeface) -> bool:
    """False of an accent or joiner that the typeface of its letter would draw as a box."""
    return _is_drawn(letter) or letter.isspace() or _knows(face, letter)


@functools.lru_cache(maxsize=1000)
def _face(letters: str) -> Typeface | None:
    """The typeface that writes all these letters: Pillow's own, or one of this machine."""
    if _knows(OWN, letters):
        return OWN
    for found in typefaces.writing(letters):
        with contextlib.suppress(OSError):
            if _knows(found, letters):
                return found
    return None


def _knows(face: Typeface, letters: str) -> bool:
    """True if none of these letters is drawn as the box for what a typeface lacks."""
    font = typeface(face, 16)
    lacking = bytes(font.getmask("\uffff"))
    return all(bytes(font.getmask(letter)) != lacking for letter in letters)


def _even(image: Bytes) -> Bytes:
    """The image with a transparent row and column where it is odd in size."""
    h, w = image.shape[:2]
    return np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)))


def _planes(image: Bytes, left: int, top: int) -> Overlay:
    """Turn RGB with alpha, even in size, into what is laid over a picture."""
    h, w = image.shape[:2]
    opaque = image[..., 3].astype(np.float32) / 255
    yuv = pictures.i420_from_image(np.ascontiguousarray(image[..., :3]))
    quarter = cv2.resize(opaque, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    colours, keeps = [], []
    for plane, much in zip(i420(yuv).each, (opaque, quarter, quarter), strict=True):
        keep = np.rint(255 * (1 - much))
        colours.append(np.rint(plane * (1 - keep / 255)).astype(np.uint8))
        keeps.append(keep.astype(np.uint8))
    y, u, v = colours
    return Overlay(left, top, (y, u, v), (keeps[0], keeps[1], keeps[2]))
