"""Files that are whole or not there: written beside their place and named once they are worth it.

A `Draft` has no name at first (`O_TMPFILE`; where that is missing, a hidden one), so that a program
that is killed leaves nothing behind. It appears under a name that was free, and is synced before.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vcam.foreign_text import plain

if TYPE_CHECKING:
    from typing_extensions import Self

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {28})
STALE: Final = 3600.0  # seconds after which nobody is still writing a small file
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0)
_NO_LINKS: Final = frozenset(
    getattr(errno, name) for name in ("EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL")
)


def numbered(path: Path) -> Iterator[Path]:
    """`rec.mp4`, `rec 2.mp4`, `rec 3.mp4` and so on."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem} {number}{path.suffix}")


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what `path` leads to through every link; None if there is nothing."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def printable(path: Path) -> str:
    """`path` in quotes, fit for any terminal whatever its name holds."""
    return f"'{plain(path, None)}'"


def reason(error: Exception) -> str:
    """An error of the file system in words, without the name it was met at."""
    number = getattr(error, "errno", None)
    if number in FULL:
        return "the disk is full"
    if number == errno.ENOENT:
        return "its folder does not exist"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


class Draft:
    """A file that gets its name late. Owned by one thread, closed on exit; unnamed, it is gone.

    It is what libav writes to: `write`, `seek` and `tell`. After a write that failed it takes
    nothing more, or there would be a gap in the middle.

    Raises:
        OSError: the folder is missing, or no file can be made in it.
    """

    def __init__(self, folder: Path, *, mode: int = 0o666) -> None:
        self.folder = folder
        self.path: Path | None = None  # the name it has now, if it has one
        self.fault: OSError | None = None
        self.size = 0
        self._hidden: Path | None = None
        # Names are given relative to the folder itself, which may be renamed meanwhile.
        self._at = os.open(folder, os.O_RDONLY) if os.open in os.supports_dir_fd else None
        try:
            self._fd = self._open(mode)
        except BaseException:
            self._close_folder()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> int:
        """Append or overwrite at the place `seek` went to."""
        if self.fault is not None:
            raise self.fault
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            self.fault = error
            raise
        self.size = max(self.size, self.tell())
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place; what was written is synced before any of it is overwritten."""
        place = os.lseek(self._fd, offset, whence)
        if place < self.size:
            self.sync()
        return place

    def tell(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        if self.fault is not None:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.fault = error
            raise

    def cut(self, size: int) -> None:
        """Drop what comes after `size` bytes, such as the half that fitted on a full disk."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, size)

    @property
    def deleted(self) -> bool:
        """True once somebody has taken away the name it had."""
        return self.path is not None and os.fstat(self._fd).st_nlink == 0

    def appear(self, names: Iterable[Path]) -> Path:
        """Take the first of `names` that is free, synced; all of them lie in its folder.

        Raises:
            FileExistsError: none is free.
            OSError: the folder is gone, or takes no names.
        """
        self.sync()
        for name in names:
            try:
                self._take(name)
            except FileExistsError:
                continue
            self._sync_folder()
            return name
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def replace(self, target: Path) -> None:
        """Take the name `target` from the file that has it, whose owner and permissions it gets."""
        self.sync()
        with contextlib.suppress(OSError, AttributeError):
            facts = target.stat()
            with contextlib.suppress(OSError):  # only root gives files away
                os.fchown(self._fd, facts.st_uid, facts.st_gid)
            os.fchmod(self._fd, facts.st_mode & 0o777)
        if self.path is None and self._hidden is None:
            # Nothing that takes long stands between this and the rename, or a kill leaves it.
            self._take(next(_hidden_names(target)))
        now = self.path or self._hidden
        assert now is not None
        with self._let_go():
            if self._at is None:
                os.replace(now, target)
            else:
                os.replace(now.name, target.name, src_dir_fd=self._at, dst_dir_fd=self._at)
            self.path, self._hidden = target, None
        self._sync_folder()

    def close(self) -> None:
        """Close it; without a name it is gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._hidden is not None:
                with contextlib.suppress(OSError):
                    self._unlink(self._hidden)
            self._close_folder()

    def _open(self, mode: int) -> int:
        if _NAMELESS and self._at is not None and os.path.isdir("/proc/self/fd"):
            # A file system that cannot do it says so in one of several ways.
            with contextlib.suppress(OSError):
                return os.open(".", _NAMELESS | os.O_RDWR, mode, dir_fd=self._at)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY
        for name in _hidden_names(self.folder / "draft"):
            try:
                file = os.open(
                    name if self._at is None else name.name, flags, mode, dir_fd=self._at
                )
            except FileExistsError:
                continue
            self._hidden = name
            return file
        raise AssertionError("there is always another name")

    def _take(self, name: Path) -> None:
        now = self.path or self._hidden
        if now is None:
            os.link(f"/proc/self/fd/{self._fd}", name.name, src_dir_fd=0, dst_dir_fd=self._at)
        elif self._at is None:
            with self._let_go():
                os.rename(now, name)  # refuses a name that is taken, on Windows
                self.path, self._hidden = name, None
        else:
            self._move(now.name, name.name)
        self.path, self._hidden = name, None

    def _move(self, old: str, new: str) -> None:
        """Rename without replacing: a second name, then the first one goes."""
        assert self._at is not None
        try:
            os.link(old, new, src_dir_fd=self._at, dst_dir_fd=self._at)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # FAT knows no second names: reserve the new one and put the file in its place.
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=self._at))
            os.replace(old, new, src_dir_fd=self._at, dst_dir_fd=self._at)
            return
        os.unlink(old, dir_fd=self._at)

    @contextlib.contextmanager
    def _let_go(self) -> Iterator[None]:
        """Close the file while it is renamed, which Windows asks for; elsewhere do nothing."""
        if self._at is not None:
            yield
            return
        place = self.tell()
        os.close(self._fd)
        try:
            yield
        finally:
            self._fd = os.open(self.path or self._hidden or "", os.O_RDWR | _BINARY)
            os.lseek(self._fd, place, os.SEEK_SET)

    def _unlink(self, path: Path) -> None:
        if self._at is None:
            path.unlink()
        else:
            os.unlink(path.name, dir_fd=self._at)

    def _sync_folder(self) -> None:
        if self._at is not None:
            with contextlib.suppress(OSError):  # some file systems do not sync folders
                os.fsync(self._at)

    def _close_folder(self) -> None:
        if self._at is not None:
            os.close(self._at)
            self._at = None


def write_file(path: Path, data: bytes, *, replace: bool, mode: int = 0o666) -> None:
    """Write `data` to `path`, whole or not at all; a link keeps leading where it leads.

    Raises:
        FileExistsError: there is a file already, and `replace` is False.
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    with Draft(target.parent, mode=mode) as draft:
        draft.write(data)
        if replace:
            draft.replace(target)
        else:
            draft.appear([target])


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` so that no reader, whenever the power fails, sees half a file.

    A new file can be read by its owner alone; one that is replaced keeps its permissions.
    """
    Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode(), replace=True, mode=0o600)
    _sweep(Path(os.path.realpath(path)))


def _sweep(target: Path) -> None:
    """Remove what a program that was killed left behind at the last step of replacing `target`."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def _hidden_names(target: Path) -> Iterator[Path]:
    while True:
        yield target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
