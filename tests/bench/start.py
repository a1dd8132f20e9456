"""Seconds from `vcam start` to the first composite, and what is taken while live and while paused.

python -m tests.bench.start [--runs N] [--beside FOLDER] [--pause SECONDS]

Each run starts a daemon in a home of its own, with the demo as the camera and a file as the sink,
and the caches of the run before it; the first run fills them and does not count. The last one is
paused, for more than a minute until the network is closed as well, and resumed. `--beside` is
another checkout, whose runs come in between. Processor time says more than the clock where other
programs run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.first_click import home
from tests.house import ROOT

PATIENCE = 180.0
SETTLED = 5.0  # seconds after which memory is read
TICK = os.sysconf("SC_CLK_TCK")


class Door(http.client.HTTPConnection):
    """The daemon's HTTP API over its socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def ask(environ: Mapping[str, str], method: str, what: str) -> dict[str, Any]:
    """Return the daemon's answer; nothing while there is none."""
    found = next(Path(environ["XDG_RUNTIME_DIR"]).rglob("control.sock"), None)
    if found is None:
        return {}
    door = Door(found)
    try:
        door.request(method, what, body="{}", headers={"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(door.getresponse().read())
        return answer
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        door.close()


def processor(pid: int) -> float:
    """Seconds of processor that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> dict[str, float]:
    """Megabytes (10^6) that a process holds in memory, and of those what it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"rss": sizes["Rss"] * 1.024e-3, "own": own * 1.024e-3}


def until_live(environ: Mapping[str, str], child: subprocess.Popen[bytes]) -> None:
    """Wait for a composite that is shown now."""
    end = time.monotonic() + PATIENCE
    while ask(environ, "GET", "/status").get("state") != "live":
        assert child.poll() is None, "the daemon ended"
        assert time.monotonic() < end, "there was no composite"
        time.sleep(0.05)


def run(checkout: Path, environ: dict[str, str], pause: float) -> dict[str, float]:
    """Start a daemon of a checkout, and stop it; seconds and, with a pause, megabytes."""
    environ = environ | {"PYTHONPATH": str(checkout), "VCAM_DAEMON": "1"}
    sink = Path(environ["SPOT"]) / "out.mp4"
    words = ["-m", "vcam", "start", "--foreground", "--source", "demo", "--sink", f"file:{sink}"]
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *words], env=environ, cwd=checkout, stderr=subprocess.DEVNULL
    )
    try:
        until_live(environ, child)
        found = {"seconds": time.monotonic() - began, "processor": processor(child.pid)}
        if pause:
            time.sleep(SETTLED)
            found |= {f"live {k}": v for k, v in resident(child.pid).items()}
            ask(environ, "POST", "/pause")
            time.sleep(SETTLED)
            before, since = processor(child.pid), time.monotonic()
            time.sleep(pause)
            found["paused % of a core"] = (
                100 * (processor(child.pid) - before) / (time.monotonic() - since)
            )
            found |= {f"paused {k}": v for k, v in resident(child.pid).items()}
            since = time.monotonic()
            ask(environ, "POST", "/resume")
            until_live(environ, child)
            found["seconds back"] = time.monotonic() - since
        return found
    finally:
        child.terminate()
        child.wait()
        sink.unlink(missing_ok=True)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--pause", type=float, default=75.0)
    options = parser.parse_args()
    places = [ROOT, *([options.beside.resolve()] if options.beside else [])]
    with contextlib.ExitStack() as opened:
        homes = {place: opened.enter_context(home()) for place in places}
        taken: dict[Path, list[dict[str, float]]] = {place: [] for place in places}
        for number in range(options.runs + 1):
            for place, runs in taken.items():
                found = run(place, homes[place], options.pause * (number == options.runs))
                print(f"{place}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
                runs += [found] * (number > 0)
    for place, runs in taken.items():
        middle = {k: statistics.median(r[k] for r in runs if k in r) for k in runs[-1]}
        print(f"median of {place}: " + ", ".join(f"{k} {v:.2f}" for k, v in middle.items()))


if __name__ == "__main__":
    main()
