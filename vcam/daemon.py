"""The daemon's life: who opens what, in which order, and closes it in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from filelock import FileLock, Timeout

from vcam.compose.backdrops import Backdrop, open_backdrop
from vcam.errors import BackgroundError, DaemonError, log_quietly
from vcam.files import watched
from vcam.files.takes import sweep
from vcam.foreign_text import say
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.running import Daemon, backdrop_of, card_of
from vcam.settings.choice import Reveal
from vcam.settings.config import user_path
from vcam.settings.live import SAFE_BACKGROUND, Settings
from vcam.sinks import open_sinks
from vcam.sinks.demand import Demand
from vcam.sources import opener_of, wait_for_camera
from vcam.sources.capture import Capture
from vcam.stats import Stats
from vcam.system import paths
from vcam.system.interrupt import terminal_is_there
from vcam.system.memory import never_dumped, scrub
from vcam.system.systemd import Notifier, keep_one_heap
from vcam.words import _, mark

if TYPE_CHECKING:
    from vcam.settings.config import Config

log = logging.getLogger(__name__)

SWITCH = 0.0005  # seconds a thread keeps the interpreter while another one waits for it


def run(
    config: Config,
    *,
    config_path: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    page: bool = False,
    room: Reveal | None = None,
) -> None:
    """Run until stopped; with `page`, open the settings page's door and print its address.

    `flags` are the settings that outrank the file at `config_path` when it is read again; `room` is
    the user's word, given with the command, to show the room.

    Raises:
        DaemonError: another daemon runs already.
        VcamError: something that was asked for explicitly cannot be opened.
    """
    keep_one_heap()
    never_dumped()
    # Pieces of a picture would stay on the stacks of OpenCV's threads, where nobody gets at them.
    cv2.setNumThreads(1)
    # The frame loop gives up the interpreter twenty times a frame, and waited up to 5 ms each time
    # for a thread that answers the page.
    sys.setswitchinterval(SWITCH)
    stop = threading.Event()
    stats = Stats()
    settings = Settings(config)
    notifier = Notifier()
    out, size = config.output, (config.output.width, config.output.height)
    with contextlib.ExitStack() as opened:
        opened.enter_context(_lock())
        reread = threading.Event()
        opened.enter_context(_stop_on_signal(stop, reread))
        if room is not None:
            settings.show_room("command line", room)
        backdrop, problem = _first_backdrop(config)
        card = card_of(config, *size)
        if card.problem:
            log.warning("privacy card: %s; the drawn one is shown", card.problem)
        sinks = opened.enter_context(open_sinks(out.sink, *size, out.fps, out.format))
        outlet = opened.enter_context(sinks.outlet(card, stats, fps=out.fps))
        opened.callback(scrub)  # after the camera and the engine are closed
        demand = Demand(outlet, on_demand=out.on_demand, idle_after=out.idle_after)
        camera = Capture(opener_of(config), wait_for_change=wait_for_camera)
        capture = opened.enter_context(camera)
        matting = opened.enter_context(Matting(config.matte, paths.cache_dir()))
        pipeline = Pipeline(
            capture, matting, backdrop, outlet, settings, demand, alive=notifier.watchdog
        )
        opened.callback(pipeline.close)
        daemon = Daemon(pipeline, config_path, stop, reread)
        daemon.background_problem = problem
        settings.check(daemon.prepare)
        settings.opens(daemon)
        settings.subscribe(daemon.apply)
        opened.enter_context(
            settings.kept_in(config_path or user_path(), flags=flags, environ=os.environ)
        )
        from vcam.control import server  # slow to load: the model is opened meanwhile

        doors = opened.enter_context(
            server.serve(daemon, socket_path=paths.socket_path(), port=config.control.port)
        )
        for name, work, every in (
            ("tend", lambda: daemon.tend(notifier), 0.5),
            ("programs", daemon.follow_programs, 0.5),
            ("times", daemon.times.tend, 0.2),
        ):
            opened.enter_context(_background(name, work, every))
        if page:
            say(_("Settings page: {0}", doors.open_page()))
        log.info("running; sinks: %s", ", ".join(s.name for s in outlet.sinks) or "none")
        try:
            pipeline.run(stop)
        finally:
            notifier.stopping()
            log.info("stopping")
            daemon.receipts.close()
            pipeline.leave()
            pipeline.wipe()


def _first_backdrop(config: Config) -> tuple[Backdrop, str]:
    """The background to start with; a drawn one, and why, where the user's cannot be opened."""
    watched.watch(config.background.folder)
    width, height = config.output.width, config.output.height
    try:
        return backdrop_of(config, width, height), ""
    except BackgroundError as error:
        problem = mark(f"{error.message}; {SAFE_BACKGROUND!r} is shown instead")
        log.warning("%s", problem)
        return open_backdrop(SAFE_BACKGROUND, width, height), problem


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Hold the one lock that makes this the only daemon of this user."""
    lock = FileLock(paths.lock_path(), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DaemonError(
            "VBG Camera runs already",
            hint="Run `vcam status` to see it, or `vcam stop` to end it.",
        ) from None
    sweep()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _stop_on_signal(stop: threading.Event, reread: threading.Event) -> Iterator[None]:
    """First Ctrl-C or SIGTERM ends gracefully, the second at once; SIGHUP reads the file again.

    Unless the terminal that this was started in is gone: SIGHUP ends it then, as any program there.
    """
    at_terminal = terminal_is_there()

    def ask(signum: int, frame: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    def reload(signum: int, frame: object) -> None:
        if at_terminal and not terminal_is_there():
            stop.set()
        reread.set()  # no thread of its own: where memory is short, starting one may never end

    wanted: dict[int, Callable[[int, object], None]] = {signal.SIGINT: ask, signal.SIGTERM: ask}
    if hasattr(signal, "SIGHUP"):
        # Who started it with nohup wants it to go on.
        at_terminal = at_terminal and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        wanted[signal.SIGHUP] = reload
    before = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextlib.contextmanager
def _background(name: str, work: Callable[[], None], every: float) -> Iterator[None]:
    """Call `work` every so many seconds on a thread of its own."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(every):
            try:
                work()
            except Exception:  # out of memory, say: the next time may go better
                log_quietly(log, "housekeeping failed")

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(0.3)
