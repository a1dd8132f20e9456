"""`vcam open`: the settings page, and a daemon for it where none runs.

One click leads here with nothing running, so nothing is imported that a start does not need.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vcam.client import Client, browser
from vcam.errors import DaemonError, VcamError
from vcam.foreign_text import say
from vcam.system import paths, systemd
from vcam.words import _, told

START_TIMEOUT = 60.0  # seconds until the first composite; a cold cache compiles kernels and model


def run(options: argparse.Namespace) -> int:
    """`vcam open`: take the browser to the settings page, or close it; the exit code."""
    if options.close:
        closed = Client.connect().close_page()
        closed_now, not_open = (
            _("The settings page is closed."),
            _("The settings page was not open."),
        )
        say(closed_now if closed else not_open)
        return 0
    try:
        return show()
    except VcamError as error:
        # From a menu there is no terminal: what went wrong is said where the page would be.
        desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        if desktop and not sys.stderr.isatty():
            browser.tell(_("VBG Camera did not start"), told(error.message), told(error.hint))
        raise


def spawn(command: list[str], log_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a daemon in the background; its process, and where its part of the log begins."""
    with log_path.open("ab") as log:
        at = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/" if os.name == "posix" else None,
            env={**os.environ, "VCAM_DAEMON": "1"},
        )
    return child, at


def bring_up() -> None:
    """Start the daemon as the settings say, and wait until it answers: no picture is waited for.

    Raises:
        DaemonError: it ended, or does not answer; the message says why.
    """
    child, log_path, at = None, paths.log_path(), 0
    if systemd.installed():
        systemd.start_soon()
    else:
        child, at = spawn([sys.executable, "-m", "vcam", "start", "--foreground"], log_path)
    deadline = time.monotonic() + START_TIMEOUT
    while running() is None:
        if child is not None and child.poll() is not None:
            raise DaemonError(
                last_words(log_path, at).removeprefix("vcam: "), hint="Run `vcam doctor`."
            )
        if time.monotonic() > deadline:
            raise DaemonError(
                f"VBG Camera does not answer {START_TIMEOUT:.0f} s after it was started",
                hint=f"Run `vcam doctor`, or look into {log_path}.",
            )
        time.sleep(0.05)


def show() -> int:
    """Take the browser to the settings page, whose daemon is started if none runs; the exit code.

    Raises:
        DaemonError: it does not start.
    """
    if running() is None:
        bring_up()
    page = browser.page_file(Client.connect())
    if browser.has_reader(sys.stdout):
        say(f"{page.url}\n{_('This address works once; paste it if no browser opens.')}")
    browser.show(page.file)
    return 0


def running() -> dict[str, Any] | None:
    """The status of the daemon; None if none runs."""
    try:
        return Client.connect().status()
    except DaemonError:
        return None


def last_words(log_path: Path, at: int) -> str:
    """The reason that a daemon gave for its end, in its part of the log."""
    with log_path.open("rb") as log:
        log.seek(at)
        lines = log.read().decode(errors="replace").splitlines()
    said = [i for i, line in enumerate(lines) if line.startswith("vcam: ")]
    return "\n".join(lines[said[-1] :] if said else lines[-5:])
