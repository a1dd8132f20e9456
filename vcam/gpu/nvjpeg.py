"""JPEGs to planes on an NVIDIA GPU through nvJPEG, where its library is installed.

`vcam bench --engine cuda` measures it beside the processor's decoder; frames do not use it.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from vcam.gpu.packing import Packing

DEFAULT: Final = 0  # NVJPEG_BACKEND_DEFAULT
STRICT: Final = 4  # NVJPEG_FLAGS_BITSTREAM_STRICT: nothing is concealed
UNCHANGED: Final = 0  # NVJPEG_OUTPUT_UNCHANGED: planes as they are in the file
HALVED: Final = {1: 1, 2: 2}  # NVJPEG_CSS_422 and _420: rows of luma to one of chroma
COMPONENTS: Final = 4  # NVJPEG_MAX_COMPONENT


class _Image(ctypes.Structure):
    _fields_ = (("channel", c_void_p * COMPONENTS), ("pitch", c_size_t * COMPONENTS))


class NvDecoder:
    """Decodes what cameras commonly send; for the rest it has no answer. Owned by one thread.

    Raises:
        RuntimeError: the library does not work here.
    """

    def __init__(self, library: Any, device: torch.device) -> None:
        _declare(library)
        self._library, self._device = library, device
        self._handle, self._state = c_void_p(), c_void_p()
        status = library.nvjpegCreateEx(DEFAULT, None, None, STRICT, byref(self._handle))
        if not status:
            status = library.nvjpegJpegStateCreate(self._handle, byref(self._state))
        if status:
            self.close()
            raise RuntimeError(f"nvJPEG cannot be used: status {status}")

    def decode(self, data: bytes, out: Tensor) -> Packing | None:
        """Decode into the beginning of `out` on the current stream, and return how it lies there.

        None if the picture is not whole, not 4:2:2 or 4:2:0, of odd size, or larger than `out`.

        Shapes:
            out: uint8 bytes on the device
        """
        parts, sampling = c_int(), c_int()
        widths, heights = (c_int * COMPONENTS)(), (c_int * COMPONENTS)()
        if self._library.nvjpegGetImageInfo(
            self._handle, data, len(data), byref(parts), byref(sampling), widths, heights
        ):
            return None
        w, h, step = widths[0], heights[0], HALVED.get(sampling.value)
        if parts.value != 3 or step is None or w % 2 or h % 2:
            return None
        half = (h // step, w // 2)
        # A comment of this kind, by libav's own custom, says that levels span 16..235.
        full_range = b"CS=ITU601" not in data[:1024]
        packing = Packing.planar((h, w), half, full_range=full_range)
        if [(heights[k], widths[k]) for k in (1, 2)] != [half] * 2 or packing.size > out.numel():
            return None
        image = _Image()
        for k, plane in enumerate((packing.y, packing.u, packing.v)):
            image.channel[k], image.pitch[k] = out.data_ptr() + plane.offset, plane.line
        gpu = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device).cuda_stream if gpu else 0
        status = self._library.nvjpegDecode(
            self._handle, self._state, data, len(data), UNCHANGED, byref(image), stream
        )
        return None if status else packing

    def close(self) -> None:
        """Give the library's memory back."""
        if self._state:
            self._library.nvjpegJpegStateDestroy(self._state)
        if self._handle:
            self._library.nvjpegDestroy(self._handle)
        self._state, self._handle = c_void_p(), c_void_p()


def open_decoder(device: torch.device) -> NvDecoder:
    """Return a decoder of the library that goes with torch's CUDA: NVIDIA's wheel, or the system's.

    Raises:
        RuntimeError: there is none, or it does not work here.
    """
    name = f"libnvjpeg.so.{(torch.version.cuda or '0').partition('.')[0]}"
    wheels = find_spec("nvidia")
    folders = wheels.submodule_search_locations if wheels else None
    found = [str(path) for folder in folders or () for path in Path(folder).glob(f"*/lib/{name}")]
    for path in (*found, name):
        try:
            return NvDecoder(ctypes.CDLL(path), device)
        except (OSError, AttributeError):
            continue
    raise RuntimeError(f"{name} is not installed")


def _declare(library: Any) -> None:
    """State the arguments, as nvjpeg.h has them; what comes back is a status, 0 if it worked."""
    integers, handles = POINTER(c_int), POINTER(c_void_p)
    library.nvjpegCreateEx.argtypes = [c_int, c_void_p, c_void_p, c_uint, handles]
    library.nvjpegDestroy.argtypes = [c_void_p]
    library.nvjpegJpegStateCreate.argtypes = [c_void_p, handles]
    library.nvjpegJpegStateDestroy.argtypes = [c_void_p]
    library.nvjpegGetImageInfo.argtypes = [c_void_p, c_char_p, c_size_t, *[integers] * 4]
    library.nvjpegDecode.argtypes = [
        c_void_p, c_void_p, c_char_p, c_size_t, c_int, POINTER(_Image), c_void_p,
    ]  # fmt: skip
