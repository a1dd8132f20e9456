"""Where the program keeps its files; every answer works with HOME unset or read-only."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from segmentation import store
from vcam.errors import DaemonError


def expanded(text: Path | str) -> Path:
    """The path that `text` names, from a home where it begins with `~`; as it is if there is none.

    Raises nothing: that no such file is there is said by who opens it.
    """
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def runtime_dir() -> Path:
    """The directory of socket and lock, readable by this user alone (0700); made if missing.

    Raises:
        DaemonError: it belongs to somebody else or cannot be made private.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.access(base, os.W_OK):
        path = Path(base) / "vcam"
    elif hasattr(os, "getuid"):
        path = Path(tempfile.gettempdir()) / f"vcam-{os.getuid()}"
    else:
        path = Path(platformdirs.user_runtime_dir("vcam", appauthor=False))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        seen = path.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
            raise DaemonError(
                f"{path} belongs to uid {seen.st_uid}, expected a directory of uid {os.getuid()}",
                hint=f"Remove {path} or set XDG_RUNTIME_DIR to a directory of your own.",
            )
        if seen.st_mode & 0o077:
            path.chmod(0o700)
    return path


def socket_path() -> Path:
    """The control socket; on Windows the file that holds the port and token instead."""
    return runtime_dir() / "control.sock"


def lock_path() -> Path:
    """The lock one daemon holds for its life."""
    return runtime_dir() / "daemon.lock"


def log_path() -> Path:
    """The daemon's log when nothing else collects it; falls back to the runtime directory."""
    return _writable(Path(platformdirs.user_log_dir("vcam", appauthor=False))) / "vcam.log"


def cache_dir() -> Path:
    """Compiled models, measurements, thumbnails: all of it can be deleted at any time.

    Nobody else can write there, or anywhere above it. Without a home it is a folder of this user's
    in /var/tmp, so that the second start is as fast.
    """
    return store.private(store.fallbacks()) or runtime_dir()


def backgrounds_dir() -> Path:
    """Pictures and clips dropped here become presets; it may not exist."""
    return Path(platformdirs.user_data_dir("vcam", appauthor=False)) / "backgrounds"


def logos_dir() -> Path:
    """Logos that were handed to the settings page; it may not exist."""
    return Path(platformdirs.user_data_dir("vcam", appauthor=False)) / "logos"


def rooms_dir() -> Path:
    """Learned rooms, while `privacy.remember_room` asks for them; it may not exist."""
    return Path(platformdirs.user_data_dir("vcam", appauthor=False)) / "rooms"


def personal_dir() -> Path:
    """The network that `vcam personalise` taught on, and pictures kept by `--keep`; or nothing."""
    return Path(platformdirs.user_data_dir("vcam", appauthor=False)) / "personal"


def shortcuts_path() -> Path:
    """A file that is there once the user has chosen keys for the desktop's shortcuts."""
    return Path(platformdirs.user_data_dir("vcam", appauthor=False)) / "shortcuts"


def _writable(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
    except OSError:
        pass
    return runtime_dir()
