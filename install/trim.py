"""Removes from a private environment what the camera never loads; prints what that saved.

The installers run it with the environment's own Python; after a plain `pip install` it is
`python -m vcam.install.trim`. What goes: OpenVINO's plugins for an Intel GPU or NPU that this
machine lacks (`--any-machine` keeps both: for a package) and its readers of formats that are not
person models, libraries' own tests, files for compilers and type checkers.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

UNUSED = (
    "openvino/include",  # for programs in C++
    "openvino/cmake",
    "openvino/tools",  # converts models, and is loaded with OpenVINO wherever it is
    "openvino/libs/*_tensorflow_frontend*",  # .tflite has another one
    "openvino/libs/*_pytorch_frontend*",
    "openvino/libs/*_paddle_frontend*",
    "openvino/libs/*_jax_frontend*",
    "openvino/libs/*_gguf_frontend*",
    "openvino_telemetry",  # it would tell Google Analytics at every start; OpenVINO runs without
    "numba/tests",
    "numba/cuda/tests",
    "llvmlite/tests",
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/**/*.pyi",  # for type checkers
    "cv2/**/*.pyi",
    "pip/**/__pycache__",  # comes back with the next upgrade, and goes again after it
)
# Of a device that is not there: its class in sysfs, and what serves it alone.
DEVICES = {
    "drm": ("openvino/libs/*intel_gpu_plugin*", "openvino/libs/cache.json"),
    "accel": ("openvino/libs/*intel_npu_plugin*",),
}
INTEL = "0x8086"
SETUPTOOLS = (
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)


def size(path: Path) -> int:
    """Bytes of a file or of everything in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def who_needs(package: str) -> list[str]:
    """The installed packages that require `package`."""
    return sorted(
        found.metadata["Name"]
        for found in metadata.distributions()
        for line in found.requires or ()
        if re.match(rf"{package}\b(?!-)", line) and "extra ==" not in line
    )


def without_device(sysfs: Path = Path("/sys/class")) -> tuple[str, ...]:
    """The files of devices that this machine lacks; none where only a driver could tell."""
    if sys.platform == "win32":
        return ()
    return tuple(
        pattern
        for kind, patterns in DEVICES.items()
        for pattern in patterns
        if INTEL
        not in {vendor.read_text().strip() for vendor in sysfs.glob(f"{kind}/*/device/vendor")}
    )


def main() -> int:
    """Trim the environment this Python belongs to; the exit code."""
    if sys.prefix == sys.base_prefix:
        print("This is not a private environment: nothing was removed.", file=sys.stderr)
        return 1
    others = [name for name in who_needs("openvino-telemetry") if name != "openvino"]
    if others:  # as NNCF does, which training uses
        print(f"{', '.join(others)} may load what would go: nothing was removed")
        return 0
    packages = Path(sysconfig.get_paths()["purelib"])
    saved = 0
    unused = UNUSED if "--any-machine" in sys.argv[1:] else UNUSED + without_device()
    # torch asks for setuptools.
    for pattern in unused if who_needs("setuptools") else unused + SETUPTOOLS:
        for path in sorted(packages.glob(pattern)):
            if path.exists():
                saved += size(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{saved / 1e6:.0f} MB removed that the camera never loads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
