"""The process's memory: nothing of the room stays in it, and none of it gets into a core dump.

Whoever holds a camera's pixels overwrites them when they are no longer wanted (`wipe`). What others
made of them and gave back, decoders and libraries above all, lies about in the C library's free
memory: `scrub` clears that.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PR_SET_DUMPABLE: Final = 4  # of prctl(2)
PAGE: Final = mmap.PAGESIZE
LARGEST: Final = 16 << 20  # bytes; larger pieces of free memory are cleared in several parts
SMALL: Final = 1032  # bytes; each thread keeps some free pieces of up to this size to itself
LEAST: Final = 24  # bytes of the smallest piece, on 64-bit machines
MOST: Final = 200_000  # pieces that are cleared at once, at most: a few tenths of a second
MAPPED: Final = 2  # bit in the size before a piece that is a mapping of its own
M_PERTURB: Final = -6  # of mallopt(3)
MADV_DONTNEED: Final = 4  # of madvise(2)
RTLD_LAZY: Final = 1  # of dlopen(3),
RTLD_NOLOAD: Final = 4  # which then counts on what is loaded, and loads nothing
# A mapping of a library that nobody may write to and that is this process's own view of the file
ONLY_READ: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \d+ +(/.*\.so[.\d]*)\n")


def blank(arrays: Iterable[NDArray[Any] | None]) -> None:
    """Overwrite each array; those that nobody may write to are somebody else's to wipe."""
    for array in arrays:
        if array is not None and array.flags.writeable:
            array.fill(0)


def mapped(size: int) -> mmap.mmap:
    """Return `size` bytes that the system takes back, cleared, as soon as nobody holds them."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def mapped_array(*shape: int) -> NDArray[np.uint8]:
    """Zeros in a mapping of their own, for pictures: nothing is left of them in free memory.

    Shapes:
        returns: `shape` uint8
    """
    # Not a view of another array: views of this one would hold that one instead (numpy shortens
    # chains of bases), and a stock could not tell from its reference count that it is in use.
    return np.ndarray(shape, np.uint8, mapped(math.prod(shape)))


def never_dumped() -> None:
    """Keep this process out of core dumps, and its memory from other programs of this user.

    A limit alone does not do: the kernel ignores it where dumps go to a program. Does nothing
    outside Linux but for the limit. `/proc/PID` belongs to root from then on: who holds a device
    open, this user's other programs are told by the daemon itself (`vcam/system/devices.py`).
    """
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def scrub() -> None:
    """Clear the memory that was given back to the C library, as far as this thread reaches.

    That is all but the few small pieces that each other thread keeps to itself. Whole free pages
    go back to the system; of what is left every piece is taken, cleared and given back again.
    Takes some ten milliseconds and no lock. Does nothing with other libraries than glibc.
    """
    library = _glibc()
    if library is None:
        return
    library.malloc_trim(0)
    _sponge(library, _sizes(LARGEST))
    library.malloc_trim(0)


@contextlib.contextmanager
def overwritten_when_freed() -> Iterator[None]:
    """Have the C library overwrite memory as it is given back, in every thread, for as long.

    For decoders of a camera's picture: between their `free` and a `scrub` another thread may take
    that memory, keep it, and not write to all of it. The smallest pieces, up to `SMALL`, and the
    last eight bytes of others are left to `scrub`. Costs a pass over what is taken and given back.
    One block at a time. Does nothing with other libraries than glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_PERTURB, 1)
    try:
        yield
    finally:
        library.mallopt(M_PERTURB, 0)


def scrub_own() -> None:
    """Clear the small pieces of free memory that this very thread keeps to itself."""
    library = _glibc()
    if library is not None:
        _sponge(library, _sizes(SMALL), most=7 * SMALL // 16)


def let_go_of_libraries() -> int:
    """Give back what libraries only read of their files, code above all; return how many bytes.

    Whoever needs a page of it again waits a microsecond: the system keeps the files' contents for
    as long as it has memory to spare. For a rest, then, and never in the frame loop: it takes some
    ten milliseconds. Does nothing outside Linux.
    """
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, AttributeError, ValueError):
        system = ctypes.CDLL(None)
        system.dlopen.restype = ctypes.c_void_p
        system.dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
        system.dlclose.argtypes = [ctypes.c_void_p]
        system.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        with Path("/proc/self/maps").open() as lines:
            paths = {found[3] for line in lines if (found := ONLY_READ.fullmatch(line))}
        # Line by line: all of it takes megabytes.
        with _counted_on(system, paths) as stays, Path("/proc/self/smaps").open() as lines:
            given = 0
            for start, size, path, held in _clean(lines):
                if path in stays and not system.madvise(start, size, MADV_DONTNEED):
                    given += held
            return given
    return 0


@contextlib.contextmanager
def _counted_on(system: Any, paths: Iterable[str]) -> Iterator[set[str]]:
    """Keep libraries where they are: no other mapping can take the place of theirs meanwhile."""
    handles: dict[str, int] = {}
    try:
        for path in paths:
            if handle := system.dlopen(path.encode(), RTLD_LAZY | RTLD_NOLOAD):
                handles[path] = handle
        yield set(handles)
    finally:
        for handle in handles.values():
            system.dlclose(handle)


def _clean(lines: Iterable[str]) -> Iterator[tuple[int, int, str, int]]:
    """Libraries' mappings that are as they are in the file: start, size, path, bytes in memory.

    What the loader wrote into some that are only read since, addresses, is nowhere else; where it
    was swapped out it is not among what is in memory. The lines are those of `/proc/self/smaps`.
    """
    at: tuple[int, int, str] | None = None
    held = own = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name == "Rss":
            held = int(value.split()[0]) * 1024
        elif name == "Anonymous":
            own = int(value.split()[0])
        elif name == "Swap" and at is not None and own == int(value.split()[0]) == 0:
            yield *at, held
        elif "-" in name.partition(" ")[0]:
            found = ONLY_READ.fullmatch(line)
            start, end = (int(found[1], 16), int(found[2], 16)) if found else (0, 0)
            at = (start, end - start, found[3]) if found else None


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def _glibc() -> Any:
    """The C library, called with the interpreter's lock held; None if it is another."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        library = ctypes.PyDLL(None)  # each call is far shorter than letting the lock go
        library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
        library.malloc.argtypes, library.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_ssize_t]
        library.free.argtypes = [ctypes.c_void_p]
        library.mallinfo2.restype = _MallInfo  # since 2.33
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return library


def _sizes(largest: int) -> Iterator[int]:
    """Sizes of pieces to ask for, largest first; small ones are kept by their exact size."""
    while largest > SMALL:
        yield largest
        largest //= 2
    yield from range(SMALL, LEAST - 1, -16)


def _sponge(library: Any, sizes: Iterable[int], *, most: int = MOST) -> None:
    """Take every free piece, clear it, and give all of them back."""
    # Pieces from here on were not given back by anybody: they are fresh from the system.
    fresh = (library.sbrk(0) or 0) - library.mallinfo2().keepcost
    malloc, memset, header = library.malloc, ctypes.memset, ctypes.c_size_t.from_address
    # Where they are is not noted in that same memory: a list would lie on what is not cleared yet.
    held, count = memoryview(mapped(8 * most)).cast("Q"), 0
    try:
        for size in sizes:
            while count < most:
                at = malloc(size)
                if not at:
                    return
                held[count] = at
                count += 1
                if at >= fresh or header(at - 8).value & MAPPED:
                    break
                # Whole pages inside were given back to the system, and would come again.
                inside, end = -(-at // PAGE) * PAGE, at + size
                if end - inside <= PAGE:
                    memset(at, 0, size)
                else:
                    memset(at, 0, inside - at)
                    memset(end // PAGE * PAGE, 0, end % PAGE)
    finally:
        for i in range(count):
            library.free(held[i])
