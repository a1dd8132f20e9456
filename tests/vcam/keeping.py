"""A keeper on a thread of the test, with a node that keeps every picture it was given."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vcam.keeper import process
from vcam.keeper.messages import NAME
from vcam.keeper.node import PAUSED, STREAMING

W, H = 64, 36
SIZE = W * H * 3 // 2


class ListNode:
    """A node whose state and readers are what the test says."""

    def __init__(self, width: int, height: int, fps: float, changed: Callable[[], object]) -> None:
        self.width, self.height, self.fps = width, height, fps
        self.state, self.id = STREAMING, 40
        self.starved = self.closed = False
        self.shown: list[bytes] = []
        self._changed = changed

    @property
    def watched(self) -> bool:
        return self.state == STREAMING

    @property
    def lost(self) -> bool:
        return self.state < PAUSED

    def turn(self, state: int) -> None:
        """Be in another state from now on."""
        self.state = state
        self._changed()

    def announce(self, fps: float) -> None:
        self.fps = fps

    def send(self, fill: Callable[[int], object]) -> None:
        picture = ctypes.create_string_buffer(SIZE)
        fill(ctypes.addressof(picture))
        self.shown.append(picture.raw)

    def close(self) -> None:
        self.closed = True


class Kept:
    """The keeper that runs: where, and the nodes it made so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[ListNode] = []

    @property
    def node(self) -> ListNode:
        """The node that is there now."""
        return self.nodes[-1]

    def open(self, *how: object) -> ListNode:
        self.nodes.append(ListNode(*how))  # type: ignore[arg-type]
        return self.nodes[-1]


@contextlib.contextmanager
def keeping(folder: Path, clock: Callable[[], float] = time.monotonic) -> Iterator[Kept]:
    """A keeper for as long as the block runs, and until it ends by itself."""
    kept = Kept(folder)
    door = process.listen(str(folder))
    assert door is not None
    keeper = process.Keeper(door, str(folder / NAME), kept.open, clock)  # type: ignore[arg-type]
    thread = threading.Thread(target=keeper.run, name="keeper")
    before, process.LOOK_EVERY = process.LOOK_EVERY, 0.05
    thread.start()
    try:
        yield kept
    finally:
        process.LOOK_EVERY = before
        (folder / NAME).unlink(missing_ok=True)
        thread.join(30)
        door.close()
        assert not thread.is_alive()


def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
