"""The PipeWire camera without PipeWire: what it offers, who is linked, what it says when alone."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from vcam.compose.card import Card
from vcam.errors import SinkError
from vcam.frame import SafeFrame
from vcam.sinks import open_sinks, pipewire
from vcam.sinks.obs import ObsSink
from vcam.sinks.pipewire import PAUSED, STREAMING, UNCONNECTED, PipeWireSink
from vcam.stats import Stats

W, H = 64, 36


def frame(width=W, height=H):
    data = np.zeros((height * 3 // 2, width), np.uint8)
    return SafeFrame(data, time.monotonic(), 0, is_card=True, maker="vcam.compose.card")


class Stream:
    """A stream whose state and readers are what the test says."""

    def __init__(self, state=STREAMING):
        self.state, self.node, self.starved = state, 40, False
        self.sent, self.closed = 0, False

    def send(self, data):
        self.sent += 1

    def close(self):
        self.closed = True


@pytest.fixture
def streams(monkeypatch):
    made = []

    def connected(self):
        made.append(Stream())
        return made[-1]

    monkeypatch.setattr(PipeWireSink, "_connected", connected)
    return made


def test_structs_have_the_sizes_of_pipewires_abi():
    assert ctypes.sizeof(pipewire._Chunk) == 16
    assert ctypes.sizeof(pipewire._Data) == 40
    assert ctypes.sizeof(pipewire._Meta) == 16
    assert ctypes.sizeof(pipewire._SpaBuffer) == 24
    assert ctypes.sizeof(pipewire._Header) == 32
    assert ctypes.sizeof(pipewire._Events) == 96


def test_a_pod_is_size_type_and_a_body_padded_to_eight_bytes():
    assert pipewire._int(7) == struct.pack("<IIiI", 4, 4, 7, 0)
    assert len(pipewire._pod(10, bytes(8))) == 16
    assert all(len(pipewire._choice(1, *range(n))) % 8 == 0 for n in range(1, 5))


def test_one_format_is_offered_and_it_is_i420_of_our_size():
    offered = pipewire._offered(1280, 720, 29.97)

    size, kind, what, param = struct.unpack_from("<IIII", offered)
    assert (size, kind, what, param) == (len(offered) - 8, 15, 0x40003, 3)
    assert struct.pack("<II", 1280, 720) in offered
    assert struct.pack("<II", 30, 1) in offered


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pipewire, "find_library", lambda name: "libpipewire-none.so.9")
    pipewire._library.cache_clear()
    try:
        with pytest.raises(SinkError, match="cannot be loaded") as told, PipeWireSink(W, H, 30):
            pass
    finally:
        pipewire._library.cache_clear()
    assert "Install PipeWire" in told.value.hint


@pytest.mark.usefixtures("streams")
def test_nothing_but_a_safe_frame_of_its_size_is_taken():
    with PipeWireSink(W, H, 30) as sink:
        for wrong in (frame(width=32), np.zeros((54, 64), np.uint8)):
            with pytest.raises(TypeError):
                sink.write(wrong)


def test_a_server_that_ended_is_an_error(streams):
    with PipeWireSink(W, H, 30) as sink:
        sink.write(frame())
        streams[0].state = UNCONNECTED
        with pytest.raises(SinkError, match="ended or restarted"):
            sink.write(frame())
    assert streams[0].sent == 1
    assert streams[0].closed


def test_a_reader_that_died_with_every_buffer_makes_the_stream_anew_off_the_loop(streams):
    made, where = streams, []
    with open_sinks("pipewire", W, H, 30) as sinks:
        shown = sinks.outlet(Card(W, H), Stats(), fps=30)
        shown.patience = 1e9
        with shown:
            made[0].starved = True
            made[0].close = lambda: where.append(threading.current_thread().name)
            shown.write(frame())
            assert "a program left with all of PipeWire's buffers" in shown.problems[0]
            until(lambda: len(made) == 2)
            until(lambda: (shown.write(frame()), made[1].sent)[1])

    assert made[0].sent == 0
    assert where == ["sink"]
    assert made[1].closed


def until(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nobody_watches_a_paused_stream_and_an_unnamed_program_is_unknown(streams, monkeypatch):
    monkeypatch.setattr(pipewire, "_linked", lambda node: [])
    with PipeWireSink(W, H, 30) as sink:
        assert sink.watchers() == ["unknown program"]
        streams[0].state = PAUSED
        assert sink.watchers() == []
    assert sink.watchers() == []


def test_programs_are_named_by_the_links_from_our_node(monkeypatch):
    objects = [
        {"id": 40, "info": {"props": {"node.name": "vbg_camera"}}},
        {"id": 50, "info": {"props": {"client.id": 5, "node.name": "webrtc"}}},
        {"id": 51, "info": {"props": {"node.description": "Cheese"}}},
        {"id": 52, "info": {"props": {"node.name": "other"}}},
        {"id": 5, "info": {"props": {"application.name": "Firefox"}}},
        {"id": 60, "info": {"output-node-id": 40, "input-node-id": 50}},
        {"id": 61, "info": {"output-node-id": 40, "input-node-id": 51}},
        {"id": 62, "info": {"output-node-id": 40, "input-node-id": 50}},
        {"id": 63, "info": {"output-node-id": 41, "input-node-id": 52}},
        {"id": 64, "info": None},
    ]
    told = SimpleNamespace(stdout=json.dumps(objects))
    monkeypatch.setattr(pipewire.subprocess, "run", lambda *_, **__: told)

    assert pipewire._linked(40) == ["Firefox", "Cheese"]


def test_without_pw_dump_nobody_is_named(monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError("pw-dump")

    monkeypatch.setattr(pipewire.subprocess, "run", none)

    assert pipewire._linked(40) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OBS serves elsewhere")
def test_obs_is_not_for_linux_and_says_what_is():
    with pytest.raises(SinkError, match="not used on Linux") as told, ObsSink(W, H, 30):
        pass
    assert "auto" in told.value.hint


def test_obs_takes_its_pictures_through_pyvirtualcam(monkeypatch):
    sent = []

    class Camera:
        def __init__(self, *size, **options):
            assert size == (W, H, 30)
            assert options["backend"] == "obs"

        def send(self, data):
            if len(sent) == 1:
                raise RuntimeError("gone")
            sent.append(data.shape)

        def close(self):
            sent.append("closed")

    monkeypatch.setattr("vcam.sinks.obs.sys.platform", "darwin")
    monkeypatch.setattr("vcam.sinks.obs.pyvirtualcam.Camera", Camera)
    with ObsSink(W, H, 30) as sink:
        sink.write(frame())
        assert sink.watchers() is None
        with pytest.raises(SinkError, match="cannot be written"):
            sink.write(frame())
    assert sent == [(H * 3 // 2, W), "closed"]
