"""Runs the real loop, guard, compositor and outlet through scheduled faults and counts canaries."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fakes import ListSink, Slot, StepClock, matting, outlet, settings
from tests.faults import canary
from tests.faults.kinds import CARD, Scene, Spoil, truth
from tests.vcam.clips import make_clip
from vcam import guard as guard_module
from vcam.compose.backdrops import Backdrop, open_backdrop
from vcam.compose.framing import Crop
from vcam.compose.light import person as light_module
from vcam.compose.light.seen import CALM_MOST
from vcam.compose.scene import Blur
from vcam.frame import Frame, SafeFrame
from vcam.guard import Fault, Verdict
from vcam.overlay.tag import Tag
from vcam.pipeline import Pipeline
from vcam.settings.config import OverlaySettings
from vcam.sinks.demand import Demand

# All the light there is for a person.
LIT: dict[str, dict[str, object]] = {
    "look": {"light": 100, "sharp": True},
    "background": {"light_wrap": 1.0},
}
PHASES = ("start", "live", "idle")
FAULTY = 3  # frames in a row that are spoiled
SETTLE = 6  # good frames before "live", and after every fault


@dataclass
class Tally:
    """What a run saw."""

    frames: int = 0
    canaries: int = 0
    composites: int = 0
    faults: int = 0
    slow_cards: list[str] = field(default_factory=list)  # the card came too late
    slow_returns: list[str] = field(default_factory=list)  # back to live too late
    shown: list[str] = field(default_factory=list)  # where a canary was seen


class _Spoilable:
    """A backdrop that fails when the scene says so."""

    def __init__(self, real: Backdrop) -> None:
        self.real, self.name, self.lit_from = real, real.name, real.lit_from
        self.scene: Scene | None = None

    def at(self, pts: float):
        if self.scene and self.scene.backdrop_error:
            raise self.scene.backdrop_error
        if self.scene and self.scene.backdrop_wrong is not None:
            return self.scene.backdrop_wrong
        return self.real.at(pts)

    def close(self) -> None:
        self.real.close()


class Bench:
    """One pipeline over one background, stepped frame by frame."""

    def __init__(self, background: str, *, looks: bool = False) -> None:
        chosen = settings(output={"width": canary.W, "height": canary.H}, **(LIT if looks else {}))
        self._settings, self._looks = chosen, looks
        self.sink = ListSink(canary.W, canary.H)
        self.outlet = outlet(self.sink)
        (self.place,) = self.outlet.places
        self.demand = Demand(self.outlet, on_demand=True, idle_after=0.0)
        self.backdrop = _Spoilable(open_backdrop(background, canary.W, canary.H))
        self.blurred = isinstance(self.backdrop.real.at(0.0), Blur)
        self.slot = Slot([])
        self.answer: object = None
        self.clock = StepClock()
        self.pipe = Pipeline(
            self.slot,
            matting(lambda frame: self.answer),
            self.backdrop,
            self.outlet,
            chosen,
            self.demand,
            clock=self.clock,
        )
        compose = self.pipe.compositor.compose

        def fragile(*args):
            if self.backdrop.scene and self.backdrop.scene.compose_error:
                raise self.backdrop.scene.compose_error
            return compose(*args)

        self.pipe.compositor.compose = fragile
        if looks:
            tag = OverlaySettings(
                show=True,
                name="Anna",
                title="",
                pronouns="",
                logo="",
                clock=False,
                corner="bottom-left",
            )
            self.pipe.show_overlay(Tag(tag, canary.W, canary.H).drawn())
        self.crops: deque[Crop] = deque([canary.WHOLE], maxlen=3)
        self.seq = 0
        self.recent: deque[Frame] = deque(maxlen=3)
        self.last: tuple[Frame, object] | None = None
        self._stop = threading.Event()

    def step(self, spoil: Spoil | None, *, watched: bool = True) -> SafeFrame | None:
        """Run the loop once; return what the sink was shown, None if it was shown nothing."""
        self.seq += 1
        self.clock.now += 1 / 30
        if self._looks:
            self._turn_look()
        frame = canary.frame(self.seq, self.clock.now)
        scene = Scene(frame, truth(frame), *(self.last or (None, None)))
        if spoil is not None:
            spoil(scene)
        elif isinstance(scene.frame, Frame):
            self.last = (scene.frame, scene.matte)
        if isinstance(scene.frame, Frame):
            self.recent.append(scene.frame)
        self.backdrop.scene = scene
        self.answer = scene.matte
        self.slot.items = [scene.frame]
        self.sink.broken = scene.sink_broken
        self.sink.who = ["Meeting"] if watched else []
        self.demand._asked_at = 0.0
        if self.place.sink is None:  # opened again between two frames, without the pause
            self.place.reopener.now()
            self.place.reopener.turn()
        before = len(self.sink.frames)
        try:
            self.pipe.step(self._stop)
        except Exception:
            self.pipe.recover()  # as Pipeline.run does
        self.sink.broken = False
        fit = self.pipe.compositor._fitted
        if self._looks and fit is not None:
            crop = fit.crop or canary.WHOLE
            if crop not in self.crops:
                self.crops.append(crop)
        return self.sink.frames[-1] if len(self.sink.frames) > before else None

    def _turn_look(self) -> None:
        """Frame the person for a while, and then move a part of the frame over the room by hand."""
        now, turn = self._settings.now, self.seq % 240
        wish = {
            "framing": "close" if turn < 60 else "off",
            "zoom": 1.0 if turn < 60 else 1.0 + turn / 240,
            "shift_x": math.sin(turn / 9),
            "shift_y": math.cos(turn / 7),
        }
        look = now.config.look.model_copy(update=wish)
        self._settings.now = now._replace(config=now.config.model_copy(update={"look": look}))

    def close(self) -> None:
        self.backdrop.close()


def backgrounds(folder: Path) -> list[str]:
    """One of each kind: preset, picture, clip, colour, two strengths of blur."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(image).resize((200, 120)).save(folder / "picture.png")
    clip = make_clip(folder / "clip.mp4", 8, (canary.W, canary.H))
    return ["studio", str(folder / "picture.png"), str(clip), "#00ff00", "blur:30", "blur:90"]


def case(bench: Bench, name: str, spoil: Spoil, phase: str, tally: Tally) -> None:
    """Bring the loop into `phase`, spoil it for a while, and let it settle."""
    bench.pipe.guard.distrust()
    bench.sink.frames.clear()
    where = f"{name} / {bench.backdrop.name} / {phase}"

    def watch(shown: SafeFrame | None) -> None:
        tally.frames += 1
        if shown is None or shown.is_card:
            return
        tally.composites += 1
        found = canary.seen(
            shown.data, list(bench.recent), blurred=bench.blurred, crops=bench.crops
        )
        if found:
            tally.canaries += found
            tally.shown.append(where)

    if phase == "live":
        for _ in range(SETTLE):
            watch(bench.step(None))
    if phase == "idle":
        for _ in range(2):
            watch(bench.step(None, watched=False))
    for i in range(FAULTY):
        shown = bench.step(spoil)
        watch(shown)
        if name in CARD and shown is not None and not shown.is_card and i >= 1:
            tally.slow_cards.append(where)
    for _ in range(SETTLE):
        shown = bench.step(None)
        watch(shown)
    tally.faults += 1
    if shown is None or shown.is_card:
        tally.slow_returns.append(where)


@contextlib.contextmanager
def without_guard() -> Iterator[None]:
    """Let everything through: shows that the detector finds what the guard holds back."""
    judge, in_time = guard_module.Guard.judge, guard_module.Guard.in_time

    def open_door(self, frame, matte, mode):
        usable = isinstance(frame, Frame) and not isinstance(matte, Fault)
        return Verdict("live") if usable else Verdict("fault", "")

    guard_module.Guard.judge = open_door
    guard_module.Guard.in_time = lambda self, pts, now: True
    try:
        yield
    finally:
        guard_module.Guard.judge, guard_module.Guard.in_time = judge, in_time


@contextlib.contextmanager
def calmed() -> Iterator[None]:
    """Have every frame averaged with the one before, as those of a dim room are."""
    tone_of = light_module.tone_of
    light_module.tone_of = lambda *seen: replace(tone_of(*seen), calm=CALM_MOST)
    try:
        yield
    finally:
        light_module.tone_of = tone_of


def run(kinds: dict[str, Spoil], folder: Path, *, frames: int, looks: bool = False) -> Tally:
    """Go through every kind, background and phase again and again until `frames` were stepped.

    With `looks` a part of the frame is shown that moves, a name tag, and a person in every light.
    """
    with calmed() if looks else contextlib.nullcontext():
        return _run(kinds, [Bench(name, looks=looks) for name in backgrounds(folder)], frames)


def _run(kinds: dict[str, Spoil], benches: list[Bench], frames: int) -> Tally:
    tally = Tally()
    logging.disable(logging.CRITICAL)
    for bench in benches:
        bench.demand.wait = lambda *_: None  # idle without sleeping
    try:
        while True:
            for bench in benches:
                for name, spoil in kinds.items():
                    for phase in PHASES:
                        case(bench, name, spoil, phase, tally)
            if tally.frames >= frames:
                return tally
    finally:
        logging.disable(logging.NOTSET)
        for bench in benches:
            bench.close()
