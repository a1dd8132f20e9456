"""JPEGs to planes through libjpeg-turbo, where the system has it: a quarter cheaper than libav."""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, byref, c_int, c_ubyte, c_ulong, c_void_p
from typing import TYPE_CHECKING, Any, Final

from segmentation.planes import Planes
from vcam.sources.frame_pool import Stock

if TYPE_CHECKING:
    from mmap import mmap


NAMES: Final = {
    "linux": ("libturbojpeg.so.0",),
    "darwin": ("libturbojpeg.0.dylib", "/opt/homebrew/lib/libturbojpeg.0.dylib"),
    "win32": ("turbojpeg.dll",),
}
YCBCR: Final = 1  # TJCS_YCbCr
HALVED: Final = {1: 1, 2: 2}  # TJSAMP_422 and _420: rows of luma to one of chroma
STOP_ON_WARNING: Final = 8192  # TJFLAG_STOPONWARNING: nothing is concealed


class TurboDecoder:
    """Decodes what cameras commonly send; for the rest it has no answer. Owned by one thread."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handle = c_void_p(library.tjInitDecompress())
        if not self._handle:
            raise MemoryError("libjpeg-turbo has no memory for a decoder")
        self._stock = Stock()

    def __del__(self) -> None:
        self._library.tjDestroy(self._handle)

    def wipe(self) -> None:
        """Overwrite the pictures that were decoded and that nobody holds."""
        self._stock.wipe()

    def decode(self, data: mmap, used: int) -> Planes | None:
        """Return the planes of 4:2:2 and 4:2:0 pictures of even size that are whole, else None.

        Of `data` the first `used` bytes are the JPEG.

        Shapes:
            y: (H, W) uint8; u, v: (H, W/2) for 4:2:2 or (H/2, W/2) for 4:2:0
        """
        width, height, sampling, colours = c_int(), c_int(), c_int(), c_int()
        size, jpeg = c_ulong(used), byref(c_ubyte.from_buffer(data))
        if self._library.tjDecompressHeader3(
            self._handle, jpeg, size, byref(width), byref(height), byref(sampling), byref(colours)
        ):
            return None
        w, h, step = width.value, height.value, HALVED.get(sampling.value)
        if step is None or colours.value != YCBCR or w % 2 or h % 2:
            return None
        store = self._stock.take(w * h + 2 * (w // 2) * (h // step))
        at, part = w * h, (w // 2) * (h // step)
        y, u, v = store[:at], store[at : at + part], store[at + part :]
        pointers = (POINTER(c_ubyte) * 3)(
            *(plane.ctypes.data_as(POINTER(c_ubyte)) for plane in (y, u, v))
        )
        strides = (c_int * 3)(w, w // 2, w // 2)
        if self._library.tjDecompressToYUVPlanes(
            self._handle, jpeg, size, pointers, w, strides, h, STOP_ON_WARNING
        ):
            return None
        half = (h // step, w // 2)
        # A comment of this kind, by libav's own custom, says that levels span 16..235.
        full_range = data.find(b"CS=ITU601", 0, min(used, 1024)) < 0
        return Planes(y.reshape(h, w), u.reshape(half), v.reshape(half), full_range)


def open_turbo() -> TurboDecoder | None:
    """Return a decoder, or None where libjpeg-turbo is missing or older than 2.0."""
    library = _library()
    return None if library is None else TurboDecoder(library)


@functools.cache
def _library() -> Any:
    for name in NAMES.get(sys.platform, ()):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        try:
            library.tjInitDecompress.restype = c_void_p
            library.tjDestroy.argtypes = [c_void_p]
            library.tjDecompressHeader3.argtypes = [
                c_void_p, c_void_p, c_ulong, *[POINTER(c_int) for _ in range(4)],
            ]  # fmt: skip
            library.tjDecompressToYUVPlanes.argtypes = [
                c_void_p, c_void_p, c_ulong, POINTER(POINTER(c_ubyte)), c_int, POINTER(c_int),
                c_int, c_int,
            ]  # fmt: skip
            library.tjGetErrorCode.argtypes = [c_void_p]  # since 2.0, as is STOPONWARNING
        except AttributeError:
            continue
        return library
    return None
