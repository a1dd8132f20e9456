"""What webcams send, turned into planes: MJPG through libav, YUYV and NV12 taken apart."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext

from vcam.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], bool]

_HALVED = {
    "yuvj422p": 1,
    "yuv422p": 1,
    "yuvj420p": 2,
    "yuv420p": 2,
}  # rows of luma to one of chroma
_LIMITED = 1  # AVCOL_RANGE_MPEG


class MjpegDecoder:
    """Decodes one JPEG after another to planes. Owned by one thread."""

    def __init__(self) -> None:
        context = av.CodecContext.create("mjpeg", "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_type = ThreadType.NONE
        context.thread_count = 1
        # Whatever is wrong ends in an error: a concealed picture is half grey, or half another.
        context.options = {"err_detect": "explode+bitstream+buffer", "ec": "0"}
        self._context = context

    def decode(self, data: bytes | memoryview) -> Planes:
        """Return the picture's planes and whether they span 0..255; nobody writes to them.

        Shapes:
            y: (H, W) uint8; u, v: (H, W/2) for 4:2:2 or (H/2, W/2) for 4:2:0

        Raises:
            SourceError: torn, truncated or no JPEG, or of an odd size.
        """
        start, end = bytes(data[:2]), bytes(data[-512:]).rstrip(b"\0")
        if start != b"\xff\xd8" or b"\xff\xd9" not in end:
            raise SourceError(
                f"the camera sent {len(data)} bytes that are no whole JPEG",
                hint="Check the cable, or choose another port or format.",
            )
        packet = av.Packet(bytes(data))
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
                f"the camera sent a damaged JPEG of {len(data)} bytes",
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
        return y, u, v, full_range


def planes_from_yuyv(data: NDArray[np.uint8], width: int, height: int) -> Planes:
    """Take YUYV 4:2:2 (`width * height * 2` bytes, lines unpadded) apart into planes.

    Raises:
        SourceError: `data` is shorter.
    """
    size = width * height * 2
    if data.size < size:
        raise SourceError(
            f"the camera sent {data.size} bytes, expected {size} for YUYV {width}x{height}",
            hint="Check the cable, or choose another port or format.",
        )
    pairs = data.reshape(-1)[:size].reshape(height, width // 2, 4)
    y = cv2.extractChannel(data.reshape(-1)[:size].reshape(height, width, 2), 0)
    u, v = cv2.extractChannel(pairs, 1), cv2.extractChannel(pairs, 3)
    return np.asarray(y, np.uint8), np.asarray(u, np.uint8), np.asarray(v, np.uint8), False


def planes_from_nv12(data: NDArray[np.uint8], width: int, height: int) -> Planes:
    """Take NV12 4:2:0 (`width * height * 3 / 2` bytes, lines unpadded) apart into planes.

    Raises:
        SourceError: `data` is shorter.
    """
    area = width * height
    if data.size < area * 3 // 2:
        raise SourceError(
            f"the camera sent {data.size} bytes, expected {area * 3 // 2} for NV12 "
            f"{width}x{height}",
            hint="Check the cable, or choose another port or format.",
        )
    data = data.reshape(-1)
    both = data[area : area * 3 // 2].reshape(height // 2, width // 2, 2)
    u, v = cv2.extractChannel(both, 0), cv2.extractChannel(both, 1)
    y = data[:area].reshape(height, width).copy()
    return y, np.asarray(u, np.uint8), np.asarray(v, np.uint8), False
