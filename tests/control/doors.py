"""A daemon that lives behind real doors but has no camera: its picture is drawn by the clock."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.fakes import H, W
from vcam import __version__
from vcam.frame import SafeFrame
from vcam.room_view import RoomView
from vcam.settings import config
from vcam.settings.live import Settings
from vcam.system.systemd import boottime

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class Clock:
    """The sessions' clock; a test can put it ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return boottime() + self.ahead


class PlayRuntime:
    """What the doors ask of a daemon; every settings section is the real one."""

    def __init__(self, width: int = W, height: int = H) -> None:
        known = config.load(config.default_path(), environ={})
        self.settings = Settings(known.with_changes({"control": {"welcome": False}}))
        self.stopped = threading.Event()
        self.glances = 0
        self.learns, self.told = True, []  # the room, and words about it
        self._size = (width, height)
        self._started = time.monotonic()

    def status(self) -> dict[str, Any]:
        mode = self.settings.mode
        return {
            "version": __version__,
            "state": mode,
            "mode": mode,
            "fps": 30.0,
            "watchers": [],
            "background": self.settings.current.background.use,
            "revealed": {"by": "test"} if self.settings.revealed else None,
            "settings_revision": self.settings.revision,
            "uptime_s": round(time.monotonic() - self._started, 1),
        }

    def pulse(self) -> str:
        return self.settings.mode

    def stop(self) -> None:
        self.stopped.set()

    def tell_room(self, word: str) -> bool:
        self.told.append(word)
        return self.learns

    def room_map(self) -> np.ndarray | None:
        """The left half is known."""
        return np.repeat(np.uint8([[255, 0]]), 8, axis=1) if self.learns else None

    def room(self) -> RoomView | None:
        """What only the page's own button may show: red all over; nothing while paused."""
        if self.settings.mode == "paused":
            return None
        return RoomView(np.full((36, 64, 3), (0, 0, 255), np.uint8), time.monotonic())

    def latest(self) -> SafeFrame:
        """A bar that moves over a grey that tells the mode: dark while paused."""
        self.glances += 1
        now = time.monotonic()
        width, height = self._size
        data = np.full((height * 3 // 2, width), 128, np.uint8)
        data[:height] = 30 if self.settings.mode == "paused" else 150
        at = int(now * 60) % (width - 8)
        data[:height, at : at + 8] = 235
        return SafeFrame(data, now, int(now * 30), is_card=False, maker="vcam.compose.card")


class Browser:
    """Plain HTTP at a door, saying exactly the headers it is told to."""

    def __init__(self, address: Path | int) -> None:
        self.address = address

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
        connection.sock = self.connect()
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            told = {"Host": self.host, **(headers or {})}
            for name, value in told.items():
                connection.putheader(name, value)
            raw = body.encode() if isinstance(body, str) else body
            if raw is not None and "Content-Length" not in told:
                connection.putheader("Content-Length", str(len(raw)))
            with contextlib.suppress(BrokenPipeError):  # refused before all of it was read
                connection.endheaders(raw or None)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @property
    def host(self) -> str:
        return "localhost" if isinstance(self.address, Path) else f"127.0.0.1:{self.address}"

    def connect(self) -> socket.socket:
        if isinstance(self.address, Path):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(30)
            made.connect(str(self.address))
            return made
        return socket.create_connection(("127.0.0.1", self.address), timeout=30)

    def json(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        body = None if value is None else json.dumps(value)
        status, _, raw = self.ask(method, path, body)
        return status, json.loads(raw)


class Page(Browser):
    """A signed-in window at the settings page's door."""

    def __init__(self, url: str) -> None:
        address, _, self.token = url.partition("#")
        super().__init__(int(address.split(":")[2].rstrip("/")))
        self.origin = f"http://{self.host}"
        status, answer = self.sign_in(self.token)
        assert status == 200, answer
        self.key = answer["session"]

    def sign_in(self, token: str, **told: str) -> tuple[int, Any]:
        headers = {"Origin": self.origin, **told}
        status, _, raw = self.ask("POST", "/session", json.dumps({"token": token}), headers)
        return status, json.loads(raw)

    @property
    def signed(self) -> dict[str, str]:
        return {"X-Vcam-Session": self.key, "Origin": self.origin}


def pictures(address: Path, count: int, path: str = "/preview.mjpg") -> list[bytes]:
    """The first JPEGs of the preview."""
    with Browser(address).connect() as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        held, found = b"", []
        while len(found) < count:
            piece = link.recv(65536)
            if not piece:
                break
            held += piece
            while (end := held.find(JPEG_END)) >= 0:
                found.append(held[held.index(JPEG_START) : end + 2])
                held = held[end + 2 :]
    return found


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
