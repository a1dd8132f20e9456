"""Headless Chromium or Firefox in a call: lists cameras, plays ours, tells what it sees."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=700,420",
    "--disable-features=Translate,MediaRouter,OptimizationHints,OptimizationGuideOnDeviceModel",
)
PAGE = """<!doctype html><video id=v autoplay muted playsinline></video><script>
const tell = (key, value) => fetch('/', {method: 'POST', body: JSON.stringify([key, value])});
const sleep = ms => new Promise(done => setTimeout(done, ms));
(async () => { try {
  const open = device => navigator.mediaDevices.getUserMedia(
    {video: {deviceId: device && {exact: device.deviceId}, width: WIDTH, height: HEIGHT}});
  const ours = what => what.label.startsWith('VBG Camera');
  let mine, stream;
  for (let tries = 0; tries < 60 && !mine; tries++) {
    try { stream = await open(); } catch (error) { await sleep(1000); }
    const found = await navigator.mediaDevices.enumerateDevices();
    const cameras = found.filter(device => device.kind == 'videoinput');
    tell('cameras', cameras.map(device => device.label));
    mine = cameras.find(ours);
    // Firefox aborts now and then where a camera is given back while its pictures come
    // (libwebrtc's race checker in video_capture_pipewire.cc): ours is kept once it is open.
    if (stream && !(mine && ours(stream.getVideoTracks()[0]))) {
      stream.getTracks().forEach(track => track.stop());
      stream = null;
    }
  }
  stream ||= await open(mine);
  const video = document.getElementById('v'); video.srcObject = stream; await video.play();
  stream.getTracks().forEach(track => { track.onended = () => tell('ended', track.label); });
  const {width, height, frameRate} = stream.getVideoTracks()[0].getSettings();
  const may = stream.getVideoTracks()[0].getCapabilities();
  tell('granted', [width, height, frameRate, may.width, may.height]);
  tell('playing', [video.videoWidth, video.videoHeight]);
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const to = canvas.getContext('2d', {willReadFrequently: true});
  const at = (x, y) => Array.from(
    to.getImageData(x * canvas.width | 0, y * canvas.height | 0, 1, 1).data).slice(0, 3);
  let told = [0, 0, 0];
  for (let n = 1; ; n++) {
    await new Promise(done => video.requestVideoFrameCallback(done));
    to.drawImage(video, 0, 0);
    const behind = at(0.8, 0.95);
    const other = behind.some((level, i) => Math.abs(level - told[i]) > 40);
    if (n % 5 == 0 || other) {
      told = behind;
      await tell('pixels', [at(0.06, 0.95), behind, performance.now(), n]);
    }
  }
} catch (error) { tell('error', String(error)); } })();
</script>"""


# What it takes to have a browser look for cameras in PipeWire, besides its settings.
THROUGH_PIPEWIRE = {"chromium": ("--enable-features=WebRtcPipeWireCamera",), "firefox": ()}
# Firefox asks nobody, plays at once, looks for cameras in PipeWire and keeps to itself.
PREFERENCES = {
    "media.navigator.permission.disabled": True,
    "media.webrtc.camera.allow-pipewire": True,
    "media.autoplay.default": 0,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Browser:
    """A browser on our page; `told` is what the page has said so far, `at` when it did."""

    def __init__(
        self,
        out: Path,
        width: int,
        height: int,
        *flags: str,
        environ: dict[str, str] | None = None,
        name: str = "chromium",
    ) -> None:
        self.told: list[tuple[str, Any]] = []
        self.at: list[float] = []  # on the monotonic clock
        at = self.at
        page = PAGE.replace("WIDTH", str(width)).replace("HEIGHT", str(height)).encode()
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                at.append(time.monotonic())
                told.append(tuple(json.loads(self.rfile.read(length))))
                self.send_response(204)
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._profile = tempfile.mkdtemp()
        self._log = (out / f"{name}.log").open("wb")
        address = f"http://127.0.0.1:{self._server.server_port}/"
        build = _firefox if name == "firefox" else _chromium
        self.process = subprocess.Popen(
            [*build(self._profile, flags), address],
            stdout=self._log, stderr=self._log, start_new_session=True, env=environ,
        )  # fmt: skip

    def last(self, key: str, since: int = 0) -> Any:
        """The last thing of this kind that the page said, None if nothing."""
        return next((value for said, value in reversed(self.told[since:]) if said == key), None)

    def seen(self) -> list[Any]:
        """The colours of both places in every picture the page told of."""
        return [value[:2] for key, value in list(self.told) if key == "pixels"]

    def until_seen(self, count: int, seconds: float) -> None:
        """Wait until the page has told of `count` pictures, or of an error.

        Raises:
            AssertionError: it has not, or the browser ended.
        """
        end = time.monotonic() + seconds
        while not self.last("error") and len(self.seen()) < count:
            assert self.process.poll() is None, "the browser ended"
            assert time.monotonic() < end, f"not within {seconds} s, the page said {self.told[-5:]}"
            time.sleep(0.05)

    def until_shows(self, seconds: float, since: int = 0) -> float:
        """Wait for white in front of green; how long it took.

        What the page said before `since` does not count.

        Raises:
            AssertionError: the page failed, or shows something else.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            assert not self.last("error"), self.told[-5:]
            assert self.process.poll() is None, "the browser ended"
            if shown := self.last("pixels", since):
                (r, g, b), behind = shown[0], shown[1]
                if min(r, g, b) > 150 and _near(behind, (0, 255, 0)):
                    return time.monotonic() - begun
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s, the page said {self.told[-5:]}")

    def close(self) -> None:
        """End the browser."""
        import contextlib
        import signal

        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._log.close()
        shutil.rmtree(self._profile, ignore_errors=True)


def program(name: str = "chromium") -> str | None:
    """The browser's program."""
    names = ("firefox-esr", "firefox") if name == "firefox" else ("chromium", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def _chromium(profile: str, flags: tuple[str, ...]) -> list[str]:
    headful = "--headful" in flags
    return [
        program() or "chromium",
        *(flag for flag in FLAGS if not (headful and "headless" in flag)),
        f"--user-data-dir={profile}",
        *(flag for flag in flags if flag != "--headful"),
    ]


def _firefox(profile: str, flags: tuple[str, ...]) -> list[str]:
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items()]
    Path(profile, "user.js").write_text("\n".join(lines))
    found = program("firefox") or "firefox"
    return [found, "--headless", "--no-remote", "--profile", profile, *flags]


def _near(colour: list[int], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 16 for a, b in zip(colour, wanted, strict=True))


def look(
    out: Path,
    width: int,
    height: int,
    *,
    seconds: float,
    upset: Callable[[subprocess.Popen[bytes]], dict[str, Any]] | None = None,
    name: str = "chromium",
) -> dict[str, Any]:
    """Open the camera in the browser and look until it shows what it should.

    `upset` may do anything to it, and says how it went. The call must not end: the same page shows
    the same once more, and what is behind the person is at no time as blue as the webcam's
    picture is there.
    """
    browser = Browser(out, width, height, name=name)
    try:
        took = browser.until_shows(seconds)
        assert any(label.startswith("VBG Camera") for label in browser.last("cameras"))
        assert browser.last("playing") == [width, height]
        figures = {"shown_s": round(took, 1), "pixels": browser.last("pixels")[:2]}
        figures["granted"] = browser.last("granted")
        if upset is not None:
            figures |= upset(browser.process)
            before = len(browser.told)
            figures["again_s"] = round(browser.until_shows(seconds, since=before), 1)
            assert [key for key, _ in browser.told].count("playing") == 1
        behind = [colours[1] for colours in browser.seen()]
        assert not [colour for colour in behind if colour[2] > 150], behind
        return figures
    finally:
        browser.close()
