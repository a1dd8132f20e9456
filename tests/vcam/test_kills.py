"""Whatever kills the program, and whenever: each file is whole, old, or a part that plays."""

from __future__ import annotations

import os
import sys

import pytest

from tests.vcam import kills

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="signals and /proc are Linux's here"
)


def check(count: int, seed: int, folder) -> None:
    found = kills.run(count, seed, folder)

    assert found.wrong == []
    assert sum(found.killed.values()) == count


def test_twelve_random_kills_leave_nothing_half(tmp_path):
    check(12, int.from_bytes(os.urandom(4), "big"), tmp_path)


@pytest.mark.slow
def test_two_hundred_random_kills_leave_nothing_half(tmp_path):
    check(200, 0, tmp_path)
