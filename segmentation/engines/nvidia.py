"""Whether there is an NVIDIA GPU that torch could use, found out without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

DRIVER: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OLDEST: Final = 7.0  # compute capability: fp16 in tensor cores, and what torch is still built for


@cache
def why_not() -> str:
    """Return why CUDA cannot be used here, as half a sentence; "" if it can.

    Answered once per process: drivers do not come and go under one.
    """
    name, reason = card()
    if reason:
        return reason
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        return f"there is an {name}, but torch is not installed"
    built = torch_cuda()
    if not built:
        return f"there is an {name}, but the torch that is installed is built without CUDA"
    newest = driver_cuda()
    if newest and newest[0] < built[0]:
        return (
            f"the NVIDIA driver knows CUDA {newest[0]}.{newest[1]}, "
            f"and torch is built for {built[0]}.{built[1]}"
        )
    return ""


def card() -> tuple[str, str]:
    """Return the first GPU's name and "", or "" and why there is none; creates no context."""
    driver = _driver()
    if driver is None:
        return "", "there is no NVIDIA driver"
    error = driver.cuInit(0)
    if error:
        return "", f"the NVIDIA driver does not answer (error {error})"
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "", "the NVIDIA driver sees no GPU"
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    called = name.value.decode(errors="replace") or "NVIDIA GPU"
    if major.value + minor.value / 10 < OLDEST:
        return "", f"the {called} is too old: compute capability {major.value}.{minor.value}"
    return called, ""


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA version the driver knows."""
    driver, version = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10


def torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version torch was built for, read from its files; None for a CPU build."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        return None
