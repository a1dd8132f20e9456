"""The GPU's process, as the daemon sees it: frames go there and come back in shared memory.

Whatever a driver does to the process it runs in, abort, hang or leave its memory behind, it does to
the child. The daemon waits for an answer for a limited time, and needs neither torch nor a GPU.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segmentation import errors
from segmentation.errors import EngineError, SegmentationError
from segmentation.motion import temporal
from vcam.compose.scene import Blur, Look, Scene
from vcam.gpu.exchange import Exchange, Stillness, bare
from vcam.gpu.packing import Packing, packing_of
from vcam.gpu.shared import SharedMemory

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomCopy, RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People

log = logging.getLogger(__name__)

OPENING: Final = 90.0  # seconds that torch and a driver may take to open the GPU
BUILDING: Final = 180.0  # seconds that what a look needs may take to be built
PAUSE: Final = 5.0  # seconds without a question after which the time to build starts over
PATIENCE: Final = 1.0  # seconds for an answer about a frame; the child itself gives up after half
SETTLED: Final = 5  # frames of one packing in a row before anything is built for it
LEAVING: Final = 2.0  # seconds to end in, before it is ended

Asked = tuple[Packing, int, int, Look, Blur | None]


@dataclass(frozen=True)
class Told:
    """Answer of the child to a wish for frames of some kind, pickled."""

    exchange: Exchange
    offset: int  # of its buffers in the shared memory
    exact: bool  # made for these frames; else the look before stands in
    fresh: bool  # nothing before the next frame counts
    info: dict[str, Any]


@dataclass
class _Place:
    """Buffers of the plan in use."""

    told: Told
    views: list[NDArray[np.uint8]]  # two frames, two answers, a backdrop
    backdrop: NDArray[np.uint8] | None = field(default=None)  # that lies there


class GpuChild:
    """Mattes and composites from a process of its own; see `vcam.gpu.mattes.Mattes`.

    Owned by one thread. `module` is what the child runs.

    Raises:
        SegmentationError: the GPU or the weights cannot be used.
    """

    draws = True

    def __init__(
        self,
        model: str = "auto",
        *,
        smoothing: float = 0.6,
        cache_dir: Path | None = None,
        module: str = "vcam.gpu.worker",
        opening: float = OPENING,
    ) -> None:
        self._decay = temporal.Smoother(smoothing).decay
        self._memory = SharedMemory()
        self._place: _Place | None = None
        self._asked: Asked | None = None  # and there is a plan made for it
        self._seen: tuple[Packing | None, int] = None, 0
        self._unready = 0.0, 0.0  # since when a plan has been waited for, and asked for last
        self._news = self._soiled = self._present = False
        self._fresh = True
        self._turn = 0
        self._spent = 0.0
        self._room: dict[str, Any] = {}  # what the child knows of it, for the status
        self._asking = threading.Lock()  # words to the room come from any thread
        self._lost = ""  # reason that the child is of no use any more
        self._stillness = Stillness()
        import multiprocessing  # slow to load, and few have a GPU

        mine, theirs = multiprocessing.Pipe()
        self._pipe: Connection[Any, Any] = mine
        wishes = {"model": model, "cache_dir": None if cache_dir is None else str(cache_dir)}
        self._process = _started(module, theirs.fileno(), self._memory, wishes)
        theirs.close()
        try:
            self._info: dict[str, Any] = self._answer(opening, "opening")
        except Exception:
            self.close()
            raise

    def prepare(self, planes: Planes, scene: Scene) -> bool:
        """Have what such frames need built aside; true once it is ready.

        Raises:
            SegmentationError: the GPU cannot do it.
        """
        packing, _ = packing_of(planes)
        last, times = self._seen
        self._seen = packing, times + 1 if packing == last else 1
        if self._seen[1] < SETTLED:
            return False
        place = self._place_for(packing, scene)
        return place is not None and place.told.exact

    def matte(
        self, planes: Planes, *, seq: int, pts: float, scene: Scene | None = None
    ) -> Matte | None:
        """Return the matte of a frame with its composite; None while the GPU is made ready.

        Raises:
            ValueError: there is no scene to draw.
            SegmentationError: the GPU failed, went away, or answers nonsense.
        """
        if scene is None:
            raise ValueError("a composite is drawn into a scene, and none is given")
        started = time.perf_counter()
        packing, parts = packing_of(planes)
        place = self._place_for(packing, scene)
        if place is None:
            return None
        self._turn = 1 - self._turn
        exchange, behind = place.told.exchange, scene.behind
        self._soiled = True
        exchange.put(place.views[self._turn], parts, seq, self._fresh, self._decay)
        new = not isinstance(behind, Blur) and behind is not place.backdrop
        if new:
            assert not isinstance(behind, Blur)
            exchange.put_backdrop(place.views[4], behind)
        self._news, self._room = self._ask(PATIENCE, "frame", self._turn, new, pts)
        if new:
            assert not isinstance(behind, Blur)
            place.backdrop = behind
        matte = exchange.read(place.views[2 + self._turn], seq, pts)
        self._stillness.watch(matte)
        self._fresh, self._present = False, matte.present
        self._spent += 0.05 * (time.perf_counter() - started - self._spent)
        return matte

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times for `vcam status`; times are moving averages in ms."""
        times = {"gpu": round(self._spent * 1000, 2)}
        told = {"present": self._present, "stages_ms": times}
        return {**self._info, **told, "room": self._room or self._info.get("room")}

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength from the next frame on; any thread."""
        self._decay = temporal.Smoother(smoothing).decay

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone from the next look on, or forget it; any thread.

        Returns False where the child is gone.
        """
        return bool(self._ask_of_room("tell_room", word))

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        self._soiled = True
        self._ask_of_room("recall_room", kept)
        kept.fill(0)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread."""
        kept: RoomCopy | None = self._ask_of_room("copy_room")
        return kept

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now; None while it is little."""
        kept: RoomCopy | None = self._ask_of_room("lend_room")
        return kept

    @property
    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known: (h, w) uint8, 255 where it is; any thread."""
        known: NDArray[np.uint8] | None = self._ask_of_room("room_map")
        return known

    def _ask_of_room(self, *words: Any) -> Any:
        """Return the child's answer; None where it is gone, which the next frame tells of."""
        try:
            return self._ask(PATIENCE, *words)
        except SegmentationError:
            return None

    def reset(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them.

        Raises:
            SegmentationError: the child does not answer.
        """
        self._stillness.forget()
        self._fresh = True
        if self._soiled:
            self._soiled = False
            self._asked = None  # memory that is not used may be given back along with it
            self._room = self._ask(PATIENCE, "wipe")

    wipe = reset

    def close(self) -> None:
        """End the child, which takes all that lies on the GPU along; waits for two seconds."""
        with self._asking:
            with contextlib.suppress(OSError, ValueError):
                if not self._lost:
                    self._pipe.send(("close",))
            self._lost = self._lost or "the GPU's process was ended"
            with contextlib.suppress(OSError):
                self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._process.returncode is not None else LEAVING)
        if self._process.poll() is None:
            self._process.kill()
            try:
                self._process.wait(LEAVING)
            except subprocess.TimeoutExpired:  # a driver may hold it for ever
                threading.Thread(target=self._process.wait, name="gpu", daemon=True).start()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._place is not None:
            for view in self._place.views:
                view.fill(0)
            self._place = None
        self._memory.close()

    def kill(self) -> None:
        """End the child at once, without a word; `close` is still to come. Waits for nothing."""
        self._lost = self._lost or "the GPU's process was ended"
        self._process.kill()

    def _place_for(self, packing: Packing, scene: Scene) -> _Place | None:
        """Buffers of the plan for such frames, or of one that may stand in; None without both."""
        asked = packing, scene.width, scene.height, scene.look, scene.blur
        if asked == self._asked and not self._news:
            return self._place
        told: Told | None = self._ask(PATIENCE, "plan", packing, bare(scene))
        self._news = False
        self._asked = asked if told is not None and told.exact else None
        if self._asked is None:
            self._wait_on()
        else:
            self._unready = 0.0, 0.0
        if told is None:
            return None
        self._info = told.info
        if self._place is None or self._place.told.offset != told.offset:
            block = self._memory.map(told.offset, told.exchange.total)
            whole = np.frombuffer(block, np.uint8)
            self._place = _Place(told, [whole[part] for part in told.exchange.places])
            self._fresh = self._fresh or told.fresh
        self._place.told = told
        return self._place

    def _wait_on(self) -> None:
        """Raise if plans have been asked for in vain for too long."""
        now, (since, last) = time.monotonic(), self._unready
        if now - last > PAUSE:
            since = now
        self._unready = since, now
        if now - since > BUILDING:
            raise self._gone(f"the GPU was not ready after {BUILDING:g} s")

    def _ask(self, patience: float, *words: Any) -> Any:
        with self._asking:
            if self._lost:
                raise EngineError(self._lost, hint='Set engine = "cpu".')
            try:
                self._pipe.send(words)
            except (OSError, ValueError) as error:
                raise self._gone(self._end()) from error
            return self._answer(patience, words[0])

    def _answer(self, patience: float, what: str) -> Any:
        try:
            if not self._pipe.poll(patience):
                raise self._gone(f"the GPU's process has not answered for {patience:g} s ({what})")
            kind, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._gone(self._end()) from error
        if kind == "ok":
            return value
        name, text, hint = value
        self._lost = text  # what it has on the GPU is in doubt from here on
        made: type[SegmentationError] = getattr(errors, name, EngineError)
        raise made(text, hint=hint)

    def _gone(self, reason: str) -> EngineError:
        self.kill()
        self._lost = reason
        return EngineError(reason, hint='Set engine = "cpu".')

    def _end(self) -> str:
        """Say how the child ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)
        code = self._process.returncode
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with status {code}"
        return f"the GPU's process ended{how}"


def _started(
    module: str, handle: int, memory: SharedMemory, wishes: dict[str, Any]
) -> subprocess.Popen[bytes]:
    """Start the child. Its standard input ends with this process: so does it."""
    words = [sys.executable, "-m", module, str(handle), memory.key, json.dumps(wishes)]
    environ = {**os.environ, "CUDA_MODULE_LOADING": "LAZY"}
    try:
        if sys.platform == "win32":
            os.set_handle_inheritable(handle, True)
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
            return subprocess.Popen(
                words, stdin=subprocess.PIPE, env=environ, startupinfo=startup, close_fds=True
            )
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environ,
            pass_fds=(handle, *memory.inherited),
        )
    except OSError as error:
        raise EngineError(
            f"the GPU's process cannot be started: {error}", hint='Set engine = "cpu".'
        ) from error
