"""A camera for programs that ask PipeWire, which the keeper holds for us."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from vcam.errors import SinkError
from vcam.foreign_text import plain
from vcam.keeper.link import Link, LinkError
from vcam.keeper.node import PAUSED
from vcam.sinks.file import check
from vcam.system import paths
from vcam.system.devices import LABEL

if TYPE_CHECKING:
    from typing_extensions import Self

    from vcam.frame import SafeFrame

CONNECT_WITHIN: Final = 3.0  # seconds until a session has to take the camera in
LOOK_EVERY: Final = 5.0  # seconds between looks at who streams
LOOK_SOON: Final = 0.25  # the same while a program has no name yet
UNKNOWN: Final = "unknown program"


class PipeWireSink:
    """Shows frames as a camera of the user's PipeWire session. One writer.

    The camera belongs to the keeper: a call goes on, with the card, when this process ends or this
    sink is closed; without a call it is closed too. `write` says when PipeWire or the keeper ended;
    the sink has to be opened anew then.

    Raises:
        SinkError: libpipewire or a running session is missing.
    """

    kind = "pipewire"

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.name = f"{LABEL} (PipeWire)"
        self.width, self.height, self.fps = width, height, fps
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._looked_at = float("-inf")

    def __enter__(self) -> Self:
        if not session_is_there():
            raise _no_session()
        try:
            link = Link(paths.runtime_dir(), self.width, self.height)
        except LinkError as error:
            raise _lost(error) from error
        try:
            link.attach(self.fps)
        except LinkError as error:
            link.close()
            raise _lost(error) from error
        if not link.wait(CONNECT_WITHIN):
            link.close()
            raise _no_session()
        self._link = link
        return self

    def hold(self, card: SafeFrame, deadline: float) -> None:
        """Show `card` whenever frames stop, or one is older than `deadline` seconds."""
        check(card, self.width, self.height)
        with self._lock:
            if self._link is None:
                return
            try:
                self._link.hold(card.data, deadline)
            except LinkError as error:
                raise _lost(error) from error

    def announce(self, fps: float) -> None:
        """Offer this rate to programs; a call keeps the one that it was granted."""
        with self._lock:
            self.fps = fps
            if self._link is None:
                return
            try:
                self._link.announce(fps)
            except LinkError as error:
                raise _lost(error) from error

    def write(self, frame: SafeFrame) -> None:
        """Show `frame` to whoever streams; its pixels are copied when this returns."""
        check(frame, self.width, self.height)
        with self._lock:
            if self._link is None:
                raise SinkError(f"{self.name} is not open")
            if self._link.state < PAUSED:
                raise SinkError(
                    "PipeWire ended or restarted", hint="It is tried again every few seconds."
                )
            try:
                self._link.show(frame.data, frame.pts, card=frame.is_card)
            except LinkError as error:
                raise _lost(error) from error

    def watchers(self) -> list[str] | None:
        """Programs that stream from this node now."""
        link = self._link
        if link is None or not link.watched:
            self._names = []
            self._looked_at = float("-inf")
            return []
        now = time.monotonic()
        if now - self._looked_at > (LOOK_EVERY if self._names else LOOK_SOON):
            self._looked_at = now
            threading.Thread(
                target=self._look, args=(link.node,), name="pipewire-names", daemon=True
            ).start()
        return self._names or [UNKNOWN]

    def _look(self, node: int) -> None:
        self._names = _linked(node)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.leave(watched=link.watched)


def session_is_there() -> bool:
    """True if PipeWire's socket is where this user's programs look for it.

    A look that costs nothing, for a session that may come late.
    """
    remote = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    folders = (os.environ.get(name) for name in ("PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR"))
    return any((Path(folder or "/run/pipewire") / remote).exists() for folder in (*folders, None))


def _no_session() -> SinkError:
    return SinkError(
        "no PipeWire session answers",
        hint="Run `systemctl --user start pipewire wireplumber`, or leave PipeWire out of "
        "output.sink.",
    )


def _lost(error: Exception) -> SinkError:
    return SinkError(str(error), hint="It is started again by itself.")


def _linked(node: int) -> list[str]:
    """Names of the programs that `node` is linked to, as pw-dump tells; empty without it."""
    try:
        told = subprocess.run(["pw-dump"], capture_output=True, timeout=3, check=True).stdout
        objects = {entry["id"]: entry.get("info") or {} for entry in json.loads(told)}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return []
    names = []
    for info in objects.values():
        if info.get("output-node-id") == node:
            props = objects.get(info.get("input-node-id"), {}).get("props") or {}
            client = (objects.get(props.get("client.id"), {}).get("props")) or {}
            names.append(
                client.get("application.name")
                or client.get("application.process.binary")
                or props.get("node.description")
                or props.get("node.name")
                or "unknown program"
            )
    return list(dict.fromkeys(plain(name) for name in names))
