"""The keeper's life: who may attach, and when it ends by itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable

from vcam.keeper.camera import Camera
from vcam.keeper.messages import (
    ATTACH,
    KEPT,
    LEAVE,
    LOOPBACK,
    NAME,
    PIPEWIRE,
    PROCESS,
    SHOW,
    SIZE,
    WANT,
    Message,
    foreign,
    process_of,
    unpacked,
)
from vcam.keeper.node import Node
from vcam.keeper.standby import Standby

TYPE_CHECKING = False
if TYPE_CHECKING:  # to import typing costs a megabyte
    from vcam.keeper.camera import Opener

LINGER = 10.0  # seconds it stays with no daemon and no program in a call
LOOK_EVERY = 1.0  # seconds between looks at whether it is still wanted
PEERS = 8  # connections at once
LARGEST = 1 << 13  # pixels either way
PR_SET_DUMPABLE, PR_SET_NAME = 4, 15  # of prctl(2)
RUNS_ALREADY = 3  # exit status


class Keeper:
    """Serves the socket at `path`, which listens already, until nobody needs it any more."""

    def __init__(
        self,
        door: socket.socket,
        path: str,
        opener: Opener = Node,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door, self._path, self._clock = door, path, clock
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        changed = lambda: os.eventfd_write(self._wake, 1)  # noqa: E731
        self._cameras = {PIPEWIRE: Camera(opener, changed), LOOPBACK: Camera(None, changed)}
        self._peers: dict[int, socket.socket] = {}
        self._poll = select.poll()
        for fd in (door.fileno(), self._wake):
            self._poll.register(fd, select.POLLIN)
        self._needed_at = clock()
        self._look_at = 0.0
        self._relieved = False  # a daemon of another version came, which brings a keeper of its own

    def run(self) -> None:
        """Serve; returns once neither a daemon nor a program in a call has been there for long."""
        pause = 0.0
        try:
            while not self._is_over():
                self.turn(pause)
                pause = min(LOOK_EVERY, *(each.tend() for each in self._cameras.values()))
        finally:
            self.close()

    def turn(self, seconds: float) -> None:
        """Wait for something to happen, and deal with it."""
        for fd, _ in self._poll.poll(seconds * 1000):
            if fd == self._door.fileno():
                self._accept()
            elif fd == self._wake:
                os.eventfd_read(self._wake)
            elif fd in self._peers:
                self._read(self._peers[fd])

    def close(self) -> None:
        """Leave everything; the descriptors are gone after this."""
        for peer in tuple(self._peers.values()):
            self._part(peer)
        for camera in self._cameras.values():
            camera.close()
        os.close(self._wake)

    def _is_over(self) -> bool:
        if self._relieved:
            return True
        now = self._clock()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        if self._peers or any(camera.watched for camera in self._cameras.values()):
            self._needed_at = now
        # A user who has left takes the directory along: nobody could find this process any more.
        gone = not self._peers and not os.path.exists(self._path)
        return gone or now - self._needed_at > LINGER

    def _accept(self) -> None:
        try:
            peer, _ = self._door.accept()
        except OSError:
            return
        if len(self._peers) >= PEERS or not process_of(peer):
            peer.close()
            return
        peer.setblocking(False)
        self._peers[peer.fileno()] = peer
        self._poll.register(peer.fileno(), select.POLLIN)

    def _read(self, peer: socket.socket) -> None:
        """Take everything that waits, in order; of pictures in a row the newest alone."""
        newest: Message | None = None
        over = False
        while not over:
            try:
                data, fds, _, _ = socket.recv_fds(peer, SIZE + 1, 2)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # it left a word of ours unread; what it said before is still there
            except OSError:
                data, fds = b"", []
            message = unpacked(data)
            self._relieved |= foreign(data)
            if message is None:  # the end, or somebody who speaks another language
                over = True
            elif message.kind == SHOW:
                newest = message
            else:
                # A picture from before this word must not profit from it, say from a first card.
                earlier, newest = newest, None
                obeyed = earlier is None or self._obey(peer, earlier, [])
                over = not (obeyed and self._obey(peer, message, fds))
            for fd in fds:
                os.close(fd)
        if over or (newest is not None and not self._obey(peer, newest, [])):
            self._part(peer)

    def _obey(self, peer: socket.socket, message: Message, fds: list[int]) -> bool:
        """Do what `peer` asks for; False if it is not to be had any longer."""
        try:
            if message.kind == ATTACH:
                self._attach(peer, message, fds)
            elif message.kind == LEAVE:
                self._camera(message).leave(watched=message.card)
            elif message.kind == WANT:
                device = self._camera(message).device
                said = Message(KEPT).packed()
                socket.send_fds(peer, [said], [] if device is None else [device])
            else:
                for camera in self._cameras.values():
                    if peer is camera.peer:
                        camera.take(message)
        except OSError:
            return False
        return True

    def _camera(self, message: Message) -> Camera:
        if (camera := self._cameras.get(message.slot)) is None:
            raise OSError(f"there is no camera {message.slot}")
        return camera

    def _attach(self, peer: socket.socket, message: Message, fds: list[int]) -> None:
        """Let `peer` feed a camera; what it takes out of `fds` is the camera's."""
        camera, size = self._camera(message), (message.width, message.height)
        area = size[0] * size[1]
        lengths = (area * 3 // 2, area * 2)[: message.slot]  # PipeWire is offered I420 alone
        fits = min(size) > 0 and max(size) <= LARGEST and message.seq in lengths
        if len(fds) != message.slot or not fits:
            raise OSError("this is not how to attach")
        before = camera.peer
        device = Standby(os.dup(fds[1]), message.seq) if len(fds) > 1 else None
        try:
            camera.attach(peer, message, fds[0], device)
        except OSError:
            if device is not None:
                device.close()
            raise
        del fds[0]
        if before is not None and before is not peer:  # the newest daemon is the one
            self._part(before)

    def _part(self, peer: socket.socket) -> None:
        if self._peers.pop(peer.fileno(), None) is not None:
            self._poll.unregister(peer.fileno())
        for camera in self._cameras.values():
            if peer is camera.peer:
                camera.detach()
        peer.close()


def listen(folder: str) -> socket.socket | None:
    """The door, for this user alone; None if a keeper serves there already.

    The lock is held until the process ends.
    """
    lock = os.open(
        os.path.join(folder, "keeper.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    path = os.path.join(folder, NAME)
    if os.path.lexists(path):
        os.unlink(path)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    door.bind(path)
    os.umask(before)
    door.listen(PEERS)
    door.setblocking(False)
    return door


def main() -> int:
    """Listen in the folder that is the last argument, and serve there from a process apart.

    Returns as soon as somebody may connect.
    """
    folder = sys.argv[-1]
    end, said = os.pipe()
    if os.fork():
        os.close(said)
        # Who waits for this process knows by its end that the door is open.
        os._exit(0 if os.read(end, 1) else RUNS_ALREADY)
    os.setsid()
    door = listen(folder)  # by the process that serves: those who connect are told which it is
    if door is None:
        return RUNS_ALREADY
    os.write(said, b"1")
    os.close(said)
    os.close(end)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    # What it shows is not for core dumps, nor for other programs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    library.prctl(PR_SET_NAME, PROCESS.encode(), 0, 0, 0)
    path = os.path.join(folder, NAME)
    Keeper(door, path).run()
    os.unlink(path)
    return 0
