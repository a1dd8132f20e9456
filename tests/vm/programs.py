"""Programs that read V4L2 cameras, each made to hand out the pictures it gets."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import IO

from tests.vm.reader import shown

HOME = "/run/home-of-nobody"
# How each is told to write I420 to its output; VLC does not run for root.
COMMANDS: dict[str, tuple[str, ...]] = {
    "ffmpeg": ("ffmpeg", "-v", "error", "-f", "v4l2", "-i", "DEVICE",
               "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"),
    "gst-launch-1.0": ("gst-launch-1.0", "-q", "v4l2src", "device=DEVICE", "!", "videoconvert", "!",
                       "video/x-raw,format=I420", "!", "fdsink", "fd=1"),
    "mpv": ("mpv", "--no-config", "--really-quiet", "--no-audio", "--o=-", "--of=rawvideo",
            "--ovc=rawvideo", "--vf=format=yuv420p", "av://v4l2:DEVICE"),
    "vlc": ("vlc", "-I", "dummy", "--no-audio", "v4l2://DEVICE", "--sout",
            "#transcode{vcodec=I420,acodec=none}:std{access=file,mux=dummy,dst=-}"),
}  # fmt: skip


class Program:
    """A program in a call; `last` is what its newest picture shows, `seen` how many came."""

    def __init__(self, name: str, device: str, width: int, height: int) -> None:
        self.last, self.seen, self.wrong = "nothing", 0, ""
        self._shape = width, height
        os.makedirs(HOME, exist_ok=True)
        os.chown(HOME, 65534, 65534)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if name == "vlc" else {}
        self.process = subprocess.Popen(
            [word.replace("DEVICE", device) for word in COMMANDS[name]],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            env=os.environ | ({"HOME": HOME} if nobody else {}), **nobody,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._thread = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        width, height = self._shape
        size = width * height * 3 // 2
        while len(data := pipe.read(size)) == size:
            self.last = shown(data, width, height)
            if self.last == "other":
                places = [(x + width // 10) * (height // 2) for x in range(0, width, width // 5)]
                self.wrong = self.wrong or f"picture {self.seen}: {[data[at] for at in places]}"
            self.seen += 1

    def until(self, wanted: str, seconds: float) -> None:
        """Wait for a picture that shows this.

        Raises:
            AssertionError: it never came, or something else than a composite or the card did.
        """
        end = time.monotonic() + seconds
        while self.last != wanted:
            assert self.process.poll() is None, f"it ended after {self.seen} pictures"
            assert not self.wrong, self.wrong
            assert time.monotonic() < end, f"no {wanted}: {self.last} after {self.seen} pictures"
            time.sleep(0.05)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._thread.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
