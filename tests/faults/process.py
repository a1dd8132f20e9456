"""The daemon as a process of its own, what breaks it from outside, and who watches its pictures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.faults.child import HEADER, MAGIC
from vcam.client import Client
from vcam.errors import VcamError

ROOT = Path(__file__).resolve().parents[2]
PERSON = ROOT / "vcam" / "assets" / "portrait.jpg"
WEIGHTS = ROOT / "segmentation" / "weights" / "bisenet-small-int8"
W, H, FPS = 640, 360, 25
PATCH = 16
DEADLINE = 0.5  # seconds from a picture's capture to the sink, as the daemon's settings say
ALIKE = 0.7  # correlation above which a patch is the room's
VISIBLE = 6.0  # levels of contrast above which it counts


def texture() -> np.ndarray:
    """The room: (H, W) uint8 luma of 4x4 cells, none like its neighbours."""
    cells = np.random.default_rng(3).integers(0, 2, (H // 4, W // 4)) * 130 + 60
    return np.kron(cells, np.ones((4, 4))).astype(np.uint8)


def write_room(path: Path, seconds: int = 8) -> None:
    """Write a clip of somebody in that room, moving a little."""
    portrait = np.asarray(
        Image.open(PERSON).convert("RGB").crop((120, 0, 340, 300)).resize((264, H))
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.options = {"crf": "12"}
        for i in range(seconds * FPS):
            image = np.repeat(texture()[..., None], 3, axis=2)
            left = 190 + round(12 * np.sin(i / 12))
            image[:, left : left + portrait.shape[1]] = portrait
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Detector:
    """Finds 16x16 patches of the room in pictures, where the person never is."""

    def __init__(self) -> None:
        wanted = self._patches(texture())
        self._wanted = wanted
        self._power = (wanted**2).sum((1, 2))

    def __call__(self, luma: np.ndarray) -> int:
        """Count the patches of the room in `luma`, (H, W) uint8."""
        got = self._patches(luma)
        power = (got**2).sum((1, 2))
        alike = (got * self._wanted).sum((1, 2)) / np.maximum(np.sqrt(power * self._power), 1)
        return int(np.count_nonzero((alike > ALIKE) & (power > PATCH**2 * VISIBLE**2)))

    @staticmethod
    def _patches(luma: np.ndarray) -> np.ndarray:
        rows = H // PATCH * PATCH
        sides = np.concatenate([luma[:rows, :160], luma[:rows, 496 : 496 + 8 * PATCH]], axis=1)
        grid = sides.astype(np.float32).reshape(rows // PATCH, PATCH, -1, PATCH).swapaxes(1, 2)
        grid = grid.reshape(-1, PATCH, PATCH)
        return grid - grid.mean((1, 2), keepdims=True)


@dataclass
class Seen:
    """One picture that arrived."""

    at: float
    card: bool
    patches: int
    pts: float  # when the camera took what it shows
    struck: float  # when the daemon ran into the fault that is on, 0 if there is none
    written: float


class Meeting:
    """Takes every picture the daemon shows and looks for the room in it, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.seen: list[Seen] = []
        self.looking = threading.Event()  # cleared: it takes no picture, and the sink blocks
        self.looking.set()
        self.detector = Detector()
        self.last = b""  # what a reader would still be looking at
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(0.2)
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="meeting")
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self.looking.set()
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        while not self._stop:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(0.2)
                    self._watch(connection)

    def _watch(self, connection: socket.socket) -> None:
        size = HEADER.size + W * H * 3 // 2
        while (data := self._take(connection, size)) is not None:
            magic, card, _, *times = HEADER.unpack_from(data)
            assert magic == MAGIC
            luma = np.frombuffer(data, np.uint8, W * H, HEADER.size).reshape(H, W)
            self.last = data
            self.seen.append(Seen(time.monotonic(), card, self.detector(luma), *times))

    def _take(self, connection: socket.socket, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            if self._stop:
                return None
            self.looking.wait()
            try:
                got = connection.recv(size - len(parts))
            except TimeoutError:
                continue
            except ConnectionError:
                return None
            if not got:
                return None
            parts += got
        return bytes(parts)

    def wait_live(self, since: float, timeout: float) -> float:
        """Return when, after `since`, the person was seen, in seconds; NaN if not in time."""
        while time.monotonic() - since < timeout:
            for one in reversed(self.seen[-200:]):
                if one.at < since:
                    break
                if not one.card:
                    first = next(s for s in self.seen if s.at >= since and not s.card)
                    return first.at - since
            time.sleep(0.02)
        return float("nan")


class Process:
    """A daemon in a home of its own; where mounting is allowed that home is a small disk.

    It does not run before `start`.
    """

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        self.folder, self.home = folder, folder / "home"
        if not (folder / "room.mp4").exists():
            write_room(folder / "room.mp4")
        self.home.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "vcam-test", str(self.home)]
        self.small = (
            shutil.which("mount") is not None
            and not subprocess.run(mount, capture_output=True, check=False).returncode
        )
        self.runtime = folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.orders: dict[str, Any] = {}
        self.order()
        self.config = self.home / "config.toml"
        lines = [f"[output]\nwidth = {W}\nheight = {H}\nfps = {FPS}\nidle_after = 0.3"]
        for name, keys in sections.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in keys.items())]
        self.config.write_text("\n".join(lines) + "\n")
        self.restarts: list[float] = []
        self.refused = ""
        self.child: subprocess.Popen[bytes] | None = None
        self.meeting = Meeting(folder / "wire")

    def start(self) -> None:
        """Start the daemon and wait until it shows the person."""
        began = time.monotonic()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "VCAM_"))}
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        environ |= {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CACHE_HOME": str(cache),
            "VCAM_DAEMON": "1",
        }
        words = ["start", "--foreground", "--sink", "wire", "--config", str(self.config)]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.child", str(self.folder), *words],
            cwd=ROOT,
            env=environ,
        )
        self.pid = self.child.pid
        self.client = Client(self.runtime / "vcam" / "control.sock")
        took = float("nan")
        while math.isnan(took) and self.child.poll() is None and time.monotonic() - began < 90:
            took = self.meeting.wait_live(began, time.monotonic() - began + 0.5)
        assert not math.isnan(took), f"nobody was shown; exit code {self.child.poll()}"
        self.restarts.append(took)

    def order(self, **orders: Any) -> None:
        """Tell the daemon's camera, sink, engine and clock what goes wrong from now on."""
        self.orders = {**self.orders, **orders}
        fresh = self.folder / "orders.new"
        fresh.write_text(json.dumps(self.orders))
        fresh.replace(self.folder / "orders.json")

    def change(self, **sections: dict[str, Any]) -> bool:
        """Change settings; False, and why in `refused`, if they were not taken."""
        try:
            self.client.change(sections)
        except VcamError as error:
            self.refused = str(error)
            return False
        return True

    def wait_for_model(self, name: str) -> None:
        """Wait until the weights called `name` are in use."""
        until = time.monotonic() + 20
        told: object = "nothing"
        while time.monotonic() < until:
            try:
                told = self.client.status()
                if told["engine"].get("model") == name:
                    return
            except VcamError as error:
                told = error
            time.sleep(0.05)
        raise AssertionError(f"{name} is not in use after 20 s: {told}")

    def limit(self, what: int, value: int) -> None:
        """Set a resource limit of the running process; -1 lifts it."""
        _, hard = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (hard if value < 0 else value, hard))

    def fill_disk(self) -> None:
        """Leave no room for state, settings and log."""
        if not self.small:
            self.limit(resource.RLIMIT_FSIZE, 0)
            return
        with contextlib.suppress(OSError), (self.home / "full").open("wb", 0) as file:
            while True:
                file.write(bytes(65536))

    def empty_disk(self) -> None:
        self.limit(resource.RLIMIT_FSIZE, -1)
        (self.home / "full").unlink(missing_ok=True)

    def stop(self) -> int | None:
        """End the daemon as a user would; its exit code, None if it does not end."""
        self.order(camera="", sink="", engine="")
        with contextlib.suppress(VcamError):
            self.client.stop()
        try:
            return self.child.wait(15)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Give everything back, whatever state it is in."""
        self.meeting.looking.set()
        if self.child and self.child.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.child.kill()
            self.child.wait()
        self.meeting.close()
        if self.small:
            subprocess.run(["umount", "-l", str(self.home)], check=False)


@contextlib.contextmanager
def running(folder: Path, **sections: dict[str, Any]) -> Iterator[Process]:
    """A daemon that shows the person, ended on exit."""
    process = Process(folder, **sections)
    try:
        process.start()
        yield process
    finally:
        process.close()


@dataclass(frozen=True)
class Outside:
    """A fault of a running process: how it begins and ends, and whether the card has to show."""

    begin: Callable[[Process], object]
    end: Callable[[Process], object]
    card: bool = False
    silent: bool = False  # no picture can come meanwhile
    grace: float = 0.0  # seconds that the daemon waits on purpose before it shows the card


def told(what: str, value: str, *, card: bool = True, silent: bool = False) -> Outside:
    return Outside(
        lambda p: p.order(**{what: value}), lambda p: p.order(**{what: ""}), card, silent
    )


def _model(spoil: Callable[[Path], object]) -> Outside:
    """The model in use is spoiled on disk and opened again; what runs goes on."""

    def begin(p: Process) -> None:
        for suffix in (".xml", ".bin"):
            shutil.copy(f"{WEIGHTS}{suffix}", p.folder / f"net{suffix}")
        assert p.change(matte={"model": str(p.folder / "net.xml")}), p.refused
        p.wait_for_model("net")
        spoil(p.folder / "net.bin")
        p.change(matte={"threads": 2})

    def end(p: Process) -> None:
        p.change(matte={"model": "auto", "threads": 1})

    return Outside(begin, end)


def _clip(p: Process) -> None:
    """The background's clip is cut short while it plays."""
    path = p.folder / "behind.mp4"
    write_plain(path)
    p.change(background={"use": str(path)})
    time.sleep(0.3)
    path.write_bytes(path.read_bytes()[:2000])


def write_plain(path: Path) -> None:
    """Write a clip of a plain background."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for i in range(25):
            picture = np.full((H, W, 3), (40 + i, 90, 120), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))


def storm(p: Process) -> None:
    """Settings as fast as the API takes them."""
    for i in range(40):
        use = ("studio", "#203040", "loft", "dusk")[i % 4]
        p.change(background={"use": use, "light_wrap": i % 5 / 5}, camera={"mirror": i % 2 == 0})


def _short_of_memory(p: Process) -> None:
    """Not one page more than now, and orders that need some."""
    pages = int(Path(f"/proc/{p.pid}/statm").read_text().split()[0])
    p.limit(resource.RLIMIT_AS, pages * resource.getpagesize())
    for use in ("loft", "blur:80", "dusk"):  # the answers may take long to come
        change = {"background": {"use": use}}
        threading.Thread(target=p.change, kwargs=change, daemon=True).start()


def _kill(p: Process) -> None:
    os.kill(p.pid, signal.SIGKILL)
    p.child.wait()


def _plain(p: Process) -> None:
    p.change(background={"use": "slate", "light_wrap": 0.0}, camera={"mirror": False})


OUTSIDE: dict[str, Outside] = {
    "camera unplugged": told("camera", "unplugged"),
    "camera silent": told("camera", "silent"),
    "camera hangs": told("camera", "hangs"),
    "camera sends damage": told("camera", "damaged"),
    "camera stands still": told("camera", "stale"),
    "camera's clock ahead": told("camera", "future"),
    "camera black": told("camera", "black", card=False),
    "camera noise": told("camera", "noise", card=False),
    "camera torn": told("camera", "torn", card=False),
    "camera half size": told("camera", "half size", card=False),
    "engine raises": told("engine", "raises"),
    "engine hangs": told("engine", "hangs"),
    "sink EIO": told("sink", "EIO", card=False, silent=True),
    "sink blocks": Outside(
        lambda p: p.meeting.looking.clear(), lambda p: p.meeting.looking.set(), silent=True
    ),
    "nobody watches": Outside(
        lambda p: p.order(watchers=[]),
        lambda p: p.order(watchers=["Meeting"]),
        card=True,
        grace=0.6,  # who looks away for a moment finds the camera on
    ),
    "suspended": Outside(
        lambda p: p.order(asleep=p.orders.get("asleep", 0.0) + 60), lambda p: None, card=True
    ),
    "stopped process": Outside(
        lambda p: os.kill(p.pid, signal.SIGSTOP),
        lambda p: os.kill(p.pid, signal.SIGCONT),
        silent=True,
    ),
    "disk full": Outside(
        lambda p: (p.fill_disk(), p.change(background={"use": "dusk"})),
        lambda p: (p.empty_disk(), _plain(p)),
    ),
    "out of memory": Outside(
        _short_of_memory, lambda p: (p.limit(resource.RLIMIT_AS, -1), _plain(p))
    ),
    "model gone from disk": _model(lambda path: path.unlink()),
    "model cut short": _model(lambda path: path.write_bytes(path.read_bytes()[:70_000])),
    "background cut short": Outside(_clip, _plain),
    "settings storm": Outside(storm, _plain),
    "killed": Outside(_kill, lambda p: p.start(), silent=True),
}


@dataclass
class Outcome:
    """What one fault did."""

    name: str
    frames: int
    patches: int
    card_after: float  # seconds from the fault's being felt to the card; NaN if it was not shown
    stray: int  # pictures of the person while the card was due
    back_after: float  # seconds from the end of the fault to the person
    died: bool = False


@dataclass
class Run:
    """What all of them did."""

    outcomes: list[Outcome] = field(default_factory=list)

    def table(self) -> str:
        lines = [f"{'fault of a running process':<28}frames  room  card after  back after"]
        for o in self.outcomes:
            card = "-" if o.card_after != o.card_after else f"{o.card_after * 1e3:.0f} ms"
            back = f"{o.back_after * 1e3:.0f} ms"
            died = "  and it died" if o.died else ""
            lines.append(f"{o.name:<28}{o.frames:>6}{o.patches:>6}{card:>12}{back:>12}{died}")
        return "\n".join(lines)


def _is_stray(s: Seen, due: float) -> bool:
    """True if it shows the person though the card was due.

    What the camera took before may still come, but not later than it may be old.
    """
    return not s.card and s.written > due and (s.pts > due or s.written > due + DEADLINE)


def inflict(process: Process, name: str, fault: Outside, hold: float) -> Outcome:
    """Let one fault happen for `hold` seconds and see what was shown until the person is back."""
    seen, first = process.meeting.seen, len(process.meeting.seen)
    began = time.monotonic()
    fault.begin(process)
    time.sleep(hold)
    while fault.card and name == "nobody watches" and time.monotonic() - began < 1.5:
        time.sleep(0.02)  # the camera stays on a moment for who comes back
    ended = time.monotonic()
    died = name != "killed" and process.child.poll() is not None
    if died:
        process.start()
    fault.end(process)
    back = process.meeting.wait_live(ended, 10)
    time.sleep(0.2)
    shown = seen[first:]
    struck = next((s.struck for s in shown if s.struck >= began), began)
    cards = [s.written - struck for s in shown if s.card and s.written >= struck]
    stray = sum(_is_stray(s, struck + fault.grace) for s in shown if s.written < ended)
    if not fault.card or name == "suspended":  # that one is over as soon as it happened
        stray = 0
    return Outcome(
        name,
        len(shown),
        sum(s.patches for s in shown),
        cards[0] if cards else float("nan"),
        stray,
        back,
        died,
    )
