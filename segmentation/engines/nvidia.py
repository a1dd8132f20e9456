"""Detection of an NVIDIA GPU that torch could use, without importing torch or waking the GPU.

The driver wakes a GPU that sleeps, and keeps it awake for as long as the process that asked lives.
So it is asked last, when everything else is there, and by a process that ends right after.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

DRIVER: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# Compute capability from which on torch has kernels: by the CUDA it is built for, newest first.
OLDEST: Final = ((13, 7.5), (0, 7.0))
PCI: Final = Path("/sys/bus/pci/devices")
GPUS: Final = Path("/proc/driver/nvidia/gpus")
# One of these is there where a GPU is that is on no PCI bus, or none that is seen from here.
SIGNS: Final = (
    "/proc/driver/nvidia/version",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/etc/nv_tegra_release",
)
ANSWER: Final = 20.0  # seconds that the driver may take


@dataclass(frozen=True)
class Card:
    """Answers of the driver about the first GPU."""

    name: str = ""
    capability: tuple[int, int] = (0, 0)
    cuda: tuple[int, int] = (0, 0)  # the newest it knows
    reason: str = ""  # why there is none


def why_not() -> str:
    """Return why CUDA cannot be used here, as half a sentence; "" if it can."""
    return _verdict()[0]


def remedy() -> str:
    """Return what to do so that CUDA can be used, as a sentence; "" if it can, or never will."""
    return _verdict()[1]


@cache
def _verdict() -> tuple[str, str]:
    """Reason against CUDA and its remedy; found once per process, since drivers stay under it."""
    name = present()
    if not name:
        return "there is no NVIDIA GPU", ""
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
    found = card()
    if found.reason:
        return found.reason, _REMEDIES.get(found.reason.partition(" (")[0], "")
    oldest = next(least for cuda, least in OLDEST if built[0] >= cuda)
    major, minor = found.capability
    if major + minor / 10 < oldest:
        newer = f"torch for CUDA {built[0]} begins at {oldest}"
        return f"the {found.name} is too old: compute capability {major}.{minor}, {newer}", (
            f"{pip} --force-reinstall torch` for CUDA 12 may know it." if major >= 7 else ""
        )
    if found.cuda[0] and found.cuda[0] < built[0]:
        return (
            f"the NVIDIA driver knows CUDA {found.cuda[0]}.{found.cuda[1]}, "
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


def present() -> str:
    """Return the name of an NVIDIA GPU that the system lists, "" if none; wakes nothing."""
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        return "NVIDIA GPU" if (system / DRIVER).exists() else ""
    for about in sorted(GPUS.glob("*/information")):
        model = re.search(r"^Model:\s*(\S.*)$", _text(about), re.MULTILINE)
        if model:
            return model[1].strip()
    for device in PCI.glob("*"):
        display = _text(device / "class").startswith("0x03")
        if display and _text(device / "vendor").strip() == "0x10de":
            return "NVIDIA GPU"
    return "NVIDIA GPU" if any(Path(sign).exists() for sign in SIGNS) else ""


@cache
def card() -> Card:
    """Return what the driver says of the first GPU; asked once, in a process of its own."""
    ask = "from segmentation.engines import nvidia; nvidia.main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", ask], capture_output=True, text=True, timeout=ANSWER, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Card(reason=f"{_SILENT} (in {ANSWER:g} s)")
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        ended = getattr(error, "returncode", type(error).__name__)
        return Card(reason=f"{_SILENT} (asking it ended with {ended})")
    return Card(**{**found, "capability": (*found["capability"],), "cuda": (*found["cuda"],)})


def main() -> None:
    """Ask the driver and print its answers as JSON."""
    print(json.dumps(asdict(ask_driver())))


def ask_driver() -> Card:
    """Ask the driver in this process, which keeps the GPU awake from then on; no context is made.

    Its library stays in the process.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Card(reason=_NO_DRIVER)
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    error = driver.cuInit(0)
    if error:
        return Card(reason=f"{_SILENT} (error {error})")
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return Card(reason=_BLIND)
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Card(
        name.value.decode(errors="replace") or "NVIDIA GPU",
        (major.value, minor.value),
        (version.value // 1000, version.value % 1000 // 10),
    )


def torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version torch was built for, read from its files; None for a CPU build."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    text = _text(Path(spec.submodule_search_locations[0]) / "version.py")
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
