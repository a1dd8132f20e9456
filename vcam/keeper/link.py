"""The daemon's end of the keeper, which is started where none runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import vcam
from vcam.keeper.messages import (
    ATTACH,
    HOLD,
    LEAVE,
    LOOPBACK,
    NAME,
    PIPEWIRE,
    RATE,
    SHOW,
    SIZE,
    STATE,
    WANT,
    Message,
    process_of,
    unpacked,
)
from vcam.keeper.node import ERROR, PAUSED, STREAMING, UNCONNECTED
from vcam.keeper.pictures import CARD, SLOTS, Pictures
from vcam.system import systemd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

START_WITHIN: Final = 15.0  # seconds a keeper may take to listen, on a busy machine
ANSWER_WITHIN: Final = 2.0  # seconds
TRIES: Final = 3  # one that is just ending may be met
# Without the site's packages, which it has no use for, it is half as large.
_COMMAND: Final = (
    "import sys; sys.path.append(sys.argv[1]); from vcam.keeper.process import main; "
    "sys.exit(main())"
)


class LinkError(Exception):
    """The keeper cannot be started, or has ended."""


class Link:
    """Feeds a camera of the keeper's, once attached. One thread writes; any may ask for `state`.

    A picture has `length` bytes, by default those of I420.

    Raises:
        LinkError: there is no keeper to be had in `folder`.
    """

    def __init__(self, folder: Path, width: int, height: int, length: int = 0) -> None:
        self._size = width, height
        self._length = length or width * height * 3 // 2
        self._camera = PIPEWIRE
        self._lock = threading.Lock()
        self._number = self._slot = 0
        self._soiled = False  # pictures of somebody lie in the slots
        self._state = UNCONNECTED
        self._ended = False
        self.node = 0  # of the camera in the session
        self._closed = False
        self._pictures = Pictures(self._length)
        try:
            self._socket = _connected(folder)
        except BaseException:
            self._pictures.close()
            raise
        self.process = process_of(self._socket)  # of the keeper

    def attach(self, fps: float, device: int | None = None) -> None:
        """Take the camera over; the one in PipeWire, or a `device`, of which the keeper has a copy.

        To a device this process writes by itself, and the keeper the card once it has ended.

        Raises:
            LinkError: the keeper has ended.
        """
        self._camera = PIPEWIRE if device is None else LOOPBACK
        attach = Message(
            ATTACH, slot=self._camera, size=self._size, seq=self._length, fps=fps
        ).packed()
        fds = [self._pictures.fd, *(() if device is None else (device,))]
        try:
            socket.send_fds(self._socket, [attach], fds)
        except OSError as error:
            raise LinkError("the camera's keeper has ended") from error

    def wait(self, seconds: float) -> bool:
        """Wait until the session has the camera; False if it does not take it in."""
        deadline = time.monotonic() + seconds
        while (state := self.state) < PAUSED and state != ERROR and time.monotonic() < deadline:
            time.sleep(0.005)
        return state >= PAUSED

    @property
    def state(self) -> int:
        """The node's state; UNCONNECTED once the keeper is gone."""
        with self._lock:
            while not self._closed:
                try:
                    message = unpacked(self._socket.recv(SIZE + 1))
                except BlockingIOError:
                    break
                except OSError:
                    message = None
                if message is None:
                    self._state, self._ended = UNCONNECTED, True
                    break
                if message.kind == STATE:
                    self._state, self.node = message.slot, message.seq
            return self._state

    @property
    def watched(self) -> bool:
        """True while a program streams."""
        return self.state == STREAMING

    @property
    def ended(self) -> bool:
        """True once the keeper is gone, or speaks another language."""
        return self.state == UNCONNECTED and self._ended

    def hold(self, card: NDArray[np.uint8], most: float) -> None:
        """Have this card shown when pictures stop, and when one is older than `most` seconds."""
        self._draw(CARD, card)
        self._say(Message(HOLD, slot=CARD, seq=self._number, most=most))

    def show(self, data: NDArray[np.uint8], pts: float, *, card: bool) -> None:
        """Show a picture; it is copied when this returns."""
        self._slot = (self._slot + 1) % SLOTS
        self._draw(self._slot, data)
        self._say(Message(SHOW, slot=self._slot, card=card, seq=self._number, pts=pts))
        if card and self._soiled:
            for slot in range(SLOTS):
                if slot != self._slot:
                    self._pictures.mark(slot, 0)
                    ctypes.memset(self._pictures.address(slot), 0, self._pictures.size)
        self._soiled = not card

    def announce(self, fps: float) -> None:
        """Have this rate offered to programs."""
        self._say(Message(RATE, fps=fps))

    def leave(self, *, watched: bool) -> None:
        """Let go, and have the camera closed: when this returns, or after those who watch."""
        try:
            self._say(Message(LEAVE, slot=self._camera, card=watched))
            deadline = time.monotonic() + ANSWER_WITHIN
            while not watched and self.state >= PAUSED and time.monotonic() < deadline:
                time.sleep(0.005)
        except LinkError:  # nobody has the camera any more
            pass
        self.close()

    def _draw(self, slot: int, data: NDArray[np.uint8]) -> None:
        self._number += 1
        self._pictures.mark(slot, 0)
        with self._pictures.view(slot) as view:
            view[:] = data.reshape(-1).data
        self._pictures.mark(slot, self._number)

    def _say(self, message: Message) -> None:
        try:
            self._socket.send(message.packed())
        except OSError as error:  # one that hangs is as good as gone
            raise LinkError("the camera's keeper has ended") from error

    def close(self) -> None:
        """Let go; the keeper shows the card from now on."""
        with self._lock:
            if self._closed:
                return
            self._closed, self._state = True, UNCONNECTED
            self._socket.close()
            self._pictures.close()


def kept_device(folder: Path) -> int | None:
    """The descriptor that a keeper has kept, for the caller to close; None where there is none."""
    if (peer := _reached(folder)) is None:
        return None
    with peer:
        try:
            peer.settimeout(ANSWER_WITHIN)
            peer.send(Message(WANT, slot=LOOPBACK).packed())
            _, fds, _, _ = socket.recv_fds(peer, SIZE + 1, 1)
        except OSError:
            return None
        return fds[0] if fds else None


def let_go(folder: Path) -> None:
    """Have the device that is kept closed."""
    if (peer := _reached(folder)) is not None:
        with peer, contextlib.suppress(OSError):
            peer.send(Message(LEAVE, slot=LOOPBACK).packed())


def _reached(folder: Path) -> socket.socket | None:
    """A connection to this user's keeper, if one runs."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.connect(str(folder / NAME))
        if process_of(peer):
            peer.setblocking(False)
            return peer
    except OSError:
        pass
    peer.close()
    return None


def _connected(folder: Path) -> socket.socket:
    """A connection to this user's keeper, started if need be."""
    for _ in range(TRIES):
        if (peer := _reached(folder)) is not None:
            return peer
        _start(folder)
    raise LinkError("the camera's keeper does not answer")


def _start(folder: Path) -> None:
    """Start a keeper, and return when it listens or another one does."""
    root = str(Path(vcam.__file__).resolve().parent.parent)
    command = [sys.executable, "-I", "-S", "-c", _COMMAND, root, str(folder)]
    try:
        subprocess.run(
            systemd.apart(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_WITHIN,
            check=False,
            env={**os.environ},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LinkError(f"the camera's keeper cannot be started: {error}") from error
