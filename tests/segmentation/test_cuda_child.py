"""The GPU's process: frames through shared memory, and every failure ends on the processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.engines import nvidia
from segmentation.engines.layout import weights_dir
from segmentation.errors import EngineError
from segmentation.matte import Matte
from segmentation.sizes import AREAS
from tests.fakes import settings
from tests.segmentation.test_cuda import moving
from vcam import matting
from vcam.compose.scene import Blur, Look, Scene
from vcam.doctor.programs import _of_engine
from vcam.gpu import child
from vcam.gpu.child import GpuChild
from vcam.gpu.segmenter import CudaSegmenter, Form
from vcam.guard import Fault
from vcam.matting import Matting

WORKER = "tests.segmentation.gpu_worker"
W, H = 320, 180
SLOW = 300.0  # seconds; a machine with more to do than tests


def frame(seq, *, shift=0):
    return moving(seq, W, H, shift=shift)


def picture(level=128):
    return np.full((H * 3 // 2, W), level, np.uint8)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Nothing that works is taken for a hang here, however busy the machine."""
    monkeypatch.setattr(child, "PATIENCE", SLOW)
    monkeypatch.setattr(child, "SETTLED", 1)


@pytest.fixture
def open_child(monkeypatch):
    made = []

    def opener(fault="", **how):
        monkeypatch.setenv("VCAM_TEST_FAULT", fault)
        made.append(GpuChild(module=WORKER, opening=SLOW, **how))
        return made[-1]

    yield opener
    for each in made:
        each.close()


def matte(gpu, given, scene):
    return gpu.matte(given.planes, seq=given.seq, pts=given.pts, scene=scene)


def test_a_frame_that_went_through_the_child_is_the_one_made_here(open_child):
    path = weights_dir() / "bisenet-small.safetensors"
    here = CudaSegmenter(str(path), device="cpu", form=Form(area=AREAS["low"]))
    there = open_child()
    scenes = [Scene(W, H, picture()), Scene(W, H, picture(60)), Scene(W, H, Blur(60), Look(0.5))]

    for seq, scene in enumerate([*scenes, scenes[0]]):
        wanted = matte(here, frame(seq), scene)
        found = matte(there, frame(seq), scene)

        assert np.array_equal(found.composite, wanted.composite)
        assert np.abs(found.alpha - wanted.alpha).max() < 1e-5  # threads add up in another order
        assert (found.seq, found.cut, found.present) == (wanted.seq, wanted.cut, wanted.present)
    assert there.info["model"] == "bisenet-small"


def test_nothing_of_a_person_is_left_in_the_shared_memory(open_child):
    there = open_child()
    shown = matte(there, frame(0), Scene(W, H, picture()))
    assert shown.composite.any()

    there.wipe()
    assert not shown.composite.any()
    assert not any(view.any() for view in there._place.views)

    assert matte(there, frame(1), Scene(W, H, picture())).composite.any()


def test_the_child_ends_with_the_daemon_whatever_it_is_doing(monkeypatch):
    code = (
        "import time; from vcam.gpu.child import GpuChild\n"
        f"c = GpuChild(module={WORKER!r}, opening=300)\n"
        "print(c._process.pid, flush=True); time.sleep(300)"
    )
    monkeypatch.setenv("VCAM_TEST_FAULT", "")
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(daemon.stdout.readline())

    daemon.kill()
    daemon.wait()
    daemon.stdout.close()

    until = time.monotonic() + 30
    while running(pid):
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.05)


def running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_signals_for_the_daemon_do_not_end_the_child(open_child):
    there = open_child()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(there._process.pid, number)

    assert matte(there, frame(0), Scene(W, H, picture())) is not None


FAULTS = {
    "opening: a ValueError": "the GPU cannot be used: expected a device with an index",
    "opening: a missing library": "the GPU cannot be used: libcudnn",
    "opening: a hang": "has not answered for 20 s (opening)",
    "opening: an abort": "the GPU's process ended by signal 6",
    "building: no kernel for the card": "no kernel image is available",
    "frame: lost": "the GPU failed: CUDA error: an illegal memory access",
    "frame: memory": "the GPU's memory is full",
    "frame: a hang": "has not answered for 2 s (frame)",
    "frame: an abort": "the GPU's process ended by signal 6",
    "frame: another's": "the GPU answered for frame",
    "look: memory": "the GPU's memory is full",
    "wipe: a hang": "has not answered for 2 s (wipe)",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items(), ids=FAULTS)
def test_whatever_goes_wrong_the_processor_has_every_frame(monkeypatch, fault, reason):
    """Also the one on which the GPU failed, and no frame waits for it for long."""
    monkeypatch.setenv("VCAM_TEST_FAULT", fault)
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(nvidia, "present", lambda: "NVIDIA H100")
    monkeypatch.setattr(matting, "on_battery", lambda: False)
    if "hang" in fault:
        monkeypatch.setattr(child, "PATIENCE", 2.0)
    opening = 20.0 if "opening: a hang" in fault else SLOW

    def opener(chosen, cache_dir):
        return GpuChild(module=WORKER, opening=opening) if chosen.engine == "cuda" else Plain()

    until, seq, worst = time.monotonic() + SLOW, 0, 0.0
    with Matting(settings(matte={"engine": "auto"}).current.matte, None, opener) as made:
        while not made.ready:
            time.sleep(0.01)
        while not made.problem:
            assert time.monotonic() < until, f"nothing was noticed: {made.info}"
            look = Look(mirror=fault.startswith("look") and made._gpu_now)
            started = time.monotonic()
            found = made.matte(frame(seq), Scene(W, H, picture(), look))
            if fault.startswith("wipe") and made._gpu_now:
                made.wipe()
            worst = max(worst, time.monotonic() - started)
            assert not isinstance(found, Fault)
            assert found.seq == seq
            seq += 1
            time.sleep(0.02)

        found = made.matte(frame(seq), Scene(W, H, picture()))
        told = made.info

    assert not isinstance(found, Fault)
    assert found.composite is None
    assert worst < 5
    assert told["engine"] == "plain"
    assert reason in told["problem"]
    assert told["problem"].endswith("; the processor does the work")
    seen = SimpleNamespace(status={"engine": told}, gpu_problem="")
    assert reason in _of_engine(seen)


class Plain:
    """The processor's engine: quick, and the same for every frame."""

    draws, info = False, {"engine": "plain"}

    def matte(self, planes, *, seq, pts, scene=None):
        alpha, picture = np.zeros((4, 4), np.float32), np.zeros((3, 4, 4), np.uint8)
        return Matte(alpha, alpha, alpha, seq, pts, alpha, picture, False, False)

    def adjust(self, **_):
        pass

    def reset(self):
        pass

    wipe = close = reset


def test_the_child_ends_when_nobody_watched_for_long_and_comes_back(monkeypatch):
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(matting, "on_battery", lambda: False)
    monkeypatch.setattr(matting, "RELEASE", 0.2)
    made = []

    class Quick(Plain):
        draws, info = True, {"engine": "cuda"}

        def __init__(self):
            made.append("open")

        def prepare(self, planes, scene):
            return True

        def close(self):
            made.append("closed")

    def opener(chosen, cache_dir):
        return Quick() if chosen.engine == "cuda" else Plain()

    with Matting(settings(matte={"engine": "auto"}).current.matte, None, opener) as used:
        watch(used, "cuda")
        time.sleep(0.3)
        used.reset()
        until = time.monotonic() + SLOW
        while made != ["open", "closed"]:
            assert time.monotonic() < until
            time.sleep(0.01)

        watch(used, "cuda")
        assert made == ["open", "closed", "open"]
        assert used.problem == ""


def watch(used, engine):
    """Send frames until they come from `engine`."""
    until, seq = time.monotonic() + SLOW, 0
    while used.info["engine"] != engine:
        used.matte(frame(seq % 5), Scene(W, H, picture()))
        assert time.monotonic() < until
        time.sleep(0.01)


def test_on_a_battery_the_processor_does_the_work(monkeypatch):
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(nvidia, "present", lambda: "NVIDIA H100")
    monkeypatch.setattr(matting, "LOOK", 0.0)
    power = SimpleNamespace(battery=True)
    monkeypatch.setattr(matting, "on_battery", lambda: power.battery)

    class Quick(Plain):
        draws, info = True, {"engine": "cuda"}

        def prepare(self, planes, scene):
            return True

    def opener(chosen, cache_dir):
        return Quick() if chosen.engine == "cuda" else Plain()

    chosen = settings(matte={"engine": "auto"}).current.matte
    with Matting(chosen, None, opener) as used:
        watch(used, "plain")
        assert used.info["waits"] == "on a battery the NVIDIA GPU rests"
        power.battery = False
        used.tend()
        watch(used, "cuda")
        power.battery = True
        used.tend()
        watch(used, "plain")
    with Matting(chosen.model_copy(update={"engine": "cuda"}), None, opener) as used:
        watch(used, "cuda")  # who asks for it gets it


def test_a_gpu_that_was_lost_in_a_suspend_gets_another_try(monkeypatch):
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(matting, "on_battery", lambda: False)
    monkeypatch.setattr(matting, "LOOK", 0.0)

    class Quick(Plain):
        draws, info, lost = True, {"engine": "cuda"}, False

        def prepare(self, planes, scene):
            return True

        def matte(self, planes, **rest):
            if self.lost:
                raise EngineError("the GPU is gone")
            return super().matte(planes, **rest)

    made = []

    def opener(chosen, cache_dir):
        if chosen.engine == "cpu":
            return Plain()
        made.append(Quick())
        return made[-1]

    with Matting(settings(matte={"engine": "auto"}).current.matte, None, opener) as used:
        watch(used, "cuda")
        made[0].lost = True
        watch(used, "plain")
        assert used.problem.startswith("the GPU is gone")
        used.tend()
        assert len(made) == 1

        used.woke_up()
        used.tend()
        watch(used, "cuda")
        assert used.problem == ""
