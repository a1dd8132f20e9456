"""Keeps on disk what can be made again: where nobody else can write, each file with its checksum.

What is damaged, or somebody else's, is removed and made anew, and said once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import platformdirs

log = logging.getLogger(__name__)

MOST: Final = 256 << 20  # bytes of a file that is worth reading
_HEAD: Final = b"kept 1 %s\n"
_SIZE: Final = len(_HEAD) - 2 + 64

notes: list[str] = []  # what was wrong on this machine, each said once; for the status


def tell(text: str) -> None:
    """Say in the log, and in `notes`, what was wrong; once."""
    if text not in notes:
        notes.append(text)
        log.warning("%s", text)


def why_not(folder: Path) -> str:
    """Say why what lies in `folder` cannot be trusted; nothing if only this user writes there.

    It and everything above it has to belong to this user or to root, and nobody else may write to
    it; above it, a folder that everybody writes to may have the sticky bit, as /tmp does.
    """
    if not hasattr(os, "getuid"):
        return ""  # Windows: a user's folders are the user's
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        try:
            seen = place.lstat()
        except OSError as error:
            return f"{place}: {error.strerror}"
        if not stat.S_ISDIR(seen.st_mode):
            return f"{place} is no folder"
        if seen.st_uid not in (os.getuid(), 0):
            return f"{place} belongs to uid {seen.st_uid}"
        shared = seen.st_mode & 0o002 or (seen.st_mode & 0o020 and not _mine_alone(seen.st_gid))
        if shared and (place == folder or not seen.st_mode & stat.S_ISVTX):
            return f"others may write to {place}"
    return ""


def private(wanted: Iterable[Path]) -> Path | None:
    """Return the first folder that can be made and written and only this user writes to, or None.

    Raises nothing: without such a folder nothing is kept.
    """
    for path in wanted:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            path = path.resolve()
        except OSError as error:
            log.info("Nothing is kept in %s: %s", path, error.strerror)
            continue
        reason = why_not(path)
        if reason:
            tell(f"Nothing is kept in {path}, and nothing there is used: {reason}")
        elif os.access(path, os.W_OK):
            return path
    return None


def fallbacks() -> list[Path]:
    """Return where this user's caches go: the usual place, and what outlives a start without it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    found = [] if _homeless() else [Path(platformdirs.user_cache_dir("vcam", appauthor=False))]
    places = [tempfile.gettempdir()] if os.name == "nt" else ["/var/tmp", tempfile.gettempdir()]
    return [*found, *(Path(place) / f"vcam-cache-{user}" for place in places)]


class Store:
    """Files in one folder, by name. Any thread and process may read and write at once.

    `what` names them in sentences. Without a folder nothing is kept and nothing found.
    """

    def __init__(self, folder: Path | None, what: str) -> None:
        self.folder = folder
        self.what = what

    def get(self, name: str) -> bytes | None:
        """Return what was kept under `name`; None if there is nothing, or nothing of use."""
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            content = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.forget(name, str(error.strerror or error))
            return None
        if content.startswith(b"{"):  # plain JSON of a release before there were checksums
            return None
        head, data = content[:_SIZE], content[_SIZE:]
        if head != _head(name, data):
            self.forget(name, "it is damaged")
            return None
        return data

    def put(self, name: str, data: bytes, *, alike: str = "", most: int = 8) -> None:
        """Keep `data` under `name`, and of the files named like `alike` the last `most`."""
        if self.folder is None:
            return
        try:
            handle, made = tempfile.mkstemp(
                dir=self.folder, prefix=f".{name[:40]}-", suffix=".part"
            )
            try:
                with open(handle, "wb") as file:
                    file.write(_head(name, data) + data)
                os.replace(made, self.folder / name)
            except OSError:
                os.unlink(made)
                raise
            if alike:
                self._prune(alike, most)
                self._prune(".*.part", 1)  # of somebody who was killed meanwhile
        except OSError as error:
            tell(f"The {self.what} are not kept in {self.folder}: {error.strerror}")

    def forget(self, name: str, why: str) -> None:
        """Remove what is kept under `name` and say why."""
        if self.folder is None:
            return
        tell(f"The {self.what} on disk cannot be used and are made anew: {name}: {why}")
        path = self.folder / name
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _prune(self, pattern: str, most: int) -> None:
        assert self.folder is not None
        known: list[tuple[float, Path]] = []
        for path in self.folder.glob(pattern):
            with contextlib.suppress(OSError):
                known.append((path.stat().st_mtime, path))
        for _, path in sorted(known)[:-most]:
            with contextlib.suppress(OSError):
                path.unlink()


def _head(name: str, data: bytes) -> bytes:
    found = hashlib.sha256(name.encode() + b"\0")
    found.update(data)
    return _HEAD % found.hexdigest().encode()


def _read(path: Path) -> bytes:
    """Return the bytes of a plain file of this user's, or root's, that nobody else can write.

    Raises:
        OSError: it is none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > MOST:
            raise OSError("it is no plain file")
        if hasattr(os, "getuid"):
            writable = seen.st_mode & 0o002 or (
                seen.st_mode & 0o020 and not _mine_alone(seen.st_gid)
            )
            if writable or seen.st_uid not in (os.getuid(), 0):
                raise OSError("somebody else can write it")
        return file.read()


def _mine_alone(group: int) -> bool:
    """True if `group` is this user's own, as where each user has a group of the same name."""
    if sys.platform == "win32":
        return True
    import grp
    import pwd

    try:
        user, named = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and named.gr_name == user.pw_name and {*named.gr_mem} <= {user[0]}


def _homeless() -> bool:
    """True where no home says where caches go: `/nonexistent`, `/`, or none in the user list."""
    if os.name == "nt" or os.environ.get("XDG_CACHE_HOME"):
        return False
    home = os.path.expanduser("~")
    return home in ("~", "/", "") or not os.path.isdir(home)
