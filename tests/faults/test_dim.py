"""Carrying mattes along shows no room in dim light; `python -m tests.faults.dim` tries more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segmentation.motion.flow import Carrier
from tests.faults import dim


@pytest.fixture(scope="module")
def assets() -> dim.Assets:
    return dim.Assets()


def test_whoever_leaves_a_dim_room_leaves_no_window_behind(assets):
    tally = dim.run(2 * len(dim.KINDS) * len(dim.DRESSES), assets)

    assert tally.by_carrying == []
    assert tally.shown > 0.6 * tally.frames
    assert tally.carried > 0.15 * tally.frames  # and not because nothing is carried at all


def test_the_same_harness_finds_windows_where_every_matte_is_carried(assets, monkeypatch):
    monkeypatch.setattr(Carrier, "_in_time", lambda self, pts: True)
    monkeypatch.setattr(Carrier, "_found", lambda self, now, part: True)

    tally = dim.run(len(dim.KINDS) * len(dim.DRESSES), assets)

    assert len(tally.by_carrying) > 5
    assert max(tally.by_carrying)[0] > 0.05


def test_a_case_is_the_same_whenever_it_is_played_and_ends_without_the_person(assets):
    case = replace(next(dim.cases(1, 0)), kind="cut")
    first, second = (list(dim.film(case, assets)) for _ in range(2))

    assert all(
        np.array_equal(a.planes.y, b.planes.y) for (a, _), (b, _) in zip(first, second, strict=True)
    )
    assert first[0][1].max() > 0.9
    assert first[-1][1].max() == 0
    assert abs(first[0][0].planes.y.mean() - case.brightness) < 4


def test_the_cases_cover_every_kind_dress_rate_and_light():
    some = list(dim.cases(400, 0))

    assert {(c.kind, c.dress) for c in some} == {(k, d) for k in dim.KINDS for d in dim.DRESSES}
    assert {(c.fps, c.level) for c in some} == {(f, q) for f in dim.RATES for q in dim.LEVELS}
    assert min(c.brightness for c in some) < 15
    assert max(c.brightness for c in some) > 100


def test_room_is_counted_where_it_is_shown_and_nowhere_else(assets):
    frame, _ = next(dim.film(next(dim.cases(1, 3)), assets))
    everywhere = np.ones((dim.H // 2, dim.W // 2), np.bool_)
    shown = dim.BARE.copy()
    flat = shown.reshape(-1)[dim.W * dim.H :].reshape(2, dim.H // 2, dim.W // 2)
    for plane, theirs in zip(flat, frame.planes.each[1:], strict=True):
        limited = np.rint((theirs.astype(np.float32) - 128) * (224 / 255) + 128)
        plane[40:60, 50:90] = limited[40:60, 50:90]

    weight = dim.room_in(shown, frame, everywhere)

    assert np.all(weight[40:60, 50:90] > 0.9)
    assert np.count_nonzero(weight > 0.1) == 20 * 40
