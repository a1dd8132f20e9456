"""The daemon's life: who opens what, in which order, and closes it in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from filelock import FileLock, Timeout

from segmentation import store
from vcam import __version__
from vcam.compose.backdrops import Backdrop, open_backdrop
from vcam.compose.card import Card
from vcam.errors import BackgroundError, DaemonError, tell
from vcam.foreign_text import plain, say
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.settings.choice import LEAST_BLUR, Blur, Reveal
from vcam.settings.config import awaiting_restart
from vcam.settings.live import SAFE_BACKGROUND, Revealed, Settings
from vcam.sinks import open_sinks, wanted_sinks
from vcam.sinks.demand import Demand
from vcam.sources import source_opener, wait_for_camera
from vcam.sources.capture import Capture
from vcam.stats import Stats
from vcam.system import paths
from vcam.system.controls import apply_controls
from vcam.system.interrupt import terminal_is_there
from vcam.system.memory import never_dumped, scrub
from vcam.system.systemd import Notifier, SuspendWatch, give_back, keep_one_heap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.frame import SafeFrame
    from vcam.room_view import RoomView
    from vcam.settings.config import Config, Output
    from vcam.sinks.base import Wanted

log = logging.getLogger(__name__)

SWITCH = 0.0005  # seconds a thread keeps the interpreter while another one waits for it
# Seconds after a wipe at which free memory is cleared. Twice: who still answered with a picture, or
# drew the next camera's, has let go of what it worked in by then.
LET_GO = (0.2, 1.0)
RETIRED = 1.0  # seconds after which nobody draws with a background that was replaced
SETTLED = 5.0  # seconds after a change by which what it replaced was let go


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
    from vcam.control import server

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
    out = config.output
    with contextlib.ExitStack() as opened:
        opened.enter_context(_lock())
        reread = threading.Event()
        opened.enter_context(_stop_on_signal(stop, reread))
        if room is not None:
            settings.show_room("command line", room)
        backdrop, problem = _first_backdrop(config)
        card = _card(config, out.width, out.height)
        if card.problem:
            log.warning("privacy card: %s; the drawn one is shown", card.problem)
        sinks = opened.enter_context(open_sinks(out.sink, out.width, out.height, out.fps))
        outlet = opened.enter_context(sinks.outlet(card, stats, fps=out.fps))
        opened.callback(scrub)  # after the camera and the engine are closed
        demand = Demand(outlet, on_demand=out.on_demand, idle_after=out.idle_after)
        capture = opened.enter_context(
            Capture(source_opener(config.camera, out), wait_for_change=wait_for_camera)
        )
        matting = opened.enter_context(Matting(config.matte, paths.cache_dir()))
        pipeline = Pipeline(
            capture, matting, backdrop, outlet, settings, demand, stats, alive=notifier.watchdog
        )
        opened.callback(pipeline.close)
        daemon = Daemon(pipeline, config_path, stop, reread)
        daemon.background_problem = problem
        settings.check(daemon.prepare)
        settings.opens(daemon)
        settings.subscribe(daemon.apply)
        opened.enter_context(
            settings.kept_in(config_path or _user_path(), flags=flags, environ=os.environ)
        )
        doors = opened.enter_context(
            server.serve(daemon, socket_path=paths.socket_path(), port=config.control.port)
        )
        opened.enter_context(_background(daemon.tend, stop, notifier))
        if page:
            say(f"Settings page: {doors.open_page()}")
        log.info("running; sinks: %s", ", ".join(s.name for s in outlet.sinks) or "none")
        try:
            pipeline.run(stop)
        finally:
            notifier.stopping()
            log.info("stopping")
            pipeline.leave()
            pipeline.wipe()


class Daemon:
    """A running daemon as its doors see it; implements `vcam.control.runtime.Runtime`."""

    def __init__(
        self,
        pipeline: Pipeline,
        config_path: Path | None,
        stop: threading.Event,
        reread: threading.Event,
    ) -> None:
        self.settings = pipeline.settings
        self._pipeline = pipeline
        self._config_path = config_path
        self._stop = stop
        self._reread = reread  # set by who wants the settings file read again
        self._started = time.monotonic()
        self._cpu = (time.monotonic(), time.process_time())
        self._cpu_percent = 0.0
        self._in_use = self.needs(self.settings.current)
        self._give_back_at = float("inf")
        self._wiped = (0, 0)  # wipes and closed cameras whose leavings are known of
        self._scrub_at: list[float] = []
        self._suspend = SuspendWatch()
        self._begun_with = self.settings.current
        self._output = self._begun_with.output
        self._size = {"width": self._output.width, "height": self._output.height}
        self._camera = self._begun_with.camera.model_dump(exclude={"mirror"})
        self._logged = self._started
        self._ready = False
        self.background_problem = ""  # why the background in the settings could not be opened

    def stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        self._stop.set()

    def latest(self) -> SafeFrame | None:
        """The last frame that reached a sink; asking for it counts as watching."""
        self._pipeline.demand.glance()
        return self._pipeline.outlet.latest()

    def matte(self) -> NDArray[np.uint8] | None:
        """The matte of the last composite, (h, w) uint8, 255 is person; None if there is none."""
        matte = self._pipeline.matte
        return None if matte is None else np.rint(matte.alpha * 255).astype(np.uint8)

    def room(self) -> RoomView | None:
        """The room, for the settings page while its button is held; None if no picture comes."""
        self._pipeline.demand.glance()
        return self._pipeline.peek.look()

    def status(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        pipe, now = self._pipeline, time.monotonic()
        wishes = self.settings.now
        config, revealed = wishes.config, wishes.revealed
        source = pipe.capture.source
        info = pipe.matting.info
        notes = info.pop("notes", [])
        figures = pipe.stats.snapshot()
        figures["stages_ms"] = {**info.pop("stages_ms", {}), **figures["stages_ms"]}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(now - self._started, 1),
            "state": pipe.verdict.state,
            "reason": pipe.verdict.reason if pipe.verdict.state != "live" else "",
            "mode": wishes.mode,
            "source": {
                "name": plain(source.name if source else config.camera.source),
                "open": source is not None,
                "width": getattr(source, "width", 0) or getattr(source, "size", (0, 0))[0],
                "height": getattr(source, "height", 0) or getattr(source, "size", (0, 0))[1],
                "fps": round(source.fps, 2) if source else 0.0,
                "live": bool(source and source.live),
            },
            "sinks": [
                {
                    "name": plain(sink.name),
                    "kind": getattr(sink, "kind", type(sink).__name__),
                    "width": sink.width,
                    "height": sink.height,
                    "watchers": sink.watchers(),
                }
                for sink in pipe.outlet.sinks
            ],
            "problems": [
                problem
                for problem in (
                    pipe.capture.problem,
                    *pipe.outlet.problems,
                    *notes,
                    *store.notes,
                    self.background_problem,
                    pipe.outlet.card.problem,
                    getattr(pipe.backdrop, "problem", ""),
                    pipe.problem,
                    _weak_blur(config),
                )
                if problem
            ],
            "watchers": list(pipe.demand.watchers),
            **figures,
            "engine": info,
            "quality": {"asked": config.matte.quality, "now": info.get("quality")},
            "background": str(revealed.how) if revealed else config.background.use,
            "revealed": _told(revealed),
            "settings_revision": self.settings.revision,
            "restart_needed": bool(awaiting_restart(self._begun_with, config)),
            "config_path": plain(self._config_path or _user_path(), None),
            "config_problem": self.settings.problem,
            "config_unsaved": self.settings.unsaved,
            "cpu_percent": self._cpu_percent,
            "rss_mb": _rss_mb(),
            "page": None,
        }

    def needs(self, config: Config) -> tuple[Hashable, Hashable]:
        """Everything that says how the backdrop and the card look; no slider of the look does."""
        wish = config.background
        behind = wish.choice, wish.blur if isinstance(wish.choice, Blur) else None
        return behind, _shown_instead(config)

    def open(self, config: Config) -> _Coming:
        """Open the backdrop and the card of `config`; a VcamError refuses the change."""
        outlet, card = self._pipeline.outlet, None
        (behind, instead), (behind_now, instead_now) = self.needs(config), self._in_use
        if instead != instead_now:
            card = _card(config, outlet.width, outlet.height)
            if card.problem is not None:
                raise BackgroundError(card.problem, hint="Choose another picture for the card.")
            card.prepare(outlet.card)
        backdrop = None
        if behind != behind_now:
            backdrop = _open_backdrop(config, outlet.width, outlet.height)
        return _Coming(self, config, backdrop, card)

    def prepare(self, old: Config, new: Config) -> None:
        """Refuse outputs that are not there; a VcamError refuses the change."""
        if old.output != new.output:
            self._wanted_sinks(new.output)

    def show(self, config: Config, backdrop: Backdrop | None, card: Card | None) -> None:
        """Hand the loop what was opened for `config`, for its next frame."""
        self._in_use = self.needs(config)
        if backdrop is not None:
            self._pipeline.show(backdrop)
            self.background_problem = ""
        if card is not None:
            self._pipeline.show_card(card)

    def apply(self, config: Config) -> None:
        """Leave a change to the running loop: nothing that it owns is touched here."""
        pipe = self._pipeline
        pipe.matting.apply(config.matte)
        output = config.output.model_copy(update=self._size)
        if output != self._output:
            self._output = output
            pipe.outlet.choose(self._wanted_sinks(output))
            pipe.capture.next_time(source_opener(config.camera, output))
            pace = getattr(pipe.capture.source, "pace", None)
            if pace is not None:
                pace(output.fps)
        camera = config.camera.model_dump(exclude={"mirror"})
        if camera != self._camera:
            before, self._camera = self._camera, camera
            opener, source = source_opener(config.camera, output), pipe.capture.source
            if camera | {"controls": {}} != before | {"controls": {}}:
                pipe.capture.switch(opener)
                pipe.forget("camera switched")
                self.settings.end_call()
            else:
                # The call goes on while somebody turns the exposure.
                pipe.capture.next_time(opener)
                if source is not None and source.live and hasattr(source, "path"):
                    apply_controls(source.path, config.camera.controls)
        self._give_back_at = min(self._give_back_at, time.monotonic() + SETTLED)
        level = config.control.log.upper()
        logging.getLogger().setLevel(level)

    def tend(self, notifier: Notifier) -> None:
        """What is due twice a second: share of the processor, old backgrounds, SIGHUP, suspend."""
        pipe = self._pipeline
        now, cpu = time.monotonic(), time.process_time()
        then, spent = self._cpu
        if now - then >= 2:
            self._cpu_percent = round(100 * (cpu - spent) / (now - then), 1)
            self._cpu = (now, cpu)
        # An engine may still be drawing with the one before.
        while pipe.retired and now >= pipe.retired[0][0] + RETIRED:
            pipe.retired.popleft()[1].close()
        self._clear_leavings(now)
        if now >= self._give_back_at:
            self._give_back_at = float("inf")
            give_back()
        if self._reread.is_set():
            self._reread.clear()
            self.settings.reload()
        if self._suspend.slept() > 1:
            log.info("woke up from suspend")
            pipe.guard.doubt("just woke up")
            self.settings.end_call()
        if pipe.stats.written and not self._ready:
            self._ready = True
            notifier.ready()
        notifier.status(f"{pipe.verdict.state} {pipe.verdict.reason}")
        if now - self._logged >= 60:
            self._logged = now
            figures = pipe.stats.snapshot()
            log.info("%s, %.1f fps, %s", pipe.verdict.state, figures["fps"], figures["frames"])

    def _clear_leavings(self, now: float) -> None:
        """Clear the free memory once what was wiped, and the camera, are let go by everybody."""
        pipe = self._pipeline
        if (wiped := (pipe.wipes, pipe.capture.closed)) != self._wiped:
            self._wiped, self._scrub_at = wiped, [now + seconds for seconds in LET_GO]
        if self._scrub_at and now >= self._scrub_at[0]:
            del self._scrub_at[0]
            scrub()

    def _wanted_sinks(self, output: Output) -> list[Wanted]:
        return wanted_sinks(output.sink, **self._size, fps=output.fps)


def _card(config: Config, width: int, height: int) -> Card:
    picture, reasons = _shown_instead(config)
    return Card(width, height, picture=picture, reasons=reasons)


def _shown_instead(config: Config) -> tuple[str, bool]:
    """Everything that says how the card looks."""
    return config.privacy.card, config.privacy.card_reason


class _Coming:
    """What was opened for a change that is not in force yet: a backdrop, a card."""

    def __init__(
        self, daemon: Daemon, config: Config, backdrop: Backdrop | None, card: Card | None
    ) -> None:
        self._daemon, self._config = daemon, config
        self._backdrop, self._card = backdrop, card

    def use(self) -> None:
        self._daemon.show(self._config, self._backdrop, self._card)

    def close(self) -> None:
        if self._backdrop is not None:
            self._backdrop.close()


def _open_backdrop(config: Config, width: int, height: int) -> Backdrop:
    wish = config.background
    if isinstance(wish.choice, Reveal):  # what is shown once the room is hidden again
        return open_backdrop(SAFE_BACKGROUND, width, height)
    return open_backdrop(wish.choice, width, height, blur=wish.blur)


def _first_backdrop(config: Config) -> tuple[Backdrop, str]:
    """The background to start with; a drawn one, and why, where the user's cannot be opened."""
    width, height = config.output.width, config.output.height
    try:
        return _open_backdrop(config, width, height), ""
    except BackgroundError as error:
        problem = f"{error.message}; {SAFE_BACKGROUND!r} is shown instead"
        log.warning("%s", problem)
        return open_backdrop(SAFE_BACKGROUND, width, height), problem


def _weak_blur(config: Config) -> str:
    """The note that a blur is stronger than asked for; "" where it is not."""
    wish = config.background.choice
    if not isinstance(wish, Blur):
        return ""
    percent = config.background.blur if wish.percent is None else wish.percent
    if percent >= LEAST_BLUR:
        return ""
    return f"a blur of {percent} % leaves your room readable: {LEAST_BLUR} % is shown instead"


def _told(wish: Revealed | None) -> dict[str, Any] | None:
    """A reveal as plain JSON values; None while the room is hidden."""
    if wish is None:
        return None
    return {"by": wish.by, "since": wish.since, "standing": wish.standing}


def _user_path() -> Path:
    from vcam.settings.config import user_path

    return user_path()


def _rss_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    except (OSError, ValueError, IndexError, AttributeError):
        if sys.platform == "win32":
            return 0.0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


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
def _background(
    tend: Callable[[Notifier], None], stop: threading.Event, notifier: Notifier
) -> Iterator[None]:
    """Call `tend` twice a second on a thread of its own."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(0.5):
            try:
                tend(notifier)
            except Exception:  # out of memory, say: the next time may go better
                tell(log, "housekeeping failed")

    thread = threading.Thread(target=loop, name="tend", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(0.3)
