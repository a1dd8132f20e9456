"""Two pictures whose answer is known, asked of every network before one of its mattes counts.

`answers/person.jpg` shows somebody before a room, left of the middle, and `answers/room.jpg` the
same room alone; `answers/person.png` is the answer to the first. The person is NASA's portrait of
Eileen Collins (public domain), the room is drawn. Parts of it are brighter, and parts darker.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.errors import EngineError, UntrustedError
from segmentation.kernels import LIMITED, to_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.engines.layout import Engine

FOLDER: Final = Path(__file__).resolve().parent.parent / "answers"
SMALLEST: Final = 56  # rows of the pictures, below which nobody could know the person
# The worst of the networks that were tried (ours in every size, MediaPipe, PP-HumanSeg, SINet) has
# .92, .94, .026 and .021 of these.
OVERLAP: Final = 0.8  # of what is taken for person and the person, as a share of both together
INSIDE: Final = 0.85  # mean alpha of the person at least
OUTSIDE: Final = 0.08  # mean alpha of the room at most, behind the person and alone
SHOWN: Final = 0.02  # share of the room alone that may be taken for person


def examine(engine: Engine, h: int, w: int) -> None:
    """Ask `engine` for inputs of h x w; return if it knows the person and the room.

    Nothing is asked where the pictures would be too small in such an input.

    Raises:
        UntrustedError: it answers wrongly.
        EngineError: it does not answer.
    """
    rows, columns = part(h, w)
    if rows < SMALLEST:
        return
    answers = []
    for picture in pictures(rows, columns):
        x = np.zeros((1, engine.layout.inputs, h, w), np.float32)
        to_input(picture, engine.layout.matrix(LIMITED), engine.layout.scale(), x)
        engine.reset()
        answers.append(engine.infer(x)[:rows, :columns].copy())
    engine.reset()
    fault = fault_in(answers[0], answers[1], person(rows, columns))
    if fault:
        raise untrusted(engine.model, engine.precision, fault)


def untrusted(model: str, precision: str, fault: str) -> UntrustedError:
    """Return the error of a network that was asked and has `fault`."""
    return UntrustedError(
        f"the model {model} ({precision}) was asked two pictures whose answer is known and "
        f"{fault}; it is not used",
        hint='Set model = "auto", or use a model that was made to find people.',
    )


def fault_in(
    before: NDArray[np.float32], alone: NDArray[np.float32], known: NDArray[np.bool_]
) -> str:
    """Say what is wrong with the answers to both pictures; nothing if they are right.

    Shapes:
        before, alone: (h, w), the answers to the person before the room and to the room alone
        known: (h, w), true where the person is
    """
    if before.shape != known.shape or alone.shape != known.shape:
        return f"gave a matte of {before.shape}, expected {known.shape}"
    if not (np.isfinite(before).all() and np.isfinite(alone).all()):
        return "gave what is no number"
    if min(before.min(), alone.min()) < -0.01 or max(before.max(), alone.max()) > 1.01:
        return "gave less than nothing or more than everything"
    inside, outside = float(before[known].mean()), float(before[~known].mean())
    shown = float((alone > 0.5).mean())
    if inside < outside:
        return f"shows the room and hides the person ({inside:.0%} of the person is shown)"
    if shown > SHOWN or alone.mean() > OUTSIDE:
        return f"takes a room without anybody for a person ({max(shown, alone.mean()):.0%} of it)"
    if outside > OUTSIDE:
        return f"shows the room beside the person ({outside:.0%} of it)"
    if inside < INSIDE:
        return f"does not find the person (only {inside:.0%} of her)"
    found = before > 0.5
    overlap = float((found & known).sum() / max(1, (found | known).sum()))
    return "" if overlap >= OVERLAP else f"finds somebody of another shape (overlap {overlap:.2f})"


def part(h: int, w: int) -> tuple[int, int]:
    """Return the rows and columns of an input of h x w that the pictures fill, as a frame would."""
    height, width = _read("person.png").shape[:2]
    scale = min(h / height, w / width)
    return min(h, max(1, round(height * scale))), min(w, max(1, round(width * scale)))


def pictures(h: int, w: int) -> list[NDArray[np.uint8]]:
    """Return the person before the room and the room alone, limited range.

    Shapes:
        returns: two of (3, h, w) uint8, Y, U and V
    """
    return [_planes(_read(name), h, w) for name in ("person.jpg", "room.jpg")]


def person(h: int, w: int) -> NDArray[np.bool_]:
    """Return where the person is in the first picture, (h, w)."""
    mask = _read("person.png")[..., 0]
    return np.asarray(cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA) > 127)


def _planes(image: NDArray[np.uint8], h: int, w: int) -> NDArray[np.uint8]:
    # Enlarged for a network that looks closer than the pictures: smooth, as a lens would be.
    shrinks = h <= image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    blue, green, red = np.moveaxis(cv2.resize(image, (w, h), interpolation=interpolation), -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - y) / 1.772, (red - y) / 1.402
    planes = np.stack([16 + y * (219 / 255), 128 + u * (224 / 255), 128 + v * (224 / 255)])
    return np.ascontiguousarray(np.clip(np.rint(planes), 0, 255), np.uint8)


@cache
def _read(name: str) -> NDArray[np.uint8]:
    path = FOLDER / name
    data = np.frombuffer(path.read_bytes() if path.is_file() else b"", np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise EngineError(
            f"the picture {name}, which every network is asked, is missing or damaged in {FOLDER}",
            hint="Install the program again.",
        )
    return np.asarray(image, np.uint8)
