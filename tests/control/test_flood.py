"""A thousand connections that say nothing stop neither the frames nor the doors.

python -m pytest tests/control/test_flood.py -s    tells the figures
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control import stranger
from tests.control.doors import Page, until
from vcam.client import Client
from vcam.system import paths

VCAM = [sys.executable, "-m", "vcam"]


class Manager:
    """Counts what a daemon tells the service manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.pings: list[float] = []
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._link.bind(str(self.path))
        self._link.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                if b"WATCHDOG=1" in self._link.recv(4096):
                    self.pings.append(time.monotonic())

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._link.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Client, Manager, Path]]:
    """A real daemon on the demo picture, with as few descriptors as systems give, and a manager."""
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~root/.cache").expanduser())
    manager, log = Manager(tmp_path), tmp_path / "daemon.log"
    environ = os.environ | {
        "XDG_CACHE_HOME": cache,
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": "4000000",
        "VCAM_OUTPUT_ON_DEMAND": "false",  # nobody watches
    }
    environ.pop("WATCHDOG_PID", None)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*VCAM, "start", "--foreground", "--source", "demo", "--sink", "none"],
            env=environ,
            stdout=file,
            stderr=file,
            preexec_fn=few,
        ) as daemon,
    ):
        try:
            until(lambda: paths.socket_path().exists(), 90)
            client = Client.connect()
            until(lambda: client.status()["frames"]["composited"] > 30, 120)
            yield client, manager, log
        finally:
            daemon.terminate()
            daemon.wait(30)
            manager.close()


@stranger.needs_root
@pytest.mark.parametrize("who", ["another user", "a program of ours"])
def test_a_thousand_silent_connections_stop_nothing(watched, who):
    client, manager, log = watched
    page = Page(client.open_page())
    words = (
        stranger.command(stranger.SILENT, page.address, 1100)
        if who == "another user"
        else [sys.executable, "-I", "-c", stranger.SILENT, str(page.address), "1100"]
    )
    before, began, size = client.status(), time.monotonic(), log.stat().st_size
    took: list[float] = []
    with (
        streaming_preview(page),
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood,
    ):
        assert flood.stdout
        all_there = 0.0
        while not all_there or time.monotonic() < all_there + 8:
            at = time.monotonic()
            assert at < began + 90, "the flood never ended"
            if not all_there and select.select([flood.stdout], [], [], 0)[0]:
                all_there = at
            after = client.status()
            took.append(time.monotonic() - at)
            time.sleep(0.05)
        held, left = map(int, flood.communicate(timeout=60)[0].split())
    seen = {k: after["frames"][k] - before["frames"][k] for k in after["frames"]}
    lasted = time.monotonic() - began
    pings = [at for at in manager.pings if at >= began]
    grown = log.stat().st_size - size

    print(
        f"\n{who}: {held} of 1,100 connected, {left} at the end; {len(took)} answers, median "
        f"{statistics.median(took) * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms; {seen}; "
        f"{len(pings)} pings in {lasted:.0f} s; the log grew by {grown} bytes"
    )
    assert after["state"] == "live"
    assert seen["composited"] > 5 * lasted
    assert seen["composited"] > 5 * seen["cards"]
    assert len(pings) > lasted / 2  # one a second is due, one in four seconds is enough
    assert max(took) < 5
    assert grown < 20_000
    assert left == 0  # ours are cut as well, for saying nothing
    assert page.ask("GET", "/status", headers=page.signed)[0] == 200


@contextlib.contextmanager
def streaming_preview(page: Page) -> Iterator[None]:
    """Somebody looks at the preview, or the daemon would go idle."""
    with page.connect() as link:
        told = "".join(f"{name}: {value}\r\n" for name, value in page.signed.items())
        link.sendall(f"GET /preview.mjpg HTTP/1.1\r\nHost: {page.host}\r\n{told}\r\n".encode())
        link.settimeout(0.5)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    if not link.recv(1 << 20):
                        return

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
