"""No way to a sink shows the room: however it came to be open, its first picture is the card."""

from __future__ import annotations

import itertools
import threading

import pytest

from tests.fakes import ListSink
from tests.faults import canary
from tests.faults.harness import SETTLE, Bench
from tests.faults.kinds import ALL
from vcam.compose.card import Card
from vcam.errors import SinkError
from vcam.sinks.base import Wanted

W, H = canary.W, canary.H


class Late(ListSink):
    """A sink that opens once it is let, and is shown to the test."""

    def __init__(self) -> None:
        super().__init__(W, H)
        self.let = threading.Event()

    def __enter__(self) -> Late:
        if not self.let.is_set():
            raise SinkError("not yet")
        super().__enter__()
        return self


def chosen(bench: Bench, late: Late) -> None:
    """Choose it in mid-call, beside the one that is there."""
    bench.outlet.choose([bench.outlet.places[0].wanted, Wanted("late", lambda: late)])
    late.let.set()


def lost(bench: Bench, late: Late) -> None:
    """It is open, fails, and opens again."""
    chosen(bench, late)
    wait(lambda: (bench.step(None), late.frames)[1])
    late.broken = True
    bench.step(None)
    late.broken = False
    late.frames.clear()


def wait(holds) -> None:
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.005)
    raise AssertionError


def shows_the_room(bench: Bench, sink: ListSink) -> int:
    return sum(
        canary.seen(frame.data, list(bench.frames), blurred=bench.blurred)
        for frame in sink.frames
        if not frame.is_card
    )


@pytest.fixture(params=["#00ff00", "blur:90"])
def bench(request):
    made = Bench(request.param)
    made.demand.wait = lambda *_: None
    yield made
    for place in made.outlet.places:
        place.reopener.close()
    made.close()


@pytest.mark.parametrize("way", [chosen, lost])
@pytest.mark.parametrize("kind", ["none", *itertools.islice(ALL, 0, None, 5)])
def test_a_sink_that_opens_in_mid_call_shows_the_card_first_and_never_the_room(bench, way, kind):
    late = Late()
    bench.frames = []
    step = bench.step

    def noted(spoil, **how):
        shown = step(spoil, **how)
        bench.frames = [*bench.frames[-40:], *bench.recent]
        return shown

    bench.step = noted
    for _ in range(SETTLE):
        bench.step(None)

    way(bench, late)
    for _ in range(3):
        bench.step(ALL.get(kind))
    wait(lambda: (bench.step(None), len(late.frames) > SETTLE + 2)[1])

    assert late.frames[0].is_card
    assert not late.frames[-1].is_card
    assert shows_the_room(bench, late) == 0


@pytest.mark.parametrize("kind", ["none", *itertools.islice(ALL, 0, None, 5)])
def test_a_card_that_is_chosen_amid_a_fault_shows_nothing_but_itself(bench, kind):
    other = Card(W, H, reasons=False)
    other._plain[:] = 77
    for _ in range(SETTLE):
        bench.step(None)

    bench.pipe.show_card(other)
    bench.sink.frames.clear()
    for _ in range(3):
        bench.step(ALL.get(kind))
    bench.pipe.forget("camera switched")
    bench.step(None)

    cards = [frame for frame in bench.sink.frames if frame.is_card]
    assert cards
    assert all((frame.data == 77).all() for frame in cards)


def test_a_sink_that_leaves_in_mid_call_shows_the_card_last(bench):
    for _ in range(SETTLE):
        bench.step(None)
    assert not bench.sink.frames[-1].is_card

    bench.outlet.choose([])
    bench.step(None)

    assert bench.sink.frames[-1].is_card
    bench.step(None)
    assert bench.outlet.sinks == []
