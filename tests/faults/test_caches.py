"""A daemon that was killed, and whose caches were damaged meanwhile, is live again all the same."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.faults.process import Process
from tests.segmentation.test_store import DAMAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's signals")
WITHIN = 30.0  # seconds of processor from the start to the first picture of the person


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_daemon_with_damaged_caches_is_live_within_half_a_minute(
    tmp_path, monkeypatch, rounds
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    chance, spent = random.Random(rounds), []
    process = Process(tmp_path, background={"use": "slate"}, matte={"quality": "balanced"})
    try:
        process.start()
        for _ in range(rounds):
            os.kill(process.pid, signal.SIGKILL)
            process.child.wait()
            harmed = _damage(chance, cache)

            process.start()

            told = process.client.status()
            spent.append(_processor(process.pid))
            assert spent[-1] < WITHIN, (harmed, spent, process.restarts)
            assert any("are made anew" in problem for problem in told["problems"]), harmed
            assert told["engine"]["problem"] is None
            assert told["state"] == "live"
        assert sum(seen.patches for seen in process.meeting.seen) == 0
        assert process.stop() == 0
    finally:
        process.close()
    print(f"live after {sorted(round(took, 1) for took in process.restarts)} s")
    print(f"of processor {sorted(round(took, 1) for took in spent)} s")


def _processor(pid: int) -> float:
    """Seconds of processor that a process took so far: what a shared machine cannot stretch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _damage(chance: random.Random, cache: Path) -> list[tuple[str, str]]:
    """Damage a measurement, which every start reads, and up to two files; say which."""
    read = [*cache.rglob("precision.json")]
    files = [*cache.rglob("*.blob"), *read]
    harmed = []
    for path in {chance.choice(sorted(read)), *chance.sample(sorted(files), chance.randint(0, 2))}:
        name = chance.choice(list(DAMAGES))
        DAMAGES[name](path)
        harmed.append((path.name, name))
    return harmed
