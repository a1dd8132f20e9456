"""Pictures in memory that daemon and keeper share: slots that go round, each with a number.

A slot's number is nought while somebody draws into it. Who copies a picture out compares the number
before and after with that in the message, so that a torn one is known for what it is.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct

SLOTS = 4  # the reader has the newest: the writer is three pictures away from it
CARD = SLOTS  # one more, which has the card and nothing else
_NUMBER = struct.Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW  # who maps it would be killed if it shrank


class Pictures:
    """Shared pictures of `size` bytes: made by the writer, mapped by the reader from a descriptor.

    Raises:
        OSError: the memory is too small, or could be made smaller later.
    """

    def __init__(self, size: int, fd: int = -1) -> None:
        self.size = size
        self._step = -(-self.size // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = mmap.PAGESIZE + (SLOTS + 1) * self._step
        self.fd = fd if fd >= 0 else _made(whole)
        try:
            sealed = fcntl.fcntl(self.fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            if not sealed or os.fstat(self.fd).st_size < whole:
                raise OSError("the pictures' memory is not what it should be")
            self.memory = mmap.mmap(self.fd, whole)
        except BaseException:
            if fd < 0:
                os.close(self.fd)
            raise
        self._anchor: object = ctypes.c_char.from_buffer(self.memory)
        self._base = ctypes.addressof(self._anchor)

    def address(self, slot: int) -> int:
        """The place of a slot's picture in this process.

        Raises:
            OSError: there is no such slot.
        """
        return self._base + self._at(slot)

    def view(self, slot: int) -> memoryview:
        """A slot's picture, for its writer; let go before the memory is closed."""
        return memoryview(self.memory)[self._at(slot) : self._at(slot) + self.size]

    def number(self, slot: int) -> int:
        """The number of the picture in a slot; nought while it is drawn."""
        self._at(slot)
        found: int = _NUMBER.unpack_from(self.memory, slot * _NUMBER.size)[0]
        return found

    def mark(self, slot: int, number: int) -> None:
        """Number the picture in a slot."""
        _NUMBER.pack_into(self.memory, slot * _NUMBER.size, number)

    def _at(self, slot: int) -> int:
        if not 0 <= slot <= CARD:
            raise OSError(f"there is no slot {slot}")
        return mmap.PAGESIZE + slot * self._step

    def close(self) -> None:
        """Let go of memory and descriptor; the other end keeps what it has mapped."""
        self._anchor = None
        self.memory.close()
        os.close(self.fd)


def _made(size: int) -> int:
    """A descriptor of fresh memory, whose size is settled."""
    fd = os.memfd_create("vcam-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd
