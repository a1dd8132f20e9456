"""The GPU's process: `python -m vcam.gpu.worker HANDLE KEY WISHES`, started by `GpuChild`.

It answers one question after another on a pipe; pictures lie in memory that both processes see. It
ends when the daemon says so, or is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import signal
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from segmentation.engines.cuda import engine_error
from segmentation.errors import EngineError, SegmentationError
from vcam.compose.scene import Scene
from vcam.foreign_text import log_to
from vcam.gpu.child import Told
from vcam.gpu.exchange import Exchange
from vcam.gpu.packing import Packing
from vcam.gpu.rig import Buffers, Pinned
from vcam.gpu.segmenter import CudaSegmenter
from vcam.gpu.shared import SharedMemory
from vcam.system.memory import never_dumped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.motion.room import RoomCopy, RoomWord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Block:
    """A block of shared memory: the buffers that a plan uses, and those that the daemon sees."""

    offset: int
    total: int
    mine: Buffers
    theirs: Buffers

    @property
    def copied(self) -> bool:
        """True if the GPU cannot read and write what the daemon sees."""
        return self.mine is not self.theirs


class Shared:
    """Host memory that the daemon sees too, pinned; where that cannot be, copied. See `Host`."""

    def __init__(self, memory: SharedMemory, device: torch.device) -> None:
        self._memory, self._device = memory, device
        self._pinned = Pinned(device)
        # Blocks that no plan has. The daemon may still read the one that was given back last, so
        # another one is taken.
        self._free: defaultdict[int, list[_Block]] = defaultdict(list)
        self._taken: dict[int, _Block] = {}
        self._mapped: list[mmap.mmap] = []  # and registered, as long as this process lives

    def take(self, exchange: Exchange) -> Buffers:
        """See `Host.take`."""
        free = self._free[exchange.total]
        made = free.pop(0) if len(free) > 1 else self._add(exchange)
        self._taken[id(made.mine)] = made
        for buffer in (*made.mine.each, *made.theirs.each):
            buffer.zero_()
        return made.mine

    def give_back(self, buffers: Buffers) -> None:
        """See `Host.give_back`."""
        made = self._taken.pop(id(buffers), None)
        if made is not None:
            self._free[made.total].append(made)

    def offset(self, buffers: Buffers) -> int:
        """Place of a plan's buffers in the memory that the daemon sees."""
        return self._taken[id(buffers)].offset

    def fetch(self, buffers: Buffers, turn: int, *, backdrop: bool) -> None:
        """Bring in what the daemon wrote, where the GPU cannot read it in place."""
        block = self._taken[id(buffers)]
        if block.copied:
            block.mine.up[turn].copy_(block.theirs.up[turn])
            if backdrop:
                block.mine.backdrop.copy_(block.theirs.backdrop)

    def hand_over(self, buffers: Buffers, turn: int) -> None:
        """Bring an answer to where the daemon reads it, where the GPU cannot write there."""
        block = self._taken[id(buffers)]
        if block.copied:
            block.theirs.down[turn].copy_(block.mine.down[turn])

    def wipe(self) -> None:
        """Overwrite what plans of before left; theirs is wiped by themselves."""
        for block in (*(b for free in self._free.values() for b in free), *self._taken.values()):
            for buffer in block.theirs.each:
                buffer.zero_()

    def _add(self, exchange: Exchange) -> _Block:
        offset = self._memory.add(exchange.total)
        mapped = self._memory.map(offset, exchange.total)
        self._mapped.append(mapped)
        whole = torch.frombuffer(mapped, dtype=torch.uint8)
        parts = [whole[part] for part in exchange.places]
        theirs = Buffers((parts[0], parts[1]), (parts[2], parts[3]), parts[4])
        mine = theirs if self._registered(whole) else self._pinned.take(exchange)
        return _Block(offset, exchange.total, mine, theirs)

    def _registered(self, whole: Tensor) -> bool:
        """True if the GPU can read and write the block itself from now on."""
        if self._device.type != "cuda":
            return True
        runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        return int(runtime.cudaHostRegister(whole.data_ptr(), whole.numel(), 0)) == 0


class Worker:
    """Answers the daemon's questions with a segmenter. One thread's own."""

    def __init__(self, segmenter: CudaSegmenter, host: Shared) -> None:
        self._segmenter, self._host = segmenter, host
        self._plan: Any = None
        self._seen: float | None = None  # when the frame was taken that is to be learnt from

    def plan(self, packing: Packing, scene: Scene) -> Told | None:
        """Say where frames of this kind are to be put; None while nothing may be shown."""
        segmenter = self._segmenter
        self._plan = plan = segmenter.plan_for(packing, scene)
        if plan is None:
            return None
        exact, offset = plan.fits(packing, scene), self._host.offset(plan.buffers)
        return Told(plan.exchange, offset, exact, segmenter.fresh, segmenter.info)

    def frame(self, turn: int, backdrop: bool, pts: float) -> tuple[bool, dict[str, Any]]:
        """Send a frame through, taken at `pts` seconds.

        Returns:
            true if another plan waits to be taken into use; what is known of the room
        """
        plan, host = self._plan, self._host
        if plan is None:
            raise EngineError("a frame came before its plan", hint='Set engine = "cpu".')
        host.fetch(plan.buffers, turn, backdrop=backdrop)
        if backdrop:
            plan.fetch_backdrop()
        plan.run(turn)
        host.hand_over(plan.buffers, turn)
        self._segmenter.began()
        self._seen = pts
        return self._segmenter.has_built, self._segmenter.room

    def learn(self) -> None:
        """Learn the room from the frame before, whose answer was sent: no frame waits for it."""
        seen, self._seen = self._seen, None
        if seen is not None:
            self._segmenter.teach(self._plan, seen)

    def wipe(self) -> dict[str, Any]:
        """Overwrite all that is kept of the frames before; what is known of the room then."""
        self._segmenter.wipe()
        self._host.wipe()
        return self._segmenter.room

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone from the next look on, or forget it."""
        return self._segmenter.tell_room(word)

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room from the next look on."""
        self._segmenter.recall_room(kept)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another."""
        return self._segmenter.copy_room()

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now."""
        return self._segmenter.lend_room()

    def room_map(self) -> NDArray[np.uint8]:
        """Where the room is known, (h, w) uint8, 255 where it is."""
        return self._segmenter.room_map


def serve(pipe: connection.Connection[Any, Any], worker: Worker) -> None:
    """Answer until told to end, or until something fails: the daemon opens no second chance."""
    while True:
        name, *words = pipe.recv()
        if name == "close":
            return
        answer = getattr(worker, name)(*words)
        pipe.send(("ok", answer))
        if isinstance(answer, np.ndarray):
            answer.fill(0)  # it may show the room
        worker.learn()


def open_worker(memory: SharedMemory, wishes: dict[str, Any]) -> tuple[Worker, dict[str, Any]]:
    """Open the GPU, and say what it is.

    Raises:
        SegmentationError: it or the weights cannot be used.
    """
    device = wishes.get("device", "cuda")
    host = Shared(memory, torch.device(device))
    kept = wishes.get("cache_dir")
    segmenter = CudaSegmenter(
        wishes["model"], device=device, host=host, cache_dir=Path(kept) if kept else None
    )
    return Worker(segmenter, host), segmenter.info


def main(words: list[str]) -> int:
    """Serve the daemon that started this process; the exit code."""
    handle, key, wishes = int(words[0]), words[1], json.loads(words[2])
    log_to([logging.StreamHandler()], "WARNING", "%(levelname)s GPU: %(message)s")
    never_dumped()
    _ignore_signals()
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    pipe = _pipe(handle)
    try:
        worker, info = open_worker(SharedMemory(key), wishes)
        pipe.send(("ok", info))
        serve(pipe, worker)
    except (EOFError, BrokenPipeError, ConnectionError):
        pass
    except Exception as error:
        if not isinstance(error, SegmentationError):
            log.warning("it failed", exc_info=True)
        with contextlib.suppress(OSError):
            pipe.send(("error", _in_words(error)))
    # Not the interpreter's own end: after an error that stays, freeing what lies on the GPU aborts.
    sys.stderr.flush()
    os._exit(0)


def _in_words(error: Exception) -> tuple[str, str, str]:
    """Return the name of an error of ours, its sentence and its hint."""
    told = engine_error(error, "failed")
    return type(told).__name__, told.message, told.hint


def _pipe(handle: int) -> connection.Connection[Any, Any]:
    if sys.platform == "win32":
        return connection.PipeConnection(handle)
    return connection.Connection(handle)


def _ignore_signals() -> None:
    """Leave Ctrl-C and a stop of the service to the daemon, which ends this process itself."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_with_the_daemon() -> None:
    """End when standard input does, which the daemon holds open; whatever the GPU is doing."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
