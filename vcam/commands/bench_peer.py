"""Another program's work on the same frames, measured between ours: `vcam bench --peer-pipeline`.

The command is started once for each case. It reads frames from its standard input, each a length
in four bytes, the least first, and so many bytes as the webcam would send, and writes one line
when it is done with one. VCAM_WIDTH, VCAM_HEIGHT, VCAM_FORMAT ("mjpg", "yuyv") and VCAM_BACKGROUND
("picture", "blur") say what comes. Counted is the processor time of all its threads.
"""

from __future__ import annotations

import os
import select
import shlex
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

from vcam.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

FIRST_WITHIN: Final = 120.0  # seconds until it is done with the first frame: it may have to load
NEXT_WITHIN: Final = 10.0


class PeerPipeline:
    """The other program, for one case.

    Raises:
        UsageError: it cannot be started, ended, or does not answer.
    """

    def __init__(self, command: str, width: int, height: int, kind: str, background: str) -> None:
        if not sys.platform.startswith("linux"):
            raise UsageError("--peer-pipeline works on Linux", hint="Leave it out here.")
        told = {
            "VCAM_WIDTH": str(width), "VCAM_HEIGHT": str(height),
            "VCAM_FORMAT": kind, "VCAM_BACKGROUND": background,
        }  # fmt: skip
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._command = command
        try:
            self._process = subprocess.Popen(
                shlex.split(command), env=single | os.environ | told,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            )  # fmt: skip
        except (OSError, ValueError, IndexError) as error:
            raise UsageError(
                f"the peer's command cannot be started: {error}",
                hint="Give a program with its words, as in --peer-pipeline 'python3 other.py'.",
            ) from error
        # The clock of another process, as the kernel numbers it.
        self._clock = (~self._process.pid << 3) | 2
        self._within = FIRST_WITHIN

    def step(self, frame: bytes) -> float:
        """Have it work on one frame; the seconds of processor that it took."""
        assert self._process.stdout is not None
        try:
            before = time.clock_gettime(self._clock)
            self._write(struct.pack("<I", len(frame)) + frame)
            if not select.select([self._process.stdout], [], [], self._within)[0]:
                raise self._late()
            if not self._process.stdout.readline():
                raise self._silent("has ended")
            after = time.clock_gettime(self._clock)
        except OSError as error:
            raise self._silent("has ended") from error
        self._within = NEXT_WITHIN
        return after - before

    def _write(self, data: bytes) -> None:
        """Write all of it, as the program reads it."""
        assert self._process.stdin is not None
        fd, left = self._process.stdin.fileno(), memoryview(data)
        os.set_blocking(fd, False)
        while left:
            if not select.select([], [fd], [], self._within)[1]:
                raise self._late()
            left = left[os.write(fd, left) :]

    def _late(self) -> UsageError:
        return self._silent(f"has not answered within {self._within:.0f} s")

    def _silent(self, what: str) -> UsageError:
        return UsageError(
            f"the peer {what}: {self._command}",
            hint="It has to write one line to its standard output for every frame it read.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
