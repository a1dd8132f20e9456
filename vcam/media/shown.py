"""A clip's decoded picture as it is meant to be seen, in the planes the program works in.

Matrix, range, transfer and primaries as tagged, pixels square, upright, transparent parts on black.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, cast

import cv2
import numpy as np
from av.video.reformatter import Interpolation

from segmentation.planes import Planes, i420
from vcam.media import colour, turns
from vcam.media.colour import Coding
from vcam.media.pictures import i420_from_image
from vcam.media.toned import on_black

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

LINES_709: Final = 720  # untagged pictures of at least so many lines are BT.709
_AS_IS: Final = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"}
_FULL: Final = 2  # AVCOL_RANGE_JPEG
_RGB: Final = 0  # AVCOL_SPC_RGB
# Codes of colour matrices that FFmpeg's scaler knows; the others are taken for BT.601.
_SCALER: Final = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_ODD_MOST: Final = 8  # pixels that are longer than this against their width are a damaged header's


@dataclass(frozen=True, slots=True)
class Hints:
    """Properties that the file states where the picture itself does not."""

    coding: Coding
    pixel: Fraction = Fraction(1)  # width of a pixel over its height
    cover: tuple[int, int] | None = None  # a size below which nothing is gained by more pixels


def coding_of(picture: VideoFrame, hints: Hints) -> Coding:
    """Meaning of the picture's numbers as colours, with what is usual where it is not said."""
    said = hints.coding
    matrix = _known(int(picture.colorspace), said.matrix)
    if matrix == colour.UNSAID:
        matrix = colour.BT709 if picture.height >= LINES_709 else colour.BT601
    span = int(picture.color_range) or (_FULL if said.full_range else 0)
    return Coding(
        primaries=_known(int(getattr(picture, "color_primaries", colour.UNSAID)), said.primaries),
        transfer=_known(int(getattr(picture, "color_trc", colour.UNSAID)), said.transfer),
        matrix=matrix,
        full_range=picture.format.name.startswith("yuvj") or span == _FULL,
    )


def _known(code: int, otherwise: int) -> int:
    return otherwise if code == colour.UNSAID else code


def planes(picture: VideoFrame, hints: Hints) -> Planes:
    """Copy a decoded picture out as upright, even-sized BT.601 planes, as `Frame` wants them."""
    coding = coding_of(picture, hints)
    turn = _turn(picture)
    name = picture.format.name
    alpha = name == "pal8" or any(part.is_alpha for part in picture.format.components)
    size = _shown_size(picture, hints.pixel)
    if hints.cover is not None and (alpha or not coding.plain):
        size = _no_larger(*size, hints.cover[::-1] if turn.transpose else hints.cover)
    if alpha or picture.format.is_rgb:
        return _from_rgb(picture, coding, size, turn)
    if coding.plain:
        full = coding.full_range and not name.startswith("gray")
        y, u, v = _as_coded(picture, coding, size)
        if coding.matrix not in (5, 6):
            y, u, v = to_bt601(y, u, v, coding.matrix, full_range=full)
    else:
        full = False
        y, u, v = _by_table(picture, coding, size)
    if turn.transpose and u.shape[0] == y.shape[0]:  # 4:2:2 lies wrong once turned
        u, v = u[::2], v[::2]
    return Planes(*_even(*(turn(p) for p in (y, u, v))), full_range=full)


def shown_size(picture: VideoFrame, hints: Hints) -> tuple[int, int]:
    """Width and height as seen, before an odd edge is repeated to make it even."""
    w, h = _shown_size(picture, hints.pixel)
    return (h, w) if _turn(picture).transpose else (w, h)


def _shown_size(picture: VideoFrame, pixel: Fraction) -> tuple[int, int]:
    if pixel <= 0 or pixel == 1 or not 1 / _ODD_MOST <= pixel <= _ODD_MOST:
        return picture.width, picture.height
    return max(1, round(picture.width * pixel)), picture.height


def _no_larger(w: int, h: int, cover: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, max(cover[0] / w, cover[1] / h))
    return max(2, round(w * scale)), max(2, round(h * scale))


def _turn(picture: VideoFrame) -> turns.Turn:
    for data in cast("Iterable[SideData]", picture.side_data):  # a mapping that gives its values
        if data.type.name == "DISPLAYMATRIX":
            return turns.of_matrix(bytes(data))
    return turns.UPRIGHT


def to_bt601(
    y: NDArray[np.uint8],
    u: NDArray[np.uint8],
    v: NDArray[np.uint8],
    matrix: int,
    *,
    full_range: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Turn planes of another colour matrix into BT.601's, the range staying as it is.

    Both are linear in Y, U and V: three weighted sums, less than half of what FFmpeg's scaler takes
    and within a level, where its fast way is up to three levels too dark.
    """
    kr, kb = colour.weights(matrix)
    kg = 1 - kr - kb
    # Red, green and blue by U and V, above Y; then what they make in BT.601.
    red, blue = np.array([0, 2 * (1 - kr)]), np.array([2 * (1 - kb), 0])
    green = -(kr * red + kb * blue) / kg
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    of_u, of_v = (blue - luma) / 1.772, (red - luma) / 1.402
    step = 1.0 if full_range else 219 / 224
    shift, new_u, new_v = (
        cv2.addWeighted(u, a, v, b, 128 - 128 * (a + b)) for a, b in (luma * step, of_u, of_v)
    )
    shift = cv2.resize(shift, y.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (
        np.asarray(cv2.addWeighted(y, 1, shift, 1, -128), np.uint8),
        np.asarray(new_u, np.uint8),
        np.asarray(new_v, np.uint8),
    )


def _as_coded(
    picture: VideoFrame, coding: Coding, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Planes of 8 bits and square pixels, their colours as they are."""
    if picture.format.name not in _AS_IS or size != (picture.width, picture.height):
        code = _SCALER.get(coding.matrix, 5)
        grey = picture.format.name.startswith("gray")  # full range, whatever is said
        span = _FULL if coding.full_range else 1
        picture = picture.reformat(
            *size,
            "yuv420p",
            src_colorspace=code,
            dst_colorspace=code,
            src_color_range=None if grey else span,
            dst_color_range=1 if grey else span,
            interpolation=_EXACT,
        )
    y, u, v = (_plane(picture, i) for i in range(3))
    return y, u, v


def _exact() -> int | str:
    """The scaler's way that rounds instead of cutting off, where this PyAV lets one ask for it."""
    try:
        wanted = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    except (AttributeError, TypeError, ValueError):
        return "BILINEAR"
    return int(wanted)


_EXACT: Final = _exact()


def _from_rgb(
    picture: VideoFrame, coding: Coding, size: tuple[int, int], turn: turns.Turn
) -> Planes:
    """By way of RGB: what has alpha must be put on black before its chroma is halved."""
    shown = picture.reformat(
        *size,
        "rgba",
        src_colorspace=_SCALER.get(coding.matrix, 5),
        src_color_range=None if picture.format.is_rgb else _FULL if coding.full_range else 1,
        interpolation=_EXACT,
    )
    plane = shown.planes[0]
    flat: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    rgba = flat.reshape(plane.height, plane.line_size)[:, : 4 * size[0]].reshape(*size[::-1], 4)
    rgb = rgba[..., :3]
    if not coding.plain:
        rgb = colour.CodedToSrgb(coding)(np.ascontiguousarray(rgb))
    image = turn(on_black(rgb, rgba[..., 3]))
    h, w = image.shape[:2]
    image = np.ascontiguousarray(np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge"))
    return i420(i420_from_image(image))


def _by_table(
    picture: VideoFrame, coding: Coding, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    from vcam.media import tables  # compiled when first needed, which few clips do

    w, h = max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2)
    code = _SCALER.get(coding.matrix, 5)
    span = _FULL if coding.full_range else 1
    deep = picture.reformat(
        w,
        h,
        "yuv420p16le",
        src_colorspace=code,
        dst_colorspace=code,
        src_color_range=span,
        dst_color_range=span,
        interpolation=_EXACT,
    )
    y, u, v = (_wide(deep, i) for i in range(3))
    out = [np.empty(p.shape, np.uint8) for p in (y, u, v)]
    tables.apply(y, u, v, tables.table(coding), *out)
    return out[0], out[1], out[2]


def _wide(picture: VideoFrame, index: int) -> NDArray[np.uint16]:
    plane = picture.planes[index]
    flat: NDArray[np.uint16] = np.frombuffer(memoryview(plane), "<u2")
    return flat.reshape(plane.height, plane.line_size // 2)[:, : plane.width]


def _plane(picture: VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = picture.planes[index]
    flat: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    return flat.reshape(plane.height, plane.line_size)[:, : plane.width].copy()


def _even(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Repeat the last row or column of odd planes so that chroma covers luma exactly."""
    h, w = y.shape
    full_rows = u.shape[0] == h
    if h % 2 or w % 2:
        y = np.pad(y, ((0, h % 2), (0, w % 2)), mode="edge")
        if full_rows and h % 2:
            u, v = (np.pad(p, ((0, 1), (0, 0)), mode="edge") for p in (u, v))
    return np.ascontiguousarray(y), np.ascontiguousarray(u), np.ascontiguousarray(v)
