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


def refuse_unlisted(name: str) -> None:
    """Refuse a background that may lie in the folder while it does not answer. Asks no file.

    Raises:
        BackgroundError: it does not.
    """
    if _folder is None or Path(name).parent not in (Path(), _folder):
        return  # a path to somewhere else
    if patience.hangs(_folder):
        raise BackgroundError(
            f"background {name!r} is not found: the folder {str(_folder)!r} does not answer",
            hint="Look after the disk or network share that it is on; `vcam background` lists the"
            " others.",
        )


_folder: Path | None = None  # replaced as a whole
