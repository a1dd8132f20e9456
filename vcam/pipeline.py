"""The hot path: read a frame, find the person, put the background behind, show it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from vcam.compose.card import BACK
from vcam.compose.compositor import Compositor, look_of
from vcam.compose.scene import Blur, Scene
from vcam.errors import log_quietly
from vcam.guard import Fault, Guard, Verdict
from vcam.room_view import RoomWindow
from vcam.system.memory import scrub_own

if TYPE_CHECKING:
    from segmentation.matte import Matte
    from vcam.compose.backdrops import Backdrop
    from vcam.compose.card import Card
    from vcam.compose.scene import Overlay
    from vcam.frame import Frame, SafeFrame
    from vcam.matting import Matting
    from vcam.settings.config import Config
    from vcam.settings.live import Mode, Now, Revealed, Settings
    from vcam.sinks.demand import Demand
    from vcam.sinks.outlet import Outlet
    from vcam.sources.capture import Capture

log = logging.getLogger(__name__)

CARD_INTERVAL = 0.2  # seconds between cards while paused
EARLY = 0.6  # of the watchdog's patience: how long a camera is waited for that need not come
IDLE_INTERVAL = 0.5  # seconds between cards while nobody watches: enough to stay listed


class _Kept(NamedTuple):
    """A matted composite, and the background it was made with."""

    picture: SafeFrame
    backdrop: Backdrop


class Pipeline:
    """Pumps frames from the camera to the sinks. Everything it uses is opened by its caller."""

    def __init__(
        self,
        capture: Capture,
        matting: Matting,
        backdrop: Backdrop,
        outlet: Outlet,
        settings: Settings,
        demand: Demand,
        *,
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        privacy = settings.current.privacy
        self.capture, self.matting, self.outlet = capture, matting, outlet
        self.settings, self.demand, self.stats = settings, demand, outlet.stats
        self._clock = clock
        self._alive = alive  # tells the service manager, every frame, that the loop runs
        self.backdrop = backdrop  # the loop's own; others `show` another
        self._coming: deque[Backdrop] = deque()  # opened by others, until the next frame
        self.retired: deque[tuple[float, Backdrop]] = deque()  # and what was shown before, since
        self._forgets: deque[str] = deque()  # left by others, until the next frame
        self._cards: deque[Card] = deque()  # drawn by others, until the next frame
        self._overlays: deque[Overlay | None] = deque()  # the same
        self._followed: Config | None = None  # as guard, demand and outlet were told last
        self.guard = Guard(privacy.confident_frames, privacy.deadline)
        self.compositor = Compositor(outlet.width, outlet.height)
        # For the settings page alone: no sink sees what passes there.
        self.room_window = RoomWindow(clock)
        self.verdict = Verdict("starting", "starting")
        self._pace = 0.1  # seconds between frames of the camera, as seen
        self._last_pts = float("-inf")
        self.matte: Matte | None = None  # of the last composite, for the settings page
        self.problem = ""  # why the last frame could not be shown, until one can
        self._kept: _Kept | None = None  # the last matted composite; what a freeze shows
        self._soiled = False  # the camera's pixels went through here since the last wipe
        self.wipes = 0  # so far
        self._bare = False  # the last picture that was shown is one of the room
        self._silent = False  # the camera sent nothing when it was asked last

    def run(self, stop: threading.Event) -> None:
        """Pump frames from source to sink until `stop` is set; whatever fails ends in the card."""
        while not stop.is_set():
            try:
                self._pump(stop)
            except Exception as error:
                log_quietly(log, "a frame could not be shown")
                with contextlib.suppress(Exception):  # then the watchdog shows the card
                    self.problem = f"no frame can be shown: {error or type(error).__name__}"
                    self.recover()

    def _pump(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.step(stop)
            self._alive()

    def recover(self) -> None:
        """Show the card and start over, after something failed that nobody foresaw."""
        self.guard.distrust("one moment")
        self.verdict = Verdict("fault", "one moment")
        self.outlet.write(self.outlet.card.frame(self._clock(), -1, "one moment"))
        self.compositor.wipe()  # what it failed on may be kept from frame to frame

    def show(self, backdrop: Backdrop) -> None:
        """Put the person in front of `backdrop` from the next frame on. Any thread."""
        self._coming.append(backdrop)

    def show_card(self, card: Card) -> None:
        """Show this privacy card from the next frame on. Any thread."""
        self._cards.append(card)

    def show_overlay(self, overlay: Overlay | None) -> None:
        """Lay this over every composite from the next frame on. Any thread."""
        self._overlays.append(overlay)

    def forget(self, reason: str) -> None:
        """Have all that the camera showed so far wiped before the next frame. Any thread."""
        self._forgets.append(reason)
        self.guard.doubt(reason)

    def wipe(self) -> None:
        """Overwrite every pixel of the camera that is kept. Pipeline thread only.

        The camera's own thread does the same for its buffers when it closes the camera; what both
        gave back to the system is cleared by `Daemon.tend` soon after.
        """
        self.matte = self._kept = None
        for owner in (self.matting, self.compositor, self.guard, self.room_window):
            try:
                owner.wipe()
            except Exception:  # an engine that failed, say: the others come all the same
                log_quietly(log, "not everything could be wiped")
        scrub_own()
        self._soiled = False
        self.wipes += 1

    def leave(self) -> None:
        """Show the card over a room that was revealed: readers go on showing the last picture."""
        if self._bare:
            self.outlet.write(self.outlet.card.frame(self._clock(), -1, ""))

    def close(self) -> None:
        """Close the backdrop, and those that did not come to be shown."""
        for backdrop in (self.backdrop, *self._coming, *(old for _, old in self.retired)):
            backdrop.close()

    def _follow(self, config: Config) -> None:
        """Take what other threads left for this frame: settings, a backdrop, a word."""
        if config is not self._followed:
            self._followed = config
            self.guard.confident_frames = config.privacy.confident_frames
            self.guard.deadline = config.privacy.deadline
            self.demand.on_demand = config.output.on_demand
            self.demand.idle_after = config.output.idle_after
            self.outlet.interval = 1 / config.output.fps
            self.outlet.deadline = config.privacy.deadline
        while self._cards:
            self.outlet.card = self._cards.popleft()
        while self._overlays:
            self.compositor.overlay = self._overlays.popleft()
        while self._coming:
            self.retired.append((time.monotonic(), self.backdrop))
            self.backdrop = self._coming.popleft()
        if self._forgets:
            reason = self._forgets.popleft()
            # First the card: nothing that was shown may be looked at while it is overwritten.
            self.outlet.write(self.outlet.card.frame(self._clock(), -1, reason))
            self.wipe()

    def step(self, stop: threading.Event) -> None:
        """Show one frame, or the card when there is none to show."""
        now = self.settings.now
        self._follow(now.config)
        if not self._wanted(now.mode):
            self._rest(stop, now)
            return
        frame = self._read(now)
        scene = self._scene(frame, now)
        matte = self._matte(frame, scene, now.mode)
        shown = self._composite(frame, matte, scene, now)
        self._write(shown)

    def _wanted(self, mode: Mode) -> bool:
        """Open or close the camera as somebody watches or nobody does; True while it is open."""
        wanted = self.demand.wanted(mode)
        self.capture.want(wanted)
        return wanted

    def _read(self, now: Now) -> Frame | Fault | None:
        """Take the newest frame: a fault where there is no camera, None where none came in time."""
        self.outlet.relaxed = False
        self.capture.packed = self.matting.packed and not look_of(now.config).lit
        # The watchdog's card comes after `patience`, and would alternate with what the loop shows.
        silent = now.mode == "frozen" or self._silent
        frame = self.capture.read(self.outlet.patience * (EARLY if silent else 1.0))
        self._silent = frame is None or isinstance(frame, Fault)
        self._soiled = True
        self.stats.dropped = self.capture.dropped
        self._keep_pace(frame)
        mirror = now.config.camera.mirror
        self.room_window.offer(None if isinstance(frame, Fault) else frame, mirror=mirror)
        return frame

    def _keep_pace(self, frame: Frame | Fault | None) -> None:
        """Learn how often the camera really sends: in dim light many send half as often."""
        if frame is None or isinstance(frame, Fault):
            return
        gap, self._last_pts = frame.pts - self._last_pts, frame.pts
        if 0 < gap < 0.5:
            self._pace += 0.1 * (gap - self._pace)
            self.outlet.patience = min(max(2 * self.outlet.interval, 2.5 * self._pace), 0.5)

    def _scene(self, frame: Frame | Fault | None, now: Now) -> Scene | None:
        """The background and look this frame's person is set into; None where there is no frame."""
        if frame is None or isinstance(frame, Fault):
            return None
        config, wish = now.config, now.revealed
        look = look_of(config, self.backdrop.lit_from)
        weak = wish.how.blur if wish else None
        behind = self.backdrop.at(frame.pts) if weak is None else Blur(weak)
        return Scene(self.compositor.width, self.compositor.height, behind, look)

    def _matte(self, frame: Frame | Fault | None, scene: Scene | None, mode: Mode) -> Matte | Fault:
        """The matte of this very frame, which the guard judges; a fault where there is none."""
        matte = self.matting.matte(frame, scene) if mode == "live" else Fault(mode)
        self.verdict = self.guard.judge(frame, matte, mode)
        return matte

    def _composite(
        self, frame: Frame | Fault | None, matte: Matte | Fault, scene: Scene | None, now: Now
    ) -> SafeFrame:
        """The frame's person in the scene, if the guard lets it pass; otherwise the card."""
        shown = self._drawn(frame, matte, scene, now.revealed)
        if reason := _taken_back(shown, now, self.settings.now):
            return self.outlet.card.frame(self._clock(), -1, reason)
        return shown

    def _drawn(
        self,
        frame: Frame | Fault | None,
        matte: Matte | Fault,
        scene: Scene | None,
        wish: Revealed | None,
    ) -> SafeFrame:
        """The composite, the one that a freeze shows, or the card, by the guard's verdict."""
        now = self._clock()
        if isinstance(frame, Fault):  # a camera that is lost takes its pictures along
            self._kept = None
        if self.verdict.live:
            assert frame is not None
            assert not isinstance(frame, Fault)
            assert not isinstance(matte, Fault)
            assert scene is not None
            started = time.perf_counter()
            self._kept = None  # the compositor draws into its memory
            shown = self._compose(frame, matte, scene, wish)
            self.stats.stage("compose", time.perf_counter() - started)
            now = self._clock()
            if self.guard.in_time(frame.pts, now):
                self.stats.latency(now - frame.pts)
                self.matte, self.problem = matte, ""
                if shown.matted:
                    self._kept = _Kept(shown, self.backdrop)
                return shown
            self.stats.late += 1
            self.verdict = Verdict("fault", "one moment")
        if self._kept is not None and self._kept.backdrop is not self.backdrop:
            self._kept = None  # another background was chosen since
        if self.verdict.state == "frozen" and self._kept is not None:
            return self._kept.picture.again(now)
        if frame is None:
            self.stats.stalled += 1
        return self.outlet.card.frame(now, -1, self.verdict.reason)

    def _compose(
        self, frame: Frame, matte: Matte, scene: Scene, wish: Revealed | None
    ) -> SafeFrame:
        if wish is not None and wish.how.blur is None:
            return self.compositor.reveal(frame, scene.look)
        shown = self.compositor.compose(frame, matte, scene.behind, scene.look)
        return shown if wish is None else shown.as_revealed()

    def _write(self, shown: SafeFrame) -> None:
        """Show it on every sink."""
        self._bare = shown.revealed
        started = time.perf_counter()
        self.outlet.write(shown)
        self.stats.stage("write", time.perf_counter() - started)

    def _rest(self, stop: threading.Event, wish: Now) -> None:
        """Show the card now and then: paused, or nobody watches. No pixel of the room is kept."""
        paused = wish.mode == "paused"
        self.outlet.relaxed = True
        self.guard.distrust()
        self.matting.reset()
        self._kept = None
        self.verdict = Verdict("paused", "paused") if paused else Verdict("idle", "nobody watches")
        now = self._clock()
        reason = "paused" if wish.back_at is None else BACK
        self.outlet.write(self.outlet.card.frame(now, -1, reason if paused else ""))
        if self._soiled:
            self.wipe()
        bare, self._bare = self._bare, False
        if bare and not paused:
            self.settings.end_call()
        interval = CARD_INTERVAL if paused else IDLE_INTERVAL
        self.demand.wait(stop, interval, self.settings)


def _taken_back(shown: SafeFrame, asked: Now, now: Now) -> str:
    """The card's reason where `shown`, drawn for `asked`, is not what is wanted by now."""
    if now.mode == "paused":
        return "paused"
    wish, then = now.revealed, asked.revealed
    if shown.revealed and (wish is None or then is None or wish.how != then.how):
        return "one moment"
    return ""
