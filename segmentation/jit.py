"""Turns plain Python loops into machine code where Numba is there, and says whether it is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing import Final

try:
    import numba
except ImportError:  # pragma: no cover - the tests remove it in a process of their own
    numba = None

F = TypeVar("F", bound=Callable[..., Any])

COMPILED: Final = numba is not None


def compiled(signature: str, *, inline: bool = False) -> Callable[[F], F]:
    """Compile the function below for `signature` now, or take it from the cache on disk.

    `inline` is for small loops that others call on a few dozen pixels: each argument that is an
    array makes a call dearer, until the call costs ten times the loop.

    One signature each: a call with other types fails instead of compiling in the middle of a
    call. No fastmath: results are the same bits as the NumPy versions give.
    """

    def build(function: F) -> F:
        if numba is None:
            return function
        options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
        options["forceinline"] = inline
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if os.environ.get("NUMBA_DISABLE_JIT") == "1":
                return function
            try:
                made: F = numba.njit(signature, cache=True, **options)(function)
            except RuntimeError:  # nowhere to write the cache
                made = numba.njit(signature, **options)(function)
            return made

    return build
