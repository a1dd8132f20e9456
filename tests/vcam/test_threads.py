"""The loop's own things are changed by the loop alone; what others leave for it is never lost."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from tests.fakes import W, drain, left_half, pipeline, room
from tests.vcam.running import House
from vcam.compose.backdrops import open_backdrop
from vcam.compose.compositor import Compositor
from vcam.guard import Guard
from vcam.matting import Matting
from vcam.pipeline import Pipeline
from vcam.room_view import RoomWindow
from vcam.sinks.demand import Demand
from vcam.sinks.outlet import Outlet, Place
from vcam.sources.capture import Capture
from vcam.stats import Stats
from vcam.system.reopener import Reopener

JUDGED = 30_000
CONFIDENT = 5


@contextmanager
def meddling(*deeds: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Others who do these things over and over, each on a thread of its own; what they raised."""
    raised: list[BaseException] = []
    stop = threading.Event()

    def repeat(deed: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                deed()
            except Exception as error:
                raised.append(error)
            time.sleep(0.0005)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=repeat, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        sys.setswitchinterval(before)


def test_no_doubt_is_lost_while_others_leave_it_all_the_time():
    frames = [room(i, float(i)) for i in range(7)]
    mattes = [left_half(frame) for frame in frames]
    guard = Guard(CONFIDENT, 0.5)
    begun = -1  # the judgement that goes on, or is about to begin
    live = np.zeros(JUDGED, np.bool_)
    doubts: list[int] = []

    def doubt() -> None:
        guard.doubt("something")
        doubts.append(begun)
        time.sleep(0.005)

    with meddling(doubt, doubt) as raised:
        for i in range(JUDGED):
            begun = i
            # A new seq and pts for a picture that was made before: making one costs a millisecond.
            frame, matte = frames[i % 7], mattes[i % 7]
            object.__setattr__(frame, "seq", i)
            object.__setattr__(frame, "pts", i / 30)
            object.__setattr__(matte, "seq", i)
            live[i] = guard.judge(frame, matte, "live").live
    lost = [at for at in doubts if live[at + 1 : at + CONFIDENT - 1].any()]

    print(f"{len(doubts)} doubts, {JUDGED} judgements, {np.count_nonzero(live)} of them live")
    assert raised == []
    assert lost == []
    assert len(doubts) > 200
    assert np.count_nonzero(live) > 200


def test_a_doubt_in_the_midst_of_a_judgement_changes_nothing_under_it():
    class Moment(float):
        """A time at whose first use somebody doubts."""

        def __sub__(self, other: float) -> float:
            guard.doubt("camera switched")
            return float(self) - other

    guard = Guard(1, 0.5)
    first, second = room(0, 0.0), room(1, Moment(5.0))
    guard.judge(first, left_half(first), "live")

    guard.judge(second, left_half(second), "live")  # by distrust itself, an IndexError

    assert not guard.in_time(5.0, 5.0)


def test_a_doubt_that_comes_while_the_picture_is_drawn_still_counts():
    pipe, sink = pipeline([room(i) for i in range(12)])
    drain(pipe, 5)
    assert not sink.frames[-1].is_card
    compose = pipe.compositor.compose

    def slow(*args, **kwargs):
        pipe.compositor.compose = compose
        pipe.guard.doubt("camera switched")
        return compose(*args, **kwargs)

    pipe.compositor.compose = slow
    drain(pipe, 4)

    assert [frame.is_card for frame in sink.frames[-4:]] == [True, True, True, False]


@pytest.mark.parametrize("steps", [400])
def test_settings_backgrounds_and_cameras_may_change_at_any_moment(steps):
    pipe, sink = pipeline([room(i) for i in range(steps)])
    opened = []

    def change() -> None:
        at = len(opened) % 5
        values = {"privacy": {"confident_frames": 1 + at}, "output": {"idle_after": 1.0 + at}}
        pipe.settings.change(values)

    def show() -> None:
        opened.append(open_backdrop("#00ff00", W, 108))
        pipe.show(opened[-1])

    with meddling(change, show, lambda: pipe.forget("camera switched")) as raised:
        drain(pipe, steps)
    pipe.settings.change({"privacy": {"confident_frames": 4}})
    drain(pipe, 1)

    assert raised == []
    assert pipe.guard.confident_frames == 4
    assert pipe.backdrop is opened[-1]
    assert [old for _, old in pipe.retired][1:] == opened[:-1]
    assert len(sink.frames) >= steps
    assert pipe.wipes > 0


# Attributes with more than one writer: words for the loop, or held by a lock while they change.
WORDS = {
    "Demand": {"_glanced_at"},
    "Matting": {"_settings"},
    "Capture": {"_slot", "_opener", "_generation"},
    "Outlet": {"places", "_leaving", "_last", "_last_write"},
    "Stats": {"written", "cards", "composited", "revealed"},
    "Place": {"sink", "_told", "wanted"},
    "RoomWindow": {"_until", "_view"},
    "StillSource": {"_pace"},
    "Reopener": {
        "problem", "_asked", "_opening", "_delay", "_due", "_opened_at", "_slot", "_ended"
    },
}  # fmt: skip


def test_each_attribute_is_written_by_one_thread_while_everything_happens(monkeypatch, tmp_path):
    writers: dict[tuple[str, str], set[str]] = defaultdict(set)

    def watch(owner: type) -> None:
        before = owner.__setattr__

        def note(self, name: str, value: object) -> None:
            if playing.is_set():
                writers[owner.__name__, name].add(threading.current_thread().name)
            before(self, name, value)

        monkeypatch.setattr(owner, "__setattr__", note)

    playing = threading.Event()
    for owner in (Guard, Demand, Compositor, Pipeline, Matting, Capture, Outlet, Place, Stats,
                  RoomWindow, Reopener):  # fmt: skip
        watch(owner)
    notifier = SimpleNamespace(ready=lambda: None, status=lambda text: None)
    turn = itertools.count()

    def change() -> None:
        n = next(turn)
        house.settings.change(
            {"privacy": {"confident_frames": 1 + n % 3, "card_reason": n % 2 < 1}}
        )
        house.settings.change({"output": {"fps": 20.0 + n % 5, "on_demand": n % 2 > 0}})
        house.settings.change({"camera": {"width": 64 + 2 * (n % 9), "mirror": n % 2 < 1}})
        house.settings.change({"matte": {"threads": 1 + n % 4, "smoothing": n % 5 / 5}})
        house.settings.change({"background": {"use": ["blur", "#00ff00"][n % 2]}})
        house.settings.set_mode(["live", "frozen", "paused"][n % 3])
        house.sink.broken = n % 4 == 3

    def ask() -> None:
        house.daemon.status()
        house.daemon.latest()
        house.daemon.matte()
        house.daemon.room()

    with House(monkeypatch, tmp_path) as house:
        house.settings.change({"output": {"sink": "none,/dev/list"}})
        playing.set()
        with meddling(change, ask, lambda: house.daemon.tend(notifier)) as raised:
            time.sleep(6)
            playing.clear()

    assert raised == []
    shared = {key: names for key, names in writers.items() if len(names) > 1}
    assert {key for key in shared if key[1] not in WORDS.get(key[0], ())} == set()
    for owner in ("Guard", "Demand", "Compositor", "Pipeline"):
        found = {name for (name, key), names in writers.items() if name == owner
                 and names - {"loop"} and key not in WORDS.get(owner, ())}  # fmt: skip
        assert found == set()
    assert {"Guard", "Demand", "Pipeline", "Matting", "Place"} <= {owner for owner, _ in writers}


def test_only_the_loop_writes_to_what_it_owns():
    """The doors and the housekeeping leave words; see `Pipeline`."""
    import ast
    from pathlib import Path

    import vcam.running

    tree = ast.parse(Path(vcam.running.__file__).read_text())
    (daemon,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Daemon")
    written = [
        ast.unparse(target)
        for node in ast.walk(daemon)
        if isinstance(node, (ast.Assign, ast.AugAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if ast.unparse(target).startswith(("pipe.", "self._pipeline."))
    ]
    assert written == []
