"""A real daemon with a canary before its camera, and a search of all its memory for any of it.

Run as a program it is that daemon: its camera is `tests.vcam.driver` on a file, whose pictures come
from files by `sendfile`, so that none is in this process before the daemon itself reads it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segmentation.planes import Planes
from tests.vcam.driver import PAGE, Driver, Poll
from vcam.client import Client
from vcam.errors import VcamError
from vcam.system import v4l2

ROOT = Path(__file__).resolve().parents[2]
PERSON = ROOT / "vcam" / "assets" / "portrait.jpg"
SIZE = W, H = 1280, 720
OUTPUT = 640, 360
PICTURES = 3  # that the camera sends in turn
KINDS = ("mjpg", "yuyv", "clip", "still")
SPAN = 4  # words of eight bytes in a piece
DISTINCT = 12  # different bytes in a piece, for it to be nobody else's
ODD = np.uint64(0x9E3779B97F4A7C15)
BITS = 26  # of the table that most words of the memory are told apart by
PIECE = 1 << 24  # bytes of memory that are looked at at once


def photographs() -> list[np.ndarray]:
    """Somebody in a room, (H, W, 3) RGB; all of it under noise that no other picture has."""
    whole = Image.open(PERSON).convert("RGB")
    scale = max(W / whole.width, H / whole.height)
    whole = whole.resize((round(whole.width * scale), round(whole.height * scale)))
    # Less contrast, or the grain is lost in black and white.
    plain = np.asarray(whole.crop((0, 0, W, H)), np.int16) * 3 // 4 + 32
    found = []
    for i in range(PICTURES):
        grain = np.random.default_rng(i + 1).integers(-24, 25, (H // 2, W // 2, 3))
        grain = np.kron(grain, np.ones((2, 2, 1), int))
        found.append(np.clip(plain + grain, 0, 255).astype(np.uint8))
    return found


def write_pictures(folder: Path, kind: str) -> None:
    """Leave in `folder` what a camera of this kind sends."""
    shown = photographs()
    if kind == "clip":
        import av

        with av.open(str(folder / "room.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
            stream.options = {"crf": "18"}
            for i in range(50):
                one = av.VideoFrame.from_ndarray(shown[i % PICTURES], "rgb24")
                container.mux(stream.encode(one.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
        return
    for i, image in enumerate(shown):
        if kind == "mjpg":
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=90, subsampling="4:2:2")
            data = buffer.getvalue()
        elif kind == "yuyv":
            y, u, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YUV))
            packed = np.empty((H, W // 2, 4), np.uint8)
            packed[..., 0], packed[..., 2] = y[:, ::2], y[:, 1::2]
            packed[..., 1], packed[..., 3] = u[:, ::2], v[:, ::2]
            data = packed.tobytes()
        else:
            Image.fromarray(image).save(folder / "room.png")
            return
        (folder / f"{i}.{kind}").write_bytes(data)


def frames(folder: Path, kind: str) -> list[Any]:
    """The frames that the daemon makes of them, made here by the same decoders."""
    from vcam.frame import Frame
    from vcam.media.clip import ClipSource
    from vcam.sources.decode import MjpegDecoder, Unpacker
    from vcam.sources.still import StillSource

    if kind == "still":
        with StillSource(folder / "room.png", *OUTPUT, motion=False, realtime=False) as source:
            return [source.read(1)]
    if kind == "clip":
        with ClipSource(folder / "room.mp4", live=False) as source:
            return [source.read(1) for _ in range(50)][::7]
    found = []
    for i in range(PICTURES):
        data = (folder / f"{i}.{kind}").read_bytes()
        if kind == "mjpg":
            planes = MjpegDecoder().decode(data)
        else:
            planes = Unpacker(W, H).yuyv(np.frombuffer(data, np.uint8))
        copies = (plane.copy() for plane in planes.each)
        found.append(Frame(Planes(*copies, planes.full_range), float(i), i))
    return found


def traces(folder: Path, kind: str, quality: str = "balanced") -> dict[str, list[np.ndarray]]:
    """What the room looks like in memory: at each size, layout and type that is made of it."""
    from segmentation.kernels import FULL, LIMITED, to_input
    from segmentation.planes import Shrink
    from segmentation.sizes import AREAS, input_size

    mean = np.array([0.485, 0.456, 0.406])
    std = np.array([0.229, 0.224, 0.225])
    scale = np.ascontiguousarray(np.stack([1 / std, -mean / std], axis=1), np.float32)
    found: dict[str, list[np.ndarray]] = {}

    def add(name: str, *planes: np.ndarray) -> None:
        found.setdefault(name, []).extend(np.ascontiguousarray(plane) for plane in planes)

    for frame in frames(folder, kind):
        u, v = (
            (frame.planes.u[::2], frame.planes.v[::2])
            if frame.planes.u.shape[0] == frame.planes.y.shape[0]
            else (frame.planes.u, frame.planes.v)
        )
        add("Y", frame.planes.y, frame.planes.y[:, ::-1])
        add("U V", frame.planes.u, frame.planes.v, u[:, ::-1], v[:, ::-1])
        planes = (frame.planes.y, u, v)
        i420 = np.concatenate([np.ascontiguousarray(p).reshape(-1) for p in planes])
        i420 = i420.reshape(frame.height * 3 // 2, frame.width)
        for name, code in (("RGB", cv2.COLOR_YUV2RGB_I420), ("BGR", cv2.COLOR_YUV2BGR_I420)):
            add(name, cv2.cvtColor(i420, code))
        out_w, out_h = OUTPUT
        for plane, size in ((frame.planes.y, (out_w, out_h)), (u, (out_w // 2, out_h // 2)),
                            (v, (out_w // 2, out_h // 2))):  # fmt: skip
            scaled = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
            add("output size", scaled, scaled[:, ::-1])
        (full_h, full_w), (h, w) = input_size(frame.height, frame.width, AREAS[quality])
        picture = np.zeros((3, h, w), np.uint8)
        for plane, small in zip((frame.planes.y, u, v), picture, strict=True):
            shrink = Shrink(plane.shape, (h, w))
            shrink(np.ascontiguousarray(plane), small)
            add("halves", *shrink._halves)
        add("model size", *picture)
        half = [cv2.resize(p, (w // 2, h // 2)) for p in picture]
        small = np.concatenate([p.reshape(-1) for p in found["output size"][-6::2]])
        small = small.reshape(out_h * 3 // 2, out_w)
        add("preview", cv2.cvtColor(small, cv2.COLOR_YUV2BGR_I420))
        add("half model size", *half)
        add("half model size, float", *(p.astype(np.float32) for p in half))
        x = np.zeros((1, 3, full_h, full_w), np.float32)
        matrix = np.ascontiguousarray(FULL if frame.planes.full_range else LIMITED, np.float32)
        to_input(picture, matrix, scale, x)
        add("network's input", *x[0])
    for path in folder.glob("*.mjpg"):
        add("JPEG", np.frombuffer(path.read_bytes(), np.uint8)[1000:])
    if kind == "yuyv":
        for path in folder.glob("*.yuyv"):
            add("YUYV", np.frombuffer(path.read_bytes(), np.uint8))
    if kind == "still":
        image = np.asarray(Image.open(folder / "room.png"))
        grown = cv2.resize(image, OUTPUT, interpolation=cv2.INTER_AREA)
        add("picture", image, grown)
    return found


class Search:
    """Finds any 32 bytes of the traces in another process's memory, wherever they lie.

    Less than that may be left where a processor's wide register was put aside on a stack.
    """

    def __init__(self, named: dict[str, list[np.ndarray]]) -> None:
        self.names = list(named)
        keys, whose = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
        for number, planes in enumerate(named.values()):
            for plane in planes:
                data = plane.reshape(plane.shape[0] if plane.ndim > 1 else 1, -1)
                data = data[:: max(1, data.shape[0] // 90)].view(np.uint8)
                for row in data:
                    keys += _pieces(row)
                    whose += [np.full(each.size, number, np.uint8) for each in keys[len(whose) :]]
        self._keys, first = np.unique(np.concatenate(keys), return_index=True)
        self._whose = np.concatenate(whose)[first]
        self._table = np.zeros(1 << BITS, np.bool_)
        self._table[_slots(self._keys)] = True

    def pieces(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `words`, (n,) uint64, a piece of a trace is, and whose."""
        numbers = _numbers(words)
        at = np.flatnonzero(self._table[_slots(numbers)])
        place = np.minimum(np.searchsorted(self._keys, numbers[at]), self._keys.size - 1)
        real = self._keys[place] == numbers[at]
        return at[real], self._whose[place[real]]

    def __call__(self, pid: int, *, verbose: bool = False) -> dict[str, int]:
        """Count the pieces of each trace in all that `pid` may write to."""
        total: dict[str, int] = {}
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for start, end, what in writable(pid):
                here, places = dict[str, int](), list[int]()
                for at in range(start, end, PIECE):
                    try:
                        memory.seek(at)
                        data = memory.read(min(PIECE + 24, end - at))
                    except (OSError, ValueError, OverflowError):
                        continue  # a device's memory
                    where, whose = self.pieces(np.frombuffer(data, np.uint64, len(data) // 8))
                    places += [at + 8 * int(i) for i in where[:9]]
                    for number, count in enumerate(np.bincount(whose, minlength=1)):
                        if count:
                            here[self.names[number]] = here.get(self.names[number], 0) + int(count)
                for name, count in here.items():
                    total[name] = total.get(name, 0) + count
                if verbose and here:
                    print(f"  {start:x}-{end:x} {what}: {here}", [hex(p) for p in places[:9]])
        return total


def _pieces(row: np.ndarray) -> list[np.ndarray]:
    """Numbers of all pieces that a row, wherever it lies, has at aligned addresses."""
    found = []
    for shift in range(8):
        words = row[shift : shift + (row.size - shift) // 8 * 8].view(np.uint64)
        if words.size >= SPAN:
            at = np.arange(words.size - SPAN + 1) * 8 + shift
            ordered = np.sort(row[at[:, None] + np.arange(8 * SPAN)], axis=1)
            rare = np.count_nonzero(np.diff(ordered, axis=1), axis=1) >= DISTINCT
            found.append(_numbers(words)[rare])
    return found


def _numbers(words: np.ndarray) -> np.ndarray:
    """One number for each `SPAN` neighbours among `words`."""
    last = max(0, words.size - SPAN + 1)
    found = words[:last].copy()
    for i in range(1, SPAN):
        found *= ODD
        found += words[i : last + i]
    return found


def _slots(numbers: np.ndarray) -> np.ndarray:
    return (numbers * ODD) >> np.uint64(64 - BITS)


def writable(pid: int) -> list[tuple[int, int, str]]:
    """The writable parts of a process's memory: first byte, end, name."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if parts[1].startswith("rw"):
            start, _, end = parts[0].partition("-")
            found.append((int(start, 16), int(end, 16), parts[5] if len(parts) > 5 else ""))
    return found


class Camera(Driver):
    """A driver that sends the pictures of a folder for ever, thirty a second, by `sendfile`."""

    def __init__(self, folder: Path, kind: str) -> None:
        files = sorted(folder.glob(f"*.{kind}"))
        super().__init__(folder / "video7", {(kind.upper(), W, H): [30.0]})
        self.slot = -(-max(file.stat().st_size for file in files) // PAGE) * PAGE
        os.truncate(self.path, self.slot * 4)
        self._files = files
        self._due = 0.0

    def ready(self, timeout: float) -> bool:
        """Wait for the next picture."""
        left = self._due - time.monotonic()
        time.sleep(max(0.0, min(left, timeout)))
        return left <= timeout and bool(self.queued)

    def _take(self, data: bytearray) -> None:
        now = time.monotonic()
        if now < self._due or not self.queued:
            raise BlockingIOError(errno.EAGAIN, "later")
        self._due = max(self._due + 1 / 30, now)
        index = self.queued.pop(0)
        with self._files[self.seq % len(self._files)].open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            to = os.open(self.path, os.O_WRONLY)
            os.lseek(to, index * self.slot, os.SEEK_SET)
            sent = 0
            while sent < size:
                sent += os.sendfile(to, file.fileno(), sent, size - sent)
            os.close(to)
        self.seq += 1
        struct.pack_into("<IIII", data, 0, index, v4l2.CAPTURE, size, v4l2.TIMESTAMP_MONOTONIC)
        struct.pack_into("<qq", data, 24, int(now), int(now % 1 * 1e6))
        struct.pack_into("<I", data, 56, self.seq)


class Sink:
    """Takes pictures and forgets them; watched while the folder has a file of that name."""

    kind, name = "nothing", "nothing"

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self._folder, self.width, self.height = folder, width, height

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, frame: object) -> None:
        pass

    def watchers(self) -> list[str]:
        return ["Meeting"] if (self._folder / "watched").exists() else []


def main() -> int:
    """Run the daemon of `sys.argv`: kind of camera, folder, and the rest of the command line."""
    from vcam import cli, daemon, sinks
    from vcam.sources import webcam
    from vcam.sources.webcam import Webcam
    from vcam.system.devices import CameraInfo

    kind, folder = sys.argv[1], Path(sys.argv[2])
    end = os._exit
    # Everything is closed when it comes to this: it waits there to be searched.
    os._exit = lambda code: (os.kill(os.getpid(), signal.SIGSTOP), end(code))  # type: ignore
    if os.geteuid():  # only root may look into a process that hides itself
        daemon.never_dumped = lambda: None
    sinks._opener = lambda name, width, height, *_: lambda: Sink(folder, width, height)
    if kind in ("mjpg", "yuyv"):
        driver = Camera(folder, kind)

        class Ready(Poll):
            def poll(self, timeout: float) -> list[tuple[int, int]]:
                return [(0, select.POLLIN)] if driver.ready(timeout / 1000) else []

        v4l2.fcntl.ioctl = driver.ioctl  # type: ignore[assignment]
        webcam.select.poll = Ready  # type: ignore[assignment, misc]
        path = str(driver.path)
        webcam.find_camera = lambda _: CameraInfo("Test Camera", path, path)
        opener = daemon.opener_of
        daemon.opener_of = lambda config: (
            opener(config)
            if config.camera.source == "demo"
            else lambda: Webcam(path, W, H, 30, format=kind)  # type: ignore[arg-type]
        )
    return cli.main(sys.argv[3:])


@dataclass
class Watched:
    """A daemon that runs, and what of the room to look for in it."""

    pid: int
    client: Client
    folder: Path
    search: Search
    child: subprocess.Popen[bytes]
    source: str  # what the settings call its camera

    def found(self, *, verbose: bool = False) -> dict[str, int]:
        """Stop it for a moment and count what of the room is in its memory."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            return self.search(self.pid, verbose=verbose)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def watch(self, watched: bool) -> None:
        """Let a program stream from the virtual camera, or none."""
        if watched:
            (self.folder / "watched").touch()
        else:
            (self.folder / "watched").unlink()

    def stop(self) -> None:
        """Stop the daemon, and wait until all that is left for it to do is to end."""
        self.client.stop()
        until = time.monotonic() + 30
        while ") T " not in Path(f"/proc/{self.pid}/stat").read_text():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.05)

    def wait(self, state: str, timeout: float = 90) -> None:
        """Wait until it says that it is in `state`."""
        until, told = time.monotonic() + timeout, "nothing"
        while told != state:
            log = (self.folder / "log").read_text()
            assert self.child.poll() is None, log
            assert time.monotonic() < until, f"{told!r} after {timeout} s: {log}"
            with contextlib.suppress(VcamError):
                told = str(self.client.status()["state"])
            time.sleep(0.05)


@contextlib.contextmanager
def running(folder: Path, kind: str, **background: Any) -> Iterator[Watched]:
    """A daemon before such a camera, live."""
    write_pictures(folder, kind)
    source = {"clip": str(folder / "room.mp4"), "still": str(folder / "room.png")}.get(kind, "x")
    (folder / "run").mkdir(mode=0o700)
    (folder / "watched").touch()
    lines = [
        f'[camera]\nsource = "{source}"\nmirror = true',
        f"[output]\nwidth = {OUTPUT[0]}\nheight = {OUTPUT[1]}\nfps = 30\nidle_after = 0.3",
        '[matte]\nquality = "balanced"\nengine = "cpu"',
        "[background]",
        *(f"{key} = {value!r}".replace("True", "true") for key, value in background.items()),
    ]
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "VCAM_"))}
    environ |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser()))
    words = ["start", "--foreground", "--sink", "x", "--config", str(folder / "config.toml")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.memory", kind, str(folder), *words],
            cwd=ROOT, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
    client = Client(folder / "run" / "vcam" / "control.sock")
    watched = Watched(child.pid, client, folder, Search(traces(folder, kind)), child, source)
    try:
        watched.wait("live")
        yield watched
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
