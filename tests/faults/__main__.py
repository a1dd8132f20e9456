"""The nightly form: `python -m tests.faults --frames 200000` prints what it saw."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.harness import PHASES, run, without_guard
from tests.faults.kinds import ALL
from tests.faults.process import OUTSIDE, Run, inflict, running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument(
        "--hold", type=float, default=3.0, help="seconds of each fault of a process"
    )
    parser.add_argument(
        "--looks", action="store_true", help="a moving part of the frame, a name tag, every light"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(ALL, Path(folder), frames=options.frames, looks=options.looks)
    took = time.monotonic() - started
    with tempfile.TemporaryDirectory() as folder, without_guard():
        control = run(ALL, Path(folder), frames=1, looks=options.looks)
    print(f"{len(ALL)} faults, 6 backgrounds, {len(PHASES)} phases, {took:.0f} s")
    print(f"{tally.frames} frames, {tally.composites} composites, {tally.faults} faults injected")
    print(f"canary patches shown: {tally.canaries}")
    print(f"card later than 2 frames: {len(tally.slow_cards)}")
    print(f"not live again within 6 frames: {len(tally.slow_returns)}")
    print(f"with the guard taken out: {control.canaries} canary patches in {control.frames} frames")
    print(table := of_a_process(options.hold))
    bad = (
        "BROKEN" in table
        or tally.canaries
        or tally.slow_cards
        or tally.slow_returns
        or not control.canaries
    )
    return 1 if bad else 0


def of_a_process(hold: float) -> str:
    """Let everything happen to a running daemon for `hold` seconds each; a table of it."""
    done = Run()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            Path(folder), background={"use": "slate"}, matte={"quality": "balanced"}
        ) as process,
    ):
        for name, fault in OUTSIDE.items():
            done.outcomes.append(inflict(process, name, fault, hold))
    bad = [o.name for o in done.outcomes if o.patches or o.stray or not o.back_after < 10]
    return done.table() + (f"\nBROKEN: {', '.join(bad)}" if bad else "")


if __name__ == "__main__":
    sys.exit(main())
