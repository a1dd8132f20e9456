"""No fault of a running daemon shows the room either: signals, limits, disks, real orders."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.process import OUTSIDE, Run, inflict, running, texture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and signals")


def test_no_fault_of_a_running_process_shows_the_room_and_each_ends_in_the_person(tmp_path):
    run = Run()
    with running(tmp_path, background={"use": "slate"}, matte={"quality": "balanced"}) as process:
        assert process.meeting.detector(texture()) > 300
        for name, fault in OUTSIDE.items():
            run.outcomes.append(inflict(process, name, fault, hold=0.4))
        process.change(background={"use": "none"})  # the user's own choice; the check can fail
        before = len(process.meeting.seen)
        time.sleep(0.7)
        revealed = sum(s.patches for s in process.meeting.seen[before:])

        assert process.stop() == 0

    print(run.table())
    assert revealed > 300
    for o in run.outcomes:
        assert o.patches == 0, o
        assert o.stray == 0, o
        assert o.back_after < 10, o
        assert o.card_after == o.card_after or not OUTSIDE[o.name].card, o
        assert not o.died or o.name == "out of memory", o


def test_a_daemon_that_does_not_start_leaves_neither_a_thread_nor_a_disk_behind(tmp_path: Path):
    with (
        pytest.raises(AssertionError, match="exit code"),
        running(tmp_path, matte={"model": "absent.xml", "colour": "of no use"}),
    ):
        pass

    assert "meeting" not in [thread.name for thread in threading.enumerate()]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
