"""What systemd hears, how start and stop are handed over, and how sleep is noticed."""

from __future__ import annotations

import os
import pty
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcam.errors import DaemonError
from vcam.system import systemd
from vcam.system.systemd import Notifier, SuspendWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd runs on Linux alone")


class Manager:
    """A stand-in for systemd's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.name = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(0.05)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except TimeoutError:
                return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def test_the_life_of_a_daemon_is_told_in_order(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})

    notifier.ready("live")
    notifier.status("paused")
    notifier.reloading()
    notifier.stopping()

    heard = manager.heard()
    assert heard[:2] == ["READY=1\nSTATUS=live", "STATUS=paused"]
    assert heard[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[3:] == ["STOPPING=1"]


def test_an_abstract_socket_is_understood() -> None:
    manager = Manager(f"@vcam-test-{os.getpid()}")

    Notifier({"NOTIFY_SOCKET": manager.name}).ready()

    assert manager.heard() == ["READY=1"]
    manager.socket.close()


def test_pings_come_four_times_within_the_time_allowed_however_often_the_loop_turns(
    manager: Manager,
) -> None:
    now = [100.0]
    notifier = Notifier(
        {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "20000000"}, clock=lambda: now[0]
    )

    for _ in range(20 * 30):
        notifier.watchdog()
        now[0] += 1 / 30

    assert manager.heard() == ["WATCHDOG=1"] * 4


def test_the_watchdog_of_another_process_is_not_ours(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}

    Notifier(environ).watchdog()

    assert manager.heard() == []


def test_the_same_status_is_told_once_and_on_one_line(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})

    notifier.status("fault:\ncamera unplugged")
    notifier.status("fault:\ncamera unplugged")

    assert manager.heard() == ["STATUS=fault: camera unplugged"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/gone/away"}],
)
def test_nothing_happens_and_nothing_fails_without_a_manager(environ: dict[str, str]) -> None:
    notifier = Notifier(environ | {"WATCHDOG_USEC": "nonsense"})

    notifier.ready()
    notifier.watchdog()
    notifier.status("live")
    notifier.stopping()

    assert notifier.timeout is None


def test_a_manager_that_does_not_read_never_makes_the_loop_wait(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})

    for number in range(5000):
        notifier.status(f"frame {number}")

    assert manager.heard()[0] == "STATUS=frame 0"


def machine(tmp_path: Path, *, exit_code: int = 0, words: str = "") -> dict[str, str]:
    """A home with the unit, a user manager's socket and a `systemctl` that notes its calls."""
    unit = tmp_path / "home/.config/systemd/user/vcam.service"
    private = tmp_path / "run/systemd/private"
    for path in (unit, private, tmp_path / "bin/systemctl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text in {
        "systemctl": f'echo "$@" >> {tmp_path}/calls\nexit {exit_code}',
        "journalctl": f"echo '{words}'",
    }.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
    }


def test_start_is_handed_over_only_where_unit_and_manager_are_both_there(tmp_path: Path) -> None:
    environ = machine(tmp_path)
    assert systemd.installed(environ)

    (tmp_path / "run/systemd/private").unlink()
    assert not systemd.installed(environ)

    (tmp_path / "run/systemd/private").touch()
    (tmp_path / "home/.config/systemd/user/vcam.service").unlink()
    assert not systemd.installed(environ)


def test_a_masked_unit_is_not_handed_over_to(tmp_path: Path) -> None:
    environ = machine(tmp_path)
    unit = tmp_path / "home/.config/systemd/user/vcam.service"
    unit.unlink()

    unit.symlink_to("/dev/null")

    assert not systemd.installed(environ)


def test_start_and_stop_go_to_the_user_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", machine(tmp_path)["PATH"])

    systemd.start()
    systemd.stop()

    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["--user start vcam.service", "--user stop vcam.service"]


def test_a_service_that_does_not_start_says_why_in_the_daemons_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = machine(tmp_path, exit_code=1, words="no camera called nobody")
    monkeypatch.setenv("PATH", environ["PATH"])

    with pytest.raises(DaemonError, match="no camera called nobody"):
        systemd.start()


def test_sleep_is_noticed_once_and_clock_jitter_is_not() -> None:
    asleep = iter([50.0, 50.0, 50.0004, 80.0004, 80.0])
    watch = SuspendWatch(lambda: next(asleep))

    seen = [round(watch.slept(), 3) for _ in range(4)]

    assert seen == [0.0, 0.0, 30.0, 0.0]


def test_this_machine_did_not_sleep_during_the_test() -> None:
    assert SuspendWatch().slept() == 0.0


HEAPS = """
import ctypes, sys, threading
from vcam.system.systemd import give_back, keep_one_heap

if sys.argv[1] == "one":
    keep_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
found = []
turn = threading.Barrier(6)

def ask():
    found.append(libc.malloc(100_000) >> 26)  # heaps of threads begin at multiples of 64 MB
    turn.wait()

threads = [threading.Thread(target=ask) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(set(found)))
give_back()
"""


@pytest.mark.parametrize(("heaps", "several"), [("one", False), ("each", True)])
def test_threads_share_one_heap(heaps: str, several: bool):
    asked = subprocess.run(
        [sys.executable, "-c", HEAPS, heaps], capture_output=True, text=True, check=True
    )

    assert (int(asked.stdout) > 2) is several


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of Unix")
@pytest.mark.parametrize("alive", [True, False], ids=["told to read again", "terminal gone"])
def test_a_hangup_ends_what_was_started_in_a_terminal_only_when_that_is_gone(tmp_path, alive):
    script = (
        "import signal, threading\n"
        "from vcam.daemon import _stop_on_signal\n"
        "stop, again = threading.Event(), threading.Event()\n"
        "with _stop_on_signal(stop, again):\n"
        "    print('ready', flush=True)\n"
        "    while not again.wait(0.1): pass\n"
        f"    open({str(tmp_path / 'told')!r}, 'w').write(f'stop={{stop.is_set()}}')\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
        os.execv(sys.executable, [sys.executable, "-c", script])
    heard = b""
    while not heard.endswith(b"ready\r\n"):
        heard += os.read(terminal, 1000)
    if alive:
        os.kill(pid, signal.SIGHUP)
    else:
        os.close(terminal)
    os.waitpid(pid, 0)

    assert (tmp_path / "told").read_text() == f"stop={not alive}"


def test_a_hangup_without_a_terminal_reads_the_settings_again():
    script = (
        "import os, signal, threading\n"
        "from vcam.daemon import _stop_on_signal\n"
        "stop, again = threading.Event(), threading.Event()\n"
        "with _stop_on_signal(stop, again):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print(again.wait(5), stop.is_set())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
    )

    assert done.stdout.split() == ["True", "False"]
