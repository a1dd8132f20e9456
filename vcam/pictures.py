"""Pictures at the edges of the program: files to RGB, RGB to I420 and back, fitting to a shape."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vcam.errors import BackgroundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 80_000_000  # larger pictures are refused: decoding one takes over 240 MB
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def read_image(path: Path, *, bound: int | None = None) -> NDArray[np.uint8]:
    """Read a picture upright (EXIF rotation applied), transparent parts on black.

    `bound` is the longer side, in pixels, above which it is scaled down while decoding.

    Shapes:
        returns: (H, W, 3) uint8 RGB

    Raises:
        BackgroundError: missing, not a picture, truncated, or above `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise BackgroundError(
                        f"{str(path)!r} is {picture.width}x{picture.height}, expected at most "
                        f"{MAX_PIXELS // 1_000_000} megapixels",
                        hint="Scale the picture down; 1920x1080 is plenty.",
                    )
                if bound and picture.format == "JPEG":
                    picture.draft("RGB", (bound, bound))
                upright = ImageOps.exif_transpose(picture)
                if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                    rgba = upright.convert("RGBA")
                    upright = Image.new("RGB", rgba.size)
                    upright.paste(rgba, mask=rgba.getchannel("A"))
                if bound and max(upright.size) > bound:
                    upright.thumbnail((bound, bound), Image.Resampling.LANCZOS)
                return np.asarray(upright.convert("RGB"))
    except FileNotFoundError as error:
        raise BackgroundError(
            f"{str(path)!r} does not exist", hint="Give the path of a picture or a clip."
        ) from error
    except UnidentifiedImageError as error:
        raise BackgroundError(
            f"{str(path)!r} is not a picture that can be read, expected JPEG, PNG or WebP",
            hint="Open it in a picture viewer and save it as JPEG or PNG.",
        ) from error
    except Image.DecompressionBombError as error:
        raise BackgroundError(
            f"{str(path)!r} is too large: {error}", hint="Scale the picture down."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BackgroundError(
            f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="Open it in a picture viewer and save it again.",
        ) from error


def cover(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale `image` (H, W, 3) so that it fills width x height, and crop what hangs over."""
    h, w = image.shape[:2]
    scale = max(width / w, height / h)
    size = (max(width, round(w * scale)), max(height, round(h * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grown = cv2.resize(image, size, interpolation=method)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(grown[top : top + height, left : left + width])


def i420_from_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (H, W, 3) RGB of even size into (H * 3 // 2, W) I420, BT.601 limited range."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)


def image_from_i420(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (H * 3 // 2, W) I420, BT.601 limited range, into (H, W, 3) RGB."""
    return np.asarray(cv2.cvtColor(data, cv2.COLOR_YUV2RGB_I420), np.uint8)


def fit_planes(
    y: NDArray[np.uint8],
    u: NDArray[np.uint8],
    v: NDArray[np.uint8],
    full_range: bool,
    width: int,
    height: int,
) -> NDArray[np.uint8]:
    """Scale planes so that they fill width x height, crop the rest, fold to limited range.

    Shapes:
        y: (H, W) uint8; u, v: (H or H/2, W/2) uint8
        returns: (height * 3 // 2, width) uint8 I420
    """
    out = np.empty((height * 3 // 2, width), np.uint8)
    h, w = y.shape
    scale = max(width / w, height / h)
    keep_w = min(w, round(width / scale / 2) * 2)
    keep_h = min(h, round(height / scale / 2) * 2)
    left, top = (w - keep_w) // 4 * 2, (h - keep_h) // 4 * 2
    rows = u.shape[0] * 2 // h  # 1: 4:2:0, 2: 4:2:2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    quarter = width * height // 4
    flat = out.reshape(-1)
    views = (
        (y[top : top + keep_h, left : left + keep_w], out[:height]),
        *(
            (
                p[top * rows // 2 : (top + keep_h) * rows // 2, left // 2 : (left + keep_w) // 2],
                flat[at : at + quarter].reshape(height // 2, width // 2),
            )
            for p, at in ((u, width * height), (v, width * height + quarter))
        ),
    )
    for plane, target in views:
        cv2.resize(plane, (target.shape[1], target.shape[0]), target, interpolation=method)
    if full_range:
        cv2.convertScaleAbs(out[:height], out[:height], 219 / 255, 16)
        chroma = out[height:].astype(np.float32)
        out[height:] = np.clip((chroma - 128) * (224 / 255) + 128.5, 0, 255).astype(np.uint8)
    return out
