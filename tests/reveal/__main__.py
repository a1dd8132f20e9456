"""Random sequences of deeds at every door: `python -m tests.reveal --sequences 20000`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.reveal.deeds import DEEDS, Seen, play
from tests.reveal.house import house


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reveal")
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice, seen, began = random.Random(options.seed), Seen(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, house(Path(folder)) as (home, client):
        while seen.sequences < options.sequences and not seen.wrong:
            names = dice.choices(list(DEEDS), k=dice.randint(2, 10))
            play(home, client, names, dice.randrange(2**32), seen)
            if seen.sequences % 500 == 0:
                print(f"{seen.sequences} after {time.monotonic() - began:.0f} s", flush=True)
    print(f"{seen.sequences} sequences of {len(DEEDS)} deeds, {time.monotonic() - began:.0f} s")
    print(
        f"{seen.deeds} deeds, {seen.frames} frames, {seen.revealed} that the user asked to reveal"
    )
    print("\n".join(seen.wrong) or "the room never shown without the last word being to show it")
    return 1 if seen.wrong or not seen.revealed else 0


if __name__ == "__main__":
    sys.exit(main())
