"""The PipeWire camera without PipeWire: what it offers, who is linked, what it says when alone."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.vcam.keeping import H, W, keeping, until
from vcam.compose.card import Card
from vcam.errors import SinkError
from vcam.frame import SafeFrame
from vcam.keeper import link as links
from vcam.keeper import node
from vcam.keeper.node import PAUSED, UNCONNECTED
from vcam.sinks import open_sinks, pipewire, wanted_sinks
from vcam.sinks.obs import ObsSink
from vcam.sinks.outlet import Outlet
from vcam.sinks.pipewire import PipeWireSink
from vcam.stats import Stats
from vcam.system.devices import LABEL


def frame(width=W, height=H):
    data = np.zeros((height * 3 // 2, width), np.uint8)
    return SafeFrame(data, time.monotonic(), 0, is_card=True, maker="vcam.compose.card")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A keeper whose session is always there."""
    monkeypatch.setattr(links, "_start", lambda folder: None)
    monkeypatch.setattr(pipewire.paths, "runtime_dir", lambda: tmp_path)
    monkeypatch.setattr(pipewire, "session_is_there", lambda: True)
    with keeping(tmp_path) as running:
        yield running


def test_structs_have_the_sizes_of_pipewires_abi():
    assert ctypes.sizeof(node._Chunk) == 16
    assert ctypes.sizeof(node._Data) == 40
    assert ctypes.sizeof(node._Meta) == 16
    assert ctypes.sizeof(node._SpaBuffer) == 24
    assert ctypes.sizeof(node._Header) == 32
    assert ctypes.sizeof(node._Events) == 96


def test_a_pod_is_size_type_and_a_body_padded_to_eight_bytes():
    assert node._int(7) == struct.pack("<IIiI", 4, 4, 7, 0)
    assert len(node._pod(10, bytes(8))) == 16
    assert all(len(node._choice(1, *range(n))) % 8 == 0 for n in range(1, 5))


def test_one_format_is_offered_and_it_is_i420_of_our_size():
    offered = node._offered(1280, 720, 29.97)

    size, kind, what, param = struct.unpack_from("<IIII", offered)
    assert (size, kind, what, param) == (len(offered) - 8, 15, 0x40003, 3)
    assert struct.pack("<II", 1280, 720) in offered
    assert struct.pack("<II", 30, 1) in offered


def test_a_camera_is_offered_as_one_and_its_client_is_none():
    assert node._PROPERTIES["media.class"] == "Video/Source"
    assert node._PROPERTIES["media.role"] == "Camera"
    assert node._PROPERTIES["node.description"] == "VBG Camera" == LABEL
    assert node._PROPERTIES["device.api"]
    assert node._CLIENT["application.name"] == "VBG Camera"
    assert node._CLIENT["application.icon-name"]
    assert "media.class" not in node._CLIENT


def test_a_missing_library_is_an_error_of_the_node(monkeypatch):
    def missing(name):
        raise OSError("libpipewire-0.3.so.0: cannot open shared object file")

    monkeypatch.setattr(node.c, "CDLL", missing)
    node._library.cache_clear()
    try:
        with pytest.raises(node.NodeError, match="cannot be loaded"):
            node.Node(W, H, 30)
    finally:
        node._library.cache_clear()


@pytest.mark.usefixtures("kept")
def test_nothing_but_a_safe_frame_of_its_size_is_taken():
    with PipeWireSink(W, H, 30) as sink:
        for wrong in (frame(width=32), np.zeros((54, 64), np.uint8)):
            with pytest.raises(TypeError):
                sink.write(wrong)
            with pytest.raises(TypeError):
                sink.hold(wrong, 0.5)


def test_the_outlet_leaves_card_deadline_and_rate_with_the_keeper(kept):
    card = Card(W, H)
    with open_sinks("pipewire", W, H, 30) as sinks:
        shown = sinks.outlet(card, Stats(), fps=30)
        shown.patience = 1e9
        with shown:
            kept.node.turn(PAUSED)
            shown.deadline, shown.interval = 0.25, 1 / 15
            shown.write(frame())
            until(lambda: kept.node.fps == 15)
            until(lambda: kept.node.shown)
            old = np.full((H * 3 // 2, W), 99, np.uint8)
            maker = "vcam.compose.compositor"
            shown.write(SafeFrame(old, time.monotonic() - 0.3, 1, is_card=False, maker=maker))
            until(lambda: kept.node.shown[-1] == card.frame(0.0, -1).data.tobytes())


def test_a_server_that_ended_is_an_error_and_the_camera_comes_back(kept):
    with open_sinks("pipewire", W, H, 30) as sinks:
        shown = sinks.outlet(Card(W, H), Stats(), fps=30)
        shown.patience = 1e9
        with shown:
            shown.write(frame())
            kept.node.turn(UNCONNECTED)
            until(lambda: (shown.write(frame()), shown.problems[0])[1])
            assert "ended or restarted" in shown.problems[0]
            until(lambda: (shown.write(frame()), len(kept.nodes) == 2 and kept.node.shown)[1])
            assert shown.problems == [""]


def test_a_session_that_comes_late_is_found_and_the_note_of_it_goes(kept, monkeypatch):
    there = [False]
    monkeypatch.setattr(pipewire, "session_is_there", lambda: there[0])
    wanted = [place for place in wanted_sinks("auto", W, H, 30) if place.name == "pipewire"]
    with Outlet(wanted, Card(W, H), Stats(), fps=30) as shown:
        shown.patience = 1e9
        until(lambda: "no PipeWire session" in shown.missing.get("pipewire", ""))
        there[0] = True
        until(lambda: (shown.write(frame()), kept.nodes and kept.node.shown)[1])

        assert shown.missing == {}
        assert shown.problems == [""]


def test_a_session_is_where_its_socket_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert not pipewire.session_is_there()
    (tmp_path / "pipewire-0").touch()
    assert pipewire.session_is_there()
    monkeypatch.setenv("PIPEWIRE_REMOTE", str(tmp_path / "other"))
    assert not pipewire.session_is_there()


def test_nobody_watches_a_paused_stream_and_an_unnamed_program_is_unknown(kept, monkeypatch):
    monkeypatch.setattr(pipewire, "_linked", lambda node: [])
    with PipeWireSink(W, H, 30) as sink:
        until(lambda: sink.watchers() == ["unknown program"])
        kept.node.turn(PAUSED)
        until(lambda: sink.watchers() == [])
    assert sink.watchers() == []


def test_a_program_that_links_late_is_named_within_a_second(kept, monkeypatch):
    looks = iter([[], [], ["Cheese"]])
    monkeypatch.setattr(pipewire, "_linked", lambda node: next(looks, ["Cheese"]))
    with PipeWireSink(W, H, 30) as sink:
        until(lambda: sink.watchers() == ["unknown program"])
        since = time.monotonic()
        until(lambda: sink.watchers() == ["Cheese"], 30)
        assert pipewire.LOOK_SOON * 2 < 1, since


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
