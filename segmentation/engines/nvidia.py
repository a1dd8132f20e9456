"""Detection of an NVIDIA GPU that torch could use, without importing torch."""

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


def why_not() -> str:
    """Return why CUDA cannot be used here, as half a sentence; "" if it can."""
    return _verdict()[0]


def remedy() -> str:
    """Return what to do so that CUDA can be used, as a sentence; "" if it can, or never will."""
    return _verdict()[1]


@cache
def _verdict() -> tuple[str, str]:
    """Reason against CUDA and its remedy; found once per process, since drivers stay under it."""
    name, reason = card()
    if reason:
        return reason, _REMEDIES.get(reason.partition(" (")[0], "")
    pip = f"`{sys.executable} -m pip install"
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        bring = f"{pip} torch safetensors` brings it, some gigabytes."
        return f"there is an {name}, but torch is not installed", bring
    built = torch_cuda()
    if not built:
        return (
            f"there is an {name}, but the torch that is installed is built without CUDA",
            f"{pip} --force-reinstall torch`, with the options that pytorch.org names for CUDA.",
        )
    newest = driver_cuda()
    if newest and newest[0] < built[0]:
        return (
            f"the NVIDIA driver knows CUDA {newest[0]}.{newest[1]}, "
            f"and torch is built for {built[0]}.{built[1]}",
            "Install a newer NVIDIA driver, or a torch for that CUDA.",
        )
    return "", ""


_NO_DRIVER: Final = "there is no NVIDIA driver"
_SILENT: Final = "the NVIDIA driver does not answer"
_BLIND: Final = "the NVIDIA driver sees no GPU"
_REMEDIES: Final = {
    _NO_DRIVER: "Install the NVIDIA driver, if there is an NVIDIA card.",
    _SILENT: "`nvidia-smi` says why; after a driver's update it takes a restart.",
    _BLIND: "`nvidia-smi` says why; CUDA_VISIBLE_DEVICES may hide it.",
}


def card() -> tuple[str, str]:
    """Return the first GPU's name and "", or "" and why there is none; creates no context."""
    driver = _driver()
    if driver is None:
        return "", _NO_DRIVER
    error = driver.cuInit(0)
    if error:
        return "", f"{_SILENT} (error {error})"
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "", _BLIND
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
