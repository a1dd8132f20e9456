"""Fittings of the user's pictures: which part is shown, and how large, dark and soft.

The picture's file stays as it is. What was wished lies in a small file beside the backgrounds
folder and is held in memory: nobody reads a disk to know it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from vcam.errors import BackgroundError
from vcam.files.whole import replace_file
from vcam.system.paths import backgrounds_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MOST: Final = 500  # pictures that are remembered
BOUNDS: Final = {"x": (-1, 1), "y": (-1, 1), "zoom": (1, 4), "darken": (0, 90), "blur": (0, 100)}
FILE_MOST: Final = 1 << 20  # bytes of the file
WIDEST: Final = 0.03  # of the width: the blur at 100


@dataclass(frozen=True, slots=True)
class Fitting:
    """Wishes for one picture."""

    x: float = 0.0  # -1..1: which part is shown where there is more; 0 is the middle
    y: float = 0.0
    zoom: float = 1.0  # 1..4
    darken: float = 0.0  # percent
    blur: float = 0.0  # percent of the strongest

    def fit(self, image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        """The part of `image` that fills width x height, as wished.

        Shapes:
            image, returns: (H, W, 3) uint8 RGB
        """
        rows, columns = image.shape[:2]
        scale = max(width / columns, height / rows) * self.zoom
        # No larger than the picture, not by the last digit either: the part would begin before it.
        wide = min(max(1.0, width / scale), float(columns))
        high = min(max(1.0, height / scale), float(rows))
        left = (columns - wide) * (1 + self.x) / 2
        top = (rows - high) * (1 + self.y) / 2
        part = image[
            math.floor(top) : math.ceil(top + high), math.floor(left) : math.ceil(left + wide)
        ]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        shown = cv2.resize(part, (width, height), interpolation=how)
        if self.blur:
            shown = cv2.GaussianBlur(shown, (0, 0), max(WIDEST * width * self.blur / 100, 0.3))
        if self.darken:
            shown = cv2.convertScaleAbs(shown, alpha=1 - self.darken / 100)
        return np.asarray(shown, np.uint8)


def parse(told: Mapping[str, Any]) -> Fitting:
    """A fitting of what a door or the file says; a key that is not given is as at first.

    Raises:
        BackgroundError: a key is unknown, or a value is no number in its bounds.
    """
    for key, value in told.items():
        low, high = BOUNDS.get(key, (0, -1))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            known = ", ".join(f"{name} from {a} to {b}" for name, (a, b) in BOUNDS.items())
            raise BackgroundError(
                f"{str(key)[:40]!r} is {str(value)[:40]!r}, expected {known}",
                hint="Choose another value.",
            )
    return Fitting(**{key: float(value) for key, value in told.items()})


class Fittings:
    """The fittings of all pictures, by file name, or by path for files elsewhere."""

    def __init__(self) -> None:
        # Grows with every change, by the picture's name and path: for who shows it.
        self.marks: dict[str, int] = {}
        self._place: Path | None = None  # of what is held
        self._held: dict[str, Fitting] = {}
        self._changing = threading.Lock()

    def of(self, path: Path) -> Fitting:
        """The wishes for the picture at `path`; as it is where there are none."""
        return self._all().get(_key(path), Fitting())

    def keep(self, path: Path, wish: Fitting) -> Callable[[], None]:
        """Keep `wish` for the picture at `path`; returns what takes that back.

        Raises:
            BackgroundError: the file cannot be written.
        """
        key = _key(path)
        with self._changing:
            held = dict(self._all())
            before = held.pop(key, Fitting())
            if wish != Fitting():
                held[key] = wish
            while len(held) > MOST:
                del held[next(iter(held))]
            _write({name: asdict(one) for name, one in held.items()})
            self._held = held
            for name in (path.stem, str(path)):
                self.marks[name] = self.marks.get(name, 0) + 1

        def put_back() -> None:
            self.keep(path, before)

        return put_back

    def _all(self) -> dict[str, Fitting]:
        place = _place()
        if place != self._place:
            self._place, self._held = place, _read(place)
        return self._held


def _key(path: Path) -> str:
    return path.name if path.parent == backgrounds_dir() else str(path)


def _place() -> Path:
    return backgrounds_dir().parent / "pictures.json"


def _read(place: Path) -> dict[str, Fitting]:
    """The fittings in the file; a part that is damaged is left out."""
    try:
        found = json.loads(_text(place))
    except (OSError, ValueError, RecursionError):
        return {}
    held = {}
    names = {field.name for field in fields(Fitting)}
    for name, told in found.items() if isinstance(found, dict) else ():
        try:
            held[str(name)] = parse({key: told[key] for key in names & told.keys()})
        except (BackgroundError, AttributeError, TypeError):
            log.warning("%s: what is wished for %r cannot be understood", place, name)
    return held


def _text(place: Path) -> str:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(place, flags), encoding="utf-8") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > FILE_MOST:
            raise ValueError(f"{place} is no small file")
        return file.read()


def _write(told: Mapping[str, Any]) -> None:
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, json.dumps(told, indent=2) + "\n")  # names may be no UTF-8
    except OSError as error:
        raise BackgroundError(
            f"{str(place)!r} cannot be written: {error.strerror}",
            hint="Free some space or make the folder writable.",
        ) from error


wishes: Final = Fittings()
