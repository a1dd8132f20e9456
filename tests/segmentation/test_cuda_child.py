"""The GPU's process: frames through shared memory, and every failure ends on the processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.engines import nvidia
from segmentation.engines.layout import weights_dir
from segmentation.errors import EngineError
from segmentation.matte import Matte
from segmentation.planes import Planes
from segmentation.sizes import AREAS
from tests.fakes import settings
from tests.segmentation.test_cuda import moving
from vcam import matting
from vcam.compose.scene import Blur, Look, Scene
from vcam.doctor.programs import _of_engine
from vcam.frame import Frame
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


def empty(seq):
    """The portrait's wall, with nothing on it but texture and a little noise."""
    small = np.random.default_rng(0).integers(60, 190, (H // 6, W // 6)).astype(np.uint8)
    y = cv2.resize(small, (W, H), interpolation=cv2.INTER_LINEAR)
    y = y + np.random.default_rng(seq).integers(0, 4, (H, W), np.uint8)
    grey = np.full((H // 2, W // 2), 128, np.uint8)
    return Frame(Planes(y, grey, grey), seq / 15, seq)


def test_words_to_the_room_travel_to_the_child_from_any_thread(open_child):
    there, scene = open_child(), Scene(W, H, picture())
    for seq in range(40):
        matte(there, empty(seq), scene)
    learnt, known = there.info["room"], there.room_map

    with ThreadPoolExecutor() as another:
        assert another.submit(there.tell_room, "forget").result()
    for seq in (40, 41):  # what is known after a frame is told with the next
        matte(there, empty(seq), scene)
    forgotten = there.info["room"]
    there.tell_room("learn")
    for seq in range(42, 50):
        matte(there, empty(seq), scene)
    assert there.copy_room() is None
    matte(there, empty(50), scene)
    kept, lent = there.copy_room(), there.lend_room()
    there.reset()
    wiped = there.info["room"], there.lend_room()
    there.recall_room(lent)
    for seq in (51, 52, 53):
        matte(there, empty(seq), scene)

    assert learnt["known"] == 1
    assert known.all()
    assert (forgotten["known"], forgotten["forgotten"]) == (0, "by your word")
    assert kept.shape == (4, *known.shape)
    assert kept[3].min() >= 3
    assert (wiped[0]["known"], wiped[1]) == (0, None)
    assert not lent.any()
    assert there.info["room"]["known"] == 1


def test_a_room_that_was_recalled_goes_with_the_next_wipe_though_no_frame_came(open_child):
    there, scene = open_child(), Scene(W, H, picture())
    matte(there, empty(0), scene)
    there.wipe()

    there.recall_room(np.full((4, 60, 100), 90, np.uint8))
    there.wipe()
    for seq in (1, 2):
        matte(there, empty(seq), scene)

    assert there.info["room"]["known"] == 0


def test_a_child_that_is_gone_knows_no_room(open_child):
    there = open_child()
    there._process.kill()
    there._process.wait()

    assert not there.tell_room("learn")
    assert there.room_map is None
    assert there.copy_room() is None
    assert there.lend_room() is None
    there.recall_room(kept := np.ones((4, 8, 8), np.uint8))
    assert not kept.any()
    with pytest.raises(EngineError, match="ended by signal 9"):
        matte(there, frame(0), Scene(W, H, picture()))


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

    def lend_room(self):
        return None


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


def test_the_room_goes_where_the_work_goes(monkeypatch):
    monkeypatch.setattr(nvidia, "why_not", lambda: "")
    monkeypatch.setattr(nvidia, "present", lambda: "NVIDIA H100")
    monkeypatch.setattr(matting, "LOOK", 0.0)
    power = SimpleNamespace(battery=True)
    monkeypatch.setattr(matting, "on_battery", lambda: power.battery)

    class Knows(Plain):
        room, told, lost = None, (), False

        def lend_room(self):
            return self.room

        def recall_room(self, kept):
            self.room = kept

        def tell_room(self, word):
            self.told = (*self.told, word)
            return True

        def reset(self):
            self.room = None

        @property
        def room_map(self):
            return self.info["engine"]

    class Quick(Knows):
        draws, info = True, {"engine": "cuda"}

        def prepare(self, planes, scene):
            return True

        def matte(self, planes, **rest):
            if self.lost:
                raise EngineError("the GPU is gone")
            return super().matte(planes, **rest)

    made = {}

    def opener(chosen, cache_dir):
        made[chosen.engine] = Quick() if chosen.engine == "cuda" else Knows()
        return made[chosen.engine]

    chosen = settings(matte={"engine": "auto"}).current.matte
    with Matting(chosen, None, opener) as used:
        watch(used, "plain")
        made["cpu"].room = "the wall"
        power.battery = False
        used.tend()
        watch(used, "cuda")
        assert (made["cpu"].room, made["cuda"].room) == (None, "the wall")
        assert used.tell_room("forget")
        assert (made["cpu"].told, made["cuda"].told) == ((), ("forget",))
        assert used.room_map == "cuda"

        made["cuda"].room = "the wall, and a chair"
        power.battery = True
        used.tend()
        watch(used, "plain")
        assert made["cpu"].room == "the wall, and a chair"
        assert used.room_map == "plain"

        power.battery = False
        used.tend()
        watch(used, "cuda")
        made["cuda"].lost = True
        watch(used, "plain")
        assert made["cpu"].room is None


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
