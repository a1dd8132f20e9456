"""Messages between daemon and keeper: one layout for all, one packet each, in order.

A packet is whole or not there, so that a writer who dies leaves no half of one.
"""

from __future__ import annotations

import os
import socket
import struct

VERSION = 2  # of everything both ends agree upon; who speaks another one is not understood
NAME = "keeper.sock"  # in the runtime directory
PROCESS = "vcam-keeper"  # what programs that list processes show
MAGIC = b"vbgk"

# From the daemon:
ATTACH = (
    1  # with the pictures' memory, maybe a device; size, fps, `seq` bytes each; a camera in `slot`
)
HOLD = 2  # the picture in `slot` is the card to show when pictures stop; `most` seconds of age
SHOW = 3  # the picture in `slot`, numbered `seq`, of the moment `pts`
RATE = 4  # pictures a second from now on
LEAVE = 5  # the camera in `slot` goes, with `card` not before the programs that watch do
WANT = 6  # the device that is kept for the camera in `slot`
# From the keeper:
STATE = 7  # of the camera, in `slot`; `seq` is its node
KEPT = 8  # with the device, if there is one

PIPEWIRE, LOOPBACK = 1, 2  # cameras

_LAYOUT = struct.Struct("<4sHHhhIIQddd")
SIZE = _LAYOUT.size


class Message:
    """One message; fields that its kind has no use for are zero."""

    __slots__ = ("card", "fps", "height", "kind", "most", "pts", "seq", "slot", "width")

    def __init__(
        self,
        kind: int,
        *,
        slot: int = 0,
        card: bool = False,
        size: tuple[int, int] = (0, 0),
        seq: int = 0,
        pts: float = 0.0,
        most: float = 0.0,
        fps: float = 0.0,
    ) -> None:
        self.kind, self.slot, self.card = kind, slot, card
        self.width, self.height = size
        self.seq = seq
        self.pts = pts  # seconds on the monotonic clock, which all processes share
        self.most = most  # seconds that a composite may be old when it is shown
        self.fps = fps

    def packed(self) -> bytes:
        """The message as it is sent."""
        return _LAYOUT.pack(
            MAGIC, VERSION, self.kind, self.slot, self.card, self.width, self.height,
            self.seq, self.pts, self.most, self.fps,
        )  # fmt: skip


def unpacked(data: bytes) -> Message | None:
    """The message in a packet; None for anything else, and another version's."""
    if len(data) != SIZE:
        return None
    magic, version, kind, slot, card, *size, seq, pts, most, fps = _LAYOUT.unpack(data)
    if magic != MAGIC or version != VERSION:
        return None
    return Message(
        kind,
        slot=slot,
        card=bool(card),
        size=(size[0], size[1]),
        seq=seq,
        pts=pts,
        most=most,
        fps=fps,
    )


def foreign(data: bytes) -> bool:
    """True of a packet of the same kind of program in another version."""
    if len(data) < 6 or data[:4] != MAGIC:
        return False
    version: int = struct.unpack_from("<H", data, 4)[0]
    return version != VERSION


def process_of(peer: socket.socket) -> int:
    """The process at the other end, if it is one of this very user; nought if not."""
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int
    pid, uid, _ = struct.unpack("3i", told)
    return pid if uid == os.getuid() else 0
