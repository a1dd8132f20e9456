"""`python -m tests.soak --minutes 30`: the daemon under random orders, signals and bad files.

A clip of recognisable texture is the room; the output file is searched for it frame by frame.
Memory, descriptors and threads are sampled throughout and must stay flat.
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
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image

PERSON = Path(__file__).resolve().parents[2] / "vcam" / "assets" / "portrait.jpg"
SIZE = (640, 360)
PATCH = 16


@dataclass
class Log:
    """What was done and what was seen."""

    done: dict[str, int] = field(default_factory=dict)
    rss: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0


def canary_room(path: Path, seconds: int = 8) -> np.ndarray:
    """Write a clip: the portrait's person pasted on a texture; return the texture (H, W) luma."""
    w, h = SIZE
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 2, (h // 4, w // 4)) * 130 + 60, np.ones((4, 4)))
    texture = texture.astype(np.uint8)
    portrait = np.asarray(
        Image.open(PERSON).convert("RGB").crop((120, 0, 340, 300)).resize((264, h))
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        stream.options = {"crf": "12"}
        for i in range(seconds * 25):
            image = np.repeat(texture[..., None], 3, axis=2)
            left = 190 + round(12 * np.sin(i / 12))
            image[:, left : left + portrait.shape[1]] = portrait
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return texture


def canaries(out: Path, texture: np.ndarray) -> tuple[int, int]:
    """Count frames of `out`, and those that hold a patch of the room away from the person."""
    w, h = SIZE
    columns = [*range(0, 160, PATCH), *range(496, w - PATCH, PATCH)]
    places = [(y, x) for y in range(0, h - PATCH, PATCH) for x in columns]
    wanted = np.stack([texture[y : y + PATCH, x : x + PATCH] for y, x in places]).astype(np.float32)
    wanted -= wanted.mean((1, 2), keepdims=True)
    total = bad = 0
    with av.open(str(out)) as container:
        for picture in container.decode(video=0):
            luma = picture.to_ndarray(format="gray").astype(np.float32)
            got = np.stack([luma[y : y + PATCH, x : x + PATCH] for y, x in places])
            got -= got.mean((1, 2), keepdims=True)
            power = np.sqrt((got**2).sum((1, 2)) * (wanted**2).sum((1, 2)))
            alike = (got * wanted).sum((1, 2)) / np.maximum(power, 1)
            total += 1
            bad += bool(np.any((alike > 0.7) & (got.std((1, 2)) > 6)))
    return total, bad


class Daemon:
    """The daemon under test, in a home of its own."""

    def __init__(self, folder: Path, clip: Path, out: Path) -> None:
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "VCAM_"))},
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_CACHE_HOME": str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()),
        }
        (folder / "run").mkdir(mode=0o700)
        (folder / "soak.toml").write_text(
            f"[output]\nwidth = {SIZE[0]}\nheight = {SIZE[1]}\nfps = 25\n"
        )
        done = self.say(
            "start",
            "--source",
            clip,
            "--sink",
            f"file:{out}",
            "--background",
            "slate",
            "--config",
            folder / "soak.toml",
        )
        assert done.returncode == 0, done.stderr
        self.pid = int(self.status()["pid"])

    def say(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vcam", *map(str, words)],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.say("status", "--json").stdout or "{}"))

    def sample(self, log: Log) -> None:
        status = self.status()
        if not status:
            log.unanswered += 1
            return
        state = str(status["state"])
        log.states[state] = log.states.get(state, 0) + 1
        log.rss.append(float(status["rss_mb"]))  # type: ignore[arg-type]
        log.descriptors.append(len(os.listdir(f"/proc/{self.pid}/fd")))
        log.threads.append(len(os.listdir(f"/proc/{self.pid}/task")))


def torment(daemon: Daemon, rng: random.Random, folder: Path, log: Log) -> None:
    """Do one random thing to the daemon."""
    bad = folder / "bad.png"
    bad.write_bytes(rng.randbytes(500))
    picture = folder / "picture.png"
    if not picture.exists():
        Image.new("RGB", (300, 200), (90, 30, 60)).save(picture)
    settings = folder / "soak.toml"

    def edit(lines: str) -> None:
        settings.write_text(f"[output]\nwidth = {SIZE[0]}\nheight = {SIZE[1]}\nfps = 25\n{lines}\n")

    def stop_and_go() -> None:
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.3, 2))
        os.kill(daemon.pid, signal.SIGCONT)

    def storm() -> None:
        for _ in range(8):
            daemon.say("background", rng.choice(["studio", "#123456", "loft", "blur:80"]))
        daemon.say("background", "slate")

    deeds = {
        "background preset": lambda: daemon.say(
            "background", rng.choice(["dusk", "paper", "slate"])
        ),
        "background picture": lambda: daemon.say("background", picture),
        "background refused": lambda: daemon.say("background", bad),
        "pause, resume": lambda: (daemon.say("pause"), time.sleep(0.5), daemon.say("resume")),
        "freeze, resume": lambda: (daemon.say("freeze"), time.sleep(0.5), daemon.say("resume")),
        "stopped process": stop_and_go,
        "settings storm": storm,
        "quality": lambda: edit(f'[matte]\nquality = "{rng.choice(["low", "balanced", "high"])}"'),
        "bad settings": lambda: edit('[matte]\nquality = "best"'),
        "model missing": lambda: edit('[matte]\nmodel = "/nowhere.xml"'),
        "hang-up": lambda: os.kill(daemon.pid, signal.SIGHUP),
        "quiet": lambda: time.sleep(3),
    }
    name = rng.choice(list(deeds))
    log.done[name] = log.done.get(name, 0) + 1
    deeds[name]()


def soak(minutes: float, seed: int) -> int:
    """Run, print the table, return 0 if every promise was kept."""
    rng, log = random.Random(seed), Log()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texture = canary_room(folder / "room.mp4")
        out = folder / "out.mp4"
        daemon = Daemon(folder, folder / "room.mp4", out)
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            torment(daemon, rng, folder, log)
            daemon.sample(log)
        daemon.say("resume")
        daemon.say("background", "slate")
        time.sleep(5)
        last = daemon.status()
        stopped = daemon.say("stop").returncode == 0
        frames, bad = canaries(out, texture)
        control, found = canaries(folder / "room.mp4", texture)
    return report(log, minutes, last, stopped, frames, bad, control, found)


def report(
    log: Log,
    minutes: float,
    last: dict[str, object],
    stopped: bool,
    frames: int,
    bad: int,
    control: int,
    found: int,
) -> int:
    quarter = max(len(log.rss) // 4, 1)
    early, late = log.rss[quarter : 2 * quarter] or log.rss, log.rss[-quarter:]
    growth = float(np.median(late) - np.median(early))
    print(f"{minutes:g} minutes, {sum(log.done.values())} deeds, seed and machine aside")
    for name, count in sorted(log.done.items()):
        print(f"  {name:<20} {count}")
    print(f"states seen           {log.states}")
    print(f"frames written        {frames}, with a patch of the room: {bad}")
    print(f"detector on the room  {found} of {control} frames")
    print(f"memory                {np.median(early):.0f} MB, later {growth:+.1f} MB")
    print(f"descriptors, threads  at most {max(log.descriptors)}, {max(log.threads)}")
    print(f"                      at the end {log.descriptors[-1]}, {log.threads[-1]}")
    print(f"unanswered            {log.unanswered}; at the end {last.get('state')}")
    kept = (
        bad == 0
        and found == control
        and frames > minutes * 60 * 3
        and growth < 40
        and log.unanswered == 0
        and last.get("state") == "live"
        and max(log.descriptors[-3:]) <= min(log.descriptors) + 12
        and max(log.threads[-3:]) <= min(log.threads) + 8
        and stopped
    )
    print("every promise kept" if kept else "A PROMISE WAS BROKEN")
    return 0 if kept else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return soak(options.minutes, options.seed)


if __name__ == "__main__":
    sys.exit(main())
