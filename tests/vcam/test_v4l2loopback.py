"""The virtual camera's writer, against a device that answers as v4l2loopback's versions do."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import time

import av
import numpy as np
import pytest
import pyvirtualcam

from segmentation.planes import Planes
from tests.vcam.keeping import keeping, until
from vcam.errors import SinkError
from vcam.frame import Frame, SafeFrame
from vcam.keeper import link as links
from vcam.sinks import v4l2loopback
from vcam.sinks.layouts import LAYOUTS
from vcam.sinks.v4l2loopback import V4L2LoopbackSink
from vcam.system import fd_store, v4l2
from vcam.system.devices import VirtualCameraInfo

W, H = 64, 36


class Module:
    """A loopback device on an ordinary file."""

    def __init__(self):
        self.flags = v4l2.OUTPUT
        self.driver = "v4l2 loopback"
        self.size = None  # what it is kept at
        self.fourcc = "YU12"
        self.refuse = {}
        self.asked = []
        self.rates = []  # that programs were told of

    def ioctl(self, fd, request, data):
        self.asked.append(request)
        if number := self.refuse.get(request):
            raise OSError(number, os.strerror(number))
        if request == v4l2.QUERYCAP:
            data[: len(self.driver)] = self.driver.encode()
            data[16:26] = b"VBG Camera"
            struct.pack_into("<II", data, 84, self.flags | 0x80000000, self.flags)
        elif request in (v4l2.S_FMT, v4l2.G_FMT):
            if request == v4l2.S_FMT:
                self.fourcc = v4l2.fourcc_name(struct.unpack_from("<I", data, 16)[0])
            if self.size:
                struct.pack_into("<II", data, 8, *self.size)
                struct.pack_into("<I", data, 16, v4l2.fourcc(self.fourcc))
        elif request == v4l2.S_PARM:
            kind, seconds, parts = struct.unpack_from("<I8xII", data)
            assert kind == v4l2.OUTPUT
            self.rates.append(parts / seconds)
        elif request == v4l2.STREAMON:
            self.flags = self.flags or v4l2.OUTPUT
        else:
            raise OSError(errno.EINVAL, "no")
        return 0


@pytest.fixture
def module(monkeypatch):
    made = Module()
    monkeypatch.setattr(v4l2.fcntl, "ioctl", made.ioctl)
    return made


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "video10"
    path.touch()
    return str(path)


def frame(value=7, width=W, height=H):
    data = np.full((height * 3 // 2, width), value, np.uint8)
    return SafeFrame(data, time.monotonic(), 0, is_card=True, maker="vcam.compose.card")


def refused(device, words):
    gc.collect()  # what other tests left lying about is closed now, not in between
    before = len(os.listdir("/proc/self/fd"))
    with (
        pytest.raises(SinkError, match=words) as told,
        V4L2LoopbackSink(device, W, H, 30),
    ):
        pass
    assert told.value.hint
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.usefixtures("module")
def test_the_very_bytes_reach_the_device(node):
    with V4L2LoopbackSink(node, W, H, 30) as sink:
        sink.write(frame(7))
        sink.write(frame(9))

        assert sink.name == f"VBG Camera ({node})"
        assert sink.watchers() == []
    size = W * H * 3 // 2
    with open(node, "rb") as file:
        assert file.read() == bytes([7]) * size + bytes([9]) * size


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_device_gets_the_layout_that_was_asked_for(module, node, name):
    noise = np.random.default_rng(7).integers(16, 240, (H * 3 // 2, W), np.uint8)
    picture = SafeFrame(noise, time.monotonic(), 0, is_card=True, maker="vcam.compose.card")
    other = {"i420": "yuv420p", "nv12": "nv12", "yuyv": "yuyv422"}[name]

    with V4L2LoopbackSink(node, W, H, 30, name) as sink:
        sink.write(picture)

    assert module.fourcc == LAYOUTS[name].fourcc
    with open(node, "rb") as file:
        written = np.frombuffer(file.read(), np.uint8)
    assert written.size == LAYOUTS[name].size(W, H)
    # What FFmpeg makes of it, back in planes: chroma of both rows of a pair is the same.
    rows = {"i420": (H * 3 // 2, W), "nv12": (H * 3 // 2, W), "yuyv": (H, W, 2)}[name]
    frame = av.VideoFrame.from_ndarray(written.reshape(rows), format=other)
    np.testing.assert_array_equal(frame.reformat(format="yuv420p").to_ndarray(), noise)


@pytest.mark.usefixtures("module")
def test_pyvirtualcam_writes_through_ours(node):
    with pyvirtualcam.Camera(
        W, H, 30, fmt=pyvirtualcam.PixelFormat.I420, device=node, backend="v4l2loopback"
    ) as camera:
        camera.send(np.full(W * H * 3 // 2, 3, np.uint8))

        assert camera.device == node
        assert camera.native_fmt == pyvirtualcam.PixelFormat.I420


@pytest.mark.usefixtures("module")
def test_nothing_but_a_safe_frame_of_its_size_is_taken(node):
    plane = np.zeros((H, W), np.uint8)
    with V4L2LoopbackSink(node, W, H, 30) as sink:
        for wrong in (Frame(Planes(plane, plane, plane), 0.0, 0), frame(width=32), plane):
            with pytest.raises(TypeError):
                sink.write(wrong)
    assert os.path.getsize(node) == 0


@pytest.mark.usefixtures("module")
def test_a_second_writer_is_refused(node):
    with V4L2LoopbackSink(node, W, H, 30):
        refused(node, "another program feeds it")
    with V4L2LoopbackSink(node, W, H, 30):
        pass


def test_a_device_that_another_program_feeds_is_refused(module, node):
    module.flags = v4l2.CAPTURE

    refused(node, "another program feeds it")


def test_a_device_kept_at_another_size_is_refused(module, node):
    module.size = (640, 480)

    refused(node, "stays at 640x480")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL])
def test_a_refused_size_says_which_one_is_kept(module, node, number):
    module.size = (640, 480)
    module.refuse[v4l2.S_FMT] = number

    refused(node, "stays at 640x480")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL])
def test_a_refused_format_of_the_same_size_means_another_writer(module, node, number):
    module.size = (W, H)
    module.refuse[v4l2.S_FMT] = number

    refused(node, "busy")


def test_a_module_that_streams_without_being_told_is_fine(module, node):
    module.refuse[v4l2.STREAMON] = errno.EINVAL

    with V4L2LoopbackSink(node, W, H, 30) as sink:
        sink.write(frame())


def test_a_stuck_device_is_mended(module, node):
    module.flags = 0

    with V4L2LoopbackSink(node, W, H, 30) as sink:
        sink.write(frame())
    assert v4l2.REQBUFS not in module.asked


def test_another_drivers_device_is_refused(module, node):
    module.driver = "uvcvideo"

    refused(node, "driver is 'uvcvideo'")


def test_a_device_that_is_not_there_is_refused():
    refused("/dev/video99", "does not exist")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([], "no virtual camera named 'VBG Camera'"),
        ([VirtualCameraInfo("OBS", "/dev/video9", False, True)], r"only OBS \(/dev/video9\)"),
    ],
)
def test_without_our_label_no_other_device_is_taken(monkeypatch, there, words):
    monkeypatch.setattr(v4l2loopback, "list_virtual_cameras", lambda: there)

    refused(None, words)


@pytest.mark.usefixtures("module")
def test_a_failing_write_is_an_error_and_not_a_line_on_a_terminal(node, monkeypatch):
    def fail(fd, data):
        raise OSError(errno.ENODEV, "No such device")

    with V4L2LoopbackSink(node, W, H, 30) as sink:
        monkeypatch.setattr(v4l2loopback.os, "write", fail)
        with pytest.raises(SinkError, match="cannot be written"):
            sink.write(frame())
        monkeypatch.setattr(v4l2loopback.os, "write", lambda fd, data: 10)
        with pytest.raises(SinkError, match="took 10 of"):
            sink.write(frame())
        monkeypatch.undo()


@pytest.mark.usefixtures("module")
def test_a_closed_sink_is_an_error_and_nobody_watches_it(node):
    sink = V4L2LoopbackSink(node, W, H, 30)

    with pytest.raises(SinkError, match="not open"):
        sink.write(frame())
    assert sink.watchers() == []


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    """A service manager's end of the line."""
    path = str(tmp_path / "notify")
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.bind(path)
    door.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield door
    door.close()


def handed_over(monkeypatch, path):
    """What a service manager hands to a daemon that it starts again."""
    fd = os.open(path, os.O_RDWR)
    os.set_inheritable(fd, True)
    monkeypatch.setattr(fd_store, "FIRST", fd)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDNAMES", v4l2loopback.KEPT)
    return fd


def test_the_service_manager_keeps_the_descriptor_for_the_next_daemon(module, node, keeper):
    module.size = (W, H)
    with V4L2LoopbackSink(node, W, H, 30) as sink:
        dropped, _, _, _ = socket.recv_fds(keeper, 4096, 4)
        message, (fd,), _, _ = socket.recv_fds(keeper, 4096, 4)

        assert b"FDSTOREREMOVE=1" in dropped
        assert message == b"FDSTORE=1\nFDNAME=v4l2loopback"
        assert os.path.samestat(os.fstat(fd), os.stat(node))
        assert sink.watchers() == []  # who keeps it does not watch
        os.close(fd)


def test_the_next_daemon_goes_on_as_the_same_writer(module, node, monkeypatch):
    module.size, module.flags = (W, H), v4l2.CAPTURE  # as somebody writes
    fd = handed_over(monkeypatch, node)

    with V4L2LoopbackSink(node, W, H, 30) as sink:
        sink.write(frame())

        assert sink._loopback.fd == fd
        assert v4l2.S_FMT not in module.asked
        assert not os.get_inheritable(fd)
    assert fd_store.take(v4l2loopback.KEPT) == []


def test_what_was_kept_at_another_size_is_let_go(module, node, monkeypatch, keeper):
    module.size = (2 * W, H)
    fd = handed_over(monkeypatch, node)

    with pytest.raises(SinkError, match="expected 64x36"):
        V4L2LoopbackSink(node, W, H, 30).__enter__()

    assert b"FDSTOREREMOVE=1" in keeper.recv(4096)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_descriptor_of_another_device_is_let_go(module, node, tmp_path, monkeypatch):
    (tmp_path / "video11").touch()
    module.size = (W, H)
    handed_over(monkeypatch, str(tmp_path / "video11"))

    with V4L2LoopbackSink(node, W, H, 30) as sink:
        assert os.path.samestat(os.fstat(sink._loopback.fd), os.stat(node))
        assert v4l2.S_FMT in module.asked


def test_programs_are_told_the_rate_of_the_settings_and_every_other(module, node):
    with V4L2LoopbackSink(node, W, H, 15) as sink:
        assert module.rates == [15]
        sink.announce(24)
        assert module.rates == [15, 24]


def test_a_rate_that_a_reader_left_is_put_back(module, node, monkeypatch):
    watching = []
    with V4L2LoopbackSink(node, W, H, 15) as sink:
        monkeypatch.setattr(sink._loopback.consumers, "names", lambda: list(watching))
        for names in ([], ["ffmpeg"], ["ffmpeg"], [], []):
            watching[:] = names
            sink.watchers()

    assert module.rates == [15, 15]


def test_a_device_without_a_word_for_the_rate_is_used_all_the_same(module, node):
    module.refuse[v4l2.S_PARM] = errno.ENOTTY
    with V4L2LoopbackSink(node, W, H, 15) as sink:
        sink.write(frame())


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A keeper of ours, as it is where no service manager keeps the device."""
    monkeypatch.setattr(links, "_start", lambda folder: None)
    monkeypatch.setattr(v4l2loopback.paths, "runtime_dir", lambda: tmp_path)
    with keeping(tmp_path) as running:
        yield running


def die(sink):
    """Let go of all that a process has when it is killed, without a word to anybody."""
    sink._spare.close()
    loopback = sink._loopback
    loopback.consumers.close()
    os.close(loopback.fd)
    loopback.fd = -1


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_keeper_has_the_device_and_the_next_daemon_gets_it(module, node, beside, name):
    module.size, size = (W, H), LAYOUTS[name].size(W, H)
    sink = V4L2LoopbackSink(node, W, H, 30, name).__enter__()
    sink.hold(frame(9), 0.5)
    sink.write(frame(7))
    until(lambda: sink._spare)
    one = os.fstat(sink._loopback.fd).st_ino
    die(sink)
    until(lambda: os.path.getsize(node) >= 3 * size)
    module.asked.clear()
    module.flags = v4l2.CAPTURE  # as somebody writes

    with V4L2LoopbackSink(node, W, H, 30, name) as after:
        assert v4l2.S_FMT not in module.asked
        assert os.fstat(after._loopback.fd).st_ino == one
        after.hold(frame(9), 0.5)
        until(lambda: after._spare)
        assert after.watchers() == []
    with open(node, "rb") as file:
        written = file.read()
    assert set(written) == {7, 9}
    assert len(written) % size == 0
    until(lambda: links.kept_device(beside.folder) is None)  # nobody watched


def test_another_keeper_stands_by_when_the_first_one_ends(module, node, beside, monkeypatch):
    monkeypatch.setattr(v4l2loopback, "AGAIN", 0.2)
    module.size = (W, H)
    with V4L2LoopbackSink(node, W, H, 30) as sink:
        sink.hold(frame(9), 0.5)
        until(lambda: sink._spare)
        first = sink._spare
        first._socket.shutdown(socket.SHUT_RDWR)  # as when it is killed

        until(lambda: sink.watchers() == [] and sink._spare not in (None, first))
        until(lambda: links.kept_device(beside.folder) is not None)


def test_what_the_keeper_has_at_another_size_is_let_go(module, node, beside):
    module.size = (W, H)
    sink = V4L2LoopbackSink(node, W, H, 30).__enter__()
    sink.hold(frame(9), 0.5)
    until(lambda: sink._spare)
    die(sink)
    os.close(links.kept_device(beside.folder))

    with pytest.raises(SinkError, match="stays at 64x36"):  # as the driver says, for some reader
        V4L2LoopbackSink(node, 2 * W, H, 30).__enter__()

    until(lambda: links.kept_device(beside.folder) is None)
