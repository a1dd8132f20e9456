"""`vcam start` and `vcam stop`: the daemon here, under systemd or in the background."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from vcam.client import Client
from vcam.commands.options import absolute, flags_of, load_config, revealing
from vcam.commands.page import START_TIMEOUT, last_words, running, show, spawn
from vcam.errors import DaemonError
from vcam.foreign_text import catch_last_words, log_to, plain, say
from vcam.settings.config import Config
from vcam.system import paths, systemd
from vcam.words import _, told

LOG_SIZE = 1_000_000  # bytes, after which a log is begun anew and the last one kept


def start(options: argparse.Namespace) -> int:
    """`vcam start`: hand over to systemd, or start a daemon and wait for it; the exit code."""
    config = load_config(options)
    if options.source is not None and not os.environ.get("VCAM_DAEMON"):
        from vcam.sources import check_source  # opens files with slow libraries

        check_source(config.camera, config.output)
    if options.foreground:
        return run_here(config, options)
    if running() is not None and options.page:
        return show()
    if running() is not None:
        raise DaemonError(
            "VBG Camera runs already",
            hint="Run `vcam status` to see it, or `vcam stop` to end it.",
        )

    asked = (options.source, options.sink, options.background, options.config)
    by_settings = not any(asked) and not options.show_my_room
    if by_settings and systemd.installed():
        systemd.start()
        say(_("VBG Camera runs. Choose it in your meeting."))
        return show() if options.page else 0
    _check_background(options, config)
    log_path = paths.log_path()
    if log_path.exists() and log_path.stat().st_size > LOG_SIZE:
        log_path.replace(log_path.with_suffix(".log.1"))
    command = [sys.executable, "-m", "vcam", "start", "--foreground"]
    for flag in ("source", "sink", "background", "config"):
        value = getattr(options, flag)
        if value is not None:
            text = str(value.absolute()) if isinstance(value, Path) else absolute(value, flag)
            command += [f"--{flag}", text]
    if options.show_my_room:
        command.append("--show-my-room")
    child, at = spawn(command, log_path)
    code = await_first_frame(child, log_path, at)
    if options.page and child.poll() is None:
        show()
    return code


def _check_background(options: argparse.Namespace, config: Config) -> None:
    """Open a background that was typed, so that a wrong one is told of before anything starts."""
    if options.background is not None and not revealing(options):
        from vcam.compose.backdrops import open_backdrop  # slow to import

        open_backdrop(config.background.choice, 64, 36, blur=config.background.blur).close()


def await_first_frame(child: subprocess.Popen[bytes], log_path: Path, at: int) -> int:
    """Wait until the daemon shows somebody, waits for a watcher, or says why not."""
    deadline = time.monotonic() + START_TIMEOUT
    seen: dict[str, Any] = {}
    since_fault = None
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return _tell_failure(child, log_path, at)
        with contextlib.suppress(DaemonError, OSError):
            seen = Client.connect().status()
        if seen.get("frames", {}).get("composited"):
            say(_("VBG Camera runs: {0}", _where(seen)))
            return 0
        if seen.get("state") == "idle":
            ready = _("VBG Camera is ready and waits for a program to use it: {0}", _where(seen))
            if seen.get("shown_to") == "page":
                ready = _(
                    "VBG Camera is ready, but no program can see it: `vcam open` shows you, "
                    "`vcam doctor` says how to get a virtual camera."
                )
            say(ready)
            return 0
        # While the model loads, for the first time and for long, there is no matte yet: no fault.
        if seen.get("state") == "fault" and seen.get("reason") != "starting":
            since_fault = since_fault or time.monotonic()
            if time.monotonic() - since_fault > 10:
                break
        else:
            since_fault = None
        time.sleep(0.1)
    if not seen:
        slow = _(
            "the camera still gets ready after {0} s: on a busy machine the first start may take "
            "minutes.",
            f"{START_TIMEOUT:.0f}",
        )
        look = _("`vcam status` says when it is there; {0} what it does.", log_path)
        say(f"vcam: {slow}\n      {look}", file=sys.stderr)
        return 1
    problem = seen.get("engine", {}).get("problem")
    why = told(str(problem or seen.get("reason", "?")))
    shown = _("the camera runs but shows the privacy card: {0}", why)
    look = _("Run `vcam doctor`, or look into {0}.", log_path)
    say(f"vcam: {shown}\n      {look}", file=sys.stderr)
    return 1


def _tell_failure(child: subprocess.Popen[bytes], log_path: Path, at: int) -> int:
    say(told(last_words(log_path, at)), file=sys.stderr)
    return child.returncode or 1


def _where(status: dict[str, Any]) -> str:
    sinks = ", ".join(sink["name"] for sink in status.get("sinks", [])) or _("settings page alone")
    return plain(_("{0} to {1}", status.get("source", {}).get("name", "?"), sinks))


def run_here(config: Config, options: argparse.Namespace) -> int:
    """Be the daemon until it is stopped; ends the process."""
    from vcam import daemon  # everything there is

    log_to(
        log_file() if os.environ.get("VCAM_DAEMON") else [logging.StreamHandler()],
        config.control.log.upper(),
        "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    catch_last_words()
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    daemon.run(
        config,
        config_path=options.config,
        flags=flags_of(options),
        page=options.page,
        room=revealing(options),
    )
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # everything is closed; taking the interpreter down would cost another second


def log_file() -> list[logging.Handler]:
    """The log of a daemon that nobody watches: it never grows beyond twice `LOG_SIZE`."""

    return [
        RotatingFileHandler(
            paths.log_path(),
            maxBytes=LOG_SIZE,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
    ]


def stop(options: argparse.Namespace) -> int:
    """`vcam stop`: end the daemon and wait until it has ended; the exit code."""
    client = Client.connect()
    status = client.status()
    if systemd.installed() and systemd.under_manager():
        systemd.stop()
    else:
        client.stop()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not alive(status["pid"]):
            say(_("VBG Camera has stopped."))
            return 0
        time.sleep(0.05)
    raise DaemonError(
        f"VBG Camera (process {status['pid']}) does not stop",
        hint=f"End it with `kill -9 {status['pid']}`.",
    )


def alive(pid: int) -> bool:
    """True while process `pid` runs; one that ended and was not waited for does not."""
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:  # ended, and its parent has not asked how: nothing of it is left but a number
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
