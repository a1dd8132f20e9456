"""The supervisor of cameras, models and sinks: off the loop, and again after ever longer pauses."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vcam.errors import SinkError
from vcam.system import reopener
from vcam.system.reopener import BackOff, Reopener

FIRST, LAST = 0.1, 0.4


class Thing:
    """Something that is open until it is closed; knows by which thread."""

    def __init__(self) -> None:
        self.closed_by = ""

    def close(self) -> None:
        self.closed_by = threading.current_thread().name


class Workshop:
    """An opener that fails while `error` is set; notes when it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[float] = []
        self.made: list[Thing] = []
        self.slow = threading.Event()  # it takes until this is set
        self.slow.set()

    def open(self) -> Thing:
        self.asked.append(time.monotonic())
        self.slow.wait(10)
        if self.error is not None:
            raise self.error
        self.made.append(Thing())
        return self.made[-1]

    @property
    def pauses(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.asked)]


@pytest.fixture
def shop() -> Workshop:
    return Workshop()


@pytest.fixture
def opening(shop: Workshop) -> Iterator[Reopener[Thing]]:
    with Reopener("thing", shop.open, Thing.close, back_off=BackOff(FIRST, LAST)) as made:
        yield made
        shop.slow.set()


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_nothing_is_opened_before_it_is_asked_for(shop, opening):
    time.sleep(0.05)

    assert (shop.asked, opening.take()) == ([], None)


def test_what_was_opened_is_taken_once(shop, opening):
    opening.now()
    until(lambda: opening.waiting)

    assert opening.take() is shop.made[0]
    assert opening.take() is None


def test_nobody_waits_while_it_is_being_opened(shop, opening):
    shop.slow.clear()
    opening.now()
    until(lambda: shop.asked)

    started = time.monotonic()
    for deed in (opening.take, opening.now, opening.again, opening.rest, opening.end):
        deed()

    assert time.monotonic() - started < 5  # the opener would take ten


def test_the_pause_after_a_failure_doubles_up_to_the_last_and_counts_from_its_end(shop, opening):
    shop.error = SinkError("not there")

    opening.now()
    until(lambda: len(shop.asked) == 6)

    for pause, least in zip(shop.pauses, (FIRST, 2 * FIRST, LAST, LAST, LAST), strict=True):
        assert pause >= least


def test_an_opener_that_is_slow_to_fail_gets_its_pause_all_the_same(shop):
    ended: list[float] = []

    def slow() -> Thing:
        shop.asked.append(time.monotonic())
        time.sleep(2 * FIRST)
        ended.append(time.monotonic())
        raise SinkError("not there")

    with Reopener("thing", slow, Thing.close, back_off=BackOff(FIRST, FIRST)) as made:
        made.now()
        until(lambda: len(shop.asked) == 4)

    assert all(again - end >= FIRST for end, again in zip(ended, shop.asked[1:], strict=False))


def test_what_fails_as_soon_as_it_is_in_use_is_opened_ever_later(shop, opening):
    opening.now()
    for _ in range(4):
        until(lambda: opening.waiting)
        opening.give_back(opening.take())
        opening.again(SinkError("it failed"))

    until(lambda: len(shop.asked) == 5)
    for pause, least in zip(shop.pauses, (FIRST, 2 * FIRST, LAST, LAST), strict=True):
        assert pause >= least


def test_after_a_thing_that_lasted_the_pauses_start_over(shop, opening):
    shop.error = SinkError("not there")
    opening.now()
    until(lambda: len(shop.asked) == 4)
    shop.error = None
    until(lambda: opening.waiting)
    opening.take()
    time.sleep(1.5 * LAST)
    before = len(shop.asked)

    lost = time.monotonic()
    opening.again(SinkError("it failed"))
    until(lambda: len(shop.asked) > before)

    assert FIRST <= shop.asked[-1] - lost < LAST


def test_a_new_wish_ends_the_pause(shop):
    with Reopener("thing", shop.open, Thing.close, back_off=BackOff(30, 60)) as made:
        shop.error = SinkError("not there")
        made.now()
        until(lambda: made.problem)
        shop.error = None
        made.now()
        until(lambda: made.waiting)

    assert shop.pauses[0] < 30


def test_a_wish_that_came_while_it_was_opened_opens_another_and_the_first_is_closed(shop, opening):
    shop.slow.clear()
    opening.now()
    until(lambda: shop.asked)
    opening.now()
    shop.slow.set()
    until(lambda: len(shop.made) == 2 and shop.made[0].closed_by)

    assert opening.take() is shop.made[1]
    assert shop.made[0].closed_by == "thing"


def test_a_failure_told_again_and_again_opens_one_and_no_more(shop, opening):
    shop.slow.clear()
    opening.now()
    until(lambda: shop.asked)
    for _ in range(30):
        opening.again()
    shop.slow.set()
    until(lambda: opening.waiting)
    for _ in range(30):
        opening.again()
    time.sleep(2 * LAST)

    assert len(shop.asked) == 1


def test_the_reason_is_kept_until_it_opens_and_told_once(shop, opening, caplog):
    shop.error = SinkError("not there", hint="Plug it in.")
    with caplog.at_level(logging.WARNING):
        opening.now()
        until(lambda: len(shop.asked) == 4)
        assert opening.problem == "not there"
        shop.error = None
        until(lambda: opening.waiting)

    assert opening.problem == ""
    assert [record.getMessage() for record in caplog.records] == ["thing: not there Plug it in."]


def test_what_is_not_worth_another_try_is_not_tried(shop):
    with Reopener(
        "thing", shop.open, Thing.close, back_off=BackOff(0, 0), retry=lambda error: False
    ) as made:
        shop.error = MemoryError()
        made.now()
        until(lambda: made.problem)
        time.sleep(0.05)
        assert len(shop.asked) == 1

        shop.error = None
        made.again(SinkError("over for good"))
        time.sleep(0.05)

        assert (made.problem, len(shop.asked)) == ("over for good", 1)


def test_at_rest_it_is_not_opened_although_the_pause_is_over(shop, opening):
    shop.error = SinkError("not there")
    opening.now()
    until(lambda: opening.problem)
    opening.rest()
    time.sleep(3 * FIRST)

    assert len(shop.asked) == 1


def test_what_is_given_back_is_closed_on_the_thread_before_another_is_opened(shop, opening):
    opening.now()
    until(lambda: opening.waiting)
    first = opening.take()

    opening.give_back(first)
    opening.again()
    until(lambda: len(shop.made) == 2)

    assert first.closed_by == "thing"


def test_in_the_end_what_nobody_took_is_closed(shop):
    with Reopener("thing", shop.open, Thing.close, back_off=BackOff(FIRST, LAST)) as made:
        made.now()
        until(lambda: made.waiting)

    assert shop.made[0].closed_by == "thing"
    assert made.take() is None


def test_what_hangs_while_it_is_opened_is_left_alone_and_closes_what_comes_of_it(shop):
    shop.slow.clear()
    made = Reopener("thing", shop.open, Thing.close, back_off=BackOff(FIRST, LAST)).__enter__()
    made.now()
    until(lambda: shop.asked)

    made.close(within=0.1)
    shop.slow.set()
    until(lambda: shop.made and shop.made[0].closed_by)

    assert made.take() is None


def test_one_that_is_used_on_its_thread_is_closed_there_and_told_of_before(shop):
    told: list[tuple[str, str]] = []

    def use(thing: Thing) -> None:
        if len(shop.made) == 1:
            raise SinkError("it went away")
        shop.slow.clear()

    made = Reopener(
        "thing", shop.open, Thing.close, back_off=BackOff(FIRST, LAST), use=use,
        failed=lambda error: told.append((made.problem, shop.made[0].closed_by)),
    )  # fmt: skip
    with made:
        made.now()
        until(lambda: len(shop.made) == 2 and shop.made[1].closed_by)
        time.sleep(2 * FIRST)

    assert told == [("it went away", "")]
    assert [thing.closed_by for thing in shop.made] == ["thing", "thing"]
    assert len(shop.asked) == 2  # the second was not lost: it was done with


def test_a_pause_that_ends_early_is_a_reason_to_try(shop):
    slept: list[float] = []
    patience = {"back_off": BackOff(30, 60), "pause": slept.append}
    with Reopener("thing", shop.open, Thing.close, **patience) as made:
        shop.error = SinkError("not there")
        made.now()
        until(lambda: len(shop.asked) >= 3)

    assert 25 < slept[0] <= 30
    assert 55 < slept[1] <= 60


def test_neither_a_failure_that_cannot_be_told_nor_one_to_close_ends_the_thread(shop, monkeypatch):
    def forget(*_: object) -> None:
        raise MemoryError

    def fail(thing: Thing) -> None:
        raise OSError("it is gone")

    monkeypatch.setattr(reopener, "log_quietly", forget)
    with Reopener("thing", shop.open, fail, back_off=BackOff(FIRST, LAST)) as made:
        shop.error = MemoryError()
        made.now()
        until(lambda: made.problem)
        shop.error = None
        until(lambda: made.waiting)
        made.give_back(made.take())
        made.now()
        until(lambda: made.waiting)
        made.take()
