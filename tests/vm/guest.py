"""Runs inside the guest: every check in turn, one JSON line each into the directory it is given.

python -m tests.vm.guest OUT NAME...

Checks of the sink can run under every other module that VCAM_VM_MODULES names too: NAME[VERSION].
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.desktop import reader as timecode
from tests.vm import machine, starter
from tests.vm.reader import BACKGROUND, PERSON, Reader
from vcam.client import Client
from vcam.doctor.report import run_checks
from vcam.errors import SinkError, SourceError
from vcam.frame import SafeFrame
from vcam.keeper.messages import PROCESS as KEEPER
from vcam.sinks import open_sinks
from vcam.sinks.layouts import LAYOUTS
from vcam.sinks.v4l2loopback import V4L2LoopbackSink
from vcam.sources.webcam import open_webcam, wait_for_change
from vcam.system import v4l2
from vcam.system.devices import holders, list_cameras, list_virtual_cameras

WEBCAM, VIRTUAL, OTHER = "/dev/video0", "/dev/video10", "/dev/video11"
W, H, FPS = 320, 180, 10
PATIENCE = 300.0  # seconds; an emulated processor on a busy machine is slow
DEADLINE = 5  # seconds a picture may take through the daemon
VIVID = Path("/sys/bus/platform/drivers/vivid")

Check = Callable[[Path], "dict[str, Any] | None"]
CHECKS: list[tuple[str, Check]] = []  # in the order in which they run
SINK: list[Check] = []
MODULES: dict[str, str] = json.loads(os.environ.get("VCAM_VM_MODULES", "{}"))  # version: file
LOADED: tuple[str | None, dict[str, str]] = ("", {})  # the module that is in, "" for Debian's


def check(function: Check) -> Check:
    """Mark a function as something to be proven; what it returns are figures."""
    CHECKS.append((function.__name__, function))
    return function


def nightly(function: Check) -> Check:
    """The same, for what takes many minutes."""
    return check(function)


def sink_check(function: Check) -> Check:
    """The same, under every version of the module."""
    SINK.append(function)
    return check(function)


def load(module: str | None, **parameters: str) -> None:
    """Have a version of v4l2loopback in the kernel, "" for Debian's; None for none."""
    global LOADED
    if (module, parameters) == LOADED:
        return
    until(lambda: subprocess.run(["modprobe", "-r", "v4l2loopback"], check=False).returncode == 0)
    LOADED = None, {}
    if module is None:
        return
    given = [f"{key}={value}" for key, value in (machine.LOOPBACKS | parameters).items() if value]
    # Devices appear with the module: there is no udev to wait for.
    command = ["insmod", MODULES[module]] if module else ["modprobe", "v4l2loopback"]
    subprocess.run([*command, *given], check=True, timeout=60)
    LOADED = module, parameters


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
    return SafeFrame(data, time.monotonic(), 0, is_card=True, maker="vcam.compose.card")


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
    virtual, other = list_virtual_cameras()

    assert camera.path == WEBCAM
    assert camera.name == "vivid"
    assert {"YUYV", "NV12"} <= {mode.format for mode in camera.formats}
    assert "brightness" in camera.controls
    assert (virtual.path, virtual.name, virtual.ours) == (VIRTUAL, "VBG Camera", True)
    assert (other.path, other.name, other.ours) == (OTHER, "Clock", False)
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

    assert all(
        frame.planes.y.shape == (H, W) and frame.planes.u.shape == (H, W // 2) for frame in frames
    )
    assert [f.seq for f in frames] == sorted({f.seq for f in frames})
    times = [f.pts for f in frames]
    assert times == sorted(times)
    assert 0 <= ages[0] < 5
    white = frames[-1]
    assert white.planes.y[int(PERSON[1] * H), int(PERSON[0] * W)] > 150  # 75 % white
    return {"fps": round(19 / (times[-1] - times[0]), 1)}


@check
def the_webcam_sends_the_same_picture_as_nv12(_: Path) -> None:
    fd = v4l2.open_node(WEBCAM)
    try:
        v4l2.set_format(fd, v4l2.CAPTURE, W, H, "NV12")
    finally:
        os.close(fd)
    from vcam.sources import webcam

    order, webcam.READABLE = webcam.READABLE, ("NV12",)
    try:
        with open_webcam(WEBCAM, W, H, FPS) as source:
            until(lambda: source.read(5))
            frame = source.read(5)
    finally:
        webcam.READABLE = order

    assert source.format == "NV12"
    assert frame.planes.u.shape == (H // 2, W // 2)
    assert frame.planes.y[int(PERSON[1] * H), int(PERSON[0] * W)] > 150


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


@sink_check
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


@check
def programs_see_the_very_pixels_in_every_format_the_device_may_have(_: Path) -> dict[str, Any]:
    seen = {}
    for name in ("yuyv", "nv12", "i420"):
        sink = V4L2LoopbackSink(None, W, H, FPS, name)
        with sink, feeding(sink, colour(81, 90, 240)):
            told = subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "v4l2", "-i", VIRTUAL, "-frames:v", "2", "-f",
                 "rawvideo", "-pix_fmt", "yuv420p", "-"],
                capture_output=True, check=True, timeout=PATIENCE,
            )  # fmt: skip
            assert len(told.stdout) == 2 * W * H * 3 // 2, (name, told.stderr)
            seen[name] = told.stdout[0], told.stdout[W * H], told.stdout[-1]
            fd = v4l2.open_node(VIRTUAL)
            fourcc = v4l2.get_format(fd, v4l2.CAPTURE).fourcc
            os.close(fd)
        assert fourcc == LAYOUTS[name].fourcc
    assert set(seen.values()) == {(81, 90, 240)}, seen
    return {"seen": len(seen)}


def until_picture(reader: Reader) -> bytes:
    data = reader.picture(PATIENCE)
    assert data is not None
    return data


@sink_check
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


@sink_check
def a_size_that_the_device_does_not_take_is_an_error(_: Path) -> dict[str, Any]:
    frame = colour(16, 128, 128)
    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(frame)
        with Reader(VIRTUAL) as reader:
            with feeding(sink, frame):
                until_picture(reader)
            sink.__exit__(None, None, None)
            try:
                with V4L2LoopbackSink(None, 640, 360, FPS):
                    answer = "taken"  # 0.12.7 lets it happen
            except SinkError as error:
                answer = str(error)
            sink.__enter__()
    assert answer == "taken" or "expected 640x360" in answer or "busy" in answer
    return {"answer": answer}


@sink_check
def a_device_that_an_old_writer_left_stuck_is_mended(_: Path) -> dict[str, Any]:
    with written(W, H):
        pass
    fd = v4l2.open_node(VIRTUAL)
    known = v4l2.capabilities(fd)
    os.close(fd)

    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(colour(16, 128, 128))
        assert list_virtual_cameras()[0].ready

    return {"was_stuck": not known.captures and not known.outputs}


@sink_check
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


@sink_check
def a_reader_waits_while_nobody_writes_and_goes_on_with_the_next_writer(_: Path) -> dict[str, Any]:
    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        sink.write(colour(50, 128, 128))
        with Reader(VIRTUAL) as reader:
            with feeding(sink, colour(60, 128, 128)):
                until(lambda: reader.pixel(until_picture(reader), BACKGROUND)[0] == 60)
            repeated = 0
            while reader.picture(1) is not None:
                repeated += 1
                assert repeated < 16, "pictures come although nobody writes"
            sink.__exit__(None, None, None)
            assert reader.picture(1) is None
            sink.__enter__()
            with feeding(sink, colour(70, 128, 128)):
                until(lambda: reader.pixel(until_picture(reader), BACKGROUND)[0] == 70)
    return {"repeated": repeated}


@sink_check
def v4l2_compliance_finds_nothing_that_it_does_not_find_of_ffmpeg(_: Path) -> dict[str, Any]:
    """While a program writes; what both fail at is the module's."""
    sink = V4L2LoopbackSink(None, W, H, FPS)
    with sink, feeding(sink, colour(81, 90, 240)):
        tests, ours = compliance()
    source = f"color=red:size={W}x{H}:rate={FPS}"
    command = ["ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
    with ending(subprocess.Popen([*command, "-f", "v4l2", VIRTUAL])):
        until(lambda: list_virtual_cameras()[0].ready)
        _, theirs = compliance()
    assert tests > 40
    assert not set(ours) - set(theirs), (ours, theirs)
    return {"compliance": [tests, ours]}


def compliance() -> tuple[int, list[str]]:
    """How many tests v4l2-compliance made of the camera, and the names of those that failed."""
    told = subprocess.run(
        ["v4l2-compliance", "-d", VIRTUAL], capture_output=True, text=True, timeout=PATIENCE
    ).stdout  # fmt: skip
    made = re.findall(r"^\s*test (.+): (OK|FAIL)", told, re.M)
    return len(made), sorted({name for name, end in made if end == "FAIL"})


@sink_check
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


def other_modules() -> None:
    """The checks of the sink, under each version; put between the sink's and the daemon's."""
    for version in machine.VERSIONS:
        for function in SINK:
            CHECKS.append((f"{function.__name__}[{version}]", under(version, function)))


def under(version: str, function: Check) -> Check:
    def run(out: Path) -> dict[str, Any] | None:
        load(version)
        return function(out)

    return run


other_modules()


def errors() -> list[str]:
    """What `vcam doctor` calls an error, each with a command or a reason."""
    found = [finding for finding in run_checks() if finding.severity == "error"]
    assert all(finding.what and (finding.command or finding.why) for finding in found)
    return [finding.what for finding in found]


@check
def without_the_module_and_pipewire_each_is_missed_in_one_sentence(_: Path) -> dict[str, Any]:
    load(None)

    (found,) = errors()
    with open_sinks("auto", W, H, FPS) as sinks:
        loopback, pipewire = sinks.problems

    assert "not loaded" in found
    assert loopback.startswith("v4l2loopback: there is no virtual camera named 'VBG Camera'")
    assert "install/linux.sh" in loopback
    assert pipewire.startswith("pipewire: ")
    return {"doctor": found, "notes": [loopback, pipewire]}


@check
def another_programs_loopback_is_not_taken_for_ours(_: Path) -> dict[str, Any]:
    load("", card_label='"OBS Virtual Camera,DroidCam"')

    (found,) = errors()
    with pytest.raises(SinkError, match="only OBS Virtual Camera") as told:
        V4L2LoopbackSink(None, W, H, FPS).__enter__()

    assert "OBS Virtual Camera" in found
    assert told.value.hint
    load("", card_label='"OBS Virtual Camera,VBG Camera"')
    with V4L2LoopbackSink(None, W, H, FPS) as sink:
        assert sink.name == f"VBG Camera ({OTHER})"
    return {"doctor": found, "sink": str(told.value)}


@check
def without_exclusive_caps_doctor_says_why_programs_do_not_list_it(_: Path) -> dict[str, Any]:
    load("", exclusive_caps="0,0")

    (found,) = errors()

    assert f"{VIRTUAL} was made without exclusive_caps=1" in found
    return {"doctor": found}


AS_NOBODY = f"""
from vcam.doctor.report import run_checks
from vcam.errors import SinkError
from vcam.sinks.v4l2loopback import V4L2LoopbackSink
print(*(f.what for f in run_checks() if f.severity == "error" and f.command), sep="\\n")
try:
    V4L2LoopbackSink({VIRTUAL!r}, 640, 360, 15).__enter__()
except SinkError as error:
    print(error, error.hint)
"""


def anybody_may_look() -> None:
    """Let any user run the tests, and open the other devices: in this guest alone."""
    for path in (WEBCAM, OTHER):
        os.chmod(path, 0o666)
    for file in (Path(sys.executable), Path(sys.executable).resolve(), Path(__file__)):
        for folder in file.parents:
            folder.chmod(folder.stat().st_mode | 0o555)


@check
def a_device_that_belongs_to_root_is_refused_with_the_way_out(_: Path) -> dict[str, Any]:
    load("")
    os.chmod(VIRTUAL, 0o600)
    anybody_may_look()
    try:
        told = subprocess.run(
            [sys.executable, "-c", AS_NOBODY], user=65534, group=65534, extra_groups=[],
            env=os.environ | {"HOME": "/nonexistent", "USER": "nobody"},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.chmod(VIRTUAL, 0o660)

    assert told.stdout.splitlines() == [
        f"You may not open {VIRTUAL}.",
        f"no permission to open {VIRTUAL} "
        "Run `vcam doctor`; your user has to be in the group video.",
    ], told
    return {"told": told.stdout}


def told() -> list[str]:
    """Findings of the doctor in this guest, besides that no daemon runs."""
    return [f.what for f in run_checks() if f.what != "The daemon is not running."]


@contextlib.contextmanager
def file(path: str, text: str) -> Iterator[None]:
    """A file with this text, for as long as the block runs."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    try:
        yield
    finally:
        place.unlink()


@contextlib.contextmanager
def written(width: int, height: int) -> Iterator[None]:
    """Our device with one picture, written as old programs do."""
    fd = v4l2.open_node(VIRTUAL)
    try:
        got = v4l2.set_format(fd, v4l2.OUTPUT, width, height, "YU12", size=width * height * 3 // 2)
        os.write(fd, bytes(got.size))
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def feeder() -> Iterator[None]:
    """Another program that feeds our device."""
    test = f"testsrc=size={W}x{H}:rate=5"
    words = ["ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", test, "-pix_fmt", "yuv420p",
             "-f", "v4l2", VIRTUAL]  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as program, ending(program):
        until(lambda: list_virtual_cameras()[0].ready)
        yield


@contextlib.contextmanager
def without_modules() -> Iterator[Path]:
    """An empty folder where this kernel's modules are."""
    release = os.uname().release
    place = Path("/lib/modules", release)
    empty = Path("/run/empty")
    empty.mkdir(exist_ok=True)
    load(None)
    subprocess.run(["mount", "--bind", empty, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


AS_MEMBER = (
    "from vcam.doctor.report import run_checks; print(*(f.what for f in run_checks()), sep='|')"
)


def as_nobody(*groups: int) -> list[str]:
    """Findings of the doctor for a user of these groups."""
    done = subprocess.run(
        [sys.executable, "-c", AS_MEMBER], user=65534, group=65534, extra_groups=groups,
        env=os.environ | {"HOME": "/nonexistent", "USER": "nobody"},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return done.stdout.strip().split("|")


@nightly
def fifteen_faults_of_a_kernel_and_its_files_are_each_named_once(_: Path) -> dict[str, Any]:
    boot, options = "/etc/modules-load.d/vcam.conf", "options v4l2loopback devices=1\n"
    found: dict[str, list[str]] = {}
    load("")
    with file(boot, "v4l2loopback\n"):
        assert told() == []  # a healthy one
        with file("/etc/modprobe.d/a.conf", options), file("/etc/modprobe.d/b.conf", options):
            found["set options of"] = told()
        with feeder():
            found["another program feeds"] = told()
        with written(W + 1, H + 1):  # by this very process, which the doctor takes for a program
            found["which is odd"] = [w for w in told() if "another program" not in w.lower()]
        load(None)
        load("")
        words = ["v4l2-ctl", "-d", WEBCAM, "--stream-mmap", "--stream-count=100000"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(words, **quiet) as other, ending(other):
            until(lambda: any(h.pid == other.pid for h in holders(WEBCAM)))
            found["in use by v4l2-ctl"] = told()
        (VIVID / "unbind").write_text("vivid.0")
        try:
            found["no webcam was found"] = told()
        finally:
            (VIVID / "bind").write_text("vivid.0")
        os.environ["VCAM_OUTPUT_FPS"] = "fast"
        found["'fast'"] = told()
        del os.environ["VCAM_OUTPUT_FPS"]
        load("", card_label='"VBG Camera,VBG Camera"')
        found["are both called"] = told()
        load("", card_label='"OBS Virtual Camera,DroidCam"')
        found["no virtual camera is called"] = told()
        load("", exclusive_caps="0,0")
        found["without exclusive_caps=1"] = [w for w in told() if VIRTUAL in w]
        load("")
        with written(W, H):
            pass  # as an old writer leaves it behind
        found["is stuck"] = told()
        load(None)
        found["not loaded"] = told()
        with without_modules() as modules:
            found["is not installed"] = told()
            built = modules.parent / "9.9.9/updates/v4l2loopback.ko"
            with file(str(built), ""):
                found["built for kernel 9.9.9"] = told()
        load("")
        found |= of_permissions()
    found["at start-up"] = told()
    wrong = {key: said for key, said in found.items() if [key in s.lower() for s in said] != [True]}
    assert not wrong, wrong
    return {"named": len(found)}


def of_permissions() -> dict[str, list[str]]:
    """Findings for a user who may not open it: in no group, from the next login, in it."""
    import grp

    video = grp.getgrnam("video").gr_gid
    anybody_may_look()
    found = {}
    os.chown(VIRTUAL, 0, video)
    os.chmod(VIRTUAL, 0o660)
    found["you may not open"] = as_nobody()
    groups = Path("/etc/group").read_text()
    Path("/etc/group").write_text(groups.replace(f"video:x:{video}:", f"video:x:{video}:nobody,"))
    found["this session does not know"] = as_nobody()
    Path("/etc/group").write_text(groups)
    os.chmod(VIRTUAL, 0o600)
    found["although you are in the group"] = as_nobody(video)
    os.chmod(VIRTUAL, 0o660)
    return {words: [w for w in said if "The daemon" not in w] for words, said in found.items()}


def surroundings(out: Path) -> dict[str, str]:
    """What a daemon here finds in its environment."""
    os.makedirs("/run/user", mode=0o700, exist_ok=True)
    return {
        "XDG_RUNTIME_DIR": "/run/user",
        "VCAM_CAMERA_WIDTH": str(W), "VCAM_CAMERA_HEIGHT": str(H), "VCAM_CAMERA_FPS": str(FPS),
        "VCAM_OUTPUT_WIDTH": str(W), "VCAM_OUTPUT_HEIGHT": str(H),
        "VCAM_OUTPUT_FPS": str(FPS), "VCAM_OUTPUT_IDLE_AFTER": "1",
        "VCAM_MATTE_MODEL": str(out / "half.xml"), "VCAM_PRIVACY_DEADLINE": str(DEADLINE),
    }  # fmt: skip


class Daemon:
    """`vcam start` as a user's session starts it."""

    words = (
        "start", "--foreground", "--source", WEBCAM, "--sink", VIRTUAL, "--background", "#00ff00",
    )  # fmt: skip

    def __init__(self, out: Path) -> None:
        load("")
        self.environ = os.environ | surroundings(out)
        self._log = out / "daemon.log"
        self.start()

    def start(self) -> None:
        self._said = len(self._log.read_text()) if self._log.exists() else 0
        self.process = starter.Started(DOOR[0], list(self.words), self.environ, self._log)

    def runs(self) -> bool:
        """Whether it has got as far as showing pictures since it was started last."""
        assert self.process.wait() is None, "the daemon ended"
        return self._log.exists() and "running; sinks" in self._log.read_text()[self._said :]

    def feeds(self) -> bool:
        """Whether programs list the virtual camera."""
        assert self.process.wait() is None, "the daemon ended"
        return list_virtual_cameras()[0].ready

    def webcam_open(self) -> bool:
        assert self.process.wait() is None, "the daemon ended"
        return any(h.pid == self.process.pid for h in holders(WEBCAM))

    def kill(self) -> None:
        self.process.end(signal.SIGKILL, PATIENCE)

    def restart(self) -> None:
        """Kill it and start it again, as systemd does."""
        self.kill()
        self.start()

    def stop(self) -> int | None:
        status = self.process.end(signal.SIGTERM, PATIENCE)
        if status is None:
            self.kill()
        return status


DAEMON: list[Daemon] = []
DOOR: list[Connection] = []  # to who starts it


def daemon() -> Daemon:
    """The one that the checks below share, running."""
    if not DAEMON:
        DAEMON.append(Daemon(Path(os.environ["VM_OUT"])))
    elif DAEMON[0].process.wait() is not None:
        DAEMON[0].start()
    else:
        return DAEMON[0]
    until(DAEMON[0].feeds, 2 * PATIENCE)
    return DAEMON[0]


def calling() -> Reader:
    """A program in a call with the daemon."""
    daemon()
    return Reader(VIRTUAL)


@check
def the_daemon_makes_the_camera_appear_with_the_webcam_closed(_: Path) -> dict[str, Any]:
    begun = time.monotonic()
    daemon()
    took = time.monotonic() - begun

    time.sleep(2)
    assert not daemon().webcam_open()
    return {"start_s": round(took, 1)}


@check
def a_call_gets_the_person_in_front_of_the_background(_: Path) -> dict[str, Any]:
    with calling() as reader:
        first = reader.until("live", 2 * PATIENCE)
        begun, seen = time.monotonic(), 0
        while time.monotonic() - begun < 5:
            data = reader.picture(2)
            assert data is None or reader.shows(data) != "other", reader.describe(data)
            seen += data is not None
        assert daemon().webcam_open()
    return {"first_live_s": round(first, 2), "fps": round(seen / 5, 1)}


@check
def after_the_call_the_webcam_is_closed_and_the_camera_stays(_: Path) -> dict[str, Any]:
    took = until(lambda: not daemon().webcam_open())
    with calling() as reader:
        woke = until(daemon().webcam_open)
        live = reader.until("live", PATIENCE)
    until(lambda: not daemon().webcam_open())

    assert daemon().feeds()
    return {"closed_s": round(took, 2), "woke_s": round(woke, 2), "live_s": round(live, 2)}


@check
def a_webcam_unplugged_in_a_call_shows_the_card_and_comes_back(_: Path) -> dict[str, Any]:
    with calling() as reader:
        reader.until("live", PATIENCE)
        (VIVID / "unbind").write_text("vivid.0")
        begun = last_live = time.monotonic()
        try:
            shown: list[str] = []
            while shown[-15:] != ["card"] * 15:
                data = until_picture(reader)
                shown.append(reader.shows(data))
                assert shown[-1] != "other", reader.describe(data)
                if shown[-1] == "live":
                    last_live = time.monotonic()
                assert len(shown) < 200, shown
        finally:
            (VIVID / "bind").write_text("vivid.0")
        back = reader.until("live", PATIENCE)
    # What was under way may still be shown, and the module hands out its last buffer once more;
    # a picture older than the deadline may not.
    assert last_live - begun < DEADLINE, shown
    return {"live_for_s": round(last_live - begun, 2), "back_s": round(back, 2)}


@check
def a_killed_daemon_that_starts_again_goes_on_in_the_same_call(_: Path) -> dict[str, Any]:
    with calling() as reader, Witness() as witness:
        reader.until("live", PATIENCE)
        daemon().restart()
        # A module may hand out the last picture again; what a new daemon begins with is the card.
        took = reader.until("card", 3 * PATIENCE) + reader.until("live", PATIENCE)

    assert witness.looks
    assert witness.missed == 0
    return {"back_s": round(took, 1), "looks": witness.looks}


@check
def chromium_shows_the_person_in_front_of_the_background_before_and_after_a_kill(
    out: Path,
) -> dict[str, Any]:
    from tests.vm import browser

    daemon()
    figures = browser.look(out, W, H, seconds=3 * PATIENCE, upset=killed_meanwhile)
    return figures | {"survives": "kill -9"}


@nightly
def firefox_shows_the_person_in_front_of_the_background_before_and_after_a_kill(
    out: Path,
) -> dict[str, Any]:
    from tests.vm import browser

    daemon()
    figures = browser.look(out, W, H, seconds=3 * PATIENCE, upset=killed_meanwhile, name="firefox")
    return figures | {"survives": "kill -9"}


def seen_by(name: str) -> dict[str, Any]:
    """A program gets the person in front of the background, before and after a kill and a stop."""
    from tests.vm.programs import Program

    os.chmod(VIRTUAL, 0o666)
    daemon()
    program = Program(name, VIRTUAL, W, H)
    try:
        program.until("live", 2 * PATIENCE)
        first, begun = program.seen, time.monotonic()
        time.sleep(5)
        rate = (program.seen - first) / (time.monotonic() - begun)
        os.environ["XDG_RUNTIME_DIR"] = daemon().environ["XDG_RUNTIME_DIR"]
        until(lambda: Client.connect().status()["watchers"])
        named = Client.connect().status()["watchers"]
        for end in (daemon().kill, daemon().stop):
            end()
            daemon().start()
            program.last = "nothing"
            program.until("card", 3 * PATIENCE)
            program.until("live", PATIENCE)
    finally:
        program.close()
    until(lambda: not daemon().webcam_open())
    assert named, "nobody was named"
    assert not program.wrong, program.wrong
    return {
        "rate": round(rate, 1),
        "named": ", ".join(named),
        "survives": "kill -9, stop and start",
    }


@nightly
def ffmpeg_gets_the_person_before_and_after_a_kill(_: Path) -> dict[str, Any]:
    return seen_by("ffmpeg")


@nightly
def gstreamer_gets_the_person_before_and_after_a_kill(_: Path) -> dict[str, Any]:
    return seen_by("gst-launch-1.0")


@nightly
def mpv_gets_the_person_before_and_after_a_kill(_: Path) -> dict[str, Any]:
    return seen_by("mpv")


@nightly
def vlc_gets_the_person_before_and_after_a_kill(_: Path) -> dict[str, Any]:
    return seen_by("vlc")


def killed_meanwhile(program: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Kill the daemon and start it again under a browser, which leaves after ten silent seconds.

    A processor that is no emulated one starts the daemon in three, so after five the browser does
    not see the time go by.
    """
    begun = time.monotonic()
    daemon().restart()
    with contextlib.suppress(AssertionError):
        until(daemon().runs, 5)
    stopped = not daemon().runs()
    if stopped:
        os.killpg(program.pid, signal.SIGSTOP)
    try:
        until(daemon().runs)
    finally:
        os.killpg(program.pid, signal.SIGCONT)
    return {"restart_s": round(time.monotonic() - begun, 1), "stopped": stopped}


@check
def a_second_daemon_is_refused_in_one_sentence(_: Path) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, "-m", "vcam", *daemon().words], env=daemon().environ,
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip

    assert told.returncode == 1
    (said,) = [line for line in told.stderr.splitlines() if "VBG Camera runs already" in line]
    assert daemon().feeds()
    return {"said": said}


class Witness:
    """Looks all the time whether programs list the camera, while something else goes on."""

    def __init__(self) -> None:
        self.looks, self.missed = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            fd = v4l2.open_node(VIRTUAL)
            self.missed += not v4l2.capabilities(fd).captures
            os.close(fd)
            self.looks += 1

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def cost(pid: int) -> tuple[int, int, float]:
    """A process' descriptors, threads and megabytes in memory."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    megabytes = int(status["VmRSS"].split()[0]) / 1024
    return len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), megabytes


def cycles(
    times: int, cycle: Callable[[], object], settled: Callable[[], object]
) -> dict[str, Any]:
    """Do something over and over; nothing may stay behind, and the camera is listed throughout."""
    pid = daemon().process.pid
    with Witness() as witness:
        cycle()
        until(settled)
        before = cost(pid)
        for _i in range(times):
            cycle()
        until(settled)
        until(lambda: cost(pid)[:2] <= before[:2], 30)
        after = cost(pid)

    assert witness.looks > times
    assert witness.missed == 0
    # The allocator keeps what threads that ended had; what leaks a frame a time is 3 MB in ten.
    assert after[2] - before[2] < 16, (before, after)
    return {"cycles": times, "before": before, "after": after, "looks": witness.looks}


def replug(reader: Reader) -> None:
    (VIVID / "unbind").write_text("vivid.0")
    try:
        until(lambda: reader.until("card", PATIENCE) >= 0 and not daemon().webcam_open())
    finally:
        (VIVID / "bind").write_text("vivid.0")
    until(lambda: reader.until("live", PATIENCE) >= 0 and daemon().webcam_open())


def call() -> None:
    with calling() as reader:
        reader.until("live", PATIENCE)
    until(lambda: not daemon().webcam_open())


def plugged(times: int) -> dict[str, Any]:
    with calling() as reader:
        reader.until("live", PATIENCE)
        return cycles(times, lambda: replug(reader), lambda: reader.until("live", PATIENCE))


@check
def four_times_unplugged_and_plugged_in_leave_nothing_behind(_: Path) -> dict[str, Any]:
    return plugged(4)


@check
def four_calls_to_the_daemon_leave_nothing_behind(_: Path) -> dict[str, Any]:
    return cycles(4, call, lambda: not daemon().webcam_open())


@nightly
def two_hundred_times_unplugged_and_plugged_in_leave_nothing_behind(_: Path) -> dict[str, Any]:
    return plugged(200)


@nightly
def two_hundred_calls_to_the_daemon_leave_nothing_behind(_: Path) -> dict[str, Any]:
    return cycles(200, call, lambda: not daemon().webcam_open())


CELL = 4  # pixels of a bit of the time code, so that it fits on the person's side


@contextlib.contextmanager
def clock(path: str) -> Iterator[None]:
    """Feed a camera whose top rows on the left say when each picture was made."""
    fd = v4l2.open_node(path)
    v4l2.set_format(fd, v4l2.OUTPUT, W, H, "YUYV", size=W * H * 2)
    data = np.full((H, W, 2), (235, 128), np.uint8)
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(1 / FPS):
            data[:16, : 32 * CELL, 0] = np.repeat(timecode.code(time.monotonic()), CELL)
            os.write(fd, data.data)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        os.close(fd)


@nightly
def a_picture_takes_this_long_from_the_camera_to_the_program(_: Path) -> dict[str, Any]:
    os.environ["XDG_RUNTIME_DIR"] = daemon().environ["XDG_RUNTIME_DIR"]
    client = Client.connect()
    try:
        with clock(OTHER):
            client.change({"camera": {"source": OTHER}})
            with calling() as reader:
                until(lambda: client.status()["source"]["name"] == "Clock")
                reader.until("live", PATIENCE)
                ages = []
                while len(ages) < 60:
                    data = until_picture(reader)
                    if reader.shows(data) == "live":
                        ages.append(timecode.age(data[4 * W : 5 * W], CELL))
                status = client.status()
    finally:
        client.change({"camera": {"source": WEBCAM}})
    with calling() as reader:
        until(daemon().webcam_open)
        reader.until("live", PATIENCE)

    assert statistics.median(ages) < DEADLINE  # the rest of a figure from an emulated processor
    return {
        "median_ms": round(statistics.median(ages) * 1000),
        "pipeline": status.get("latency_ms"),
    }


@check
def the_daemon_stops_and_lets_go_of_everything(_: Path) -> None:
    assert daemon().stop() == 0
    # The keeper goes with whoever was in a call a moment ago.
    until(lambda: {h.pid for h in holders(VIRTUAL) + holders(WEBCAM)} <= {os.getpid()}, 10)


UNIT = """[Service]
ExecStart=
ExecStart={command}
WorkingDirectory={here}
{environment}
TimeoutStartSec=600
WatchdogSec=120
"""


class Systemd:
    """systemd as one user's service manager, with our unit where the installer puts it."""

    def __init__(self, out: Path) -> None:
        if DAEMON and DAEMON[0].process.wait() is None:
            DAEMON[0].stop()
        load("")
        environ = surroundings(out)
        self.environ = os.environ | environ
        units = Path(os.environ["HOME"], ".config/systemd/user")
        (units / "vcam.service.d").mkdir(parents=True)
        shutil.copy("install/vcam.service", units)
        # What differs here: where the program is, and a processor on which it starts in a minute.
        kept = environ | {key: os.environ[key] for key in os.environ if key.startswith("NUMBA_")}
        told = UNIT.format(
            command=shlex.join([sys.executable, "-m", "vcam", *Daemon.words]),
            here=Path.cwd(),
            environment="\n".join(f'Environment="{key}={value}"' for key, value in kept.items()),
        )
        (units / "vcam.service.d/guest.conf").write_text(told)
        os.makedirs("/run/systemd/system", exist_ok=True)  # by this systemd knows a real boot
        group = Path("/sys/fs/cgroup/user")
        if not group.parent.joinpath("cgroup.procs").exists():
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", group.parent], check=True)
        group.mkdir(exist_ok=True)
        self._log = (out / "systemd.log").open("ab")
        self._process = subprocess.Popen(
            ["sh", "-c", f"echo $$ > {group}/cgroup.procs; exec {machine.SYSTEMD} --user"],
            env=self.environ, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        until(lambda: os.path.exists("/run/user/systemd/private"))

    def __call__(self, *words: str) -> str:
        """What systemctl says."""
        done = self._ask(*words)
        assert done.returncode == 0, (words, done.stderr, self._ask("status", "vcam").stdout)
        return done.stdout.strip()

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemctl", "--user", *words], env=self.environ, capture_output=True, text=True,
            timeout=3 * PATIENCE, check=False,
        )  # fmt: skip

    def shows(self, what: str) -> int:
        """A number that systemd knows of our unit."""
        return int(self("show", "vcam", "-P", what))

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()


def groups_of(name: str) -> list[str]:
    """The control groups of the processes of this name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() == name:
                found.append((entry / "cgroup").read_text().strip())
    return found


@check
def systemd_starts_a_killed_daemon_and_keeps_the_camera_meanwhile(out: Path) -> dict[str, Any]:
    with Systemd(out) as systemd:
        systemd("start", "vcam")
        with Reader(VIRTUAL) as reader, Witness() as witness:
            reader.until("live", PATIENCE)
            kept = systemd.shows("NFileDescriptorStore")
            until(lambda: groups_of(KEEPER))
            (apart,) = groups_of(KEEPER)
            os.kill(systemd.shows("MainPID"), signal.SIGKILL)
            begun = time.monotonic()
            until(lambda: systemd.shows("NRestarts") == 1)
            reader.until("card", 3 * PATIENCE)  # a new daemon's first
            reader.until("live", PATIENCE)
            took = time.monotonic() - begun
        assert kept == 1
        # What a service starts ends with it, unless it has a unit of its own.
        assert "vcam.service" not in apart
        assert "/run-" in apart
        assert witness.looks
        assert witness.missed == 0
        systemd("stop", "vcam")
        until(lambda: not holders(VIRTUAL), 10)  # who ended as he was asked to leaves nothing
    return {"back_s": round(took, 1), "looks": witness.looks}


def main(door: Connection) -> int:
    DOOR.append(door)
    out, wanted = Path(sys.argv[1]), set(sys.argv[2:])
    begun = time.monotonic()
    failed = 0
    with (out / "results.jsonl").open("w", buffering=1) as results:
        for name, function in CHECKS:
            if name not in wanted:
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
        for running in DAEMON:
            running.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(starter.serve(main))
