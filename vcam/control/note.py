"""A private file that takes the browser to the settings page.

Every user of the machine can read the arguments of every program, so the address with the word
that signs in is never one: the browser is given the name of this file, which its own user alone
can read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from vcam.control.sessions import TOKEN_LIFE
from vcam.errors import DaemonError

PREFIX: Final = "vcam-page-"
NAME: Final = "open.html"
NOTE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>VBG Camera</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={address}">
<p><a href="{address}">Open the settings page</a></p></html>
"""


def leave(folder: Path, address: str) -> Path:
    """Write the file in a directory of its own (0700) in `folder` and return its path.

    Raises:
        DaemonError: `folder` is not this user's alone to write to.
    """
    try:
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or not _mine_alone(seen):
            raise DaemonError(
                f"{folder} is no directory that you alone can write to",
                hint="Run `vcam open` in a terminal and paste the address.",
            )
        _sweep(folder)
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder)) / NAME
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(NOTE.format(address=address))
    except OSError as error:
        raise DaemonError(
            f"{folder} cannot be written to: {error.strerror}",
            hint="Run `vcam open` in a terminal and paste the address.",
        ) from error
    return path


def remove(path: Path) -> None:
    """Delete the file and its directory."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _mine_alone(seen: os.stat_result) -> bool:
    """True if nobody else may write here; Windows tells in another way, and has no such folder."""
    return os.name != "posix" or (seen.st_uid == os.getuid() and not seen.st_mode & 0o022)


def _sweep(folder: Path) -> None:
    """Delete what a daemon that was killed has left; its words open nothing any more."""
    for left in folder.glob(f"{PREFIX}*/{NAME}"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > TOKEN_LIFE:
                remove(left)
