"""The systemd unit as systemd reads it, and a daemon that hangs under a stand-in for systemd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd runs on Linux alone")
UNIT = REPOSITORY / "install/vcam.service"


def setting(name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.M)
    assert found, name
    return found[1]


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("apt-get install systemd")
    program = tmp_path / ".local/share/vcam/venv/bin/vcam"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "run").mkdir(mode=0o700)
    # Its manual page is there only once the program is installed.
    unit = tmp_path / "vcam.service"
    unit.write_text(re.sub(r"^Documentation=.*\n", "", UNIT.read_text(), flags=re.M))

    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_that_hangs_is_ended_without_a_dump_of_its_memory() -> None:
    assert setting("WatchdogSignal") == "SIGKILL"
    assert setting("LimitCORE") == "0"


def test_the_desktop_files_are_valid() -> None:
    if not shutil.which("desktop-file-validate"):
        pytest.skip("apt-get install desktop-file-utils")
    files = sorted(map(str, (REPOSITORY / "install").glob("*.desktop")))

    done = subprocess.run(
        ["desktop-file-validate", *files], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")


class StandIn:
    """Does for one service what systemd does: listens, and restarts what has gone silent."""

    def __init__(self, folder: Path, patience: float) -> None:
        self._folder, self._patience = folder, patience
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.restarts = 0
        self.heard: list[str] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._last = time.monotonic() + 60  # as TimeoutStartSec: start-up may take a while
        environ = os.environ | {
            "NOTIFY_SOCKET": str(self._folder / "notify"),
            "WATCHDOG_USEC": str(int(self._patience * 1e6)),
            "XDG_RUNTIME_DIR": str(self._folder),
            "HOME": str(self._folder),
        }
        environ.pop("WATCHDOG_PID", None)
        command = [
            sys.executable, "-m", "vcam.cli", "start", "--foreground", "--source", "demo",
            "--sink", "none",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=REPOSITORY)

    def until(self, message: str, seconds: float) -> None:
        """Serve until `message` arrives."""
        self.heard.clear()
        end = time.monotonic() + seconds
        while not any(text.startswith(message) for text in self.heard):
            assert time.monotonic() < end, (message, self.heard, (self._folder / "log").read_text())
            self._serve()

    def _serve(self) -> None:
        self._socket.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            text = self._socket.recv(4096).decode()
            self.heard.append(text)
            if text.startswith(("READY=1", "WATCHDOG=1")):
                self._last = time.monotonic()
        if time.monotonic() - self._last > self._patience:
            self.process.send_signal(signal.SIGKILL)
        if self.process.poll() is not None:
            assert setting("Restart") == "on-failure"
            assert self.process.returncode != 0
            self.restarts += 1
            self.process = self._start()

    def close(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        code = self.process.wait(10)
        self._socket.close()
        return code


@pytest.mark.slow
def test_a_daemon_that_hangs_is_restarted_and_ready_again(tmp_path: Path) -> None:
    systemd = StandIn(tmp_path, patience=2.0)
    try:
        systemd.until("READY=1", 60)
        systemd.until("WATCHDOG=1", 5)
        assert systemd.restarts == 0

        systemd.process.send_signal(signal.SIGSTOP)  # as a driver does that never returns
        systemd.until("READY=1", 60)

        assert systemd.restarts == 1
        systemd.until("WATCHDOG=1", 5)
    finally:
        code = systemd.close()
    assert code == 0
    assert float(setting("WatchdogSec")) == 20


def test_wrong_settings_are_not_tried_again_and_again() -> None:
    assert setting("RestartPreventExitStatus").split() == ["2", "3"]
    assert setting("Type") == "notify"
