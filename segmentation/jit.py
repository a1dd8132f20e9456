"""Turns plain Python loops into machine code where Numba is there, and says whether it is."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import pickle
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segmentation import store

if TYPE_CHECKING:
    from typing import Final

try:
    import numba
except ImportError:  # pragma: no cover - the tests remove it in a process of their own
    numba = None

F = TypeVar("F", bound=Callable[..., Any])

COMPILED: Final = numba is not None
WHAT: Final = "compiled pixel loops"
_inlined: list[Callable[[], None]] = []  # compile those that only others call; see `compiled`


def compiled(signature: str, *, inline: bool = False) -> Callable[[F], F]:
    """Compile the function below for `signature` now, or take it from the cache on disk.

    `inline` is for small loops that others call on a few dozen pixels: each argument that is an
    array makes a call dearer, until the call costs ten times the loop. Python never calls them, so
    they are compiled only where one that calls them is not on disk, and are not kept themselves.

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
            made = numba.njit(**options)(function)

            def compile_now() -> None:
                made.compile(signature)
                made.disable_compile()

            if inline:
                _inlined.append(compile_now)
            else:
                made._cache = Kept(function)
                compile_now()
            loop: F = made
            return loop

    return build


class Kept:
    """Machine code that Numba made of one function, on disk. Stands where Numba's own cache would.

    Numba's own reads pickles wherever it finds them, and ends in a traceback where one is damaged.
    This one reads only what `store` vouches for, and has it made anew otherwise.
    """

    cache_path = ""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._store = store.Store(_folder(Path(inspect.getfile(function)).parent), WHAT)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return what was compiled for `signature` before, or None."""
        target.refresh()
        name = self._name(signature, target.codegen())
        data = self._store.get(name)
        if data is None:
            return _missing()
        try:
            from numba.core.compiler import CompileResult

            return CompileResult._rebuild(target, *pickle.loads(data))
        except Exception as error:  # whatever it is: it can be made anew
            self._store.forget(name, f"{type(error).__name__}: {error}")
            return _missing()

    def save_overload(self, signature: Any, made: Any) -> None:
        """Keep what was compiled."""
        try:
            from numba.core.serialize import dumps

            data = dumps(made._reduce())
        except Exception as error:  # of a Numba that works otherwise inside
            store.tell(f"The {WHAT} are not kept: {type(error).__name__}: {error}")
            return
        stem = self._function.__qualname__
        self._store.put(self._name(signature, made.codegen), data, alike=f"{stem}-*.loop")

    def enable(self) -> None:
        """Nothing: it is on."""

    disable = flush = enable

    def _name(self, signature: Any, codegen: Any) -> str:
        """Name the function, everything its code depends on, and this processor."""
        parts = (
            numba.__version__,
            platform.python_version(),
            codegen.magic_tuple(),
            signature,
            _digest(inspect.getfile(self._function)),
            _numbers(self._function),
        )
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return f"{self._function.__qualname__}-{key}.loop"


def _missing() -> None:
    """Have what the loop may call compiled before it is compiled itself."""
    # All at once, in order: one of them calls others, which must be whole by then.
    pending = _inlined[:]
    _inlined.clear()
    for compile_now in pending:
        compile_now()


@functools.cache
def _folder(beside: Path) -> Path | None:
    """Return where the loops of the sources in `beside` are kept, or None."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return store.private([Path(chosen)])
    here = beside / "__pycache__"
    if os.access(here if here.exists() else beside, os.W_OK) and not store.why_not(beside):
        return store.private([here, *_loops()])
    return store.private(_loops())


def _loops() -> list[Path]:
    return [path / "loops" for path in store.fallbacks()]


def _numbers(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Constants of the function's module, those from other files too: its code holds them."""
    found = function.__globals__.items()
    return sorted((name, repr(value)) for name, value in found if isinstance(value, (int, float)))


@functools.cache
def _digest(source: str) -> str:
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()
