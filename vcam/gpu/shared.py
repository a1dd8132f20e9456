"""Memory that the daemon and the GPU's process both see: pictures cross without being copied."""

from __future__ import annotations

import mmap
import os
import secrets
import sys


class SharedMemory:
    """Blocks of memory that two processes map, and no third can open.

    On Linux they lie in one file without a name, which a child inherits; on Windows each is a
    section whose name nobody can guess. Both vanish with the last process that has them.
    """

    def __init__(self, key: str = "") -> None:
        """Make such memory, or join that of another process by its `key`."""
        self._fd = -1
        if sys.platform == "win32":
            self.key = key or f"vcam-{secrets.token_hex(16)}"
        else:
            self._fd = int(key) if key else _nameless()
            self.key = str(self._fd)
        self._end = 0

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors that a child must be given."""
        return () if self._fd < 0 else (self._fd,)

    def add(self, size: int) -> int:
        """Return the offset of a new block of `size` bytes; for one of the two processes alone."""
        start, self._end = self._end, self._end + size
        if sys.platform != "win32":
            os.ftruncate(self._fd, self._end)
        return start

    def map(self, offset: int, size: int) -> mmap.mmap:
        """Map the block at `offset`."""
        if sys.platform == "win32":
            return mmap.mmap(-1, size, tagname=f"{self.key}-{offset}")
        return mmap.mmap(self._fd, size, offset=offset)

    def close(self) -> None:
        """Close the file; what is mapped stays so."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _nameless() -> int:
    if sys.platform == "linux":
        return os.memfd_create("vcam", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
