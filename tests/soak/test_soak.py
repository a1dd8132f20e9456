"""Two minutes of the soak, by its own command: what lasts thirty at night."""

from __future__ import annotations

import sys

import pytest

from tests.soak.__main__ import SWING, Phase, soak


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and signals")
def test_two_minutes_of_random_deeds_break_no_promise():
    assert soak(2, seed=1) == 0


def phase(growth: float, minutes: float = 10) -> Phase:
    """A process that swings by 60 MB within each round of 28 deeds and grows by `growth` MB/h."""
    found = Phase("low")
    for i in range(round(minutes * 60 / 1.8)):
        found.at.append(i * 1.8 / 60)
        found.rounds.append(i // 28)
        found.networks.append("small")
        warming = 80 * (1 - 0.5 ** (i / 14)) if i < 56 else 80
        found.rss.append(300 + warming + (i * 17 % 28) / 28 * 60 + growth * i * 1.8 / 3600)
    return found


def test_what_memory_does_within_a_round_and_until_all_was_used_is_no_growth():
    slope, error = phase(0).slope()

    assert abs(slope) < 5
    assert error < 10


def test_a_process_that_grows_is_found():
    slope, error = phase(120).slope()

    assert slope - 2 * error > 60
    assert abs(slope - 120) < 10


def test_a_phase_too_short_for_four_rounds_says_nothing():
    assert phase(120, minutes=1).slope() == (0.0, float("inf"))


def test_another_network_is_no_growth_and_what_one_of_them_keeps_is():
    one, other = phase(0), phase(0)
    for found, kept in ((one, 0), (other, 90)):
        for i in range(len(found.at)):
            if i // 28 % 2:
                found.networks[i] = "r18"
                found.rss[i] += 70 + kept * (i > len(found.at) / 2)

    assert abs(one.slope()[0]) < 10
    assert one.swing() < SWING
    assert other.swing() > SWING
