"""The engine's life: opened off the loop, opened anew when it fails, and not in a frenzy."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

import vcam.matting
import vcam.system.reopener
from segmentation.errors import EngineError, UntrustedError
from tests.fakes import left_half, room, settings
from tests.segmentation import tiny_models
from vcam.compose.scene import Look, Scene
from vcam.guard import Fault
from vcam.matting import Matting


class Engine:
    """A segmenter that fails while `broken`; counts how often it was opened."""

    opened = 0
    info, draws = {"engine": "test"}, False

    def __init__(self, faults):
        self.faults = faults
        Engine.opened += 1

    def matte(self, planes, *, seq, pts, scene=None):
        if self.faults["inference"]:
            raise EngineError("it failed", hint="")
        return left_half(room(seq))

    def adjust(self, *, smoothing, people):
        pass

    def lend_room(self):
        return None

    def reset(self):
        pass

    def wipe(self):
        pass

    def close(self):
        pass


@pytest.fixture
def faults():
    Engine.opened = 0
    return {"inference": False, "opening": False}


@pytest.fixture
def matting(faults, tmp_path):
    def opener(chosen, cache_dir):
        if faults["opening"]:
            raise EngineError("no such model", hint="")
        return Engine(faults)

    with Matting(settings(matte={"engine": "cpu"}).current.matte, tmp_path, opener) as made:
        yield made


def until(true, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_a_matte(matting: Matting, seconds: float) -> float:
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if not isinstance(matting.matte(room(1)), Fault):
            return time.monotonic() - started
        time.sleep(0.03)
    raise AssertionError(f"no matte within {seconds} s: {matting.problem}")


def test_an_engine_that_fails_for_long_is_opened_again_ever_less_often(matting, faults):
    wait_for_a_matte(matting, 5)
    faults["inference"] = True

    for _ in range(100):  # three seconds of a camera
        assert isinstance(matting.matte(room(1)), Fault)
        time.sleep(0.03)

    assert 3 <= Engine.opened <= 7


def test_a_matte_comes_with_the_first_frame_after_an_engine_works_again(matting, faults):
    wait_for_a_matte(matting, 5)
    faults["inference"] = True
    for _ in range(20):
        matting.matte(room(1))

    faults["inference"] = False

    assert not isinstance(matting.matte(room(2)), Fault)


def test_a_model_that_was_away_for_long_is_in_use_within_two_seconds_of_its_return(
    tmp_path, faults
):
    faults["opening"] = True

    def opener(chosen, cache_dir):
        if faults["opening"]:
            raise EngineError("no such model", hint="")
        return Engine(faults)

    with Matting(settings(matte={"engine": "cpu"}).current.matte, tmp_path, opener) as matting:
        time.sleep(4)
        assert isinstance(matting.matte(room(1)), Fault)
        faults["opening"] = False

        assert wait_for_a_matte(matting, 5) < 2


def test_the_engine_is_opened_although_not_even_a_failure_could_be_told(tmp_path, monkeypatch):
    def forget(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(vcam.system.reopener.log, "warning", forget)
    tries = []

    def opener(chosen, cache_dir):
        tries.append(1)
        if len(tries) == 1:
            raise EngineError("no memory", hint="")
        return Engine({"inference": False})

    with Matting(settings(matte={"engine": "cpu"}).current.matte, tmp_path, opener) as matting:
        wait_for_a_matte(matting, 3)


def test_a_model_that_takes_brightness_for_a_person_never_replaces_the_one_in_use(tmp_path):
    bad = tiny_models.bright_is_person(tmp_path / "bright.xml")
    chosen = settings(matte={"engine": "cpu"}).current.matte
    with Matting(chosen, None) as matting:
        wait_for_a_matte(matting, 60)

        matting.apply(chosen.model_copy(update={"model": str(bad)}))
        until = time.monotonic() + 60
        while not matting.problem and time.monotonic() < until:
            time.sleep(0.02)

        assert "the model bright (fp32) was asked two pictures" in matting.problem
        assert not isinstance(matting.matte(room(1)), Fault)
        assert matting.info["model"].startswith("bisenet")


def test_a_model_that_takes_brightness_for_a_person_is_never_opened(tmp_path):
    bad = tiny_models.bright_is_person(tmp_path / "bright.xml")
    chosen = settings(matte={"engine": "cpu", "model": str(bad)}).current.matte
    with Matting(chosen, None) as matting:
        until = time.monotonic() + 60
        while not matting.problem and time.monotonic() < until:
            assert isinstance(matting.matte(room(1)), Fault)

        assert matting.matte(room(1)) == Fault("model cannot be used")
        assert matting.info["engine"] is None


def test_a_model_that_is_wrong_at_this_cameras_size_alone_is_named(faults, tmp_path):
    class Wrong(Engine):
        def matte(self, *planes, **rest):
            raise UntrustedError("the model small does not find the person; it is not used")

    def opener(chosen, cache_dir):
        return Wrong(faults)

    with Matting(settings(matte={"engine": "cpu"}).current.matte, tmp_path, opener) as matting:
        until = time.monotonic() + 5
        while not matting.problem and time.monotonic() < until:
            assert isinstance(matting.matte(room(1)), Fault)

        assert matting.info["problem"].startswith("the model small does not find the person")


def test_an_engine_without_frames_for_a_minute_is_closed_until_the_next(
    matting, faults, monkeypatch
):
    closed = []
    monkeypatch.setattr(Engine, "close", lambda engine: closed.append(engine))
    wait_for_a_matte(matting, 5)
    matting.reset()
    assert matting._segmenter is not None  # a pause that was short
    monkeypatch.setattr(vcam.matting, "RELEASE", 0.0)

    matting.reset()

    assert matting.info["engine"] == "test"  # what will be in use again
    until(lambda: len(closed) == 1)
    assert Engine.opened == 1
    assert matting.matte(room(1)) == Fault("starting")
    wait_for_a_matte(matting, 5)
    assert (Engine.opened, len(closed)) == (2, 1)


def test_the_memory_of_an_engine_that_rests_is_given_back_once_by_the_thread_that_tends(
    rested, monkeypatch
):
    given = []
    monkeypatch.setattr(vcam.matting, "let_go_of_libraries", lambda: given.append("libraries"))
    monkeypatch.setattr(vcam.matting, "give_back", lambda: given.append("heap"))
    until(lambda: rested._left)
    assert given == []

    for _ in range(3):
        rested.tend()

    assert given == ["heap", "libraries"]


def test_nothing_is_given_back_once_frames_come_again(rested, monkeypatch):
    given = []
    monkeypatch.setattr(vcam.matting, "let_go_of_libraries", lambda: given.append("libraries"))
    until(lambda: rested._left)
    wait_for_a_matte(rested, 5)

    rested.tend()

    assert (given, rested._left) == ([], False)


def test_the_memory_of_an_engine_that_is_followed_by_another_stays(matting, monkeypatch):
    given = []
    monkeypatch.setattr(vcam.matting, "let_go_of_libraries", lambda: given.append("libraries"))
    wait_for_a_matte(matting, 5)
    matting.apply(settings(matte={"engine": "cpu", "threads": 2}).current.matte)
    until(lambda: matting.ready)
    wait_for_a_matte(matting, 5)

    matting.tend()

    assert (Engine.opened, given) == (2, [])


def test_settings_that_change_while_no_frames_come_are_tried_at_once_and_kept_for_the_next(
    matting, faults, monkeypatch
):
    wait_for_a_matte(matting, 5)
    monkeypatch.setattr(vcam.matting, "RELEASE", 0.0)
    matting.reset()

    faults["opening"] = True
    matting.apply(settings(matte={"engine": "cpu", "threads": 2}).current.matte)
    until(lambda: matting.problem)
    faults["opening"] = False
    matting.apply(settings(matte={"engine": "cpu", "threads": 3}).current.matte)
    until(lambda: matting.ready)
    matting.reset()

    assert not matting.ready
    assert not matting.problem
    wait_for_a_matte(matting, 5)


@pytest.fixture
def rested(matting, monkeypatch):
    wait_for_a_matte(matting, 5)
    monkeypatch.setattr(vcam.matting, "RELEASE", 0.0)
    matting.reset()
    monkeypatch.setattr(vcam.matting, "RELEASE", 60.0)
    return matting


def test_an_engine_is_wiped_before_it_waits_to_be_closed(matting, monkeypatch):
    told, busy = [], threading.Event()
    monkeypatch.setattr(Engine, "wipe", lambda engine: told.append("wiped"))
    monkeypatch.setattr(Engine, "close", lambda engine: told.append("closed"))
    wait_for_a_matte(matting, 5)
    monkeypatch.setattr(vcam.matting, "RELEASE", 0.0)
    opener, matting._opener = matting._opener, lambda *given: busy.wait(5) and opener(*given)
    matting.apply(settings(matte={"engine": "cpu", "threads": 2}).current.matte)
    until(lambda: matting._models._opening)

    matting.reset()  # nothing was wiped before: a freeze ends in a pause, say

    assert told == ["wiped"]
    busy.set()
    until(lambda: "closed" in told)


def test_a_slider_moves_while_no_frames_come_and_opens_nothing(rested):
    asked = []
    rested._opener = lambda chosen, cache_dir: asked.append(chosen) or Engine({"inference": False})
    for smoothing in (0.1, 0.2, 0.3):
        rested.apply(settings(matte={"engine": "cpu", "smoothing": smoothing}).current.matte)
    time.sleep(0.1)
    assert not asked

    wait_for_a_matte(rested, 5)

    assert [chosen.smoothing for chosen in asked] == [0.3]


def test_an_engine_that_is_being_opened_is_not_opened_again_by_the_next_frame(rested):
    opened, busy = Engine.opened, threading.Event()
    opener, rested._opener = rested._opener, lambda *given: busy.wait(5) and opener(*given)
    rested.apply(settings(matte={"engine": "cpu", "threads": 2}).current.matte)
    until(lambda: rested._models._opening)

    for _ in range(3):
        assert rested.matte(room(1)) == Fault("starting")
    busy.set()
    wait_for_a_matte(rested, 5)
    time.sleep(0.1)

    assert Engine.opened == opened + 1


def test_an_engine_that_goes_on_for_one_that_cannot_be_opened_is_not_closed(
    matting, faults, monkeypatch
):
    wait_for_a_matte(matting, 5)
    monkeypatch.setattr(vcam.matting, "RELEASE", 0.0)
    faults["opening"] = True
    matting.apply(settings(matte={"engine": "cpu", "threads": 2}).current.matte)
    until(lambda: matting.problem)

    matting.reset()

    assert not isinstance(matting.matte(room(1)), Fault)


def test_the_room_is_forgotten_and_learnt_by_word_while_the_engine_rests(rested, monkeypatch):
    words = []
    monkeypatch.setattr(Engine, "tell_room", lambda engine, word: words.append(word), raising=False)
    assert not rested.tell_room("learn")  # it learns none
    rested._rests = {"engine": "test", "room": {"known": 0.0}}

    assert rested.tell_room("forget")
    assert rested.tell_room("learn")
    wait_for_a_matte(rested, 5)

    assert words == ["learn"]


class Drawing(Engine):
    """One that sets the person into a scene, and knows no part of a frame."""

    draws = True

    def prepare(self, planes, scene):
        return True

    def matte(self, planes, *, seq, pts, scene=None):
        return dataclasses.replace(left_half(room(seq)), composite=np.zeros((162, 192), np.uint8))


def test_a_part_of_the_frame_is_cut_by_the_processor(faults, tmp_path):
    chosen = settings(matte={"engine": "cuda"}).current.matte
    behind = np.zeros((162, 192), np.uint8)
    with Matting(chosen, tmp_path, lambda wanted, folder: Engine(faults)) as matting:
        wait_for_a_matte(matting, 5)
        matting._gpu, matting._gpu_problem = Drawing(faults), ""
        whole = Scene(192, 108, behind, Look())
        assert matting.matte(room(2), whole).composite is not None
        assert matting.packed

        for look in (Look(zoom=1.5), Look(framing="close")):
            scene = Scene(192, 108, behind, look)
            assert matting.matte(room(3), scene).composite is None
            assert not matting.packed
            assert matting.info["waits"] == "framing takes the processor"

        assert matting.matte(room(4), whole).composite is not None
