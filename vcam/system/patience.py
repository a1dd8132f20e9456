"""File work under a deadline: a share that hangs holds up one thread, and nobody who waits for it.

A call that the system does not answer cannot be ended. So it is made on a thread of its own, which
opens, reads and closes by itself; who wanted it gives up after a while and goes on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Generic, TypeVar

from vcam.errors import BackgroundError, VcamError

T = TypeVar("T")
K = TypeVar("K", bound=Path)

PATIENCE: Final = 5.0  # seconds in which nothing happens, after which a file is given up
LONGEST: Final = 60.0  # seconds after which it is, even if it does get on
UNSEEN: Final = 20.0  # seconds without an answer where the system does not tell if it gets on
TICK: Final = 0.1  # seconds between two looks
IDLE_MOST: Final = 2  # threads kept for the next work
LINKS_MOST: Final = 1000  # kept in mind
HUNG_MOST: Final = 16  # threads that may wait for files that hang; no further one is begun then

_lock: Final = threading.Lock()  # held for an instant
_hung: Final[dict[str, Job[object]]] = {}  # given up and not back yet, by where they lie
_leads: Final[dict[str, str]] = {}  # links to the folders that they lead into
_shared: set[str] = set()  # folders whose files hang together; replaced as a whole
_here: Final = threading.local()  # `job`: the work that this thread does


class Job(Generic[T]):
    """A piece of work with files: one thread does it, another waits for it.

    `about` names the file at hand. Whoever makes the job starts the thread.
    """

    def __init__(
        self,
        about: Path | str,
        *,
        seconds: float = PATIENCE,
        fault: type[VcamError] = BackgroundError,
    ) -> None:
        self.about = about
        self.given_up = False
        self.excused = 0  # above zero: it waits for something else than its file
        self._seconds, self._fault = seconds, fault
        self._done = threading.Event()
        self._worker: int | None = None  # the system's number of its thread
        self._result: T | None = None
        self._error: BaseException | None = None
        self._undo: list[Callable[[], None]] = []
        self._place = ""

    def do(self, call: Callable[[], T]) -> bool:
        """Do the work, on the thread that this is called on; True if somebody still waits for it.

        Where it is False, what was opened is to be closed, by this thread.
        """
        self._worker = threading.get_native_id()
        _here.job = self
        try:
            _follow(self.about)
            self._result = call()
        except BaseException as error:
            self._error = error
        finally:
            _here.job = None
        with _lock:
            if self.given_up and _hung.get(self._place) is self:
                del _hung[self._place]
            self._done.set()
            wanted = not self.given_up and self._error is None
        if self.given_up:
            self._result = self._error = None
        return wanted

    def wait(self) -> T:
        """Return what the work gave, or raise what it raised.

        Raises:
            VcamError: of the kind that was asked for: the file does not answer.
        """
        with excused():
            if not self._ended():
                raise refusal(self.about, self._fault, self._seconds)
        error, self._error = self._error, None
        if error is not None:
            raise error
        result, self._result = self._result, None
        return result  # type: ignore[return-value]

    def if_given_up(self, undo: Callable[[], None]) -> None:
        """Have `undo` called, by who waits, when the work is given up."""
        self._undo.append(undo)

    def _ended(self) -> bool:
        """Wait while it gets on; False if it was given up.

        A thread that hangs takes no time of the processor; one that reads or decodes does. Time in
        which this process stood still is nobody's fault, so each tick counts as one.
        """
        quiet = whole = 0.0
        spent = _spent(self._worker)
        before = time.monotonic()
        while not self._done.wait(TICK):
            now = time.monotonic()
            passed, before = min(now - before, 2 * TICK), now
            last, spent = spent, _spent(self._worker)
            if self.excused:
                quiet = 0.0
                continue
            whole += passed
            quiet = 0.0 if spent != last else quiet + passed
            patience = self._seconds if spent is not None else max(self._seconds, UNSEEN)
            if (quiet >= patience or whole >= LONGEST) and self._give_up():
                return False
        return True

    def _give_up(self) -> bool:
        with _lock:
            if self._done.is_set():
                return False
            self.given_up = True
            self._place = place_of(self.about)
            _hung[self._place] = self  # type: ignore[assignment]
            undo = tuple(self._undo)
        for each in undo:
            each()
        return True


def within(
    about: Path | str,
    call: Callable[[], T],
    *,
    seconds: float = PATIENCE,
    fault: type[VcamError] = BackgroundError,
) -> T:
    """Call `call` aside and return what it returns; it closes by itself whatever it opens.

    Raises:
        VcamError: a `fault` that names `about`, which does not answer. It is not asked again
            before it did.
    """
    if hangs(about):
        raise refusal(about, fault, seconds)
    job: Job[T] = Job(about, seconds=seconds, fault=fault)
    _hand_over(lambda: job.do(call), fault)
    return job.wait()


def each(paths: Iterable[K], look: Callable[[K], T], *, seconds: float) -> dict[K, T]:
    """Answers of `look` for every path, in order; those that do not come are left out.

    All that hang together take about `seconds`, the first time.
    """
    found: dict[K, T] = {}
    left = deque(path for path in paths if not hangs(path))

    def walk(job: Job[None]) -> None:
        while left and not job.given_up:
            path = job.about = left.popleft()
            _follow(path)
            if not hangs(path):
                found[path] = look(path)

    while left:
        job: Job[None] = Job(left[0], seconds=seconds)
        try:
            _hand_over(lambda job=job: job.do(lambda: walk(job)), BackgroundError)  # type: ignore[misc]
            job.wait()
        except BackgroundError:
            if not job.given_up:
                break
            seconds = max(seconds / 2, 2 * TICK)
            left = deque(path for path in left if not hangs(path))
    return dict(found)


@contextlib.contextmanager
def excused() -> Iterator[None]:
    """While the block runs, the work of this thread waits for something else than its file."""
    job: Job[object] | None = getattr(_here, "job", None)
    if job is None:
        yield
        return
    job.excused += 1
    try:
        yield
    finally:
        job.excused -= 1


def at_hand() -> Job[object] | None:
    """The work that this thread does; None if nobody waits for it."""
    return getattr(_here, "job", None)


def hangs(about: Path | str) -> bool:
    """True if something beside it was given up and is not back yet, or too much else is."""
    with _lock:
        return bool(_hung) and (place_of(about) in _hung or len(_hung) >= HUNG_MOST)


def place_of(about: Path | str) -> str:
    """Key of paths that hang together: a file, all links into one folder, or all files of one that
    was named to `together`. No file is asked."""
    name = os.fspath(about)
    if name in _leads:
        return _leads[name]
    folder = os.path.dirname(name)
    return folder if folder in _shared else name


def together(folder: Path | None) -> None:
    """Have the files in this folder, and in no other, hang together with it: it may be a share."""
    global _shared
    _shared = set() if folder is None else {os.fspath(folder)}


def _follow(about: Path | str) -> None:
    """Keep in mind where a link leads; on the thread that may hang."""
    name = os.fspath(about)
    with contextlib.suppress(OSError):
        if len(_leads) > LINKS_MOST:
            _leads.clear()
        _leads[name] = os.path.dirname(os.readlink(name))


def refusal(about: Path | str, fault: type[VcamError], seconds: float) -> VcamError:
    """The error that a file does not answer."""
    return fault(
        f"{str(about)!r} does not answer: nothing of it came for {seconds:.0f} seconds",
        hint="Look after the disk or network share that it is on, or choose another file.",
    )


def _spent(worker: int | None) -> float | None:
    """Seconds of the processor that a thread took; None where the system does not tell.

    The clock is made from the thread's number: the kernel refuses one that has ended.
    """
    if worker is None or sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~worker << 3) | 6)  # as pthread_getcpuclockid does
    except OSError:
        return None


_idle: Final[list[queue.SimpleQueue[Callable[[], object]]]] = []


def _hand_over(work: Callable[[], object], fault: type[VcamError]) -> None:
    """Have a thread do `work`: an idle one, or another."""
    with _lock:
        box = _idle.pop() if _idle else None
    if box is not None:
        box.put(work)
        return
    box = queue.SimpleQueue()
    box.put(work)
    try:
        threading.Thread(target=_serve, args=(box,), name="files", daemon=True).start()
    except RuntimeError as error:
        raise fault(
            "no file can be opened: there is no further thread to be had",
            hint="Close some programs.",
        ) from error


def _serve(box: queue.SimpleQueue[Callable[[], object]]) -> None:
    while True:
        work = box.get()
        work()
        del work
        with _lock:
            if len(_idle) >= IDLE_MOST:
                return
            _idle.append(box)
