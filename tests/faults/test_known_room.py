"""A learned room that is damaged, stale or another's shows nothing of the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.known_room import POISONS, Assets, Pair, Scene, Tally, scene_of


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.mark.parametrize("how", POISONS)
def test_a_poisoned_room_opens_no_window_onto_the_real_one(pair, how):
    tally = Tally()

    pair.play(Scene(3, "poison", "own", 90.0, 2.0, 75, how), Assets(), tally)

    assert tally.known > 20, "the room was learnt, and the poison counted"
    assert tally.windows == []


@pytest.mark.parametrize("kind", ["sit", "lamp", "nudge", "cut", "chair"])
def test_a_room_that_changes_opens_no_window_and_cuts_no_hole(pair, kind):
    tally = Tally()

    pair.play(Scene(3, kind, "own", 90.0, 2.0, 90), Assets(), tally)

    assert tally.known > 20
    assert tally.clean, tally.table()


@pytest.mark.parametrize("number", [2, 19])
def test_who_wears_the_colour_of_the_wall_stays_whole(pair, number):
    tally = Tally()

    pair.play(scene_of(number, frames=90), Assets(), tally)

    assert tally.known > 20
    assert tally.shown > 60
    assert tally.clean, tally.table()
