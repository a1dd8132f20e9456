"""The typed client of a running daemon, used by the command line and the tray.

Standard library alone, so that `vcam status` answers before a web framework would be imported.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from vcam import __version__
from vcam.errors import ConfigError, DaemonError, VcamError
from vcam.foreign_text import plain
from vcam.system import paths

VERSION_HEADER = "X-Vcam-Version"
TIMEOUT = 10.0  # seconds; opening a large background may take a few
RETRY = 0.02  # seconds until a door that was crowded is tried again


class PageFile(NamedTuple):
    """An address that works once, and the file that leads there; the file's name is no secret."""

    url: str
    file: Path


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                return self.sock.connect(str(self._path))
            except BlockingIOError:  # many ask at the same moment; this one waits for its turn
                if time.monotonic() > end:
                    raise
                time.sleep(RETRY)


class Client:
    """Speaks to the daemon of this user. Makes a connection for each request; any thread.

    Raises, from every method:
        DaemonError: no daemon runs, it does not answer, or it is of another version.
        ConfigError, VcamError: the daemon refused; its sentence and hint are passed on.
    """

    def __init__(self, address: Path | tuple[str, int], token: str = "") -> None:
        self._address = address
        self._token = token

    @classmethod
    def connect(cls) -> Client:
        """Find the daemon's door.

        Raises:
            DaemonError: there is none.
        """
        path = paths.socket_path()
        if not path.exists():
            raise _not_running()
        if path.is_file():  # where unix sockets are missing: a port and a token
            try:
                door = json.loads(path.read_text(encoding="utf-8"))
                return cls(("127.0.0.1", int(door["port"])), str(door["token"]))
            except (OSError, ValueError, KeyError) as error:
                raise _not_running() from error
        return cls(path)

    def status(self) -> dict[str, Any]:
        """The daemon's state, counters and figures."""
        return self._ask("GET", "/status")

    def settings(self) -> dict[str, Any]:
        """`{"values": {section: {key: value}}, "schema": …, "revision": n}`."""
        return self._ask("GET", "/settings")

    def change(self, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Change settings; takes effect on the next frame."""
        return self._ask("PATCH", "/settings", changes)

    def undo(self) -> list[str]:
        """Take the last change back; names of the settings it concerned."""
        return list(self._ask("POST", "/undo")["undone"])

    def presets(self) -> list[dict[str, Any]]:
        """Backgrounds and looks with a name: `{"name", "kind", "mine", "values"}`."""
        found: list[dict[str, Any]] = self._ask("GET", "/presets")["presets"]
        return found

    def add_preset(self, file: Path) -> dict[str, Any]:
        """Keep a picture or clip as a preset."""
        return self._ask("POST", f"/presets?name={quote(plain(file.name))}", file.read_bytes())

    def use(self, name: str) -> str:
        """Choose a background or look by its name."""
        return str(self._ask("POST", f"/presets/{quote(name, safe='')}/use")["name"])

    def step(self, step: int) -> str:
        """Choose the next background or look, or with -1 the one before; its name."""
        return str(self._ask("POST", f"/presets/{'next' if step > 0 else 'previous'}")["name"])

    def show_room(self, use: str = "none", *, by: str = "a program") -> None:
        """Show the room to others: as it is, or under a blur too weak to hide it."""
        self._ask("POST", "/reveal", {"use": use, "by": by})

    def learn_room(self) -> None:
        """Learn the room: nobody is there for the next seconds."""
        self._ask("POST", "/known-room")

    def forget_room(self) -> None:
        """Forget the room."""
        self._ask("DELETE", "/known-room")

    def room_map(self) -> bytes:
        """A PNG that is white where the room is known; nothing where none is learnt."""
        return self._fetch("GET", "/known-room.png")

    def hide(self) -> None:
        """Put the background back in front of the room."""
        self._ask("POST", "/hide")

    def keep(self, name: str) -> None:
        """Keep the background and look in force under a name."""
        self._ask("PUT", f"/presets/{quote(name, safe='')}")

    def place(self, name: str, wish: Mapping[str, float]) -> None:
        """Shift, enlarge, darken or blur one of the user's own pictures."""
        self._ask("PUT", f"/presets/{quote(name, safe='')}/fitting", dict(wish))

    def remove_preset(self, name: str) -> None:
        """Delete one of the user's own presets."""
        self._ask("DELETE", f"/presets/{quote(name, safe='')}")

    def pause(self, back_in: float | None = None) -> None:
        """Show the privacy card; it says in how many seconds you are back, if that is given."""
        self._ask("POST", "/pause", None if back_in is None else {"back_in": back_in})

    def resume(self) -> None:
        """Show the person again."""
        self._ask("POST", "/resume")

    def toggle(self) -> str:
        """Pause, or take a pause or freeze back; the mode that is in force then."""
        return str(self._ask("POST", "/toggle")["mode"])

    def freeze(self) -> None:
        """Keep showing the last composite."""
        self._ask("POST", "/freeze")

    def stop(self) -> None:
        """End the daemon."""
        self._ask("POST", "/stop")

    def devices(self) -> dict[str, Any]:
        """Cameras and virtual cameras as the daemon sees them."""
        return self._ask("GET", "/devices")

    def doctor(self) -> list[dict[str, Any]]:
        """Findings of the doctor, as the daemon sees them."""
        found: list[dict[str, Any]] = self._ask("GET", "/doctor")["findings"]
        return found

    def thumbnail(self, name: str) -> bytes:
        """A preset, small, as JPEG."""
        return self._fetch("GET", f"/presets/{quote(name, safe='')}/thumbnail")

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """`("status" | "settings", value)` as they change, until the daemon ends."""
        with self._answer("GET", "/events", None) as response:
            event = ""
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def open_page(self) -> str:
        """Open the settings page's door and return an address that works once.

        It is for the user's own eyes: arguments of programs can be read by everybody.
        """
        return str(self._ask("POST", "/page")["url"])

    def open_page_file(self, folder: Path) -> PageFile:
        """The same, and a private file in `folder` that takes a browser there."""
        told = self._ask("POST", "/page", {"folder": str(folder)})
        return PageFile(str(told["url"]), Path(told["file"]))

    def close_page(self) -> bool:
        """End every session of the settings page and close its door; False if it was closed."""
        return bool(self._ask("DELETE", "/page")["closed"])

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return dict(_decoded(self._fetch(method, path, body)))

    def _fetch(self, method: str, path: str, body: object = None) -> bytes:
        with self._answer(method, path, body) as response:
            return response.read()

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, body: object) -> Iterator[http.client.HTTPResponse]:
        connection = (
            _UnixConnection(self._address)
            if isinstance(self._address, Path)
            else http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        )
        headers = {VERSION_HEADER: __version__}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data: bytes | None = None
        if isinstance(body, bytes):
            data, headers["Content-Type"] = body, "application/octet-stream"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise _refused(response.status, dict(_decoded(response.read())))
            yield response
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise _not_running() from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ConnectionError) and _gone_from(self._address):
                raise _not_running() from error
            raise DaemonError(
                f"VBG Camera does not answer: {error}",
                hint="Run `vcam stop` and `vcam start`, or look into the log.",
            ) from error
        finally:
            connection.close()


def _gone_from(address: Path | tuple[str, int]) -> bool:
    """True if nobody listens at a door any more: a daemon that was killed cuts who just came."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as knock:
        knock.settimeout(1.0)
        try:
            knock.connect(str(address) if isinstance(address, Path) else address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise DaemonError(
            "VBG Camera gave an answer that cannot be read",
            hint="Run `vcam stop`, then `vcam start`.",
        ) from error


def _not_running() -> DaemonError:
    return DaemonError("VBG Camera is not running", hint="Run `vcam start`.", running=False)


def _refused(status: int, answer: dict[str, Any]) -> VcamError:
    message, hint = str(answer.get("error", status)), str(answer.get("hint", ""))
    if answer.get("problems"):
        return ConfigError(message, hint=hint, problems=tuple(answer["problems"]))
    return DaemonError(message, hint=hint)
