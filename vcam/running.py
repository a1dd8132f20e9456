"""A running daemon as the control doors see it: its status, and changes of the settings."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation import store
from vcam import __version__
from vcam.compose import fitting, library, shipped
from vcam.compose.backdrops import Backdrop, open_backdrop
from vcam.compose.card import Card
from vcam.errors import BackgroundError
from vcam.files import watched
from vcam.files.rooms import KeptRooms
from vcam.foreign_text import plain
from vcam.guard import Verdict
from vcam.overlay.times import Times
from vcam.pipeline import Pipeline
from vcam.receipts import Receipts, Shown
from vcam.settings.choice import LEAST_BLUR, Blur, Look, Preset, Reveal, parse
from vcam.settings.config import awaiting_restart, user_path
from vcam.settings.language import language_of
from vcam.settings.live import SAFE_BACKGROUND, Revealed
from vcam.settings.profiles import Profiles
from vcam.sinks import wanted_sinks
from vcam.sources import asked_size, source_opener
from vcam.system.controls import Controls, apply_controls
from vcam.system.memory import scrub
from vcam.system.systemd import Notifier, SuspendWatch, give_back
from vcam.words import mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.motion.room import RoomWord
    from vcam.frame import SafeFrame
    from vcam.overlay.tag import Tag
    from vcam.room_view import RoomView
    from vcam.settings.config import Changes, Config, Output
    from vcam.sinks.base import Sink, Wanted

log = logging.getLogger(__name__)


# Seconds after a wipe at which free memory is cleared. Twice: who still answered with a picture, or
# drew the next camera's, has let go of what it worked in by then.
LET_GO = (0.2, 1.0)
DAILY = Preset(shipped.DAILY)
RETIRED = 1.0  # seconds after which nobody draws with a background that was replaced
SETTLED = 5.0  # seconds after a change by which what it replaced was let go


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
        self._refused: Hashable = None  # needs that could not be met
        self._give_back_at = float("inf")
        self._to_turn: deque[tuple[str, Controls]] = deque(maxlen=1)  # newest, for `tend`
        self._wiped = (0, 0)  # wipes and closed cameras whose leavings are known of
        self._scrub_at: list[float] = []
        self._suspend = SuspendWatch()
        self._begun_with = self.settings.current
        self._matte, self._output = self._begun_with.matte, self._begun_with.output
        fixed = ("width", "height", "format")  # for as long as this runs
        self._folder = self._begun_with.background.folder
        self._shape = {key: getattr(self._output, key) for key in fixed}
        self._camera = self._begun_with.camera.model_dump(exclude={"mirror"})
        self._framed = self._begun_with.look.framing != "off"
        self._logged = self._started
        self._ready = False
        self.profiles = Profiles(self.settings, _values_of)  # followed by a thread of its own
        self.receipts = Receipts()  # followed by `tend`
        self.rooms = KeptRooms()  # followed by the thread that may wait for a disk
        self.background_problem = ""  # why the background in the settings could not be opened
        self.times = Times(pipeline)  # followed by a thread of its own

    def stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        self._stop.set()

    def latest(self) -> SafeFrame | None:
        """The last frame that reached a sink; asking for it counts as watching."""
        self._pipeline.demand.glance()
        return self._pipeline.outlet.latest()

    def matte(self) -> NDArray[np.uint8] | None:
        """The matte of the last composite, (h, w) uint8, 255 is person; None if there is none.

        It lies as the person does in what others see.
        """
        matte = self._pipeline.matte
        if matte is None:
            return None
        return np.rint(self._pipeline.compositor.as_shown(matte.alpha) * 255).astype(np.uint8)

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room behind now, or forget it; False where none is learnt."""
        self._pipeline.demand.glance()
        if word == "forget":
            self.rooms.forget()
        return self._pipeline.matting.tell_room(word)

    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        return self._pipeline.matting.room_map

    def room(self) -> RoomView | None:
        """The room, for the settings page while its button is held; None if no picture comes."""
        self._pipeline.demand.glance()
        return self._pipeline.room_window.look()

    def status(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        pipe, now = self._pipeline, time.monotonic()
        wishes, verdict = self.settings.now, pipe.verdict
        if wishes.mode == "paused":  # from the word on, no picture of a person leaves
            verdict = Verdict("paused")
        config, revealed = wishes.config, wishes.revealed
        source = pipe.capture.source
        info = pipe.matting.info
        notes = info.pop("notes", [])
        missing = pipe.outlet.missing
        figures = pipe.stats.snapshot()
        figures["stages_ms"] = {**info.pop("stages_ms", {}), **figures["stages_ms"]}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(now - self._started, 1),
            "state": verdict.state,
            "reason": "" if verdict.state in ("live", verdict.reason) else verdict.reason,
            "mode": wishes.mode,
            **self.times.status(),
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
            "shown_to": _shown_to(pipe.outlet.sinks),
            "missing": missing,
            "problems": [
                problem
                for problem in (
                    pipe.capture.problem,
                    *(p for p in pipe.outlet.problems if p not in missing.values()),
                    *notes,
                    *store.notes,
                    self.background_problem,
                    self.times.problem,
                    watched.problem(),
                    pipe.outlet.card.problem,
                    getattr(pipe.backdrop, "problem", ""),
                    pipe.problem,
                    _weak_blur(config),
                )
                if problem
            ],
            "watchers": list(pipe.demand.watchers),
            "programs": self.profiles.seen,
            "receipts": [receipt.told() for receipt in tuple(self.receipts.kept)],
            **figures,
            "engine": info,
            "quality": {"asked": config.matte.quality, "now": info.get("quality")},
            "background": str(revealed.how) if revealed else config.background.use,
            "revealed": _told(revealed),
            "settings_revision": self.settings.revision,
            "restart_needed": bool(awaiting_restart(self._begun_with, config)),
            "config_path": plain(self._config_path or user_path(), None),
            "config_problem": self.settings.problem,
            "config_unsaved": self.settings.unsaved,
            "cpu_percent": self._cpu_percent,
            "rss_mb": _rss_mb(),
            "page": None,
        }

    def pulse(self) -> Hashable:
        """Everything whose change is told at once, cheap enough to be asked 20 times a second."""
        pipe = self._pipeline
        sinks = tuple(sink.name for sink in pipe.outlet.sinks)
        return pipe.verdict, sinks, tuple(pipe.demand.watchers), pipe.capture.source is None

    def needs(self, config: Config) -> tuple[Hashable, Hashable, Hashable]:
        """Everything that says how backdrop, card and overlay look; no slider of the look does."""
        wish = config.background
        blur = wish.blur if isinstance(wish.choice, Blur) else None
        day = shipped.today() if wish.choice == DAILY else None
        placed = fitting.wishes.marks.get(str(getattr(wish.choice, "name", wish.use)))
        behind = wish.choice, blur, day, placed
        return behind, _shown_instead(config), config.overlay

    def open(self, config: Config) -> _Coming:
        """Open backdrop, card and overlay of `config`; a VcamError refuses the change."""
        outlet, card, tag = self._pipeline.outlet, None, None
        (behind, instead, over), (behind_now, instead_now, over_now) = (
            self.needs(config),
            self._in_use,
        )
        if over != over_now:
            tag = self.times.tag(config)
        if instead != instead_now:
            card = card_of(config, outlet.width, outlet.height)
            if card.problem is not None:
                raise BackgroundError(card.problem, hint="Choose another picture for the card.")
            card.prepare(outlet.card)
        backdrop = None
        if behind != behind_now:
            backdrop = backdrop_of(config, outlet.width, outlet.height)
        return _Coming(self, config, backdrop, card, tag)

    def prepare(self, old: Config, new: Config) -> None:
        """Refuse outputs that are not there; a VcamError refuses the change."""
        if old.output != new.output:
            self._wanted_sinks(new.output)

    def show(
        self, config: Config, backdrop: Backdrop | None, card: Card | None, tag: Tag | None
    ) -> None:
        """Hand the loop what was opened for `config`, for its next frame."""
        self._in_use = self.needs(config)
        if tag is not None:
            self.times.show(tag)
        if backdrop is not None:
            self._pipeline.show(backdrop)
            self.background_problem = ""
        if card is not None:
            self._pipeline.show_card(card)

    def apply(self, config: Config) -> None:
        """Leave a change to the running loop: nothing that it owns is touched here."""
        pipe = self._pipeline
        if config.background.folder != self._folder:
            self._folder = config.background.folder
            watched.watch(self._folder)
        if config.matte != self._matte:
            self._matte = config.matte
            pipe.matting.apply(config.matte)
        output = config.output.model_copy(update=self._shape)
        if output != self._output:
            self._output = output
            pipe.outlet.choose(self._wanted_sinks(output))
            pipe.capture.next_time(source_opener(asked_size(config.camera, config.look), output))
            pace = getattr(pipe.capture.source, "pace", None)
            if pace is not None:
                pace(output.fps)
        camera = config.camera.model_dump(exclude={"mirror"})
        framed, self._framed = self._framed, config.look.framing != "off"
        if camera == self._camera and framed != self._framed:
            # The call goes on; the webcam is asked for more, or less, when it opens again.
            wanted = asked_size(config.camera, config.look)
            pipe.capture.next_time(source_opener(wanted, output))
        if camera != self._camera:
            wanted = asked_size(config.camera, config.look)
            before, self._camera = self._camera, camera
            opener, source = source_opener(wanted, output), pipe.capture.source
            if camera | {"controls": {}} != before | {"controls": {}}:
                pipe.capture.switch(opener)
                pipe.forget("camera switched")
                self.settings.end_call()
            else:
                # The call goes on while somebody turns the exposure.
                pipe.capture.next_time(opener)
                if source is not None and source.live and hasattr(source, "path"):
                    self._to_turn.append(
                        (source.path, config.camera.controls)
                    )  # for `tend` to open
        self._give_back_at = min(self._give_back_at, time.monotonic() + SETTLED)
        level = config.control.log.upper()
        logging.getLogger().setLevel(level)

    def tend(self, notifier: Notifier) -> None:
        """Work that is due twice a second: CPU share, old backgrounds, SIGHUP, suspend."""
        pipe = self._pipeline
        if self._suspend.slept() > 1:
            log.info("woke up from suspend")
            pipe.guard.doubt("just woke up")
            pipe.matting.woke_up()
            self.settings.end_call()
        now, cpu = time.monotonic(), time.process_time()
        then, spent = self._cpu
        if now - then >= 2:
            self._cpu_percent = round(100 * (cpu - spent) / (now - then), 1)
            self._cpu = (now, cpu)
        # An engine may still be drawing with the one before.
        while pipe.retired and now >= pipe.retired[0][0] + RETIRED:
            pipe.retired.popleft()[1].close()
        stats = pipe.stats
        shown = Shown(stats.written, stats.cards, stats.revealed)
        self.receipts.follow(pipe.demand.watchers, shown)
        self._clear_leavings(now)
        if now >= self._give_back_at:
            self._give_back_at = float("inf")
            give_back()
        self.turn_controls()
        pipe.matting.tend()
        if self._reread.is_set():
            self._reread.clear()
            self.settings.reload()
        if pipe.stats.written and not self._ready:
            self._ready = True
            notifier.ready()
        notifier.status(f"{pipe.verdict.state} {pipe.verdict.reason}")
        if now - self._logged >= 60:
            self._logged = now
            figures = pipe.stats.snapshot()
            log.info("%s, %.1f fps, %s", pipe.verdict.state, figures["fps"], figures["frames"])

    def follow_programs(self) -> None:
        """Take up and give back backgrounds of programs, which may wait for a disk."""
        self.profiles.follow(self._pipeline.demand.watchers)
        self.renew()
        self.keep_rooms()

    def keep_rooms(self) -> None:
        """Keep the learned room, hand it back or delete it, as the settings say."""
        pipe, wanted = self._pipeline, self.settings.current.privacy.remember_room
        live, now = pipe.verdict.live, time.monotonic()
        self.rooms.follow(pipe.matting, pipe.capture.source, now, live=live, wanted=wanted)

    def renew(self) -> None:
        """Show what the background has become by itself: another day has another picture."""
        needs = self.needs(self.settings.current)
        if needs in (self._in_use, self._refused):
            return
        try:
            self.settings.refresh()
        except BackgroundError as error:
            log.warning("the background stays as it is: %s", error.message)
            self.background_problem, self._refused = error.message, needs

    def turn_controls(self) -> None:
        """Set the open camera's controls as changed settings say; on the thread of `tend`."""
        while self._to_turn:
            apply_controls(*self._to_turn.popleft())

    def _clear_leavings(self, now: float) -> None:
        """Clear the free memory once what was wiped, and the camera, are let go by everybody."""
        pipe = self._pipeline
        if (wiped := (pipe.wipes, pipe.capture.closed)) != self._wiped:
            self._wiped, self._scrub_at = wiped, [now + seconds for seconds in LET_GO]
        if self._scrub_at and now >= self._scrub_at[0]:
            del self._scrub_at[0]
            scrub()

    def _wanted_sinks(self, output: Output) -> list[Wanted]:
        return wanted_sinks(output.sink, **self._shape, fps=output.fps)


def _values_of(name: str) -> Changes:
    """The settings that a background or look sets, written as `vcam background` takes it."""
    wish = parse(name)
    if isinstance(wish, Preset | Look):
        return library.find(wish.name).values
    return {"background": {"use": name}}


def card_of(config: Config, width: int, height: int) -> Card:
    picture, reasons, wish = _shown_instead(config)
    language = language_of(wish, os.environ)
    return Card(width, height, picture=picture, reasons=reasons, language=language)


def _shown_instead(config: Config) -> tuple[str, bool, str]:
    """Everything that says how the card looks."""
    return config.privacy.card, config.privacy.card_reason, config.control.language


class _Coming:
    """Backdrop, card and tag that are open for a change that is not in force yet."""

    def __init__(
        self,
        daemon: Daemon,
        config: Config,
        backdrop: Backdrop | None,
        card: Card | None,
        tag: Tag | None,
    ) -> None:
        self._daemon, self._config = daemon, config
        self._backdrop, self._card, self._tag = backdrop, card, tag

    def use(self) -> None:
        self._daemon.show(self._config, self._backdrop, self._card, self._tag)

    def close(self) -> None:
        if self._backdrop is not None:
            self._backdrop.close()


def backdrop_of(config: Config, width: int, height: int) -> Backdrop:
    wish = config.background
    if isinstance(wish.choice, Reveal):  # what is shown once the room is hidden again
        return open_backdrop(SAFE_BACKGROUND, width, height)
    return open_backdrop(wish.choice, width, height, blur=wish.blur)


def _weak_blur(config: Config) -> str:
    """The note that a blur is stronger than asked for; "" where it is not."""
    wish = config.background.choice
    if not isinstance(wish, Blur):
        return ""
    percent = config.background.blur if wish.percent is None else wish.percent
    if percent >= LEAST_BLUR:
        return ""
    return mark(f"a blur of {percent} % leaves your room readable: {LEAST_BLUR} % is shown instead")


def _shown_to(sinks: Sequence[Sink]) -> str:
    """Those who get the picture: "programs", a "file" alone, or nobody but the settings "page"."""
    kinds = {getattr(sink, "kind", "") for sink in sinks}
    return "programs" if kinds - {"file"} else "file" if kinds else "page"


def _told(wish: Revealed | None) -> dict[str, Any] | None:
    """A reveal as plain JSON values; None while the room is hidden."""
    if wish is None:
        return None
    return {"by": wish.by, "since": wish.since, "standing": wish.standing}


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
