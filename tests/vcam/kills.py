"""Kills the real program at random moments and looks at every file afterwards.

`python -m tests.vcam.kills --count 200` prints what was killed how, and what was found. A loss of
power is a kill after which the last 4 KiB that were not synced are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.vcam.clips import make_sounding_clip, playable

LOST = 4096  # bytes a loss of power takes
WAYS = ("SIGKILL", "SIGTERM", "SIGHUP", "power")
FRAMES = 240
OLD = b"what the user had"

# Runs the command line of the program and takes down how much of each file was synced.
TAP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs this may ignore it
journal = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
sync = os.fsync
def fsync(file):
    sync(file)
    facts = os.fstat(file)
    os.write(journal, f"{facts.st_ino} {facts.st_size}\\n".encode())
os.fsync = fsync
"""
PROGRAM = TAP + "from vcam.cli import main\nsys.exit(main())\n"
WRITER = (
    TAP
    + """
from pathlib import Path
from vcam.settings import config
from vcam.compose import library
from vcam.settings.live import Settings
settings = Settings(config.load(environ={}))
with settings.kept_in(Path(sys.argv[1]), environ={}):
    print("begun", flush=True)
    for number in range(1_000_000):
        settings.change({"background": {"use": f"#{number % 1000:06d}", "blur": number % 100}})
        settings.flush()
        library.keep(f"look {number % 5}", settings.current)
"""
)


@dataclass
class Found:
    """Everything seen: how many were killed, what was left, and what should not be."""

    killed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, good: bool, detail: object = "") -> None:
        self.left[what] += 1
        if not good:
            self.wrong.append(f"{what}: {detail}")


class Program:
    """One child process, its journal of synced files, and its end."""

    def __init__(self, code: str, words: list[object], folder: Path) -> None:
        self.journal = folder / "synced"  # goes on from one child to the next: files stay synced
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("VCAM_", "XDG_"))}
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        environ = {
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_CACHE_HOME": str(cache),
            "VCAM_MATTE_QUALITY": "low",
            "LD_BIND_NOW": "1",  # a signal's small stack is no place to resolve symbols on
        }
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"):
            keep.pop(name, None)
        self.child = subprocess.Popen(
            [sys.executable, "-c", code, str(self.journal), *map(str, words)],
            env={**keep, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lives_for(self, seconds: float) -> bool:
        """Let it go on for `seconds`; False if it ended by itself before."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.child.poll() is None:
            time.sleep(0.01)
        return self.child.poll() is None

    def end(self, way: str, *, hang_up_ends: bool) -> int:
        """End it in one of `WAYS`; 0 and less is its status."""
        name = "SIGKILL" if way == "power" else way
        self.child.send_signal(getattr(signal, name))
        if way == "SIGHUP" and not hang_up_ends:
            time.sleep(random.uniform(0, 0.5))
            self.child.kill()
        try:
            self.said = self.child.communicate(timeout=120)[0]
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.said = f"Traceback: {name} did not end it; {self.child.communicate()[0]}"
        return self.child.returncode

    def lose_power(self, files: list[Path]) -> None:
        """Cut from each file what the disk had not been asked to keep, 4 KiB at most."""
        synced: dict[int, int] = {}
        if self.journal.exists():
            for line in self.journal.read_text().splitlines():
                inode, size = map(int, line.split())
                synced[inode] = size
        for path in files:
            facts = path.stat()
            kept = max(synced.get(facts.st_ino, 0), facts.st_size - LOST)
            if kept < facts.st_size:
                os.truncate(path, kept)


def kill_renders(folder: Path, ways: list[str], found: Found, chance: random.Random) -> None:
    """Kill `vcam render` over and over; half of the time there is an old file to replace."""
    source = make_sounding_clip(folder / "source.mp4", FRAMES / 30)
    before = source.read_bytes()
    place = folder / "place"
    place.mkdir()
    out, part = place / "out.mp4", place / "out.part.mp4"
    load = work = 0.0  # seconds until there is a part, and from then to the end
    for number, way in enumerate(["none", *ways]):
        for path in place.iterdir():
            path.unlink()
        if number % 2:
            out.write_bytes(OLD)
        words = ["render", source, "-o", out, "--background", "loft", "--force"]
        program, began = Program(PROGRAM, words, folder), time.monotonic()
        early = chance.random() < 0.25 and way != "none"
        while not early and program.child.poll() is None and not part.exists():
            time.sleep(0.01)
        if not early:
            load = time.monotonic() - began
        if way == "none":  # to see how long one takes
            program.child.communicate(timeout=300)
            work = time.monotonic() - began - load
            found.note("render whole", playable(out) == FRAMES, program.child.returncode)
            continue
        if not program.lives_for(chance.uniform(0, load if early else 0.9 * work)):
            work = time.monotonic() - began - load  # the machine got faster
        status = program.end(way, hang_up_ends=True)
        found.killed[f"render {way}"] += 1
        if way == "power":
            done = out.exists() and out.read_bytes() != OLD
            program.lose_power([p for p in place.iterdir() if p != out or done])
        if source.read_bytes() != before:
            found.wrong.append("render: the source changed")
        if "Traceback" in program.said or status == -signal.SIGSEGV:
            found.wrong.append(f"render {way}: {status} {program.said[-500:]}")
        if not out.exists():
            found.note("render nothing named", number % 2 == 0, "the old file is gone")
        elif out.read_bytes() == OLD:
            found.note("render old", number % 2 == 1)
        else:
            found.note("render whole", playable(out) == FRAMES, playable(out))
        for path in place.iterdir():
            if path != out:
                good = path.name == "out.part.mp4" and playable(path) > 0
                found.note("render part", good, f"{way} {path.name} {path.stat().st_size}")


def kill_recordings(folder: Path, ways: list[str], found: Found, chance: random.Random) -> None:
    """Kill a daemon that records, again and again; what it recorded before never changes."""
    place, earlier = folder / "recordings", dict[Path, bytes]()
    place.mkdir()
    sink = f"file:{place / 'rec.mp4'}"
    for way in ways:
        words = ["start", "--foreground", "--source", "demo", "--sink", sink]
        program, began = Program(PROGRAM, words, folder), time.monotonic()
        early = chance.random() < 0.2
        while not early and set(place.iterdir()) <= set(earlier) and time.monotonic() - began < 60:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 4.0))
        status = program.end(way, hang_up_ends=False)
        found.killed[f"recording {way}"] += 1
        new = [path for path in place.iterdir() if path not in earlier]
        if way == "power":
            program.lose_power(new)
        if "Traceback" in program.said or status == -signal.SIGSEGV:
            found.wrong.append(f"recording {way}: {status} {program.said[-500:]}")
        for path, content in earlier.items():
            if path.read_bytes() != content:
                found.wrong.append(f"recording {way}: {path.name} changed")
        if not new:
            found.note("recording not begun", True)
        for path in new:
            good = path.name.startswith("rec") and playable(path) > 0
            good = good and path.stat().st_mode & 0o777 == 0o600
            found.note("recording plays", good, f"{way} {path.name} {path.stat().st_size}")
            earlier[path] = path.read_bytes()


def kill_writers(folder: Path, ways: list[str], found: Found, chance: random.Random) -> None:
    """Kill a program that changes settings and keeps looks as fast as it can."""
    settings = folder / "home" / ".config" / "vcam" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("# mine\n[camera]\nmirror = true\n")
    facts = settings.stat()
    (folder / "synced").write_text(f"{facts.st_ino} {facts.st_size}\n")
    stored = folder / "home" / ".local" / "share" / "vcam" / "looks.json"
    for way in ways:
        program = Program(WRITER, [settings], folder)
        assert program.child.stdout is not None
        assert program.child.stdout.readline() == "begun\n"
        time.sleep(chance.uniform(0, 0.5))
        program.end("SIGKILL" if way == "power" else way, hang_up_ends=True)
        found.killed[f"settings {way}"] += 1
        files = [path for path in (settings, stored) if path.exists()]
        if way == "power":
            program.lose_power(files)
        if "Traceback" in program.said:
            found.wrong.append(f"settings {way}: {program.said[-500:]}")
        try:
            text = settings.read_text()
            found.note("settings whole", "# mine" in text and tomllib.loads(text)["camera"])
            looks = json.loads(stored.read_text()) if stored.exists() else {"look 0": {}}
            found.note("looks whole", set(looks) <= {f"look {i}" for i in range(5)} and bool(looks))
        except (ValueError, KeyError) as error:
            found.wrong.append(f"settings {way}: {error!r}")
        for path in (*settings.parent.iterdir(), *stored.parent.glob("*")):
            if path not in files:
                # The last step of a replacement has a moment with two names; the next one sweeps.
                found.note("settings aside", path.name.endswith(".part"), path.name)


def run(count: int, seed: int, folder: Path) -> Found:
    """Kill `count` times: two fifths renders, three tenths each recordings and settings."""
    chance, found = random.Random(seed), Found()
    ways = [WAYS[number % len(WAYS)] for number in range(count)]
    kinds = (kill_renders, kill_recordings, kill_writers)
    shares = (count * 2 // 5, count * 3 // 10, count - count * 2 // 5 - count * 3 // 10)
    for kind, share in zip(kinds, shares, strict=True):
        place = folder / kind.__name__
        place.mkdir()
        (place / "home").mkdir()
        kind(place, ways[:share], found, chance)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.count, options.seed, Path(folder))
    for title, counted in (("killed", found.killed), ("found", found.left)):
        for what, number in sorted(counted.items()):
            print(f"{title:<8}{what:<28}{number:>5}")
    print("\n".join(f"WRONG   {line}" for line in found.wrong) or "nothing is wrong")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
