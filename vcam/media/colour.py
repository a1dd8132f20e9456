"""Colours as files state them, by ICC profile or by code (ITU-T H.273), to sRGB.

What is brighter than a screen's white (PQ and HLG) is compressed, so that faces keep their light.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

UNSAID: Final = 2  # the code for "not specified", in all three tables
BT709, BT601, BT2020 = 1, 6, 9
PQ, HLG, LINEAR, SRGB = 16, 18, 8, 13
WHITE: Final = 203.0  # candelas per square metre of a page's white, ITU-R BT.2408
PEAK: Final = 1000.0  # what HLG is made for, and most PQ is mastered at
KNEE: Final = 0.5  # share of white up to which light stays as it is

Chromaticities = tuple[tuple[float, float], ...]  # red, green, blue, white

_D65: Final = (0.3127, 0.3290)
SRGB_POINTS: Final[Chromaticities] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
# Those that differ from sRGB so that it shows; the old ones of 601 and PAL are taken for sRGB,
# as nearly every player does.
_PRIMARIES: Final[dict[int, Chromaticities]] = {
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), (0.310, 0.316)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_ADOBE: Final[Chromaticities] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
_LUMA: Final = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_SAME: Final = {1, 2, 6, 7, 11, 12, 13, 14, 15, 0, 3}  # transfers that are shown as they are


@dataclass(frozen=True, slots=True)
class Coding:
    """Meaning of numbers as colours; codes of ITU-T H.273, `gamma` and `chromaticities` of PNG."""

    primaries: int = UNSAID
    transfer: int = UNSAID
    matrix: int = UNSAID
    full_range: bool = False
    gamma: float = 0.0  # the exponent to linear light, where `transfer` says nothing
    chromaticities: Chromaticities | None = None

    @property
    def plain(self) -> bool:
        """True if the RGB of it is sRGB as it is."""
        same = self.transfer in _SAME and not self.gamma
        return same and self.primaries not in _PRIMARIES and self.chromaticities is None


ADOBE_RGB: Final = Coding(gamma=563 / 256, chromaticities=_ADOBE)


def weights(matrix: int) -> tuple[float, float]:
    """The shares of red and blue in luma."""
    return _LUMA.get(9 if matrix == 10 else matrix, (0.299, 0.114))


def srgb(rgb: NDArray[np.float32] | Floats, coding: Coding) -> NDArray[np.float32]:
    """Turn RGB coded as `coding` says into sRGB.

    Shapes:
        rgb: (..., 3) float, 0..1
        returns: the same shape, 0..1
    """
    values = np.clip(np.asarray(rgb, np.float64), 0, 1)
    bt709 = coding.transfer in _SAME - {SRGB} and not coding.gamma
    light: Floats = _linear(values, coding) @ _to_srgb(coding).T
    if coding.transfer in (PQ, HLG):
        light = _compressed(light)
    light = np.clip(light, 0, 1)
    return (_bt709(light) if bt709 else _encoded(light)).astype(np.float32)


def _encoded(light: Floats) -> Floats:
    return np.asarray(
        np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    )


def _bt709(light: Floats) -> Floats:
    return np.asarray(np.where(light < 0.018, 4.5 * light, 1.099 * np.power(light, 0.45) - 0.099))


def _linear(v: Floats, coding: Coding) -> Floats:
    """Light, 1 being white."""
    if coding.gamma:
        return np.asarray(np.power(v, coding.gamma))
    if coding.transfer == PQ:
        return _pq(v)
    if coding.transfer == HLG:
        return _hlg(v)
    if coding.transfer == SRGB:
        return np.asarray(np.where(v <= 0.04045, v / 12.92, np.power((v + 0.055) / 1.055, 2.4)))
    if coding.transfer == LINEAR:
        return v
    if coding.transfer in (9, 10):
        decades = 2.0 if coding.transfer == 9 else 2.5
        return np.asarray(np.where(v > 0, np.power(10.0, decades * (v - 1)), 0))
    if coding.transfer in (4, 5):
        return np.asarray(np.power(v, 2.2 if coding.transfer == 4 else 2.8))
    if coding.transfer == 17:
        return np.asarray(np.power(v, 2.6) * (52.37 / 48))
    return np.asarray(np.where(v < 0.081, v / 4.5, np.power((v + 0.099) / 1.099, 1 / 0.45)))


def _pq(v: Floats) -> Floats:
    """SMPTE ST 2084 to light over `WHITE`."""
    root = np.power(v, 32 / 2523)
    top = np.maximum(root - 107 / 128, 0)
    return np.asarray(10000 / WHITE * np.power(top / (2413 / 128 - 2392 / 128 * root), 8192 / 1305))


def _hlg(v: Floats) -> Floats:
    """ARIB STD-B67 to the light of a screen of `PEAK`, over `WHITE`."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(PEAK / WHITE * scene * np.power(np.maximum(luma, 1e-9), 0.2)[..., None])


def _compressed(light: Floats) -> Floats:
    """Bend light between `KNEE` and `PEAK` under 1, all three colours alike, so hues stay."""
    peak = PEAK / WHITE
    a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
    b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
    most = np.max(light, axis=-1, keepdims=True)
    bent = (b * b + 2 * b * KNEE + KNEE**2) / (b - a) * (most + a) / (most + b)
    return np.asarray(np.where(most > KNEE, light * (bent / np.maximum(most, 1e-9)), light))


def _to_srgb(coding: Coding) -> NDArray[np.float64]:
    """The matrix from linear light in `coding`'s primaries to linear sRGB."""
    found = coding.chromaticities or _PRIMARIES.get(coding.primaries, SRGB_POINTS)
    return _between(found, SRGB_POINTS)


@functools.lru_cache(16)
def _between(source: Chromaticities, target: Chromaticities) -> NDArray[np.float64]:
    cones = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    before, after = (cones @ _xyz(white) for white in (source[3], target[3]))
    adapt = np.linalg.inv(cones) @ np.diag(after / before) @ cones
    return np.asarray(np.linalg.inv(_rgb_to_xyz(target)) @ adapt @ _rgb_to_xyz(source))


def _xyz(point: tuple[float, float]) -> NDArray[np.float64]:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _rgb_to_xyz(points: Chromaticities) -> NDArray[np.float64]:
    corners = np.stack([_xyz(p) for p in points[:3]], axis=1)
    return np.asarray(corners * np.linalg.solve(corners, _xyz(points[3])))


class CodedToSrgb:
    """Turns 8-bit RGB coded as `coding` says into sRGB, by tables: about 20 ns a pixel."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        steps = np.arange(256) / 255
        self._light = _linear(np.repeat(steps[:, None], 3, 1), coding)[:, 0].astype(np.float32)
        self._matrix = _to_srgb(coding).astype(np.float32)
        encode = _bt709 if coding.transfer in _SAME - {SRGB} and not coding.gamma else _encoded
        self._codes = np.rint(encode(np.arange(16384) / 16383) * 255).astype(np.uint8)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn (H, W, 3) RGB into sRGB."""
        if self._coding.transfer in (PQ, HLG):
            return np.rint(srgb(image.astype(np.float32) / 255, self._coding) * 255).astype(
                np.uint8
            )
        light = cv2.transform(self._light[image], self._matrix)
        codes = np.clip(light * 16383 + 0.5, 0, 16383).astype(np.uint16)
        return np.asarray(self._codes[codes], np.uint8)


class Profile:
    """An ICC profile, as what turns bands of a picture in its own mode into sRGB."""

    def __init__(self, data: bytes) -> None:
        self._profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        self.space = self._profile.profile.xcolor_space.strip()
        self._made: dict[str, ImageCms.ImageCmsTransform] = {}

    def fits(self, mode: str) -> bool:
        """True if the profile is for pictures of `mode`."""
        spaces = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
        return spaces.get(mode) == self.space

    def __call__(self, band: Image.Image) -> Image.Image:
        """Turn a band into sRGB, whites to white and blacks to black."""
        if band.mode not in self._made:
            self._made[band.mode] = ImageCms.buildTransform(
                self._profile,
                ImageCms.createProfile("sRGB"),
                band.mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        done = ImageCms.applyTransform(band, self._made[band.mode])
        assert done is not None
        return done


@functools.lru_cache(1)
def _lab() -> ImageCms.ImageCmsTransform:
    lab, screen = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, screen, "LAB", "RGB")


def from_lab(band: Image.Image) -> Image.Image:
    """Turn CIE L*a*b* into sRGB."""
    done = ImageCms.applyTransform(band, _lab())
    assert done is not None
    return done


def profile_of(data: bytes | None) -> Profile | None:
    """The profile in `data`; None if there is none, or it is damaged."""
    if not data:
        return None
    try:
        return Profile(data)
    except (OSError, ImageCms.PyCMSError, ValueError):
        return None
