"""A decoded picture in sRGB on black, a band at a time: depth, alpha and colours as it states."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from vcam.media import colour, heif
from vcam.media.recognise import png_chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Toned:
    """A decoded picture, given out in bands of sRGB on black."""

    def __init__(self, picture: Image.Image, head: bytes = b"", reader: str = "") -> None:
        self._picture = picture
        self._range = _range_of(picture)
        self._profile = colour.profile_of(picture.info.get("icc_profile"))
        self._coded: colour.CodedToSrgb | None = None
        coding = _coding(picture, head, reader, has_profile=self._profile is not None)
        if coding is not None and not coding.plain:
            self._coded, self._profile = colour.CodedToSrgb(coding), None

    def band(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Rows from `top` to `bottom` as (h, W, 3) RGB."""
        part = self._picture.crop((0, top, self._picture.width, bottom))
        alpha: NDArray[np.uint8] | None = None
        if part.mode.startswith("I") or part.mode == "F":
            part, alpha = _scaled(part, *self._range)
        elif part.mode in _WITH_ALPHA or "transparency" in part.info:
            part, alpha = _parted(part)
        return on_black(self._toned(part), alpha)

    def _toned(self, part: Image.Image) -> NDArray[np.uint8]:
        if part.mode not in ("L", "RGB", "CMYK", "LAB"):
            part = part.convert("RGB")
        if self._profile is not None and self._profile.fits(part.mode):
            part = self._profile(part)
        elif part.mode == "LAB":
            part = colour.from_lab(part)
        image = np.asarray(part.convert("RGB"))
        return image if self._coded is None else self._coded(image)


_WITH_ALPHA: Final = ("RGBA", "RGBa", "LA", "La", "PA")


def _parted(part: Image.Image) -> tuple[Image.Image, NDArray[np.uint8]]:
    """A band without its alpha, and the alpha."""
    key = part.info.get("transparency")
    if part.mode == "RGB" and isinstance(key, tuple):  # one colour that is not to be seen
        near = np.asarray(part) == np.array([k >> 8 if max(key) > 255 else k for k in key])
        return part, np.where(near.all(-1), 0, 255).astype(np.uint8)
    if part.mode == "La":
        part = part.convert("LA")
    if part.mode == "LA":
        return part.getchannel("L"), np.asarray(part.getchannel("A"))
    rgba = part.convert("RGBA")
    return rgba.convert("RGB"), np.asarray(rgba.getchannel("A"))


def on_black(image: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Put `image` (H, W, 3) with straight `alpha` (H, W) on black."""
    if alpha is None:
        return image
    product = image.astype(np.uint16) * alpha[..., None]
    return ((product + 127) // 255).astype(np.uint8)


def _range_of(picture: Image.Image) -> tuple[float, float]:
    """The numbers that stand for black and white where samples are no bytes.

    16 bits say it themselves. Whole numbers are taken for 8 or 16 bits if they fit, fractions for
    shares of 1 or 8 bits, and else the largest is white; black is 0 unless some are negative.
    """
    if picture.mode.startswith("I;16"):
        inverted = getattr(picture, "tag_v2", {}).get(262) == 0
        return (65535.0, 0.0) if inverted else (0.0, 65535.0)
    if picture.mode not in ("I", "F"):
        return 0.0, 255.0
    values = np.asarray(picture)
    finite = values[np.isfinite(values)] if picture.mode == "F" else values
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low < 0:
        return low, max(high, low + 1e-6)
    if picture.mode == "I":
        return 0.0, next((white for white in (255.0, 65535.0) if high <= white), high)
    return 0.0, 1.0 if high <= 1 else 255.0 if 16 < high <= 255 else high


def _scaled(
    part: Image.Image, black: float, white: float
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    values = np.asarray(part)
    key = part.info.get("transparency")
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
    scaled = np.nan_to_num((values.astype(np.float32) - black) * (255 / (white - black)))
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)), alpha


def _coding(
    picture: Image.Image, head: bytes, reader: str, *, has_profile: bool
) -> colour.Coding | None:
    """Coding of a picture's colours as it is stated beside a profile."""
    if reader == "PNG" and (chunk := png_chunk(head, b"cICP")) and len(chunk) == 4:
        return colour.Coding(chunk[0], chunk[1], 0, True)
    if has_profile:
        return None
    if reader == "AVIF":
        with contextlib.suppress(heif.HeifError, struct.error):
            found = heif.describe(io.BytesIO(head))
            return heif.nclx(found, found.primary)
    if reader == "PNG" and "srgb" not in picture.info:
        return _png_coding(picture.info.get("gamma"), picture.info.get("chromaticity"))
    return colour.ADOBE_RGB if _says_adobe_rgb(picture) else None


def _png_coding(gamma: Any, points: Any) -> colour.Coding | None:
    odd = isinstance(gamma, float) and 0.01 < gamma < 10 and abs(gamma - 1 / 2.2) > 0.005
    if not odd and not points:
        return None
    corners: colour.Chromaticities | None = None
    if points and len(points) == 8 and min(points[1::2]) > 0.001:
        x, y, *others = points
        pairs = tuple(zip(others[::2], others[1::2], strict=True))
        corners = (*pairs, (x, y))
        if np.allclose(corners, colour.SRGB_POINTS, atol=0.002):
            corners = None
    return colour.Coding(
        transfer=colour.SRGB, gamma=1 / gamma if odd else 0.0, chromaticities=corners
    )


def _says_adobe_rgb(picture: Image.Image) -> bool:
    """True if a camera wrote Adobe RGB without a profile, as DCF has it: interoperability R03."""
    with contextlib.suppress(Exception):
        exif = picture.getexif()
        return (
            "R03" in str(exif.get_ifd(0xA005).get(1, "")) or exif.get_ifd(0x8769).get(0xA001) == 2
        )
    return False
