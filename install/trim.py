"""Removes from a private environment what the camera never loads; prints what that saved.

Run by the installers with the environment's own Python, never on a shared one: OpenVINO's GPU and
NPU plugins and the readers of formats that are not person models, and libraries' own tests.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

UNUSED = (
    "openvino/libs/*intel_gpu_plugin*",
    "openvino/libs/*intel_npu_plugin*",
    "openvino/libs/cache.json",
    "openvino/include",  # for programs in C++
    "openvino/cmake",
    "openvino/libs/*_tensorflow_frontend*",
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
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)
KEEP = {"openvino_tensorflow_lite_frontend"}  # .tflite models are person models too


def size(path: Path) -> int:
    """Bytes of a file or of everything in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def main() -> int:
    """Trim the environment this Python belongs to; the exit code."""
    if sys.prefix == sys.base_prefix:
        print("This is not a private environment: nothing was removed.", file=sys.stderr)
        return 1
    packages = Path(sysconfig.get_paths()["purelib"])
    saved = 0
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            if path.exists() and not any(name in path.name for name in KEEP):
                saved += size(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{saved / 1e6:.0f} MB removed that the camera never loads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
