"""A learned room as a picture is compared with it, wherever that is done: its parts, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

CELL: Final = 8  # pixels a side of the parts in which the room is found again
TEXTURE: Final = (6.0, 3.0)  # levels, and times the noise, that a part of the room varies by
OTHERWISE: Final = (6.0, 3.0)  # levels, and times the noise, from which it looks otherwise
BODY: Final = 0.14  # part of the height around a pixel in which the mean alpha is
INSIDE: Final = 0.5  # and beyond, for it to be in the middle of a person
HALF_A_PERSON: Final = (0.1, 0.3)  # alpha from which it may be one there, and that it surely is


@dataclass(frozen=True)
class State:
    """The part of a room that a look at the next picture needs, for who looks elsewhere: views.

    Shapes:
        room: (3, h, w) float32, Y, U and V; there, firm: bool, (h, w) and one for each part of
            `CELL` pixels; rich: (h, w) float32; fit: (3, 2) float32, gain and offset
    """

    version: int  # of there and rich
    room: NDArray[np.float32]  # in the light of the last look
    there: NDArray[np.bool_]  # the room is known
    rich: NDArray[np.float32]  # 1 where it is textured
    firm: NDArray[np.bool_]  # it may be found again: it is textured, or stays while somebody moves
    fit: NDArray[np.float32]
    noise: float
    tells: bool  # the network is told of it


def textured(
    luma: NDArray[np.float32],
    known: NDArray[np.bool_],
    noise: float,
    texture: NDArray[np.float32],
    rich: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Fill `texture`, the deviation of each part's luma, and `rich`, 1 where it is large.

    Returns:
        the parts that are known whole; only those count as textured

    Shapes:
        luma, known, rich: (h, w), luma 0..255; texture, returns: one for each part of `CELL` pixels
    """
    cells = texture.shape[::-1]
    mean, square, share = (
        cv2.resize(plane, cells, interpolation=cv2.INTER_AREA)
        for plane in (luma, luma * luma, known.view(np.uint8) * np.uint8(255))
    )
    np.sqrt(np.maximum(square - mean * mean, 0), out=texture)
    whole = share == 255
    surely = (texture >= max(TEXTURE[0], TEXTURE[1] * noise)) & whole
    cv2.resize(surely * np.float32(1), rich.shape[::-1], rich, interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole, np.bool_)


def looks_otherwise(apart: NDArray[np.uint8], noise: float) -> NDArray[np.float32]:
    """Share, 0..1, to which each pixel surely differs from the room.

    Shapes:
        apart: (h, w) levels, the greatest difference of Y, U and V; returns: (h, w)
    """
    least = max(OTHERWISE[0], OTHERWISE[1] * noise)
    share = cv2.blur(apart, (3, 3)) * np.float32(1 / least) - np.float32(1)
    return np.asarray(np.clip(share, 0, 1, out=share), np.float32)


def give_back(alpha: NDArray[np.float32], otherwise: NDArray[np.float32]) -> None:
    """Believe, in place, what is half a person, in the middle of one, and surely not the room.

    Shapes:
        alpha: (h, w), 0..1; otherwise: (h, w), 1 where the picture surely is not the room
    """
    side = 2 * round(BODY * len(alpha)) + 1
    inside = (cv2.blur(alpha, (side, side)) > INSIDE) & (otherwise >= 1)
    least, most = HALF_A_PERSON
    np.maximum(alpha, np.clip((alpha - least) / (most - least), 0, 1), out=alpha, where=inside)
