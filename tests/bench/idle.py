"""Seconds to the first composite, and what the program takes while nobody needs it.

python -m tests.bench.idle [--runs N] [--wait SECONDS]

Starts the daemon in a home of its own, on the demo person, first with empty caches, then with those
of the run before. The last run is then paused for `--wait` seconds, measured, and resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.first_click import SECTIONS, home
from vcam.client import Client
from vcam.errors import VcamError

PATIENCE = 120.0
STEP = 0.02  # seconds between looks
WATCHED = 20.0  # seconds of idling whose CPU time counts
KINDS = ("Rss", "Pss", "Private_Dirty")


@contextlib.contextmanager
def started(environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A daemon that shows composites, and the seconds that it took from the command."""
    began = time.monotonic()
    command = [sys.executable, "-m", "vcam", "start", "--foreground", "--source", "demo"]
    film = Path(environ["HOME"]) / "film.mkv"
    daemon = subprocess.Popen([*command, "--sink", f"file:{film}"], env=environ,
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        until_live(daemon)
        yield daemon, time.monotonic() - began
    finally:
        daemon.terminate()
        daemon.wait(30)
        film.unlink(missing_ok=True)


def until_live(daemon: subprocess.Popen[bytes]) -> None:
    """Wait until a composite is shown."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and daemon.poll() is None:
        with contextlib.suppress(VcamError, OSError):
            if Client.connect().status()["state"] == "live":
                return
        time.sleep(STEP)
    raise AssertionError("the daemon shows nobody")


def memory(pid: int) -> dict[str, float]:
    """Megabytes (10^6 bytes): resident, its share of what several programs map, its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {kind: found[kind] for kind in KINDS}


def cpu_share(pid: int, seconds: float) -> float:
    """Percent of a core that a process takes over so many seconds."""
    before = _cpu(pid)
    time.sleep(seconds)
    return 100 * (_cpu(pid) - before) / seconds


def _cpu(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3, help="with warm caches")
    parser.add_argument("--wait", type=float, default=75.0, help="seconds of pause")
    options = parser.parse_args()
    with home() as environ:
        os.environ.update({name: environ[name] for name in SECTIONS})  # where the client looks
        seconds = []
        for number in range(options.runs + 1):
            with started(environ) as (daemon, took):
                seconds.append(took)
                if number < options.runs:
                    time.sleep(5.0)  # until the trial of precisions is kept
                    continue
                _tell("live", memory(daemon.pid))
                Client.connect().pause()
                time.sleep(options.wait)
                share = cpu_share(daemon.pid, WATCHED)
                _tell(f"paused for {options.wait:g} s, {share:.1f} % of a core",
                      memory(daemon.pid))  # fmt: skip
                began = time.monotonic()
                Client.connect().resume()
                until_live(daemon)
                back = time.monotonic() - began
    cold, warm = seconds[0], seconds[1:]
    print(
        f"first composite: {cold:.2f} s with empty caches, {statistics.median(warm):.2f} s with"
        f" warm ones (median of {len(warm)}, {min(warm):.2f} at best); back from the pause after"
        f" {back:.2f} s; load {os.getloadavg()[0]:.1f}"
    )


def _tell(what: str, found: dict[str, float]) -> None:
    figures = ", ".join(f"{kind} {megabytes:.0f}" for kind, megabytes in found.items())
    print(f"{what}: {figures} MB", flush=True)


if __name__ == "__main__":
    main()
