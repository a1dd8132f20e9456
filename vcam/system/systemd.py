"""Messages to systemd, the hand-over of `start` and `stop` to it, and the detection of suspend.

The notification protocol is a datagram on a unix socket named by `NOTIFY_SOCKET` (sd_notify(3));
without one every call here does nothing, so the daemon never asks whether systemd is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vcam.errors import DaemonError
from vcam.foreign_text import plain
from vcam.system.fd_store import manager_socket

log = logging.getLogger(__name__)

UNIT = "vcam.service"
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3  # of mallopt(3)
LARGE = 512 << 10  # bytes; what is larger is a mapping of its own, gone as soon as it is given back
SLEPT_AT_LEAST = 1.0  # seconds; shorter differences are the two clocks being read one by one


class Notifier:
    """Tells the service manager how the daemon is. Cheap enough to be called once a frame.

    Any thread may call it; nothing here waits or raises.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._address = manager_socket(environ)
        self._clock = clock
        self._said = ""
        self.timeout = _watchdog_timeout(environ) if self._address else None
        # A quarter of the time allowed: three pings may be lost before we are restarted.
        self._interval = self.timeout / 4 if self.timeout else 0.0
        self._next_ping = float("-inf")

    @property
    def wanted(self) -> bool:
        """True if a service manager listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The first safe frame was written: whoever waits for `start` may go on."""
        self._send("READY=1" + (f"\nSTATUS={_line(status)}" if status else ""))

    def watchdog(self) -> None:
        """The loop is alive. Call it from the frame loop alone, or a hung loop looks healthy."""
        if self.timeout is None:
            return
        now = self._clock()
        if now >= self._next_ping:
            self._next_ping = now + self._interval
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl --user status`; sent only when it changed."""
        if text != self._said:
            self._said = text
            self._send(f"STATUS={_line(text)}")

    def reloading(self) -> None:
        """Settings are being read again; call `ready` when done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            # Messages are seconds apart, so nothing is kept open and a fork inherits nothing.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
                door.setblocking(False)
                door.sendto(message.encode(), self._address)
        except OSError as error:  # a full queue or a manager that restarts: the next one arrives
            log.debug("The service manager was not told %r: %s", message, error)


def _watchdog_timeout(environ: Mapping[str, str]) -> float | None:
    """Seconds we may stay silent, or None where nobody counts or another process is meant."""
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
        return int(environ["WATCHDOG_USEC"]) / 1e6 or None
    except (KeyError, ValueError):
        return None


def _line(text: str) -> str:
    """One line, or somebody's name could tell the manager more than a status."""
    return plain(" ".join(text.split()))


def installed(environ: Mapping[str, str] | None = None) -> bool:
    """True if `start` and `stop` should go through the user's systemd."""
    return unit_path(environ) is not None and manager_runs(environ)


def unit_path(environ: Mapping[str, str] | None = None) -> Path | None:
    """The unit file systemd would use, or None; a masked unit (a link to /dev/null) is none."""
    environ = os.environ if environ is None else environ
    home = environ.get("HOME", "/nonexistent")
    data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    for directory in (config, "/etc", data, "/usr/local/lib", "/usr/lib"):
        path = Path(directory) / "systemd" / "user" / UNIT
        with contextlib.suppress(OSError):
            if path.exists():
                return path if path.is_file() else None
    return None


def manager_runs(environ: Mapping[str, str] | None = None) -> bool:
    """True if a systemd of this user answers: its private socket is there, and the command too."""
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return bool(
        runtime
        and shutil.which("systemctl", path=environ.get("PATH"))
        and (Path(runtime) / "systemd" / "private").exists()
    )


def under_manager(environ: Mapping[str, str] | None = None) -> bool:
    """True if this process was started by a service manager, which then keeps the log."""
    environ = os.environ if environ is None else environ
    return bool(environ.get("INVOCATION_ID")) and "NOTIFY_SOCKET" in environ


def apart(command: list[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """The command that starts `command` so that it outlives this process.

    What a service starts ends with it, so there it is given a unit of its own; it forks when it is
    ready. It ends with the graphical session.
    """
    environ = os.environ if environ is None else environ
    if not (under_manager(environ) and manager_runs(environ)):
        return command
    runner = shutil.which("systemd-run", path=environ.get("PATH"))
    if runner is None:
        return command
    passed = [name for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_REMOTE") if name in environ]
    return [
        runner, "--user", "--quiet", "--collect", "--description=VBG Camera's keeper",
        "--property=Type=forking", "--property=PartOf=graphical-session.target",
        "--property=NoNewPrivileges=yes", "--property=LimitCORE=0",
        *(f"--setenv={name}={environ[name]}" for name in passed), "--", *command,
    ]  # fmt: skip


def start(timeout: float = 90.0) -> None:
    """Start the service and wait until it is ready.

    Raises:
        DaemonError: it did not start; the message carries the last lines of its journal.
    """
    _systemctl("start", timeout)


def start_soon() -> None:
    """Have the service started, without waiting until it is ready.

    Raises:
        DaemonError: systemd refused.
    """
    _systemctl("start", 15.0, "--no-block")


def stop(timeout: float = 15.0) -> None:
    """Stop the service and wait until it is gone.

    Raises:
        DaemonError: it did not stop.
    """
    _systemctl("stop", timeout)


def _systemctl(verb: str, timeout: float, *more: str) -> None:
    command = ["systemctl", "--user", verb, *more, UNIT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise DaemonError(
            f"`{' '.join(command)}` did not finish within {timeout:g} s",
            hint=f"Run `systemctl --user status {UNIT}` to see what it waits for.",
        ) from error
    except OSError as error:
        raise DaemonError(
            f"systemctl cannot be run: {error.strerror}",
            hint="Run `vcam start --foreground` instead.",
        ) from error
    if done.returncode:
        reason = _last_words() if verb == "start" else ""
        raise DaemonError(
            f"{UNIT} did not {verb}: {(reason or done.stderr).strip() or done.returncode}",
            hint=f"Run `journalctl --user -u {UNIT}` for the whole log.",
        )


def _last_words() -> str:
    """The end of the service's journal, where the daemon said why it could not start."""
    command = ["journalctl", "--user", "-u", UNIT, "-n", "5", "-o", "cat", "--no-pager", "-q"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def keep_one_heap() -> None:
    """Let all threads share one heap, so that what a setting no longer needs is used again.

    glibc gives each thread its own, and memory that one thread frees another does not find: after
    a while of changing cameras, backgrounds and quality a daemon held a quarter more. And let no
    picture of a camera's size lie there after it was given back: glibc, left alone, soon keeps
    those too, and others take the memory over without clearing it. Does nothing with other
    libraries. Call it before there are threads.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Give free memory back to the system, where glibc would keep it: 15 MB after a network."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class SuspendWatch:
    """Notices that the machine slept: one clock went on meanwhile, the other stood still."""

    def __init__(self, asleep: Callable[[], float] | None = None) -> None:
        self._asleep = asleep or seconds_asleep
        self._before = self._asleep()

    def slept(self) -> float:
        """Seconds of suspend since the last call, 0.0 if none; once a frame is not too often."""
        now = self._asleep()
        gap, self._before = now - self._before, now
        return gap if gap >= SLEPT_AT_LEAST else 0.0


def boottime() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def seconds_asleep() -> float:
    """Seconds this machine has spent suspended since some fixed moment."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":
        # There the monotonic clock counts sleep and the uptime clock does not.
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    if sys.platform == "win32":
        return _windows_asleep()
    return 0.0


def _windows_asleep() -> float:
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    awake = ctypes.c_ulonglong()
    kernel.QueryUnbiasedInterruptTime(ctypes.byref(awake))
    kernel.GetTickCount64.restype = ctypes.c_ulonglong
    return float(kernel.GetTickCount64()) / 1e3 - awake.value / 1e7
