"""`python -m tests.soak --minutes 30`: a daemon under random faults, watchers, orders and signals.

Its camera is a clip of somebody in a room of recognisable texture; every picture it shows is
searched for that room. Memory is sampled throughout, and its slope fitted for each quality.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.process import (
    OUTSIDE,
    ROOT,
    Outcome,
    Process,
    inflict,
    running,
    texture,
)
from vcam.errors import VcamError
from vcam.settings.file import SAVE_AFTER

QUALITIES = ("low", "balanced", "high")
WARM_UP = 0.3  # share of a phase before its memory counts, and until each deed was done twice
STEEP = 60.0  # MB an hour: a leak, where the fit is sure of that much
SURE = 5.0  # minutes a phase must last for its slope to say anything
SWING = 60.0  # MB that the median of a round may move within a phase, with one network
FEW = 5  # samples that a round needs, or its median may be of a moment while a network is opened
MOST = 700.0  # MB at any moment: while one network is opened the one before goes on
GAP = 1.0  # seconds between pictures while nothing keeps them from coming
RETURN = 2.0  # seconds from the end of a fault to the person


@dataclass
class Phase:
    """One quality, one process."""

    quality: str
    at: list[float] = field(default_factory=list)  # minutes
    rss: list[float] = field(default_factory=list)  # MB
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)  # each does every deed once, in any order
    networks: list[str] = field(default_factory=list)  # in use; "high" takes what is fast enough

    @property
    def warm(self) -> slice:
        """What is sampled once everything was used, twice if there was the time."""
        early, twice = int(len(self.at) * WARM_UP), sum(r < 2 for r in self.rounds)
        return slice(max(early, twice) if twice < len(self.at) / 2 else early, None)

    def settled(self) -> dict[str, list[float]]:
        """For each network the median of every round after the warm-up, in MB."""
        rounds = np.array(self.rounds[self.warm])
        networks, rss = np.array(self.networks[self.warm]), np.array(self.rss[self.warm])
        return {
            str(name): [
                float(np.median(one))
                for r in np.unique(rounds)
                if len(one := rss[(rounds == r) & (networks == name)]) >= FEW
            ]
            for name in np.unique(networks)
        }

    def swing(self) -> float:
        """MB by which settled memory moves, at most."""
        return max((max(m) - min(m) for m in self.settled().values() if m), default=0.0)

    def slope(self) -> tuple[float, float]:
        """MB an hour and its standard error, by least squares over rounds after the warm-up.

        A round is one point, its median: within one, memory goes up and down with what is done,
        and samples that follow one another are not independent. How much one network takes more
        than another is taken off first.
        """
        rounds, at, rss = np.array(self.rounds), np.array(self.at) / 60, np.array(self.rss)
        networks = np.array(self.networks)
        for name in np.unique(networks):
            rss[networks == name] -= np.median(rss[networks == name])
        counted = set(self.rounds[self.warm]) - set(self.rounds[: self.warm.start])
        whole = [rounds == r for r in sorted(counted)[:-1]]  # the last one was cut short
        if len(whole) < 4:
            return 0.0, float("inf")
        t = np.array([at[one].mean() for one in whole])
        m = np.array([np.median(rss[one]) for one in whole])
        t = t - t.mean()
        slope = float((t * m).sum() / (t * t).sum())
        left = m - m.mean() - slope * t
        return slope, float(np.sqrt((left**2).sum() / (len(t) - 2) / (t * t).sum()))


@dataclass
class Log:
    """What was done and what was seen."""

    done: collections.Counter[str] = field(default_factory=collections.Counter)
    states: collections.Counter[str] = field(default_factory=collections.Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    unanswered: int = 0
    free: list[tuple[float, float]] = field(default_factory=list)  # when pictures had to come
    lost: list[str] = field(default_factory=list)  # after what the person did not come back


def sample(process: Process, phase: Phase, log: Log, began: float, turn: int) -> None:
    try:
        status = process.client.status()
    except VcamError:
        log.unanswered += 1
        return
    log.states[str(status["state"])] += 1
    phase.at.append((time.monotonic() - began) / 60)
    phase.rss.append(float(status["rss_mb"]))
    phase.rounds.append(turn)
    phase.networks.append(str(status["engine"].get("model")))
    phase.descriptors.append(len(os.listdir(f"/proc/{process.pid}/fd")))
    phase.threads.append(len(os.listdir(f"/proc/{process.pid}/task")))


def say(process: Process, *words: object) -> None:
    """One command of the command line."""
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(process.runtime), "HOME": str(process.home)}
    subprocess.run(
        [sys.executable, "-m", "vcam", *map(str, words)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        timeout=90,
        check=False,
    )


def deeds(process: Process, rng: random.Random) -> dict[str, Callable[[], object]]:
    """What people and programs do that is no fault."""
    picture, bad = process.folder / "picture.png", process.folder / "bad.png"
    if not picture.exists():
        Image.new("RGB", (300, 200), (90, 30, 60)).save(picture)
        bad.write_bytes(rng.randbytes(500))

    def consumers() -> None:
        for names in (["Meeting", "Browser"], ["Browser"], [], ["Meeting"]):
            process.order(watchers=names)
            time.sleep(rng.uniform(0.2, 1))

    def paused(how: str) -> None:
        say(process, how)
        time.sleep(0.5)
        say(process, "resume")

    def edited(lines: str) -> None:
        time.sleep(3 * SAVE_AFTER)  # or the editor brings back what was changed a moment ago
        kept = process.config.read_text()
        process.config.write_text(f"{kept}\n{lines}\n")
        time.sleep(0.6)
        process.config.write_text(kept)

    return {
        "background preset": lambda: say(process, "background", rng.choice(["dusk", "paper"])),
        "background picture": lambda: process.change(background={"use": str(picture)}),
        "background blurred": lambda: process.change(background={"use": "blur:80"}),
        "background refused": lambda: process.change(background={"use": str(bad)}),
        "consumers come and go": consumers,
        "pause, resume": lambda: paused("pause"),
        "freeze, resume": lambda: paused("freeze"),
        "bad settings": lambda: edited("[nonsense]\nx = 1"),
        "hang-up": lambda: os.kill(process.pid, signal.SIGHUP),
        "quiet": lambda: time.sleep(2),
    }


def torments(process: Process, rng: random.Random) -> Iterator[tuple[int, str]]:
    """What to do next, for ever: each thing once in a round, in an order of its own."""
    faults = [name for name in OUTSIDE if name not in ("killed", "out of memory")]
    names = [*faults, *deeds(process, rng)]
    for turn in itertools.count():
        for name in rng.sample(names, len(names)):
            yield turn, name


def torment(process: Process, name: str, rng: random.Random, log: Log) -> None:
    """Do one thing to the daemon, and then have it show the person before a plain wall."""
    harmless = deeds(process, rng)
    log.done[name] += 1
    if name not in harmless:
        outcome = inflict(process, name, OUTSIDE[name], rng.uniform(0.3, 2))
        log.outcomes.append(outcome)
        return
    began = time.monotonic()
    harmless[name]()
    process.change(background={"use": "slate"})
    ended = time.monotonic()
    log.free.append((began, ended))
    if process.meeting.wait_live(ended, 5) > RETURN * 2:
        log.lost.append(name)


def end_phase(process: Process, rng: random.Random, log: Log) -> None:
    """What takes the process down, or may: short of memory, then killed."""
    for name in ("out of memory", "killed"):
        log.done[name] += 1
        log.outcomes.append(inflict(process, name, OUTSIDE[name], rng.uniform(0.3, 2)))


def soak(minutes: float, seed: int) -> int:
    """Run, print the table, return 0 if every promise was kept."""
    rng, log = random.Random(seed), Log()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name), background={"use": "slate"}, matte={"quality": "low"}) as process,
    ):
        for quality, share in zip(QUALITIES, (1 / 3, 2 / 3, 1), strict=True):
            process.change(matte={"quality": quality})
            phase = Phase(quality)
            log.phases.append(phase)
            for turn, deed in torments(process, rng):
                if time.monotonic() - began >= minutes * 60 * share:
                    break
                torment(process, deed, rng, log)
                sample(process, phase, log, began, turn)
            end_phase(process, rng, log)
        last = process.client.status()["state"]
        control = process.meeting.detector(texture())
        code = process.stop()
    return report(process, log, minutes, str(last), control, code)


def longest_gap(process: Process, log: Log) -> float:
    """The longest time without a picture while nothing kept them from coming."""
    times = [s.at for s in process.meeting.seen]
    gaps = [0.0]
    for a, b in itertools.pairwise(times):
        if b - a > 0.3 and any(begin <= a and b <= end for begin, end in log.free):
            gaps.append(b - a)
    return max(gaps)


def report(
    process: Process, log: Log, minutes: float, last: str, control: int, code: int | None
) -> int:
    """Print what happened; 0 if every promise was kept."""
    seen = process.meeting.seen
    bad = sum(s.patches > 0 for s in seen)
    by_name = collections.defaultdict[str, list[Outcome]](list)
    for outcome in log.outcomes:
        by_name[outcome.name].append(outcome)
    late = [o for o in log.outcomes if not o.back_after <= RETURN and o.name != "killed"]
    late = [o for o in late if not o.died]
    stray = sum(o.stray for o in log.outcomes)
    gap = longest_gap(process, log)
    print(f"{minutes:g} minutes, {sum(log.done.values())} deeds")
    print(f"{'deed':<24}times  card after  back after (worst)")
    for name, count in sorted(log.done.items()):
        print(f"  {name:<22}{count:>5}{_worst(by_name.get(name, []))}")
    print(f"pictures taken        {len(seen)}, of them cards: {sum(s.card for s in seen)}")
    print(f"with a patch of room  {bad}; detector on the room itself: {control} patches")
    print(f"the person in a fault {stray} pictures after the card")
    print(f"longest gap           {gap * 1e3:.0f} ms while nothing was in the way")
    print(f"start after SIGKILL   {', '.join(f'{s:.1f} s' for s in process.restarts[1:])}")
    steep = flat = True
    for phase in log.phases:
        rss = phase.rss[phase.warm] or [0.0]
        slope, error = phase.slope()
        leaks = minutes / 3 >= SURE and slope - 2 * error > STEEP
        steep = steep and not leaks and phase.swing() < SWING and max(rss) < MOST
        descriptors, threads = phase.descriptors[phase.warm], phase.threads[phase.warm]
        if descriptors:
            flat = flat and descriptors[-1] <= min(descriptors) + 12
            flat = flat and threads[-1] <= min(threads) + 8
        print(
            f"memory, {phase.quality:<14}{np.median(rss):.0f} MB "
            f"({min(rss):.0f} to {max(rss):.0f}), {slope:+.0f} ± {error:.0f} MB an hour, "
            f"rounds within {phase.swing():.0f} MB, "
            f"descriptors {min(descriptors, default=0)} to {max(descriptors, default=0)}, "
            f"threads {min(threads, default=0)} to {max(threads, default=0)}"
        )
    print(f"states asked          {dict(log.states)}; unanswered {log.unanswered}; last {last}")
    for outcome in late:
        print(f"  late: {outcome}")
    for outcome in log.outcomes:
        if outcome.stray:
            print(f"  seen while the card was due: {outcome}")
    for name in log.lost:
        print(f"  not back after {name}")
    kept = {
        "no patch of the room": bad == 0 and control > 300,
        "no picture of the person while the card is due": stray == 0,
        "back within 2 s": not late and not log.lost,
        "pictures keep coming": gap < GAP and len(seen) > minutes * 60 * 5,
        "memory is flat": steep,
        "descriptors and threads are flat": flat,
        "every question answered": log.unanswered == 0 and last == "live" and code == 0,
    }
    for promise, held in kept.items():
        print(f"{'kept  ' if held else 'BROKEN'}  {promise}")
    return 0 if all(kept.values()) else 1


def _worst(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return ""
    cards = [o.card_after for o in outcomes if o.card_after == o.card_after]
    back = max(o.back_after for o in outcomes)
    card = f"{max(cards) * 1e3:.0f} ms" if cards else "-"
    died = sum(o.died for o in outcomes)
    return f"{card:>12}{back * 1e3:>9.0f} ms" + (f", died {died} times" if died else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return soak(options.minutes, options.seed)


if __name__ == "__main__":
    sys.exit(main())
