"""The folder whose pictures and clips are backgrounds as they come and go; it may be on a share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vcam.errors import BackgroundError
from vcam.system import patience
from vcam.system.paths import expanded

LISTED_WITHIN: Final = 0.5  # seconds that files which hang may hold up a list of presets


def watch(name: str) -> None:
    """Have the files in a folder be backgrounds, too; "" for none. Opens nothing."""
    global _folder
    _folder = expanded(name) if name else None
    patience.together(_folder)


def folder() -> Path | None:
    """The folder that is watched; None without one."""
    return _folder


def problem() -> str:
    """Reason that the folder is not listed, and the way out; "" where it is. Asks no file."""
    if _folder is None or not patience.hangs(_folder):
        return ""
    refused = patience.refusal(_folder, BackgroundError, LISTED_WITHIN)
    return f"{refused.message}\n{refused.hint}"


_folder: Path | None = None  # replaced as a whole
