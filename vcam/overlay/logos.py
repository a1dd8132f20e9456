"""Logos for the name tag that were handed to the settings page, kept in a folder of their own."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from vcam.errors import BackgroundError
from vcam.files.whole import write_file
from vcam.media import formats, pictures
from vcam.settings.choice import path_of
from vcam.system import patience
from vcam.system.paths import expanded, logos_dir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

MOST: Final = 16 * 1024 * 1024  # bytes of a picture that is handed over
LARGEST: Final = 1024, 512  # pixels: a tag has room for a fifth of a frame's width
SMALL: Final = 320, 96  # as the page shows it
PREFIX: Final = "logo-"


def add(content: bytes) -> Path:
    """Keep a picture as a PNG of ours, named after what it shows; the file for `overlay.logo`.

    Nothing of the file itself is kept but its pixels, and transparency if it is a PNG.

    Raises:
        BackgroundError: too large, not a picture, damaged, or the folder cannot be written.
    """
    return patience.within(logos_dir(), lambda: _added(content))


def read(name: str, bound: tuple[int, int]) -> Bytes:
    """Read the logo that `overlay.logo` names, scaled down to fit into `bound`.

    Shapes:
        returns: (h, w, 4) uint8 RGB and alpha

    Raises:
        BackgroundError: missing, no PNG, damaged, or too large.
    """
    path = expanded(path_of(name))
    wide, tall = (max(side, 2) for side in bound)
    return patience.within(
        path, lambda: pictures.read_transparent(path, (wide, tall)), fault=BackgroundError
    )


def small(name: str) -> bytes:
    """The logo that `overlay.logo` names, small, as a PNG.

    Raises:
        BackgroundError: as `read` does, and where there is none.
    """
    if not name:
        raise BackgroundError("there is no logo", hint="Choose one.")
    return _png(read(name, SMALL))


def sweep(used: str) -> None:
    """Delete those kept here but the one in use."""
    folder = logos_dir()

    def old() -> None:
        for path in folder.glob(f"{PREFIX}*.png"):
            if str(path) != used:
                path.unlink(missing_ok=True)

    with contextlib.suppress(BackgroundError, OSError):
        patience.within(folder, old)


def _added(content: bytes) -> Path:
    folder = logos_dir()
    part = folder / f".{hashlib.sha256(content).hexdigest()[:16]}.part"
    if len(content) > MOST:
        raise BackgroundError(
            f"the logo is {len(content) >> 20} MiB, expected at most {MOST >> 20}",
            hint="Scale it down; 1024 pixels are plenty.",
        )
    found = formats.recognise(content)
    if found.kind != "picture":
        raise BackgroundError(f"the logo is {found.noun}", hint=found.hint or "Give a picture.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        data = _png(_decoded(part, transparent=found.reader == "PNG"))
        target = folder / f"{PREFIX}{hashlib.sha256(data).hexdigest()[:16]}.png"
        write_file(target, data, replace=True, mode=0o600)
    except OSError as error:
        raise BackgroundError(
            f"{str(folder)!r} cannot be written: {error.strerror}",
            hint="Free some space or make the folder writable.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return target


def _decoded(part: Path, *, transparent: bool) -> Bytes:
    """Decode a file once; what is wrong with it is said without the name it has for the moment."""
    try:
        if transparent:
            return pictures.read_transparent(part, LARGEST)
        return pictures.read_image(part, bound=LARGEST[1])
    except BackgroundError as error:
        message = error.message.replace(repr(str(part)), "the logo").replace(part.name, "the logo")
        raise BackgroundError(message, hint=error.hint) from error


def _png(image: Bytes) -> bytes:
    made = io.BytesIO()
    Image.fromarray(image).save(made, "PNG")
    return made.getvalue()
