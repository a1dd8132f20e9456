"""Small pictures of files, drawn one at a time and kept on disk until the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from vcam.errors import BackgroundError, SourceError
from vcam.media import formats, pictures
from vcam.media.clip import ClipSource
from vcam.system.paths import cache_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT: Final = 300  # thumbnails
VERSION: Final = b"1"  # another one draws all of them anew


def thumbnail(path: Path, width: int = 256, height: int = 144) -> bytes:
    """A picture or clip drawn small, as JPEG: from the cache if the file is as it was.

    Raises:
        BackgroundError: it cannot be read.
    """
    kept = _place(path, width, height)
    if kept is not None:
        with contextlib.suppress(OSError):
            found = kept.read_bytes()
            if found.startswith(b"\xff\xd8") and found.endswith(b"\xff\xd9"):
                os.utime(kept)  # the latest used stay
                return found
    drawn = jpeg(first_picture(path, width, height))
    if kept is not None:
        with contextlib.suppress(OSError):
            _keep(kept, drawn)
    return drawn


def first_picture(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """The picture, or a clip's first one, filling width x height.

    Shapes:
        returns: (height, width, 3) uint8 RGB

    Raises:
        BackgroundError: it cannot be read.
    """
    found = formats.readable(path, BackgroundError)
    if found.kind != "clip":
        image = pictures.read_image(path, bound=2 * max(width, height))
        return pictures.cover(image, width, height)
    try:
        with (
            pictures.alone(path),
            ClipSource(path, live=False, cover=(2 * width, 2 * height)) as clip,
        ):
            frame = clip.read(0)
    except (SourceError, EOFError) as error:
        raise BackgroundError(
            getattr(error, "message", f"{str(path)!r} holds no picture"),
            hint=getattr(error, "hint", "") or "Give a video file that plays in a media player.",
        ) from error
    assert frame is not None
    data = pictures.fit_planes(frame.planes, width, height)
    return pictures.image_from_i420(data)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _place(path: Path, width: int, height: int) -> Path | None:
    """Where a thumbnail of the file as it is now is kept; None if there is nowhere."""
    try:
        facts = path.stat()
        about = f"{path.absolute()}\0{facts.st_mtime_ns}\0{facts.st_size}\0{width}x{height}\0"
        name = hashlib.sha256(os.fsencode(about) + VERSION).hexdigest()[:32]
        return cache_dir() / "thumbnails" / f"{name}.jpg"
    except (OSError, ValueError):
        return None


def _keep(place: Path, drawn: bytes) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=place.parent, suffix=".part")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(drawn)
        Path(part).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(part).unlink()
        raise
    known = sorted(place.parent.iterdir(), key=lambda file: file.stat().st_mtime)
    for old in known[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
