"""A receipt says who watched, how long, and what they were shown."""

from __future__ import annotations

from tests.fakes import StepClock
from vcam.receipts import KEPT, Receipts, Shown


def call(receipts: Receipts, clock: StepClock, seconds: float, who: list[str], **more: int) -> None:
    """A call of that length, a look every half second, 30 pictures a second."""
    for _ in range(int(seconds * 2) + 1):
        receipts.follow(who, Shown(int(clock.now * 30), more.get("cards", 0), 0))
        clock.now += 0.5


def leave(receipts: Receipts, clock: StepClock) -> None:
    for _ in range(8):
        receipts.follow([], Shown(int(clock.now * 30), 0, 0))
        clock.now += 0.5


def test_a_call_ends_with_who_watched_how_long_and_no_room():
    clock = StepClock()
    receipts = Receipts(lambda: clock.now)

    call(receipts, clock, 90, ["zoom"])
    assert not receipts.kept
    leave(receipts, clock)

    (receipt,) = receipts.kept
    assert (receipt.who, receipt.seconds, receipt.frames) == (("zoom",), 90.0, 2700)
    assert receipt.text.startswith("zoom watched for 1 min 30 s: 2700 pictures")
    assert receipt.text.endswith("your room was shown for 0 s")


def test_the_time_in_which_the_room_was_shown_and_the_cards_are_counted():
    clock = StepClock()
    receipts = Receipts(lambda: clock.now)
    for tick in range(21):
        receipts.follow(["zoom"], Shown(tick * 15, tick, max(0, min(tick - 4, 8)) * 15))
        clock.now += 0.5

    receipts.close()

    assert receipts.kept[-1].room_seconds == 4.0
    assert receipts.kept[-1].cards == 20


def test_the_page_and_a_program_that_lists_cameras_are_no_call_and_a_short_gap_ends_none():
    clock = StepClock()
    receipts = Receipts(lambda: clock.now)

    call(receipts, clock, 60, ["settings page"])
    call(receipts, clock, 1, ["chrome"])
    leave(receipts, clock)
    assert not receipts.kept

    call(receipts, clock, 10, ["zoom"])
    clock.now += 2
    call(receipts, clock, 10, ["zoom", "obs"])
    leave(receipts, clock)
    assert [receipt.who for receipt in receipts.kept] == [("zoom", "obs")]
    for _ in range(KEPT + 2):
        call(receipts, clock, 3, ["zoom"])
        leave(receipts, clock)
    assert len(receipts.kept) == KEPT
