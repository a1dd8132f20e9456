"""A network share that stops answering whenever a test wants: a folder served over FUSE.

python -m tests.share FOLDER MOUNTPOINT    serves FOLDER until it is killed

The server is a process of its own. Stopped (SIGSTOP), every call into the mount point waits in the
kernel, as for a server that is gone; continued, they go on; killed, they fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENOENT, ENOSYS = 2, 38
HEAD = struct.Struct("<IIQQIIII")  # of a request: length, opcode, unique, node, uid, gid, pid
LOOKUP, GETATTR, OPEN, READ, RELEASE, INIT, OPENDIR, READDIR, RELEASEDIR, FORGET, FORGETS = (
    1, 3, 14, 15, 18, 26, 27, 28, 29, 2, 42,
)  # fmt: skip
SILENT = {FORGET, FORGETS, 36}  # and INTERRUPT: no answer is expected


class Share:
    """A share that is mounted; files put into `folder` appear in `here`."""

    def __init__(self, folder: Path, here: Path, server: subprocess.Popen[str]) -> None:
        self.folder, self.here, self._server = folder, here, server

    def hang(self) -> None:
        """Answer nothing any more."""
        os.kill(self._server.pid, signal.SIGSTOP)

    def answer(self) -> None:
        """Go on, with what was asked meanwhile too."""
        os.kill(self._server.pid, signal.SIGCONT)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()
        if self._server.stdout is not None:
            self._server.stdout.close()
        ctypes.CDLL(None).umount2(os.fsencode(self.here), 2)


@contextlib.contextmanager
def mounted(tmp_path: Path) -> Iterator[Share]:
    """A share for one test; skips where none can be mounted."""
    folder, here = tmp_path / "server", tmp_path / "share"
    folder.mkdir()
    here.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.share", str(folder), str(here)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    said = server.stdout.readline().strip()
    share = Share(folder, here, server)
    if said != "mounted":
        share.close()
        pytest.skip(f"run as root with /dev/fuse to mount a share: {said}")
    try:
        yield share
    finally:
        share.close()


class Server:
    """Answers the kernel's questions about one flat folder of files, which do not change."""

    def __init__(self, folder: Path, door: int) -> None:
        self._folder, self._door = folder, door
        self._names: list[str] = []

    def run(self) -> None:
        while True:
            select.select([self._door], [], [])
            try:
                asked = os.read(self._door, 1 << 20)
            except OSError:
                return
            _, code, unique, node = HEAD.unpack_from(asked)[:4]
            if code in SILENT:
                continue
            error, answer = 0, b""
            try:
                answer = self._answer(code, node, asked[40:])
            except OSError as raised:
                error = raised.errno or 5
            os.write(self._door, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)

    def _answer(self, code: int, node: int, body: bytes) -> bytes:
        if code == INIT:
            return struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 8, 8, 65536, 1, 16, 0, 0) + bytes(
                28
            )
        if code == LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            facts = (self._folder / name).stat()
            if name not in self._names:
                self._names.append(name)
            number = self._names.index(name) + 2
            return struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self._facts(number, facts)
        if code == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._facts(node, self._path(node).stat())
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 1, 0)  # FOPEN_DIRECT_IO: nothing is kept by the kernel
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            with self._path(node).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        if code == READDIR:
            _, offset, _ = struct.unpack_from("<QQI", body)
            return b"".join(self._entries()[offset:])
        if code in (RELEASE, RELEASEDIR):
            return b""
        raise OSError(ENOSYS, "")

    def _entries(self) -> list[bytes]:
        found = []
        for at, name in enumerate(sorted(os.listdir(self._folder)), 1):
            raw = os.fsencode(name)
            entry = struct.pack("<QQII", at + 1, at, len(raw), 8) + raw
            found.append(entry + bytes(-len(entry) % 8))
        return found

    def _path(self, node: int) -> Path:
        return self._folder if node == 1 else self._folder / self._names[node - 2]

    @staticmethod
    def _facts(number: int, facts: os.stat_result) -> bytes:
        times = int(facts.st_mtime)
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            number, facts.st_size, facts.st_blocks, times, times, times, 0, 0, 0,
            facts.st_mode, 1, os.getuid(), os.getgid(), 0, 4096, 0,
        )  # fmt: skip


def main(folder: Path, here: Path) -> None:
    try:
        door = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        print(error, flush=True)
        return
    library = ctypes.CDLL(None, use_errno=True)
    told = f"fd={door},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if library.mount(b"share", os.fsencode(here), b"fuse.share", 6, told):
        print(os.strerror(ctypes.get_errno()), flush=True)
        return
    print("mounted", flush=True)
    Server(folder, door).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
