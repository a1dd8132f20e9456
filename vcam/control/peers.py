"""The user at the other end of a connection, as the kernel tells it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

Address = tuple[str, int]

SOCK_DIAG: Final = 4  # linux/netlink.h: NETLINK_SOCK_DIAG
SOCK_DIAG_BY_FAMILY: Final = 20  # linux/sock_diag.h
REQUEST: Final = 1  # linux/netlink.h: NLM_F_REQUEST
LOOK_UP_TIMEOUT: Final = 0.5  # seconds; the kernel answers while it is asked
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

# Without a way to ask, a TCP peer is known by its token alone. Windows tells a process's number,
# macOS nothing to a program without rights; neither is asked.
TCP_TELLS: Final = sys.platform == "linux"


class Peer(NamedTuple):
    """A user, and the process where the system names it (0 where it does not)."""

    uid: int
    pid: int = 0


def peer_of(link: socket.socket) -> Peer | None:
    """The peer of a unix or loopback TCP connection; None where the system does not tell.

    A socket that its process has closed already has no owner, so it is None too: the kernel
    would call it root's.
    """
    try:
        if link.family != getattr(socket, "AF_UNIX", None):
            return _tcp_peer(link.getpeername()[:2], link.getsockname()[:2])
        if hasattr(socket, "SO_PEERCRED"):
            raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("3i", raw)
            return Peer(uid, pid)
        if sys.platform == "darwin":  # struct xucred: version, uid, … (LOCAL_PEERCRED, unix(4))
            raw = link.getsockopt(0, 1, 76)
            return Peer(int(struct.unpack_from("2I", raw)[1]))
    except (OSError, ValueError, struct.error):
        pass
    return None


def _tcp_peer(theirs: Address, ours: Address) -> Peer | None:
    if not TCP_TELLS:
        return None
    try:
        uid = uid_by_netlink(theirs, ours)
    except OSError:  # a kernel without inet_diag, a sandbox without netlink
        uid = uid_by_table(theirs, ours)
    return None if uid is None else Peer(uid)


def uid_by_netlink(theirs: Address, ours: Address) -> int | None:
    """Ask the kernel for the one socket from `theirs` to `ours`: some ten microseconds.

    From linux/inet_diag.h (sock_diag(7)): the tables in /proc take as long as the machine has
    sockets, which a stranger could have many of.

    Raises:
        OSError: the kernel does not answer such questions.
    """
    ends = struct.pack("!HH", theirs[1], ours[1])
    ends += socket.inet_aton(theirs[0]).ljust(16, b"\0") + socket.inet_aton(ours[0]).ljust(
        16, b"\0"
    )
    any_interface_and_cookie = struct.pack("=I", 0) + b"\xff" * 8
    question = struct.pack("=4BI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    question += ends + any_interface_and_cookie
    head = struct.pack("=IHHII", 16 + len(question), SOCK_DIAG_BY_FAMILY, REQUEST, 1, 0)
    kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kinds, SOCK_DIAG) as kernel:
        kernel.settimeout(LOOK_UP_TIMEOUT)
        kernel.sendto(head + question, (0, 0))
        answer = kernel.recv(8192)
    if len(answer) < 20:
        raise OSError("the kernel's answer is too short")
    if struct.unpack_from("=IH", answer)[1] != SOCK_DIAG_BY_FAMILY:
        error = -struct.unpack_from("=i", answer, 16)[0]
        if error == 2:  # ENOENT: there is no such socket any more
            return None
        raise OSError(error, os.strerror(error))
    # struct inet_diag_msg: four bytes, 48 of the ends, expires, rqueue, wqueue, uid, inode
    uid, inode = struct.unpack_from("=2I", answer, 16 + 4 + 48 + 12)
    return int(uid) if inode else None


def uid_by_table(theirs: Address, ours: Address) -> int | None:
    """Look the socket from `theirs` to `ours` up in /proc/net/tcp and tcp6."""
    for line in _sockets():
        words = line.split()
        if len(words) < 10 or _v4(words[1]) != theirs or _v4(words[2]) != ours:
            continue
        return int(words[7]) if int(words[9]) else None
    return None


def _sockets() -> Iterator[str]:
    for table in TABLES:
        with contextlib.suppress(OSError), table.open(encoding="ascii") as lines:
            next(lines, "")
            yield from lines


def _v4(end: str) -> Address | None:
    """Read `0100007F:1F90`, or the same mapped into IPv6; words are in the machine's order."""
    host, _, port = end.partition(":")
    if len(host) == 32 and host.upper()[:24] in ("0" * 16 + "FFFF0000", "0" * 20 + "FFFF"):
        host = host[24:]
    if len(host) != 8:
        return None
    return socket.inet_ntoa(struct.pack("=I", int(host, 16))), int(port, 16)
