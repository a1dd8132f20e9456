"""The nightly form: `python -m tests.faults --frames 200000` prints what it saw."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.harness import PHASES, run, without_guard
from tests.faults.kinds import ALL


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--frames", type=int, default=200_000)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(ALL, Path(folder), frames=options.frames)
    took = time.monotonic() - started
    with tempfile.TemporaryDirectory() as folder, without_guard():
        control = run(ALL, Path(folder), frames=1)
    print(f"{len(ALL)} faults, 6 backgrounds, {len(PHASES)} phases, {took:.0f} s")
    print(f"{tally.frames} frames, {tally.composites} composites, {tally.faults} faults injected")
    print(f"canary patches shown: {tally.canaries}")
    print(f"card later than 2 frames: {len(tally.slow_cards)}")
    print(f"not live again within 6 frames: {len(tally.slow_returns)}")
    print(f"with the guard taken out: {control.canaries} canary patches in {control.frames} frames")
    bad = tally.canaries or tally.slow_cards or tally.slow_returns or not control.canaries
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
