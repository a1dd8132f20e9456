"""Takes the user's browser to the settings page without telling other users the way.

`webbrowser.open` and the desktop's portal both end in a browser that is started with what it shall
open as an argument, which every user of the machine can read in /proc. So it is given the name of a
private file; where the browser is a snap, which sees no file of ours, in a folder it can see.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, TextIO

from vcam.client import PageFile
from vcam.foreign_text import block, escaped
from vcam.system import paths

TOLD: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{0}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem; }}
p {{ white-space: pre-line; overflow-wrap: anywhere; }}</style>
<main><h1>{0}</h1><p>{1}</p><p><strong>{2}</strong></p></main></html>
"""
ASK_TIMEOUT: Final = 3.0  # seconds xdg-mime may take
SNAP: Final = re.compile(r"/snap/bin/([a-z0-9-]+)")


class Daemon(Protocol):
    """The part of `vcam.client.Client` that is needed here."""

    def open_page_file(self, folder: Path) -> PageFile: ...


def page_file(daemon: Daemon) -> PageFile:
    """Have the daemon open the page's door and leave a file that this user's browser can read."""
    return daemon.open_page_file(meeting_place())


def show(file: Path) -> bool:
    """Open a file in the browser; False if none could be started."""
    return webbrowser.open(file.as_uri())


def tell(title: str, message: str, hint: str) -> bool:
    """Say in the browser what went wrong; False if none could be started."""
    file = meeting_place() / "vcam-told.html"
    words = [escaped(block(text)) for text in (title, message, hint)]
    file.write_text(TOLD.format(*words), encoding="utf-8")
    return show(file)


def has_reader(stream: TextIO) -> bool:
    """True if what is printed goes to this user alone: not to the journal, which others read."""
    try:
        return not stat.S_ISSOCK(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return True


def meeting_place(environ: Mapping[str, str] | None = None) -> Path:
    """A private directory where the daemon can write and the user's browser can read.

    Flatpaks are handed any file through the document portal (`--file-forwarding` in their desktop
    files). A snap has a runtime directory of its own, and no other that is the user's alone.
    """
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if sys.platform == "linux" and runtime:
        found = SNAP.search(_command_of(_default_browser(), environ))
        if found:
            folder = Path(runtime) / f"snap.{found[1]}"
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder
    return paths.runtime_dir()


def _default_browser() -> str:
    """The desktop file that opens pages (`firefox_firefox.desktop`); empty where none is known."""
    command = ["xdg-mime", "query", "default", "text/html"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _command_of(name: str, environ: Mapping[str, str]) -> str:
    """The first `Exec` line of a desktop file, searched as the desktop does."""
    for folder in _applications(environ) if name.endswith(".desktop") else ():
        try:
            lines = (folder / Path(name).name).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue
        return next((line for line in lines if line.startswith("Exec=")), "")
    return ""


def _applications(environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("XDG_DATA_HOME") or f"{environ.get('HOME', '/nonexistent')}/.local/share"
    system = environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for folder in (home, *system.split(":"), "/var/lib/snapd/desktop"):
        yield Path(folder) / "applications"
