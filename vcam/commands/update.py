"""The command that asks whether a newer version is out, where this one came from."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from vcam import __version__
from vcam.errors import UpdateError
from vcam.foreign_text import plain, say
from vcam.words import _

NAME: Final = "vbg-camera"
WITHIN: Final = 30  # seconds for whoever is asked
_ROOT: Final = Path(__file__).resolve().parents[2]


def run(options: argparse.Namespace) -> int:
    """`vcam update --check`: tell of a newer version; the exit code. Nothing is installed."""
    del options
    if (_ROOT / ".git").exists():
        say(_("This is a working copy: `git pull` brings what is new."))
        return 0
    deb = _is_package()
    newest = _candidate() if deb else _released()
    if _order(newest) <= _order(__version__):
        say(_("{0} is the newest version.", __version__))
        return 0
    say(_("Version {0} is out, you have {1}. A call goes on meanwhile.", newest, __version__))
    pip = f"{sys.executable} -m pip install --upgrade {NAME}"
    say(f"  $ {f'sudo apt install {NAME}' if deb else pip}")
    return 0


def _is_package() -> bool:
    """True if dpkg brought this very file."""
    told = _asked("dpkg-query", "-S", str(Path(__file__).resolve()))
    return told is not None and told.startswith(f"{NAME}:")


def _candidate() -> str:
    """The newest version that apt knows; it asks nobody."""
    found = re.search(r"^\s*Candidate:\s*(\S+)", _asked("apt-cache", "policy", NAME) or "", re.M)
    if found is None or found[1] == "(none)":
        raise UpdateError(
            "apt knows no package vbg-camera",
            hint="The package you installed came from a file: look where you got it.",
        )
    return plain(found[1])


def _released() -> str:
    """The newest version at the index that pip is set to: the one request that is made."""
    told = _asked(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "0",
        "--timeout", "10", "index", "versions", NAME,
    )  # fmt: skip
    found = re.match(rf"{NAME} \(([^)\s]+)\)", told or "")
    if found is None:
        raise UpdateError(
            "pip finds no released version",
            hint="Without a network, or where none was published, nobody can say.",
        )
    return plain(found[1])


def _asked(*words: str) -> str | None:
    """A program's output; None where it is missing, fails or takes too long."""
    if not shutil.which(words[0]):
        return None
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=WITHIN, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _order(version: str) -> tuple[tuple[int, ...], int]:
    """A key by which versions sort; what comes before a release is less than it."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    rest = version[numbers.end() :] if numbers else version
    before = bool(re.match(r"[.~]?(a|b|rc|dev)", rest))
    return tuple(int(n) for n in (numbers[0] if numbers else "0").split(".")), -before
