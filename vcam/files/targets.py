"""Where `vcam render` may write: never over what it reads, nor unasked over what is there already.

All of it is asked of the file system, which knows links, second names and letters that count as the
same; nothing is opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vcam.errors import UsageError
from vcam.files.whole import identity, printable

_MATTE: Final = re.compile(r"\d{6,}\.png")


def check_file(target: Path, reads: Iterable[Path], *, force: bool) -> None:
    """Refuse a `target` that is no file name, is one of `reads`, or is there without `force`.

    Raises:
        UsageError: one of these.
    """
    if str(target) == "-":
        raise UsageError(
            "render does not write to the standard output", hint="Give a file name with -o."
        )
    if target.is_dir():
        raise UsageError(
            f"{printable(target)} is a folder, expected a file name",
            hint=f"Give a name in it, such as {target / 'out.mp4'}.",
        )
    if identity(target) is None:
        folder = Path(os.path.realpath(target)).parent
        if not folder.is_dir():
            raise UsageError(
                f"{printable(target)} cannot be written: there is no folder {printable(folder)}",
                hint="Make the folder first.",
            )
    check_files([target], reads, force=force)


def check_files(targets: Sequence[Path], reads: Iterable[Path], *, force: bool) -> None:
    """Refuse any of `targets` that is one of `reads`, cannot be replaced, or is there unforced.

    Raises:
        UsageError: one of these.
    """
    read = {known: path for path in reads if (known := identity(path)) is not None}
    there = [target for target in targets if identity(target) is not None]
    for target in there:
        source = read.get(identity(target) or (0, 0))
        if source is not None:
            raise UsageError(
                f"{printable(target)} is what is read"
                + (f", {printable(source)}" if source != target else "")
                + ", and would be written over",
                hint="Give another name.",
            )
        facts = target.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError(
                f"{printable(target)} is a device or a pipe, expected a file name",
                hint="Give the name of a file.",
            )
        if force and not facts.st_mode & 0o222:
            raise UsageError(
                f"{printable(target)} is read-only", hint="Make it writable or give another name."
            )
    if there and not force:
        many = f", as do {len(there) - 1} more" if len(there) > 1 else ""
        raise UsageError(
            f"{printable(there[0])} exists already{many}",
            hint="Give another name, or --force to replace what is there.",
        )


def check_folders(source: Path, output: Path | None, alpha: Path | None) -> None:
    """Refuse folders that are written to and are the folder read, or one another.

    Raises:
        UsageError: two of them are the same.
    """
    for folder in (output, alpha):
        if folder is None:
            continue
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"{printable(folder)} is a file, expected a folder", hint="Give another name."
            )
        if source.is_dir() and _same(folder, source):
            raise UsageError(
                f"{printable(folder)} is the folder that is read: its pictures would be written "
                "over",
                hint="Give another folder.",
            )
    if output is not None and alpha is not None and _same(output, alpha):
        raise UsageError(
            f"{printable(alpha)} is given for the pictures and for their mattes, which have the "
            "same names",
            hint="Give another folder with --alpha.",
        )


def check_distinct(output: Path, matte: Path) -> None:
    """Refuse a picture and its matte under one name.

    Raises:
        UsageError: they are the same file.
    """
    if os.path.realpath(output) == os.path.realpath(matte):
        raise UsageError(
            f"{printable(output)} is given for the picture and for its matte",
            hint="Give another folder with --alpha.",
        )


def mattes_in(folder: Path) -> list[Path]:
    """Mattes of a clip's frames that are there already."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _MATTE.fullmatch(path.name.lower()))


def names_for(pictures: Sequence[Path]) -> dict[Path, str]:
    """The name of what is made of each picture: its own with .png, its whole name where two clash.

    `a.jpg` and `a.png` give `a.jpg.png` and `a.png.png`.
    """
    stems = Counter(path.stem.casefold() for path in pictures)
    return {
        path: f"{path.stem if stems[path.stem.casefold()] == 1 else path.name}.png"
        for path in pictures
    }


def _same(a: Path, b: Path) -> bool:
    known = identity(a)
    if known is None:
        return os.path.realpath(a) == os.path.realpath(b)
    return known == identity(b)
