"""A real daemon whose camera, virtual camera, engine and clock a test holds.

What it is told comes from `orders.json` in the folder given first; the rest of the command line is
`vcam`'s own. What it shows goes through a socket, each frame with a header.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.errors import EngineError
from segmentation.planes import Planes
from vcam import cli, daemon, sinks
from vcam.errors import SinkError, SourceError
from vcam.frame import Frame, SafeFrame
from vcam.media.clip import ClipSource
from vcam.sinks.file import check
from vcam.system import systemd

HEADER = struct.Struct("<4s?qddd")  # magic, card, seq, pts, when the fault struck, when written
MAGIC = b"VBGC"


class Orders:
    """What goes wrong right now; read again whenever the file was replaced."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._now = path, (0, 0), dict[str, Any]()
        self._lock = threading.Lock()  # or a slower thread's look forgets what another just felt
        self.struck = 0.0  # when a fault was first felt; 0 while there is none

    def __call__(self, key: str, default: Any = "") -> Any:
        with self._lock:
            file = self._path.stat()
            changed = file.st_ino, file.st_mtime_ns  # numbers of files are used again
            if changed != self._seen:
                self._seen, self._now = changed, json.loads(self._path.read_text())
                self.struck = 0.0
            return self._now.get(key, default)

    def fault(self, key: str) -> str:
        """What is wrong with `key`; from now on whoever asked for it knows."""
        found = str(self(key))
        if found and not self.struck:
            self.struck = time.monotonic()
        return found


class Camera(ClipSource):
    """A clip that fails as cameras do."""

    def __init__(self, path: Path, orders: Orders) -> None:
        super().__init__(path)
        self._orders = orders
        self._last: Frame | None = None

    def __enter__(self) -> Camera:
        if self._orders.fault("camera") == "unplugged":
            raise SourceError("the camera is not there")
        super().__enter__()
        return self

    def read(self, timeout: float) -> Frame | None:
        fault = self._orders.fault("camera")
        if fault == "unplugged":
            raise SourceError("the camera went away")
        if fault == "damaged":
            raise SourceError("the camera sends damaged JPEG pictures")
        if fault == "silent":
            time.sleep(timeout)
            return None
        while self._orders("camera") == "hangs":
            time.sleep(0.01)
        frame = super().read(timeout)
        if frame is None or not fault:
            self._last = frame
            return frame
        y, u, v = frame.planes.each
        if fault == "black":
            return replace(frame, y=np.full_like(y, 16))
        if fault == "noise":
            return replace(frame, y=np.random.default_rng().integers(16, 235, y.shape, np.uint8))
        if fault == "torn" and frame.seq % 4 == 0:  # now and then, as cameras do
            torn = y.copy()
            torn[y.shape[0] // 2 :] = np.roll(y, y.shape[1] // 3, axis=1)[y.shape[0] // 2 :]
            return replace(frame, y=torn)
        if fault == "half size":
            half = [np.ascontiguousarray(p[::2, ::2]) for p in (y, u, v)]
            return Frame(Planes(*half, frame.planes.full_range), frame.pts, frame.seq)
        if fault == "stale":
            return self._last
        if fault == "future":
            return replace(frame, pts=frame.pts + 100)
        return frame


class Wire:
    """A virtual camera at the other end of a socket, where the test looks at every picture."""

    kind, name = "wire", "wire"

    def __init__(self, path: str, width: int, height: int, orders: Orders) -> None:
        self._path, self._orders = path, orders
        self.width, self.height = width, height

    def __enter__(self) -> Wire:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(self._path)
        except OSError as error:
            raise SinkError(f"nobody takes pictures: {error}") from error
        return self

    def write(self, frame: SafeFrame) -> None:
        check(frame, self.width, self.height)
        if self._orders("sink") == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        times = frame.pts, self._orders.struck, time.monotonic()
        self._socket.sendall(HEADER.pack(MAGIC, frame.is_card, frame.seq, *times))
        self._socket.sendall(frame.data.data)

    def watchers(self) -> list[str] | None:
        found = list(self._orders("watchers", ["Meeting"]))
        if not found and not self._orders.struck:
            self._orders.struck = time.monotonic()
        return found

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def main() -> int:
    from segmentation.segmenter import Segmenter

    logging.raiseExceptions = False  # a full disk takes the log too
    folder = Path(sys.argv[1])
    orders = Orders(folder / "orders.json")
    opener, matte, asleep = sinks._opener, Segmenter.matte, systemd.seconds_asleep

    def open_sink(name: str, width: int, height: int, fps: float, layout: str) -> Any:
        if name != "wire":
            return opener(name, width, height, fps, layout)
        return lambda: Wire(str(folder / "wire"), width, height, orders)

    def fragile(self: Segmenter, *args: Any, **kwargs: Any) -> Any:
        if orders.fault("engine") == "raises":
            raise EngineError("the engine failed", hint="")
        while orders("engine") == "hangs":
            time.sleep(0.01)
        return matte(self, *args, **kwargs)

    sinks._opener = open_sink
    daemon.opener_of = lambda config: lambda: Camera(folder / "room.mp4", orders)
    systemd.seconds_asleep = lambda: asleep() + float(orders("asleep", 0.0))
    Segmenter.matte = fragile  # type: ignore[method-assign]
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
