"""Small working stand-ins for cameras, sinks, models and clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np

from segmentation.matte import Matte
from segmentation.planes import Planes
from vcam.compose.card import Card
from vcam.errors import SinkError, SourceError
from vcam.frame import Frame, SafeFrame
from vcam.guard import Fault
from vcam.pipeline import Pipeline
from vcam.settings import config
from vcam.settings.live import Settings
from vcam.sinks.base import Wanted
from vcam.sinks.demand import Demand
from vcam.sinks.file import check
from vcam.sinks.outlet import Outlet
from vcam.stats import Stats

W, H = 192, 108
h, w = 54, 96


def room(seq: int, pts: float | None = None, *, seed: int = 0) -> Frame:
    """A frame whose every 4x4 block differs from its neighbours: easy to find again."""
    rng = np.random.default_rng(seed + seq % 7)
    y = np.kron(rng.integers(40, 220, (H // 4, W // 4)), np.ones((4, 4))).astype(np.uint8)
    y.setflags(write=False)
    chroma = np.full((H // 2, W // 2), 128, np.uint8)
    chroma.setflags(write=False)
    return Frame(Planes(y, chroma, chroma), time.monotonic() if pts is None else pts, seq)


def left_half(frame: Frame) -> Matte:
    """A confident matte: the person is the left half of the picture."""
    alpha = np.zeros((h, w), np.float32)
    alpha[:, : w // 2] = 1
    alpha[0, 0] = 0.999 - 0.0001 * (frame.seq % 50)  # a real network never answers the same
    picture = np.zeros((3, h, w), np.uint8)
    picture[0] = frame.planes.y[::2, ::2]
    zero = np.zeros_like(alpha)
    return Matte(alpha, zero, alpha.copy(), frame.seq, frame.pts, alpha, picture, False, True)


class ListSource:
    """Gives the frames of a list; a SourceError in it is raised."""

    name, fps, live = "list", 30.0, True

    def __init__(self, items: Iterable[Frame | SourceError | None]) -> None:
        self.items = list(items)

    def read(self, timeout: float) -> Frame | None:
        if not self.items:
            raise EOFError
        item = self.items.pop(0)
        if isinstance(item, SourceError):
            raise item
        if item is None:
            time.sleep(min(timeout, 0.02))
        return item

    def __enter__(self) -> ListSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ListSink:
    """Keeps a copy of everything it was shown; fails while `broken`."""

    name, kind = "list", "list"

    def __init__(self, width: int = W, height: int = H) -> None:
        self.width, self.height = width, height
        self.frames: list[SafeFrame] = []
        self.broken = False
        self.opened = 0
        self.who: list[str] | None = ["Meeting"]

    def write(self, frame: SafeFrame) -> None:
        check(frame, self.width, self.height)
        if self.broken:
            raise SinkError("the device refused")
        self.frames.append(frame.copy())

    def watchers(self) -> list[str] | None:
        return self.who

    def __enter__(self) -> ListSink:
        self.opened += 1
        return self

    def __exit__(self, *_: object) -> None:
        pass


class StepClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slot:
    """A capture whose frames come from a list, one at each read."""

    def __init__(self, items: Iterable[Frame | Fault | None]) -> None:
        self.items = list(items)
        self.wanted: list[bool] = []
        self.source = None
        self.dropped = 0
        self.problem = ""

    def want(self, wanted: bool) -> None:
        self.wanted.append(wanted)

    def switch(self, opener: object) -> None:
        pass

    def read(self, timeout: float) -> Frame | Fault | None:
        return self.items.pop(0) if self.items else None


def matting(answer) -> SimpleNamespace:
    """A matting that answers every frame with `answer(frame)`, a Matte or a Fault."""

    def matte(frame: Frame | Fault | None, scene: object = None) -> Matte | Fault:
        return answer(frame) if isinstance(frame, Frame) else Fault("no frame")

    return SimpleNamespace(
        matte=matte,
        reset=lambda: None,
        wipe=lambda: None,
        info={},
        apply=lambda _: None,
        tend=lambda: None,
        woke_up=lambda: None,
        packed=False,
    )


def settings(**changes: dict[str, object]) -> Settings:
    """Default settings at the fakes' size, with `section={key: value}` changed."""
    base = config.load(config.default_path(), environ={})
    size = {"output": {"width": W, "height": H, "fps": 30.0}}
    return Settings(base.with_changes(size).with_changes(changes))


def outlet(*sinks: ListSink, card: Card | None = None, fps: float = 30) -> Outlet:
    """An outlet of sinks that are open, each of which opens again as itself; has no thread yet."""
    wanted = [Wanted(f"list {i}", lambda sink=sink: sink) for i, sink in enumerate(sinks)]
    shown = card or Card(sinks[0].width, sinks[0].height)
    return Outlet(wanted, shown, Stats(), fps=fps, opened=sinks)


def pipeline(frames, answer=left_half, *, backdrop="#00ff00", on_demand=False, **changes):
    """A pipeline over fakes; returns it with its sink. Nothing runs on a thread of its own."""
    from vcam.compose.backdrops import open_backdrop

    chosen = settings(**changes)
    sink = ListSink()
    shown = outlet(sink)
    demand = Demand(shown, on_demand=on_demand, idle_after=0.2)
    behind = open_backdrop(backdrop, W, H)
    pipe = Pipeline(Slot(frames), matting(answer), behind, shown, chosen, demand)
    return pipe, sink


def drain(pipe: Pipeline, steps: int) -> None:
    """Run `steps` steps of the loop."""
    stop = threading.Event()
    for _ in range(steps):
        pipe.step(stop)
