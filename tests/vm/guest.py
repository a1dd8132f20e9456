"""Runs inside the guest: every check in turn, one JSON line each into the directory it is given.

python -m tests.vm.guest OUT [NAME...]
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vm.reader import BACKGROUND, PERSON, Reader
from vcam import v4l2
from vcam.devices import holders, list_cameras, list_virtual_cameras
from vcam.errors import SinkError, SourceError
from vcam.frame import SafeFrame
from vcam.sinks.v4l2loopback import V4L2LoopbackSink
from vcam.sources.webcam import open_webcam, wait_for_change

WEBCAM, VIRTUAL = "/dev/video0", "/dev/video10"
W, H, FPS = 640, 360, 15
PATIENCE = 300.0  # seconds; an emulated processor on a busy machine is slow
VIVID = Path("/sys/bus/platform/drivers/vivid")

Check = Callable[[Path], "dict[str, Any] | None"]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Mark a function as something to be proven; what it returns are figures."""
    CHECKS.append(function)
    return function


def until(true: Callable[[], object], seconds: float = PATIENCE) -> float:
    """Wait until something holds; how long that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def colour(y: int, u: int, v: int, *, width: int = W, height: int = H) -> SafeFrame:
    """A picture of one colour that a sink takes."""
    data = np.empty((height * 3 // 2, width), np.uint8)
    flat = data.reshape(-1)
    area = width * height
    flat[:area], flat[area : area * 5 // 4], flat[area * 5 // 4 :] = y, u, v
    return SafeFrame(data, time.monotonic(), 0, is_card=True, maker="vcam.card")


@contextlib.contextmanager
def feeding(sink: V4L2LoopbackSink, frame: SafeFrame) -> Iterator[None]:
    """Keep writing one picture meanwhile."""
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(1 / 30):
            sink.write(frame)

    thread = threading.Thread(target=feed)
    sink.write(frame)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def set_control(name: str, value: int = 1) -> None:
    """Turn one of the webcam's knobs, some of which break it."""
    subprocess.run(["v4l2-ctl", "-d", WEBCAM, "-c", f"{name}={value}"], check=True, timeout=60)


@check
def the_webcam_is_listed_and_virtual_cameras_are_not_taken_for_one(_: Path) -> None:
    (camera,) = list_cameras()
    (virtual,) = list_virtual_cameras()

    assert camera.path == WEBCAM
    assert camera.name == "vivid"
    assert {"YUYV", "NV12"} <= {mode.format for mode in camera.formats}
    assert "brightness" in camera.controls
    assert (virtual.path, virtual.name, virtual.ours) == (VIRTUAL, "VBG Camera", True)
    assert_refused(VIRTUAL, "itself")


def assert_refused(selector: str, words: str = "") -> None:
    """A webcam that is not opened says why and what to do."""
    with pytest.raises(SourceError, match=words) as told, open_webcam(selector, W, H, FPS):
        pass
    assert told.value.hint


@check
def the_webcam_sends_pictures_with_time_and_number_of_its_own(_: Path) -> dict[str, Any]:
    with open_webcam("vivid", W, H, FPS, format="yuyv") as source:
        until(lambda: source.read(5))
        frames = [source.read(5) for _ in range(20)]
        ages = [time.monotonic() - frames[-1].pts]

    assert all(frame.y.shape == (H, W) and frame.u.shape == (H, W // 2) for frame in frames)
    assert [f.seq for f in frames] == sorted({f.seq for f in frames})
    times = [f.pts for f in frames]
    assert times == sorted(times)
    assert 0 <= ages[0] < 5
    white = frames[-1]
    assert white.y[int(0.6 * H), int(0.06 * W)] > 150  # 75 % white
    return {"fps": round(19 / (times[-1] - times[0]), 1)}


@check
def the_webcam_sends_the_same_picture_as_nv12(_: Path) -> None:
    fd = v4l2.open_node(WEBCAM)
    try:
        v4l2.set_format(fd, v4l2.CAPTURE, W, H, "NV12")
    finally:
        os.close(fd)
    from vcam.sources import webcam

    order, webcam._ORDER = webcam._ORDER, ("NV12",)
    try:
        with open_webcam(WEBCAM, W, H, FPS) as source:
            until(lambda: source.read(5))
            frame = source.read(5)
    finally:
        webcam._ORDER = order

    assert source.format == "NV12"
    assert frame.u.shape == (H // 2, W // 2)
    assert frame.y[int(0.6 * H), int(0.06 * W)] > 150


@check
def a_webcam_that_is_in_use_is_refused_and_its_holder_named(_: Path) -> None:
    with (
        subprocess.Popen(
            ["v4l2-ctl", "-d", WEBCAM, "--stream-mmap", "--stream-count=100000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as other,
        ending(other),
    ):  # fmt: skip
        until(lambda: any(h.pid == other.pid for h in holders(WEBCAM)))
        time.sleep(1)
        assert_refused(WEBCAM, "in use by v4l2-ctl")


@contextlib.contextmanager
def ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


@check
def controls_are_set_by_name_within_their_range(_: Path) -> None:
    with open_webcam(WEBCAM, W, H, FPS, controls={"brightness": 77, "contrast": 999, "no": 1}):
        fd = v4l2.open_node(WEBCAM)
        try:
            values = {control.name: control.value for control in v4l2.controls(fd)}
        finally:
            os.close(fd)

    set_control("brightness", 128)
    set_control("contrast", 128)
    assert values["brightness"] == 77
    assert values["contrast"] == 255


@check
def an_unplugged_webcam_is_noticed_at_once_and_can_be_opened_again(_: Path) -> dict[str, Any]:
    with open_webcam(WEBCAM, W, H, FPS) as source:
        until(lambda: source.read(5))
        threading.Timer(0.5, set_control, ("disconnect",)).start()
        begun = time.monotonic()
        with pytest.raises(SourceError, match="went away"):
            until(lambda: source.read(1) and False)
        noticed = time.monotonic() - begun - 0.5
    with open_webcam(WEBCAM, W, H, FPS) as source:
        until(lambda: source.read(5))
    return {"noticed_s": round(noticed, 2)}


@check
def a_driver_that_breaks_while_streaming_is_an_error_and_no_hang(_: Path) -> None:
    with open_webcam(WEBCAM, W, H, FPS) as source:
        until(lambda: source.read(5))
        set_control("inject_fatal_streaming_error")
        with pytest.raises(SourceError, match="went away"):
            until(lambda: source.read(1) and False)
    with open_webcam(WEBCAM, W, H, FPS) as source:
        until(lambda: source.read(5))


@check
def a_webcam_that_is_pulled_out_and_put_in_wakes_who_waits_for_it(_: Path) -> None:
    for act in ("unbind", "bind"):
        threading.Timer(0.5, lambda act=act: (VIVID / act).write_text("vivid.0")).start()
        assert wait_for_change(PATIENCE), act
        if act == "unbind":
            until(lambda: not os.path.exists(WEBCAM))
            assert_refused(WEBCAM, "not connected")
    until(lambda: os.path.exists(WEBCAM))
    with open_webcam("vivid", W, H, FPS) as source:
        until(lambda: source.read(5))


@check
def two_hundred_unplugged_webcams_leave_nothing_behind(_: Path) -> dict[str, Any]:
    fd = v4l2.open_node(WEBCAM)
    (knob,) = (c.id for c in _buttons(fd) if c.name == "disconnect")
    os.close(fd)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    lost = 0
    for _i in range(200):
        with open_webcam(WEBCAM, 320, 180, 60) as source:
            fd = v4l2.open_node(WEBCAM)
            v4l2.set_control(fd, knob, 1)
            os.close(fd)
            try:
                for _j in range(20):
                    source.read(1)
            except SourceError:
                lost += 1

    assert lost == 200
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    return {"cycles": lost}


def _buttons(fd: int) -> Iterator[v4l2.Control]:
    """Controls without a value, which `v4l2.controls` leaves out."""
    data = bytearray(68)
    number = 0
    while True:
        data[:4] = (number | 0x80000000).to_bytes(4, "little")
        try:
            fcntl.ioctl(fd, v4l2.QUERYCTRL, data)
        except OSError:
            return
        number = int.from_bytes(data[:4], "little")
        name = bytes(data[8:40]).split(b"\0")[0].decode().lower()
        if data[4] == 4:
            yield v4l2.Control(number, name, "button", 0, 0, 0, 0, False)


@check
def a_raw_reader_ffmpeg_and_opencv_see_the_very_pixels(out: Path) -> None:
    with V4L2LoopbackSink(None, W, H, FPS) as sink, feeding(sink, colour(81, 90, 240)):
        with Reader(VIRTUAL) as reader:
            data = until_picture(reader)
            assert reader.format.fourcc == "YU12"
            assert reader.pixel(data, BACKGROUND) == (81, 90, 240)
        told = subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "v4l2", "-i", VIRTUAL, "-frames:v", "2", "-f",
             "rawvideo", "-pix_fmt", "yuv420p", "-"],
            capture_output=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
        assert len(told.stdout) == 2 * W * H * 3 // 2, told.stderr
        assert (told.stdout[0], told.stdout[-1]) == (81, 240)
        import cv2

        capture = cv2.VideoCapture(10, cv2.CAP_V4L2)
        fine, image = capture.read()
        capture.release()
        assert fine
        assert image.shape == (H, W, 3)
        assert np.abs(image[H // 2, W // 2].astype(int) - (0, 0, 255)).max() < 6  # BGR


def until_picture(reader: Reader) -> bytes:
    data = reader.picture(PATIENCE)
    assert data is not None
    return data


@check
def a_second_writer_is_refused_and_told_why(_: Path) -> None:
    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(colour(16, 128, 128))
        with (
            pytest.raises(SinkError, match="busy") as told,
            V4L2LoopbackSink(None, W, H, FPS),
        ):
            pass
        assert told.value.hint
    with V4L2LoopbackSink(VIRTUAL, W, H, FPS) as sink:
        sink.write(colour(16, 128, 128))


@check
def a_size_that_the_device_does_not_take_is_an_error(_: Path) -> dict[str, Any]:
    frame = colour(16, 128, 128)
    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(frame)
        with Reader(VIRTUAL) as reader:
            with feeding(sink, frame):
                until_picture(reader)
            sink.__exit__(None, None, None)
            try:
                with V4L2LoopbackSink(None, 320, 180, FPS):
                    answer = "taken"  # 0.12.7 lets it happen
            except SinkError as error:
                answer = str(error)
            sink.__enter__()
    assert answer == "taken" or "expected 320x180" in answer or "busy" in answer
    return {"answer": answer}


@check
def a_device_that_an_old_writer_left_stuck_is_mended(_: Path) -> dict[str, Any]:
    fd = v4l2.open_node(VIRTUAL)
    v4l2.set_format(fd, v4l2.OUTPUT, W, H, "YU12", size=W * H * 3 // 2)
    os.write(fd, bytes(W * H * 3 // 2))
    os.close(fd)
    fd = v4l2.open_node(VIRTUAL)
    known = v4l2.capabilities(fd)
    os.close(fd)

    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(colour(16, 128, 128))
        (virtual,) = list_virtual_cameras()

    assert virtual.ready
    return {"was_stuck": not known.captures and not known.outputs}


@check
def who_watches_is_named_and_a_probe_is_nobody(_: Path) -> dict[str, Any]:
    with V4L2LoopbackSink(None, W, H, FPS) as sink, feeding(sink, colour(16, 128, 128)):
        assert sink.watchers() == []
        for _i in range(5):
            v4l2.capabilities(fd := v4l2.open_node(VIRTUAL))
            os.close(fd)
            assert sink.watchers() == []
        with (
            subprocess.Popen(
                ["v4l2-ctl", "-d", VIRTUAL, "--stream-mmap", "--stream-count=100000"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ) as other,
            ending(other),
        ):  # fmt: skip
            until(lambda: other.pid in [h.pid for h in holders(VIRTUAL)])
            noticed = until(lambda: sink.watchers() == ["v4l2-ctl"])
            assert other.poll() is None
        gone = until(lambda: sink.watchers() == [])
        assert sink._loopback is not None
        told = sink._loopback.consumers.told
    return {"noticed_s": round(noticed, 2), "gone_s": round(gone, 2), "event": told}


@check
def two_hundred_calls_leave_nothing_behind(_: Path) -> dict[str, Any]:
    with V4L2LoopbackSink(None, W, H, FPS) as sink, feeding(sink, colour(50, 128, 128)):
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _i in range(200):
            with Reader(VIRTUAL) as reader:
                assert reader.pixel(until_picture(reader), BACKGROUND)[0] == 50
            assert list_virtual_cameras()[0].ready
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
        sink.watchers()
    return {"cycles": 200}


class Daemon:
    """`vcam start` as a user's session starts it."""

    def __init__(self, out: Path) -> None:
        environ = os.environ | {
            "XDG_RUNTIME_DIR": "/run/user",
            "VCAM_CAMERA_WIDTH": str(W), "VCAM_CAMERA_HEIGHT": str(H), "VCAM_CAMERA_FPS": str(FPS),
            "VCAM_OUTPUT_WIDTH": str(W), "VCAM_OUTPUT_HEIGHT": str(H),
            "VCAM_OUTPUT_FPS": str(FPS), "VCAM_OUTPUT_IDLE_AFTER": "1",
            "VCAM_MATTE_MODEL": str(out / "half.xml"), "VCAM_PRIVACY_DEADLINE": "5",
        }  # fmt: skip
        os.makedirs("/run/user", mode=0o700, exist_ok=True)
        self._environ = environ
        self._log = (out / "daemon.log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vcam", "start", "--foreground", "--source", WEBCAM, "--sink",
             VIRTUAL, "--background", "#00ff00"],
            env=self._environ, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def feeds(self) -> bool:
        """Whether programs list the virtual camera."""
        assert self.process.poll() is None, "the daemon ended"
        return list_virtual_cameras()[0].ready

    def webcam_open(self) -> bool:
        return any(h.pid == self.process.pid for h in holders(WEBCAM))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.kill()
            self._log.close()


DAEMON: list[Daemon] = []


@check
def the_daemon_makes_the_camera_appear_with_the_webcam_closed(out: Path) -> dict[str, Any]:
    DAEMON.append(Daemon(out))
    took = until(DAEMON[0].feeds, 2 * PATIENCE)

    time.sleep(2)
    assert not DAEMON[0].webcam_open()
    return {"start_s": round(took, 1)}


@check
def a_call_gets_the_person_in_front_of_the_background(_: Path) -> dict[str, Any]:
    with Reader(VIRTUAL) as reader:
        first = reader.until("live", 2 * PATIENCE)
        begun, seen = time.monotonic(), 0
        while time.monotonic() - begun < 5:
            seen += reader.picture(2) is not None
        assert DAEMON[0].webcam_open()
    return {"first_live_s": round(first, 2), "fps": round(seen / 5, 1)}


@check
def after_the_call_the_webcam_is_closed_and_the_camera_stays(_: Path) -> dict[str, Any]:
    took = until(lambda: not DAEMON[0].webcam_open())
    with Reader(VIRTUAL) as reader:
        woke = until(DAEMON[0].webcam_open)
        live = reader.until("live", PATIENCE)
    until(lambda: not DAEMON[0].webcam_open())

    assert DAEMON[0].feeds()
    return {"closed_s": round(took, 2), "woke_s": round(woke, 2), "live_s": round(live, 2)}


@check
def a_webcam_unplugged_in_a_call_shows_the_card_and_comes_back(_: Path) -> dict[str, Any]:
    with Reader(VIRTUAL) as reader:
        reader.until("live", PATIENCE)
        (VIVID / "unbind").write_text("vivid.0")
        try:
            card = reader.until("card", PATIENCE)
            after = [until_picture(reader) for _ in range(15)]
        finally:
            (VIVID / "bind").write_text("vivid.0")
        back = reader.until("live", PATIENCE)
    # The module hands out the last picture once more when its buffers are read again.
    shown = [
        (reader.shows(data), reader.pixel(data, PERSON), reader.pixel(data, BACKGROUND))
        for data in after
    ]
    assert {kind for kind, _, _ in shown[2:]} == {"card"}, shown
    return {
        "card_s": round(card, 2),
        "back_s": round(back, 2),
        "just_after": [kind for kind, _, _ in shown[:3]],
    }


@check
def a_killed_daemon_that_starts_again_goes_on_in_the_same_call(_: Path) -> dict[str, Any]:
    with Reader(VIRTUAL) as reader:
        reader.until("live", PATIENCE)
        DAEMON[0].kill()
        DAEMON[0].start()
        took = reader.until("live", 3 * PATIENCE)
    return {"back_s": round(took, 1)}


@check
def chromium_lists_the_camera_and_shows_the_person_in_front_of_the_background(
    out: Path,
) -> dict[str, Any]:
    from tests.vm import browser

    return browser.look(out, W, H, seconds=3 * PATIENCE)


@check
def the_daemon_stops_and_lets_go_of_everything(_: Path) -> None:
    DAEMON[0].stop()

    assert DAEMON[0].process.returncode == 0
    assert not [h for h in holders(VIRTUAL) + holders(WEBCAM) if h.pid != os.getpid()]


def main() -> int:
    out = Path(sys.argv[1])
    wanted = set(sys.argv[2:])
    begun = time.monotonic()
    failed = 0
    with (out / "results.jsonl").open("w", buffering=1) as results:
        for function in CHECKS:
            name = function.__name__
            if wanted and name not in wanted:
                continue
            started = time.monotonic()
            try:
                figures, problem = function(out) or {}, ""
            except BaseException:
                figures, problem = {}, traceback.format_exc()
                failed += 1
            took = round(time.monotonic() - started, 1)
            line = {"name": name, "problem": problem, "figures": figures, "seconds": took}
            results.write(json.dumps(line) + "\n")
            print(f"{time.monotonic() - begun:6.1f} {'FAILED' if problem else 'ok'} {name} {took} s"
                  f" {figures}\n{problem}", end="", flush=True)  # fmt: skip
        for daemon in DAEMON:
            if daemon.process.poll() is None:
                daemon.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
