"""No fault shows the room: not one 16x16 patch of it, over every background and phase."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np

from tests.fakes import ListSink, left_half, matting, outlet, room, settings
from tests.faults import canary
from tests.faults.harness import run, without_guard
from tests.faults.kinds import ALL, CARD
from vcam.compose.backdrops import open_backdrop
from vcam.compose.card import Card
from vcam.compose.scene import Look
from vcam.guard import Fault
from vcam.pipeline import Pipeline
from vcam.sinks.demand import Demand


def test_no_fault_shows_the_room_and_every_one_ends_in_the_card(tmp_path):
    tally = run(ALL, tmp_path, frames=1)

    assert len(ALL) >= 40
    assert tally.frames > 5000
    assert tally.composites > 1000
    assert tally.shown == []
    assert tally.slow_cards == []
    assert tally.slow_returns == []


def test_a_part_of_the_frame_that_moves_and_a_name_tag_show_no_more(tmp_path):
    some = {name: ALL[name] for name in list(ALL)[::12]} | {"frame grows": ALL["frame grows"]}

    tally = run(some, tmp_path, frames=1, looks=True)
    with without_guard():
        control = run({"matte all one": CARD["matte all one"]}, tmp_path, frames=1, looks=True)

    assert tally.composites > 200
    assert (tally.shown, tally.slow_cards, tally.slow_returns) == ([], [], [])
    assert control.canaries > 300  # found where it was moved to


def test_without_the_guard_the_same_harness_finds_the_room(tmp_path):
    some = {name: CARD[name] for name in ("matte all one", "matte nearly one", "matte undecided")}

    with without_guard():
        tally = run(some, tmp_path, frames=1)

    assert tally.canaries > 1000


def test_the_detector_finds_a_single_patch():
    frame = canary.frame(5, 0.0)
    shown = np.full((canary.H * 3 // 2, canary.W), 90, np.uint8)
    shown[32:48, 96:112] = frame.planes.y[32:48, 96:112]

    assert canary.seen(shown, [frame]) == 1
    assert canary.seen(np.full_like(shown, 90), [frame]) == 0


def test_an_engine_that_hangs_shows_the_card_within_two_frames_and_nothing_old_afterwards():
    interval = 0.1  # a slow camera, so that a busy machine's hiccups are small beside a frame
    hang = threading.Event()

    def answer(frame):
        if hang.is_set():
            hang.clear()
            time.sleep(1.0)
        return left_half(frame)

    class Camera:
        source, dropped, seq, due = None, 0, 0, time.monotonic()

        def want(self, wanted):
            pass

        def read(self, timeout):
            self.due = max(self.due + interval, time.monotonic())
            time.sleep(max(0.0, self.due - time.monotonic()))
            self.seq += 1
            return room(self.seq)

    sink, stop = ListSink(), threading.Event()
    times = []
    real = sink.write
    sink.write = lambda frame: (times.append((time.monotonic(), frame.is_card)), real(frame))
    with outlet(sink, fps=1 / interval) as shown:
        demand = Demand(shown, on_demand=False, idle_after=1)
        pipe = Pipeline(
            Camera(),
            matting(answer),
            open_backdrop("#00ff00", 192, 108),
            shown,
            settings(output={"fps": 1 / interval}),
            demand,
        )
        thread = threading.Thread(target=pipe.run, args=(stop,))
        thread.start()
        time.sleep(1.2)
        hang.set()
        time.sleep(0.3)
        hung = max(t for t, is_card in times if not is_card)  # the last that was in time
        time.sleep(1.9)
        stop.set()
        thread.join(3)

    cards = [t for t, is_card in times if is_card and t > hung]
    back = min(t for t, is_card in times if not is_card and t > hung)
    longest = max(b[0] - a[0] for a, b in itertools.pairwise(times))
    # The frame that hangs is due one interval after the last one; the card is there two later.
    assert cards[0] - hung < 3 * interval
    assert longest < 3 * interval
    assert back - hung < interval + 1.0 + 5 * interval  # the hang, then three confident frames
    assert not times[-1][1]


def test_a_drawing_that_failed_leaves_nothing_to_fail_on_again():
    from tests.fakes import drain, pipeline

    pipe, sink = pipeline([room(i) for i in range(6)], look={"zoom": 2.0, "light": 100})
    drain(pipe, 4)
    assert not sink.frames[-1].is_card
    compositor = pipe.compositor
    drawn, fitted = compositor._outputs, compositor._fitted
    assert any(array.any() for array in drawn)
    assert any(array.any() for array in fitted._scaled)

    pipe.recover()

    assert sink.frames[-1].is_card
    assert compositor._framer.crop(np.zeros((9, 16), np.float32), (160, 90), Look(), 0.0) is None
    assert not any(array.any() for array in (*drawn, *fitted._scaled))
    assert compositor._fitted is None


def test_a_fault_is_not_forgotten_by_freezing():
    from tests.fakes import drain, pipeline

    pipe, sink = pipeline([room(i) for i in range(6)] + [Fault("camera unplugged")] * 3)
    drain(pipe, 7)
    pipe.settings.set_mode("frozen")
    drain(pipe, 2)

    assert all(f.is_card for f in sink.frames[-2:])


def test_who_asks_for_the_last_picture_does_not_wait_for_a_sink_that_blocks():
    sink, blocked, go_on = ListSink(), threading.Event(), threading.Event()
    card = Card(192, 108)
    shown = outlet(sink, card=card)
    shown.write(card.frame(0.0, 0))
    assert shown.latest() is not None

    sink.write = lambda frame: (blocked.set(), go_on.wait(20))
    thread = threading.Thread(target=shown.write, args=(card.frame(1.0, 1),))
    thread.start()
    blocked.wait(5)
    started = time.monotonic()
    answer = shown.latest()
    waited = time.monotonic() - started
    go_on.set()
    thread.join(5)

    assert answer is None
    assert waited < 5


def test_no_error_of_a_sink_ends_the_watchdog_or_keeps_the_frame_from_the_others():
    broken, working, stop = ListSink(), ListSink(), threading.Event()

    def out_of_memory(frame):
        if not stop.is_set():
            raise MemoryError

    broken.write = out_of_memory
    with outlet(broken, working) as shown:
        time.sleep(0.8)  # nobody writes: the watchdog does
        assert shown.problems[0] == "MemoryError"
        before = len(working.frames)
        stop.set()
        time.sleep(1.6)

        assert before >= 2
        assert len(working.frames) > before
        assert broken in shown.sinks  # open again
