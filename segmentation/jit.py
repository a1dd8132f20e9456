"""Turns plain Python loops into machine code: that compiled ahead, or Numba's if it is there."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import pickle
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segmentation import ahead, store

if TYPE_CHECKING:
    from typing import Final

F = TypeVar("F", bound=Callable[..., Any])

# How loops run, if not by the first of these that is possible: "ahead", "numba" or "plain".
CHOSEN: Final = os.environ.get("VCAM_LOOPS", "")
WHAT: Final = "compiled pixel loops"
_inlined: list[Callable[[], None]] = []  # compile those that only others call; see `compiled`


@dataclass(frozen=True)
class Module:
    """A file of loops: what they run by, and how each is compiled."""

    source: str  # hash of what its code depends on
    entries: ahead.Entries | None  # those compiled ahead that Python calls
    names: dict[str, Any]  # its globals
    loops: dict[str, Loop]


@dataclass(frozen=True)
class Loop:
    """A loop as it is written."""

    function: Callable[..., Any]
    signature: str
    inline: bool


modules: dict[str, Module] = {}


def compiled(signature: str, *, inline: bool = False) -> Callable[[F], F]:
    """Find or make the machine code of the function below, for `signature`.

    Where its module was compiled ahead, as it is now, that is taken; loops that only other loops
    call stay as they are then. Else Numba compiles it now, or takes it from the cache on disk.

    `inline` is for small loops that others call on a few dozen pixels: each argument that is an
    array makes a call dearer, until the call costs ten times the loop. Python never calls them, so
    they are compiled only where one that calls them is not on disk, and are not kept themselves.

    One signature each: a call with other types fails instead of compiling in the middle of a
    call. No fastmath: results are the same bits as the NumPy versions give.
    """

    def build(function: F) -> F:
        module = _module(function)
        module.loops[function.__qualname__] = Loop(function, signature, inline)
        if module.entries is not None:
            entry: Any = module.entries.get(function.__qualname__, function)
            found: F = entry
            return found
        if how(function.__module__) == "numba":
            return _by_numba(function, signature, inline)
        if not CHOSEN:
            here = "whole: install the program again" if ahead.faults else "for this system"
            store.tell(f"There are no {WHAT} {here}; NumPy takes several times as long")
        return function

    return build


def made(loop: Callable[..., Any]) -> bool:
    """True if `compiled` has machine code of a loop; if not, its like in NumPy is quicker."""
    return not inspect.isfunction(loop)


def how(module: str) -> str:
    """Say by what the loops of a module run: "ahead", "numba" or "plain"."""
    if modules[module].entries is not None:
        return "ahead"
    return "plain" if CHOSEN in ("ahead", "plain") or not _has_numba() else "numba"


def _module(function: Callable[..., Any]) -> Module:
    """Return what is known of a function's module, from the first of its loops on."""
    name, names = function.__module__, function.__globals__
    known = modules.get(name)
    if known is None or known.names is not names:  # of a file that is loaded anew
        source = ahead.source(inspect.getfile(function), names)
        entries = None if CHOSEN in ("numba", "plain") else ahead.entries(name, source)
        known = modules[name] = Module(source, entries, names, {})
    return known


@functools.cache
def _has_numba() -> bool:
    there = importlib.util.find_spec("numba") is not None
    return there and os.environ.get("NUMBA_DISABLE_JIT") != "1"


def _by_numba(function: F, signature: str, inline: bool) -> F:
    import numba

    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "forceinline": inline}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
        import numba

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
