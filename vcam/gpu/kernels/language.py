"""Triton's language, and kernels in it that are launched as they were shipped, if they were.

Without Triton the kernels can still be read, and the shipped ones launched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor

from vcam.gpu.kernels import shipped

try:
    import triton
    import triton.language as tl

    HERE = True
except ImportError:
    HERE = False
    tl = SimpleNamespace(constexpr=lambda value: value)
    triton = SimpleNamespace(
        jit=lambda function: function,
        cdiv=lambda n, k: -(-n // k),
        next_power_of_2=lambda n: 1 << (n - 1).bit_length(),
    )

WARPS: Final = 4  # of a block, where a launch does not say
TYPES: Final = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8",
    torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A kernel for arguments of some types, with the constants that are compiled into it."""

    name: str
    warps: int
    types: tuple[str, ...]  # of the arguments that are handed over
    constants: tuple[tuple[str, int], ...]

    @property
    def key(self) -> str:
        """All of it, as a line of text."""
        fixed = (f"{name}={value}" for name, value in self.constants)
        return " ".join((self.name, str(self.warps), ",".join(self.types), *fixed))


class Kernel:
    """A function that Triton compiles, launched by `kernel[(blocks,)](*arguments, **constants)`.

    What is compiled into it are its constants and nothing else: neither that a number is 1 or a
    multiple of 16, nor where memory lies, but for `aligned`. So a few variants serve every size.
    `aligned`: all tensors begin at multiples of 16 bytes, as torch's own do, and are read by as
    many at once.
    """

    def __init__(self, function: Callable[..., None], *, aligned: bool = False) -> None:
        self.fn, self.name, self.aligned = function, function.__name__, aligned
        each = inspect.signature(function).parameters.values()
        self.names = [parameter.name for parameter in each]
        self.constants = [p.name for p in each if p.annotation == "tl.constexpr"]
        self.given = [name for name in self.names if name not in self.constants]
        how = {} if aligned else {"do_not_specialize": self.given}
        self.compiled: Any = (
            triton.jit(**how)(function) if isinstance(triton, type(inspect)) else None
        )

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """Return what launches it in so many blocks."""

        def launch(*args: Any, num_warps: int = WARPS, **named: Any) -> None:
            self._launch(grid, dict(zip(self.names, args, strict=False)) | named, num_warps)

        return launch

    def variant(self, arguments: dict[str, Any], warps: int) -> Variant:
        """Return what has to be compiled for such arguments."""
        constants = tuple((name, int(arguments[name])) for name in self.constants)
        types = tuple(_type_of(arguments[name]) for name in self.given)
        return Variant(self.name, warps, types, constants)

    def _launch(self, grid: tuple[int, ...], arguments: dict[str, Any], warps: int) -> None:
        given = [arguments[name] for name in self.given]
        device = next(x.device for x in given if isinstance(x, Tensor))
        if device.type == "cuda":
            variant = self.variant(arguments, warps)
            found = None if self._astray(given) else shipped.find(self.fn, variant.key, device)
            if found is not None:
                found(grid[0], given, variant.types)
                return
        if self.compiled is None:
            raise RuntimeError(f"the kernel {self.name} is not shipped so, and there is no Triton")
        self.compiled[grid](**arguments, num_warps=warps)

    def _astray(self, given: list[Any]) -> bool:
        """True if a tensor is not where the shipped kernel expects it."""
        return self.aligned and any(x.data_ptr() % 16 for x in given if isinstance(x, Tensor))


def kernel(function: Callable[..., None] | None = None, *, aligned: bool = False) -> Any:
    """Make a `Kernel` of a function; a decorator."""
    if function is None:
        return lambda wrapped: Kernel(wrapped, aligned=aligned)
    return Kernel(function)


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"
