"""Triton's kernels as they were compiled before the release: no user needs a compiler, or waits.

`vcam.gpu.kernels.ship` makes the files, one for each kind of GPU, with Triton; they are launched by
the driver, without. A kernel whose source is another by now is not used, and Triton compiles it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import io
import json
import logging
import lzma
import textwrap
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from segmentation.engines import nvidia

log = logging.getLogger(__name__)

FOLDER: Final = Path(__file__).parent / "compiled"
CAPABILITIES: Final = (75, 80, 86, 89, 90, 100, 120)  # ten times what a file is made for
PACKAGE: Final = __package__ or ""
used: set[str] = set()  # keys of what was taken from a file in this process
missed: set[str] = set()  # and of what was not there, or is of another source


@dataclass(frozen=True)
class Compiled:
    """A kernel as it lies in a file, for arguments of one kind."""

    source: str  # digest of what it was compiled from
    start: int  # of its code, among that of all
    size: int
    shared: int  # bytes of shared memory that a block takes
    threads: int  # of a block


@dataclass(frozen=True)
class Shelf:
    """All kernels that were compiled for one kind of GPU, by `Variant.key`."""

    kernels: dict[str, Compiled]
    code: bytes  # of all of them, one after the other

    @classmethod
    def read(cls, path: Path) -> Shelf:
        """Return what a file holds; nothing if there is none of use."""
        try:
            content = lzma.decompress(path.read_bytes())
            head, _, code = content.partition(b"\n")
            kernels = {key: Compiled(*each) for key, each in json.loads(head).items()}
        except (OSError, lzma.LZMAError, ValueError, TypeError) as error:
            log.info("The kernels in %s are not used: %s", path.name, error)
            return cls({}, b"")
        return cls(kernels, code)

    def code_of(self, compiled: Compiled) -> bytes:
        """Return what the driver loads for one of its kernels."""
        return self.code[compiled.start : compiled.start + compiled.size]

    def packed(self) -> bytes:
        """Return the content of its file."""
        rows = {
            key: [each.source, each.start, each.size, each.shared, each.threads]
            for key, each in self.kernels.items()
        }
        head = json.dumps(rows, separators=(",", ":")).encode()
        return lzma.compress(head + b"\n" + self.code, preset=9 | lzma.PRESET_EXTREME)


def path_for(capability: int) -> Path:
    """Return the file of the kernels for a GPU of such a compute capability, times ten."""
    return FOLDER / f"sm_{capability}.xz"


def suits(major: int, minor: int) -> int | None:
    """Return which of `CAPABILITIES` runs on such a GPU; None if none does.

    Code runs on a later GPU of the same generation, but for what Triton compiles from 9.0 on: that
    is for one alone.
    """
    wanted = 10 * major + minor
    known = [c for c in CAPABILITIES if c // 10 == major and c <= wanted]
    return max(known, default=None) if major < 9 or wanted in known else None


@functools.cache
def shelf(capability: int) -> Shelf:
    """Return the kernels for such a GPU, read once."""
    return Shelf.read(path_for(capability))


def find(function: Callable[..., None], key: str, device: torch.device) -> Launch | None:
    """Return what launches a kernel on a GPU; None if it is not shipped so."""
    index = torch.cuda.current_device() if device.index is None else device.index
    found = _loaded(function, key, index)
    (missed if found is None else used).add(key)
    return found


@functools.cache
def _loaded(function: Callable[..., None], key: str, index: int) -> Launch | None:
    capability = suits(*torch.cuda.get_device_capability(index))
    if capability is None:
        return None
    known = shelf(capability)
    compiled = known.kernels.get(key)
    if compiled is None or compiled.source != digest(function):
        return None
    try:
        return Launch(function.__name__, known.code_of(compiled), compiled)
    except RuntimeError as error:
        log.warning("%s: Triton has to compile it.", error)
        return None


class Launch:
    """A kernel in the GPU's memory, as long as the process lives.

    Raises:
        RuntimeError: the driver refuses it.
    """

    def __init__(self, name: str, code: bytes, compiled: Compiled) -> None:
        self._driver = ctypes.CDLL(nvidia.DRIVER)
        self._name, self._compiled, self._code = name, compiled, code
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self._driver.cuModuleLoadData(ctypes.byref(module), code))
        self._check(
            self._driver.cuModuleGetFunction(ctypes.byref(self._function), module, name.encode())
        )

    def __call__(self, blocks: int, given: list[Any], types: tuple[str, ...]) -> None:
        """Launch so many blocks on torch's stream, which may be recording."""
        values = [
            _TYPES.get(t, ctypes.c_void_p)(_value(x)) for x, t in zip(given, types, strict=True)
        ]
        values += [ctypes.c_void_p(), ctypes.c_void_p()]  # memory that none of ours asks for
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = torch.cuda.current_stream().cuda_stream
        config = _Config(
            blocks, 1, 1, self._compiled.threads, 1, 1, self._compiled.shared, stream, None, 0
        )
        self._check(
            self._driver.cuLaunchKernelEx(ctypes.byref(config), self._function, pointers, None)
        )

    def _check(self, error: int) -> None:
        if error:
            raise RuntimeError(f"the driver refuses the kernel {self._name} (error {error})")


class _Config(ctypes.Structure):
    """`CUlaunchConfig` of the driver."""

    _fields_ = (
        *((f"{what}_{axis}", ctypes.c_uint) for what in ("grid", "block") for axis in "xyz"),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


_TYPES: Final[dict[str, Any]] = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}


def _value(x: Any) -> Any:
    return x.data_ptr() if isinstance(x, Tensor) else x


@functools.cache
def digest(function: Callable[..., None]) -> str:
    """Return a hash of what a kernel is compiled from.

    That is its code and that of the functions it calls, and the constants that they name; not
    comments, documentation or how lines are broken.
    """
    found: dict[str, str] = {}
    _collect(function, found)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def _collect(function: Callable[..., None], found: dict[str, str]) -> None:
    name = f"{function.__module__}.{function.__name__}"
    if name in found:
        return
    found[name] = _words(function)
    for each in function.__code__.co_names:
        value = function.__globals__.get(each)
        value = getattr(value, "value", value)  # as Triton wraps a constant
        inner = getattr(value, "fn", value)  # and a function
        if isinstance(value, (int, float)):
            found[f"{function.__module__}.{each}"] = repr(value)
        elif inspect.isfunction(inner) and inner.__module__.startswith(PACKAGE):
            _collect(inner, found)


def _words(function: Callable[..., None]) -> str:
    """Return the tokens of a function's source, one after the other."""
    source = textwrap.dedent(inspect.getsource(function))
    kept: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        alone = bool(kept) and kept[-1].type in (tokenize.INDENT, tokenize.NEWLINE)
        if token.type != tokenize.STRING or not alone:
            kept.append(token)
    return " ".join(tokenize.tok_name[t.type] if not t.string.strip() else t.string for t in kept)
