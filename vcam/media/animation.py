"""Animated pictures (GIF, PNG, WebP, AVIF) one after the other, by Pillow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from segmentation.planes import Planes, i420
from vcam.errors import BackgroundError, SourceError
from vcam.media import pictures
from vcam.media.toned import Toned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.media.formats import Format

AREA_MOST: Final = 4096 * 4096  # pixels
SHORTEST, USUAL = (
    0.02,
    0.1,
)  # seconds a picture is shown; below the first, the second, as browsers do


class Animation:
    """Pictures with the time each is shown. Owned by one thread.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, path: Path, found: Format) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()
        try:
            file = self._stack.enter_context(pictures.open_file(path))
            self._picture = self._stack.enter_context(
                pictures.open_picture(path, file, found, bound=None)
            )
            self.size = self._picture.size
            if self.size[0] * self.size[1] > AREA_MOST:
                raise pictures.too_large(path, f"{self.size[0]}x{self.size[1]}")
            first = self._picture.info.get("default_image")  # shown by who cannot show the others
            self._start = 1 if first and getattr(self._picture, "n_frames", 1) > 1 else 0
        except BackgroundError as error:
            self._stack.close()
            raise SourceError(error.message, hint=error.hint) from error
        except (*pictures.DAMAGE, Image.DecompressionBombError, MemoryError) as error:
            self._stack.close()
            raise SourceError(
                f"{str(path)!r} is {found.noun}, but damaged or too large: {error}",
                hint="Open it in a picture viewer and save it again.",
            ) from error
        self.fps, self.frames = 1 / USUAL, 0
        self._toned: Toned | None = None
        self.rewind()
        with contextlib.suppress(*pictures.DAMAGE, EOFError):
            self._picture.seek(self._start)
            self._picture.load()
            self.fps = 1 / self._lasts()

    def rewind(self) -> None:
        """Begin again."""
        self._index, self._time = self._start, 0.0

    def next(self) -> tuple[Planes, float]:
        """The next picture's planes, and when it is shown, in seconds from the first.

        Raises:
            EOFError: there is none.
            SourceError: it is damaged.
        """
        try:
            self._picture.seek(self._index)
            self._picture.load()
            if self._toned is None:
                self._toned = Toned(self._picture)
            image = self._toned.band(0, self._picture.height)
        except pictures.DAMAGE as error:
            raise SourceError(
                f"{str(self._path)!r} is damaged: {error}", hint="Save it again, or as MP4."
            ) from error
        at, self._time, self._index = self._time, self._time + self._lasts(), self._index + 1
        return _planes(image), at

    def _lasts(self) -> float:
        duration = self._picture.info.get("duration", 0)
        seconds = float(duration) / 1000 if isinstance(duration, (int, float)) else 0.0
        return min(seconds, 60.0) if seconds >= SHORTEST else USUAL

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


def _planes(image: NDArray[np.uint8]) -> Planes:
    h, w = image.shape[:2]
    even = np.ascontiguousarray(np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge"))
    return i420(pictures.i420_from_image(even))
