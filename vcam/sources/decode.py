"""Decoders of what webcams send, to planes: MJPG by a library, raw pictures taken apart."""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, byref, c_int, c_ubyte, c_ulong, c_void_p
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import cv2
import numpy as np
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext

from segmentation.planes import Planes, i420, i420_shape, tall
from vcam.compose import kernels
from vcam.errors import SourceError
from vcam.frame import FramePool
from vcam.system.memory import PAGE, mapped

if TYPE_CHECKING:
    from mmap import mmap

    from av.packet import Packet
    from numpy.typing import NDArray

_HALVED = {
    "yuvj422p": 1,
    "yuv422p": 1,
    "yuvj420p": 2,
    "yuv420p": 2,
}  # rows of luma to one of chroma
_LIMITED = 1  # AVCOL_RANGE_MPEG
# Raw pixel formats: bytes of a picture to one of its pixels, as a fraction.
RAW: Final = {
    "YUYV": (2, 1), "UYVY": (2, 1), "NV12": (3, 2), "NV21": (3, 2), "YU12": (3, 2), "YV12": (3, 2),
    "RGB3": (3, 1), "BGR3": (3, 1), "GREY": (1, 1),
}  # fmt: skip

# libjpeg-turbo, by the name its library has on each system.
NAMES: Final = {
    "linux": ("libturbojpeg.so.0",),
    "darwin": ("libturbojpeg.0.dylib", "/opt/homebrew/lib/libturbojpeg.0.dylib"),
    "win32": ("turbojpeg.dll",),
}
YCBCR: Final = 1  # TJCS_YCbCr
HALVED: Final = {1: 1, 2: 2}  # TJSAMP_422 and _420: rows of luma to one of chroma
STOP_ON_WARNING: Final = 8192  # TJFLAG_STOPONWARNING: nothing is concealed


class MjpegDecoder:
    """Decodes one JPEG after another to planes. Owned by one thread.

    libjpeg-turbo does it where it is installed; what it has no answer for, damage above all, goes
    to libav, which then has the last word.
    """

    def __init__(self) -> None:
        self._turbo = open_turbo()
        context = av.CodecContext.create("mjpeg", "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_type = ThreadType.NONE
        context.thread_count = 1
        # Whatever is wrong ends in an error: a concealed picture is half grey, or half another.
        context.options = {"err_detect": "explode+bitstream+buffer", "ec": "0"}
        self._context = context
        self._inbox = mapped(PAGE)  # the JPEG at hand; grows to the largest

    def wipe(self) -> None:
        """Overwrite what is kept of the pictures so far."""
        self._inbox = mapped(PAGE)
        if self._turbo is not None:
            self._turbo.wipe()

    def decode(self, data: bytes | memoryview) -> Planes:
        """Return the picture's planes; nobody writes to them.

        Shapes:
            y: (H, W) uint8; u, v: (H, W/2) for 4:2:2 or (H/2, W/2) for 4:2:0

        Raises:
            SourceError: torn, truncated or no JPEG, or of an odd size.
        """
        # Into memory of our own, which can be overwritten: what is read twice may be slow to read.
        size = len(data)
        if len(self._inbox) < size:
            self._inbox = mapped(size + size // 2)
        self._inbox[:size] = data
        # Some cameras fill the rest of their buffer with zeros.
        size = _filled(self._inbox, size)
        ended = self._inbox.find(b"\xff\xd9", max(0, size - 512), size) >= 0
        if self._inbox[:2] != b"\xff\xd8" or not ended:
            raise SourceError(
                f"the camera sent {len(data)} bytes that are no whole JPEG",
                hint="Check the cable, or choose another port or format.",
            )
        planes = self._turbo.decode(self._inbox, size) if self._turbo else None
        if planes is not None:
            return planes
        # It takes whatever has a buffer, and copies it.
        return self._decoded(av.Packet(memoryview(self._inbox)[:size]))  # type: ignore[arg-type]

    def _decoded(self, packet: Packet[Any]) -> Planes:
        """The same by libav."""
        packet.time_base = Fraction(1, 1000)
        try:
            pictures = self._context.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(
                f"the camera sent a damaged JPEG: {getattr(error, 'strerror', error)}",
                hint="Check the cable, or choose another port or format.",
            ) from error
        if len(pictures) != 1 or pictures[0].is_corrupt:
            raise SourceError(
                f"the camera sent a damaged JPEG of {packet.size} bytes",
                hint="Check the cable, or choose another port or format.",
            )
        picture = pictures[0]
        if picture.width % 2 or picture.height % 2:
            raise SourceError(
                f"the camera sends {picture.width}x{picture.height}, expected even numbers",
                hint="Set camera.width and camera.height to a size that `vcam devices` lists.",
            )
        if picture.format.name not in _HALVED:
            picture = picture.reformat(format="yuvj422p")
        full_range = int(picture.color_range) != _LIMITED
        y, u, v = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
                :, : plane.width
            ]
            for plane in picture.planes
        )
        return Planes(y, u, v, full_range)


def _filled(data: mmap, size: int) -> int:
    """Number of the first `size` bytes without the zeros at their end."""
    while size and data[size - 1] == 0:
        part = np.frombuffer(data, np.uint8, min(size, 4096), max(0, size - 4096))
        filled = np.flatnonzero(part)
        size += (int(filled[-1]) + 1 if filled.size else 0) - part.size
    return size


class Unpacker:
    """Takes raw pictures of one size apart into planes. Owned by one thread.

    With `packed` pictures are not taken apart: the planes are views of them with gaps, for who
    takes them apart somewhere else. Whoever wants adjacent pixels still gets them, by a copy.
    """

    def __init__(self, width: int, height: int) -> None:
        if width % 2 or height % 2 or width < 2 or height < 2:
            raise SourceError(
                f"the camera sends {width}x{height}, expected even numbers",
                hint="Set camera.width and camera.height to a size that `vcam devices` lists.",
            )
        self.width = width
        self.height = height
        self.packed = False
        self._pool = FramePool()
        self._no_colour = np.full((height // 2, width // 2), 128, np.uint8)
        self._no_colour.flags.writeable = False

    def take(self, kind: str, data: NDArray[np.uint8]) -> Planes:
        """Take a picture of one of the formats `RAW` apart, lines unpadded.

        Raises:
            SourceError: `data` is shorter than a picture.
        """
        if kind == "YUYV":
            return self.yuyv(data)
        if kind == "NV12":
            return self.nv12(data)
        w, h = self.width, self.height
        above, below = RAW[kind]
        data = self._whole(data, w * h * above // below, kind)
        if kind == "UYVY":
            return self._uyvy(data)
        if kind == "GREY":
            y = self._pool.take(w * h)
            y[:] = data
            return Planes(y.reshape(h, w), self._no_colour, self._no_colour, full_range=True)
        store = self._pool.take(w * h * 3 // 2).reshape(i420_shape(w, h))
        planes = i420(store)
        if kind in ("RGB3", "BGR3"):
            code = cv2.COLOR_RGB2YUV_I420 if kind == "RGB3" else cv2.COLOR_BGR2YUV_I420
            cv2.cvtColor(data.reshape(h, w, 3), code, store)
        elif kind == "NV21":
            self._two_planes(data, planes.y, planes.v, planes.u)
        else:
            store.reshape(-1)[:] = data
        return Planes(planes.y, planes.v, planes.u) if kind == "YV12" else planes

    def _two_planes(
        self,
        data: NDArray[np.uint8],
        y: NDArray[np.uint8],
        first: NDArray[np.uint8],
        second: NDArray[np.uint8],
    ) -> None:
        """Take a picture apart whose chroma lies in pairs after its luma."""
        np.copyto(y, data[: y.size].reshape(y.shape))
        both = data[y.size : y.size * 3 // 2].reshape(*first.shape, 2)
        cv2.extractChannel(both, 0, first)
        cv2.extractChannel(both, 1, second)

    def _uyvy(self, data: NDArray[np.uint8]) -> Planes:
        w, h = self.width, self.height
        planes = tall(self._pool.take(2 * w * h), w, h)
        cv2.extractChannel(data.reshape(h, w, 2), 1, planes.y)
        fours = data.reshape(h, w // 2, 4)
        cv2.extractChannel(fours, 0, planes.u)
        cv2.extractChannel(fours, 2, planes.v)
        return planes

    def wipe(self) -> None:
        """Overwrite what is kept of the pictures so far."""
        self._pool.wipe()

    def yuyv(self, data: NDArray[np.uint8]) -> Planes:
        """Take YUYV 4:2:2 apart: `width * height * 2` bytes, lines unpadded.

        Raises:
            SourceError: `data` is shorter.
        """
        w, h = self.width, self.height
        data = self._whole(data, 2 * w * h, "YUYV")
        store = self._pool.take(2 * w * h)
        if self.packed:
            store[:] = data
            fours = store.reshape(h, w // 2, 4)
            return Planes(store.reshape(h, w, 2)[..., 0], fours[..., 1], fours[..., 3])
        planes = tall(store, w, h)
        kernels.split_yuyv(data, *(plane.reshape(-1) for plane in planes.each))
        return planes

    def nv12(self, data: NDArray[np.uint8]) -> Planes:
        """Take NV12 4:2:0 apart: `width * height * 3 / 2` bytes, lines unpadded.

        Raises:
            SourceError: `data` is shorter.
        """
        w, h = self.width, self.height
        area = w * h
        data = self._whole(data, area * 3 // 2, "NV12")
        store = self._pool.take(area * 3 // 2)
        if self.packed:
            store[:] = data
            both = store[area:].reshape(h // 2, w // 2, 2)
            return Planes(store[:area].reshape(h, w), both[..., 0], both[..., 1])
        planes = i420(store.reshape(i420_shape(w, h)))
        self._two_planes(data, *planes.each)
        return planes

    def _whole(self, data: NDArray[np.uint8], size: int, kind: str) -> NDArray[np.uint8]:
        if data.size < size:
            raise SourceError(
                f"the camera sent {data.size} bytes, expected {size} for {kind} "
                f"{self.width}x{self.height}",
                hint="Check the cable, or choose another port or format.",
            )
        return np.ascontiguousarray(data.reshape(-1)[:size])


class TurboDecoder:
    """Decodes what cameras commonly send; for the rest it has no answer. Owned by one thread."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handle = c_void_p(library.tjInitDecompress())
        if not self._handle:
            raise MemoryError("libjpeg-turbo has no memory for a decoder")
        self._pool = FramePool()

    def __del__(self) -> None:
        self._library.tjDestroy(self._handle)

    def wipe(self) -> None:
        """Overwrite the pictures that were decoded and that nobody holds."""
        self._pool.wipe()

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
        store = self._pool.take(w * h + 2 * (w // 2) * (h // step))
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
