"""Pictures at the edges of the program: files to RGB, RGB to I420 and back, fitting to a shape."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError, features

from segmentation.planes import Planes, fold, i420, i420_shape
from vcam.errors import BackgroundError
from vcam.media import colour, formats, heif, turns
from vcam.media.recognise import HEAD
from vcam.media.toned import Toned, on_black
from vcam.system import patience
from vcam.system.systemd import give_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.media.formats import Format

BUDGET: Final = 440_000_000  # bytes that decoding one picture may take
MAX_PIXELS: Final = 80_000_000  # of a picture that is wanted whole, without a bound
SMALL_FILE: Final = (
    32 << 20
)  # bytes; read before the lock is taken, so that a slow disk holds up nobody
FILE_MOST: Final = 1 << 30
PATIENCE: Final = 60.0  # seconds to wait for the picture before
SCANS_MOST: Final = 128  # of a progressive JPEG; honest ones have about ten
BAND: Final = 2_000_000  # pixels turned into RGB at once

# Bytes a pixel that decoding takes at most: what Pillow keeps, and what its decoders do beside it.
_COST: Final = {"WEBP": 16, "AVIF": 18, "GIF": 13}
_DEPTH: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}

# What Pillow's readers raise for what is damaged.
DAMAGE: Final = (OSError, ValueError, SyntaxError, struct.error, TypeError, IndexError, KeyError)

# Pieces of memory this large go back to the system at once, whichever thread had them.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]


class _Turn:
    """The right to decode, which one thread has at a time; one whose file hangs loses it."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._holder: object | None = None

    def take(self, patience: float) -> object | None:
        """Wait for the turn; None if it did not come."""
        mine = object()
        with self._free:
            if not self._free.wait_for(lambda: self._holder is None, patience):
                return None
            self._holder = mine
        return mine

    def give(self, mine: object) -> None:
        """Let the next one have it, unless it was lost."""
        with self._free:
            if self._holder is mine:
                self._holder = None
                self._free.notify()


_turn = _Turn()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other file is decoded: six at once would take six times the memory.

    Raises:
        BackgroundError: another one takes longer than anybody should wait.
    """
    with patience.excused():
        mine = _turn.take(PATIENCE)
    if mine is None:
        raise BackgroundError(
            f"{str(path)!r} has to wait for another file, which takes over {PATIENCE:.0f} seconds",
            hint="Try again, and keep large files on a fast disk.",
        )
    job = patience.at_hand()
    if job is not None:
        job.if_given_up(lambda: _turn.give(mine))
    try:
        yield
    finally:
        give_back()
        _turn.give(mine)


def read_image(path: Path, *, bound: int | None = None) -> NDArray[np.uint8]:
    """Read a picture upright, in sRGB, transparent parts on black; the first one of an animation.

    `bound` is the longer side, in pixels, above which it is scaled down while decoding. One picture
    is decoded at a time, whoever asks, and none that would take more than `BUDGET`.

    Shapes:
        returns: (H, W, 3) uint8 RGB

    Raises:
        BackgroundError: missing, not a picture that is read, truncated, or too large.
    """
    found = formats.readable(path, BackgroundError)
    if found.kind == "clip":
        raise BackgroundError(f"{str(path)!r} is {found.noun}", hint="Give a picture.")
    with _told_of(path, found.noun), open_file(path) as file, alone(path):
        if found.reader == "HEIF":
            return _read_heif(path, file, bound)
        with open_picture(path, file, found, bound) as picture:
            return _read(picture, found, file, bound)


def read_transparent(path: Path, bound: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a PNG with its transparency, scaled down to fit into `bound` (width, height).

    Shapes:
        returns: (h, w, 4) uint8 RGB and alpha

    Raises:
        BackgroundError: missing, no PNG, damaged, or too large.
    """
    found = formats.readable(path, BackgroundError)
    if found.reader != "PNG":
        raise BackgroundError(f"{str(path)!r} is {found.noun}", hint="Give a PNG.")
    with (
        _told_of(path, found.noun),
        open_file(path) as file,
        alone(path),
        open_picture(path, file, found, None) as picture,
    ):
        whole = picture.convert("RGBA")
        whole.thumbnail(bound, Image.Resampling.LANCZOS)
        return np.asarray(whole)


@contextlib.contextmanager
def _told_of(path: Path, noun: str) -> Iterator[None]:
    """Say of whatever goes wrong in reading a picture what it is."""
    try:
        yield
    except BackgroundError:
        raise
    except UnidentifiedImageError as error:
        raise BackgroundError(
            f"{str(path)!r} starts like {noun}, but is damaged or of a rare kind",
            hint="Open it in a picture viewer and save it as JPEG or PNG.",
        ) from error
    except heif.HeifError as error:
        raise BackgroundError(
            f"{str(path)!r} cannot be read: {error}", hint="Save it as JPEG or PNG."
        ) from error
    except Image.DecompressionBombError as error:
        raise too_large(path, "far too large") from error
    except MemoryError as error:
        raise too_large(path, "more than fits into memory") from error
    except DAMAGE as error:
        raise BackgroundError(
            f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="Open it in a picture viewer and save it again.",
        ) from error


def too_large(path: Path, size: str) -> BackgroundError:
    """The refusal of a picture that is `size`."""
    return BackgroundError(
        f"{str(path)!r} is {size}", hint="Scale the picture down; 1920x1080 is plenty."
    )


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file; a small one is read at once, so that decoding never waits for a disk."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size > FILE_MOST:
            raise too_large(path, f"a file of {size >> 20} MiB")
        yield io.BytesIO(file.read(SMALL_FILE)) if size <= SMALL_FILE else file


@contextlib.contextmanager
def open_picture(
    path: Path, file: IO[bytes], found: Format, bound: int | None
) -> Iterator[Image.Image]:
    """Open a picture with the one decoder that its content names, once it is known to be cheap.

    Raises:
        BackgroundError: it would take more than `BUDGET`, or this Pillow lacks the decoder.
    """
    if found.reader == "AVIF" and not features.check("avif"):
        raise BackgroundError(
            f"{str(path)!r} is {found.noun}, which this installation of Pillow cannot read",
            hint="Run `python -m pip install -U pillow`, or save it as JPEG.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file, formats=[found.reader]) as picture:
            pixels = picture.width * picture.height
            size = f"{picture.width}x{picture.height}"
            if bound is None and pixels > MAX_PIXELS:
                most = f"expected at most {MAX_PIXELS // 1_000_000} megapixels"
                raise too_large(path, f"{size}, {most}")
            cost = 0
            if found.reader == "JPEG":
                cost = _held_coefficients(picture, file)
                if bound:
                    picture.draft(picture.mode, (bound, bound))
                    pixels = picture.width * picture.height
            cost += pixels * (_COST.get(found.reader) or _DEPTH.get(picture.mode, 4))
            cost += _strip(picture) if found.reader == "TIFF" else 0
            if cost > BUDGET:
                need = f"{size}, and decoding it takes {cost // 1_000_000} MB"
                raise too_large(path, f"{need}, expected at most {BUDGET // 1_000_000}")
            yield picture


def _held_coefficients(picture: Image.Image, file: IO[bytes]) -> int:
    """Bytes that a JPEG's decoder keeps of the whole picture, where it comes in several passes.

    Raises:
        BackgroundError: it has far more passes than any honest one.
    """
    layers = getattr(picture, "layer", [])
    before = file.tell()
    file.seek(0)
    data = file.read(SMALL_FILE)
    file.seek(before)
    scans = data.count(b"\xff\xda")
    if scans > SCANS_MOST:
        raise BackgroundError(
            f"the JPEG comes in {scans} passes, expected at most {SCANS_MOST}",
            hint="Open it in a picture viewer and save it again.",
        )
    at, together = 2, True
    while data[at : at + 1] == b"\xff":  # from marker to marker, up to the first pass
        if data[at + 1 : at + 2] == b"\xda":
            together = data[at + 4] == len(layers)
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if not layers or (together and not picture.info.get("progressive")):
        return 0
    most_h, most_v = max(p[1] for p in layers), max(p[2] for p in layers)
    share = sum(p[1] * p[2] for p in layers) / (most_h * most_v)
    return int(2 * picture.width * picture.height * share)


def _strip(picture: Image.Image) -> int:
    """Bytes of the largest piece of a TIFF, which its decoder holds beside the picture."""
    tags: Any = getattr(picture, "tag_v2", {})
    across = tags.get(322) or picture.width
    down = tags.get(323) or min(int(tags.get(278) or picture.height), picture.height)
    deep = sum(tags.get(258) or (8,)) // 8 or 1
    return int(across) * int(down) * int(deep)


def _read(
    picture: Image.Image, found: Format, file: IO[bytes], bound: int | None
) -> NDArray[np.uint8]:
    picture.load()
    turn = _orientation(picture)
    toned = Toned(picture, _head(file) if found.reader in ("PNG", "AVIF") else b"", found.reader)
    return np.ascontiguousarray(turn(_shrunk(picture.width, picture.height, toned.band, bound)))


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(HEAD)


def _orientation(picture: Image.Image) -> turns.Turn:
    try:
        return turns.EXIF.get(picture.getexif().get(274, 1), turns.UPRIGHT)
    except Exception:  # what is damaged there is no reason to refuse the picture
        return turns.UPRIGHT


def _shrunk(
    width: int, height: int, band: Callable[[int, int], NDArray[np.uint8]], bound: int | None
) -> NDArray[np.uint8]:
    """Put together what `band(top, bottom)` gives, each scaled down at once where it may be."""
    longer = max(width, height)
    by = max(1, longer // bound) if bound else 1
    rows = max(1, BAND // max(width, 1) // by) * by
    out = np.empty((-(-height // by), -(-width // by), 3), np.uint8)
    for top in range(0, height, rows):
        part = band(top, min(top + rows, height))
        if by > 1:
            size = (out.shape[1], -(-part.shape[0] // by))
            part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        out[top // by : top // by + part.shape[0]] = part
    if bound and max(out.shape[:2]) > bound:
        scale = bound / max(out.shape[:2])
        fit = (max(1, round(out.shape[1] * scale)), max(1, round(out.shape[0] * scale)))
        out = np.asarray(cv2.resize(out, fit, interpolation=cv2.INTER_AREA), np.uint8)
    return out


def _read_heif(path: Path, file: IO[bytes], bound: int | None) -> NDArray[np.uint8]:
    described = heif.describe(file)
    width, height = heif.size_of(described)
    if not 0 < width * height <= (2 * MAX_PIXELS if bound else MAX_PIXELS):
        raise too_large(path, f"{width}x{height}")
    shrink = heif.shrink_for(described, bound) if bound else 1
    picture = heif.Reader(file, described, shrink).read()
    profile = colour.profile_of(picture.profile)
    coded = None
    if profile is None and not picture.coding.plain:
        coded = colour.CodedToSrgb(picture.coding)

    def band(top: int, bottom: int) -> NDArray[np.uint8]:
        part = np.ascontiguousarray(picture.rgb[top:bottom])
        if profile is not None and profile.fits("RGB"):
            part = np.asarray(profile(Image.fromarray(part)))
        elif coded is not None:
            part = coded(part)
        hidden = picture.alpha is None or picture.premultiplied
        return part if hidden else on_black(part, picture.alpha[top:bottom])  # type: ignore[index]

    return _shrunk(picture.rgb.shape[1], picture.rgb.shape[0], band, bound)


def cover(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale `image` (H, W, 3) so that it fills width x height, and crop what hangs over."""
    h, w = image.shape[:2]
    scale = max(width / w, height / h)
    # What hangs over is cut off first: of a picture one pixel wide there would be millions of rows.
    keep_w, keep_h = max(1, min(w, width / scale)), max(1, min(h, height / scale))
    left, top = int((w - keep_w) / 2), int((h - keep_h) / 2)
    kept = image[top : h - top, left : w - left]
    h, w = kept.shape[:2]
    size = (max(width, round(w * scale)), max(height, round(h * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grown = cv2.resize(kept, size, interpolation=method)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(grown[top : top + height, left : left + width])


def i420_from_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (H, W, 3) RGB of even size into (H * 3 // 2, W) I420, BT.601 limited range."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)


def image_from_i420(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (H * 3 // 2, W) I420, BT.601 limited range, into (H, W, 3) RGB."""
    return np.asarray(cv2.cvtColor(data, cv2.COLOR_YUV2RGB_I420), np.uint8)


def fit_planes(planes: Planes, width: int, height: int) -> NDArray[np.uint8]:
    """Scale planes so that they fill width x height, crop the rest, fold to limited range.

    Shapes:
        returns: (height * 3 // 2, width) uint8 I420
    """
    w, h = planes.width, planes.height
    scale = max(width / w, height / h)
    keep_w = min(w, round(width / scale / 2) * 2)
    keep_h = min(h, round(height / scale / 2) * 2)
    left, top = (w - keep_w) // 4 * 2, (h - keep_h) // 4 * 2
    rows = planes.chroma_rows
    kept = [planes.y[top : top + keep_h, left : left + keep_w]]
    for plane in (planes.u, planes.v):
        part = plane[top * rows // 2 : (top + keep_h) * rows // 2]
        kept.append(part[:, left // 2 : (left + keep_w) // 2])
    out = np.empty(i420_shape(width, height), np.uint8)
    made = i420(out, full_range=planes.full_range)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    for plane, target in zip(kept, made.each, strict=True):
        cv2.resize(plane, (target.shape[1], target.shape[0]), target, interpolation=method)
    if made.full_range:
        fold(made)
    return out
