"""OpenVINO's GPU and NPU: listed, measured, taken if right and faster, remembered, and left."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import vcam.matting
from segmentation.engines import devices, nvidia
from segmentation.engines.layout import Layout, is_device
from segmentation.errors import EngineError, UntrustedError
from tests.fakes import left_half, room, settings
from vcam.compose.scene import Blur, Scene
from vcam.gpu import beside
from vcam.gpu.beside import Beside
from vcam.guard import Fault
from vcam.matting import Matting

NAMES = {"GPU.0": "Intel Iris Xe", "NPU": "Intel AI Boost"}


@pytest.fixture
def machine(monkeypatch):
    """A laptop whose OpenVINO lists a GPU and an NPU besides the processor."""
    made = SimpleNamespace(
        names=dict(NAMES), ms={"CPU": 8.0, "GPU.0": 3.0, "NPU": 2.0}, wrong={}, opened=[], now=0.0
    )

    class Core:
        @property
        def available_devices(self):
            return ["CPU", *made.names]

        def get_property(self, device, name):
            assert name == "FULL_DEVICE_NAME"
            return made.names[device]

    class Engine:
        layout = Layout("bisenet")

        def __init__(self, device):
            self.device = device

        def infer(self, x):
            made.now += made.ms[self.device] / 1000
            return np.full(x.shape[2:], 0.5 + made.wrong.get(self.device, 0.0), np.float32)

        def close(self):
            made.opened.append(f"closed {self.device}")

    def opener(*, device="CPU", **_):
        made.opened.append(device)
        if isinstance(made.wrong.get(device), BaseException):
            raise made.wrong[device]
        return Engine(device)

    made.opener = opener
    monkeypatch.setattr(devices, "_core", Core)
    monkeypatch.setattr(devices, "NODES", ("/",))
    monkeypatch.setattr(devices.time, "perf_counter", lambda: made.now)
    return made


def chosen(machine, folder, **how):
    return devices.fastest(cache_dir=folder, opener=machine.opener, **how)


def test_the_fastest_device_is_taken_and_remembered(machine, tmp_path):
    assert chosen(machine, tmp_path) == "NPU"
    assert machine.opened == ["CPU", "closed CPU", "GPU.0", "closed GPU.0", "NPU", "closed NPU"]

    machine.opened.clear()
    assert chosen(machine, tmp_path) == "NPU"
    assert machine.opened == []
    told = devices.report(tmp_path)
    assert devices.verdict(told, "NPU") == "chosen: 2.0 ms a frame, the processor 8.0 ms"
    assert devices.verdict(told, "GPU.0") == "not used: 3.0 ms a frame, the processor 8.0 ms"


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"size": (320, 576)}, {"names": {"NPU": "newer driver"}}], ids=str
)
def test_what_was_measured_holds_for_the_same_machine_alone(machine, tmp_path, change):
    chosen(machine, tmp_path)
    machine.names.update(change.pop("names", {}))
    machine.opened.clear()

    chosen(machine, tmp_path, **change)

    assert "NPU" in machine.opened


@pytest.mark.parametrize(
    ("changes", "device", "verdict"),
    [
        ({"ms": {"CPU": 2.2, "GPU.0": 3.0, "NPU": 2.0}}, "", "not used: 2.0 ms a frame"),
        ({"wrong": {"NPU": 0.06}}, "GPU.0", "computes something else than the processor"),
        ({"wrong": {"NPU": float("nan")}}, "GPU.0", "computes something else"),
        ({"wrong": {"NPU": UntrustedError("it shows the room")}}, "GPU.0", "it shows the room"),
        ({"wrong": {"NPU": RuntimeError("no driver\nmore")}}, "GPU.0", "not used: no driver"),
    ],
    ids=["barely faster", "wrong", "no number", "refused", "broken"],
)
def test_only_what_is_faster_and_right_is_taken(machine, tmp_path, changes, device, verdict):
    vars(machine).update(changes)

    assert chosen(machine, tmp_path) == device
    assert verdict in devices.verdict(devices.report(tmp_path), "NPU")


def test_a_device_whose_trial_ends_the_process_is_not_tried_again(machine, tmp_path):
    machine.wrong["NPU"] = SystemExit("as good as a crash")

    with pytest.raises(SystemExit):
        chosen(machine, tmp_path)
    machine.wrong.clear()

    assert chosen(machine, tmp_path) == ""
    assert "did not come to an end" in devices.verdict(devices.report(tmp_path), "NPU")


def test_without_other_devices_nothing_is_opened(machine, tmp_path, monkeypatch):
    machine.names.clear()
    assert chosen(machine, tmp_path) == ""

    monkeypatch.setattr(devices, "NODES", ("/nowhere*",))
    monkeypatch.setattr(devices, "_core", lambda: pytest.fail("OpenVINO was loaded"))
    assert devices.listed() == {}
    assert chosen(machine, tmp_path) == ""
    assert machine.opened == []


def test_a_driver_that_cannot_list_lists_nothing(machine, monkeypatch):
    def broken():
        raise RuntimeError("driver")

    monkeypatch.setattr(devices, "_core", broken)

    assert devices.listed() == {}


@pytest.mark.parametrize("damage", [b"", b"[1, 2", b'{"key": 1}', b'{"device": ["CPU"]}'])
def test_a_damaged_memory_is_measured_anew(machine, tmp_path, damage):
    chosen(machine, tmp_path)
    (tmp_path / devices.KEPT).write_bytes(damage)
    machine.opened.clear()

    assert chosen(machine, tmp_path) == "NPU"
    assert "NPU" in machine.opened
    assert devices.verdict(json.loads("{}"), "NPU") == "not measured yet"


def test_names_of_devices_are_told_from_those_of_engines():
    assert [is_device(x) for x in ("GPU", "GPU.1", "NPU", "cuda", "cpu", "auto", "CPU")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip


class Plain:
    """An engine that answers; `fails` is raised instead."""

    draws = False

    def __init__(self, name):
        self.info, self.fails, self.prepared = {"engine": "openvino", "device": name}, None, []
        self.gate, self.answers, self.closed = (threading.Event() for _ in range(3))
        self.gate.set()
        self.answers.set()

    def prepare(self, height, width):
        self.gate.wait(60)
        self.prepared.append((height, width))

    def matte(self, planes, *, seq, pts, scene=None):
        self.answers.wait(60)
        if self.fails:
            raise self.fails
        return left_half(SimpleNamespace(planes=planes, seq=seq, pts=pts))

    def adjust(self, **_):
        pass

    def reset(self):
        self.answers.wait(60)

    def lend_room(self):
        return None

    def close(self):
        self.closed.set()

    wipe = reset


@pytest.fixture
def laptop(monkeypatch):
    monkeypatch.setattr(nvidia, "why_not", lambda: "there is no NVIDIA GPU")
    monkeypatch.setattr(nvidia, "present", lambda: "")
    monkeypatch.setattr(devices, "fastest", lambda **_: "GPU.0")
    monkeypatch.setattr(vcam.matting, "on_battery", lambda: True)
    made = SimpleNamespace(opened=[], device=Plain("GPU.0"))

    def opener(chosen, cache_dir):
        made.opened.append(chosen.engine)
        return Beside(made.device) if chosen.engine == "GPU.0" else Plain("CPU")

    made.opener = opener
    return made


def until(found, used):
    """Send frames until the status says so; none of them is without a matte."""
    end, seq = time.monotonic() + 60, 0
    while not found():
        seq += 1
        matte = used.matte(room(seq), Scene(192, 108, Blur(60)))
        assert not isinstance(matte, Fault)
        assert time.monotonic() < end
        time.sleep(0.005)


def open_matting(laptop, engine="auto"):
    made = Matting(settings(matte={"engine": engine}).current.matte, None, laptop.opener)
    made.__enter__()
    while not made.ready:
        time.sleep(0.005)
    return made


def test_the_device_takes_over_when_it_is_ready_and_hands_back_when_it_fails(laptop):
    laptop.device.gate.clear()
    used = open_matting(laptop)
    try:
        until(lambda: used.info["waits"] == "the GPU is being made ready", used)
        assert used.info["device"] == "CPU"
        laptop.device.gate.set()
        until(lambda: used.info["device"] == "GPU.0", used)
        assert laptop.device.prepared == [(108, 192)]
        assert used.problem == ""

        laptop.device.fails = EngineError("OpenVINO failed on bisenet-small: device lost")
        until(lambda: used.info["device"] == "CPU", used)
        assert used.problem.startswith("OpenVINO failed on bisenet-small: device lost")
        assert sorted(laptop.opened) == ["GPU.0", "cpu"]
    finally:
        used.__exit__()


@pytest.mark.parametrize("while_it", ["makes a matte", "forgets", "compiles"])
def test_a_device_that_hangs_holds_nobody_up(laptop, monkeypatch, while_it):
    monkeypatch.setattr(beside, "LEAVING", 0.2)
    monkeypatch.setattr(beside, "PATIENCE", 5.0)
    device, used = laptop.device, open_matting(laptop)
    if while_it == "compiles":
        device.gate.clear()
        until(lambda: used.info["waits"] == "the GPU is being made ready", used)
    else:
        until(lambda: used.info.get("device") == "GPU.0", used)
        monkeypatch.setattr(beside, "PATIENCE", 0.2)
        device.answers.clear()
        if while_it == "forgets":
            used.wipe()
        until(lambda: used.info["device"] == "CPU", used)
        assert used.problem.startswith("the device has not answered for 0.2 s")

    started = time.monotonic()
    used.__exit__()
    spent = time.monotonic() - started

    assert spent < 30
    assert not device.closed.is_set()
    device.gate.set()
    device.answers.set()
    assert device.closed.wait(60)  # it ends by itself, should it ever answer


def test_whoever_asks_for_the_processor_gets_it(laptop):
    used = open_matting(laptop, "cpu")
    try:
        for seq in range(20):
            used.matte(room(seq), Scene(192, 108, Blur(60)))
            time.sleep(0.005)
        assert laptop.opened == ["cpu"]
    finally:
        used.__exit__()
