"""Loops over pixels as they were compiled before the release: nobody needs a compiler, or waits.

`python -m vcam.loops.ship` makes the files, one for each generation of processors, with Numba, and
a card that says what they were made of. A file is read from beside this one and from nowhere else.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import logging
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

FOLDER: Final = Path(__file__).parent
CARD: Final = FOLDER / "card.json"
LICENCE: Final = FOLDER / "LICENSE-numba.txt"  # of code that Numba put into the files
# What Linux calls the abilities of each generation beyond those of the one before, oldest first.
GENERATIONS: Final = {
    "x86-64-v2": ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    "x86-64-v3": ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}

Entries = Mapping[str, Callable[..., Any]]
faults: Final[
    list[str]
] = []  # found in the files so far; none of them keeps the program from running


def source(path: str, names: Mapping[str, object]) -> str:
    """Return a hash of a file of loops, and of the numbers that it took from others.

    To be asked when its module holds no other numbers yet; "" where the file is not there.
    """
    numbers = [
        (name, repr(int(n) if isinstance(n, int) else float(n)))
        for name, n in sorted(names.items())
        if isinstance(n, (int, float))
    ]
    try:
        made = hashlib.sha256(Path(path).read_bytes())
    except OSError:
        return ""
    made.update(repr(numbers).encode())
    return made.hexdigest()[:16]


def entries(module: str, made_of: str) -> Entries | None:
    """Return the loops of a module that Python calls, by name; None where none suit its source."""
    if not made_of or _card().get("sources", {}).get(module) != made_of:
        return None
    found = {name: loop for name, loop in loops().items() if name.rpartition(".")[0] == module}
    return {name.rpartition(".")[2]: loop for name, loop in found.items()} or None


def generation(flags: frozenset[str]) -> str | None:
    """Return the youngest generation that a processor with such abilities belongs to."""
    suits = None
    for name, needed in GENERATIONS.items():
        if not flags.issuperset(needed):
            break
        suits = name
    return suits


@functools.cache
def loops() -> Entries:
    """Return every loop for this processor; none where its file is missing or damaged."""
    name = generation(_flags()) if _runs_here() else None
    if name is None:
        return {}
    path = FOLDER / f"{name}.so"
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() == _card()["objects"][name]["sha256"]:
            return opened(path)
        _tell(f"The compiled pixel loops in {path} are not those that its card tells of")
    except (OSError, LookupError, TypeError, ImportError) as error:
        _tell(f"The compiled pixel loops in {path} are not used: {error}")
    return {}


def opened(path: Path) -> Entries:
    """Return the loops of a file, by name."""
    name = f"{__name__}.loops"  # not that of a module of somebody else's
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return vars(module)


def _runs_here() -> bool:
    """True for the one system that files are made for. Python without its lock takes others."""
    system = sys.platform, platform.machine(), sys.implementation.name
    return system == ("linux", "x86_64", "cpython") and "t" not in getattr(sys, "abiflags", "")


@functools.cache
def _flags() -> frozenset[str]:
    """Return the abilities of this processor, by Linux's names."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(line.partition(":")[2].split())


@functools.cache
def _card() -> dict[str, Any]:
    try:
        card = json.loads(CARD.read_text(encoding="utf-8"))
        return {name: dict(card[name]) for name in ("sources", "objects")}
    except (OSError, LookupError, TypeError, ValueError) as error:
        _tell(f"The compiled pixel loops are not used, {CARD} is damaged: {error}")
        return {}


def _tell(fault: str) -> None:
    faults.append(fault)
    log.warning("%s", fault)
