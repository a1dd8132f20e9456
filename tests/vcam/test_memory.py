"""What held a picture is overwritten, and so is what was made of it and given back."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segmentation.planes import Planes
from segmentation.segmenter import Machine, Segmenter
from tests.fakes import H, W, drain, left_half, pipeline, room
from tests.vcam.test_decode import jpeg, picture
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Blur, Look
from vcam.control.preview import shrunk
from vcam.frame import Frame, FramePool
from vcam.guard import Guard
from vcam.room_view import RoomWindow
from vcam.sources.decode import MjpegDecoder
from vcam.system.memory import _clean, overwritten_when_freed, scrub, scrub_own

ROOT = Path(__file__).resolve().parents[2]
MARK = b"\xc5\x1a\xe9\x77\x3d\xb2\x08\xf4"


def arrays(thing: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """All arrays that are reached from an object of ours, by the way to them."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield path, thing.copy()
    elif isinstance(thing, (list, tuple)):
        for i, each in enumerate(thing):
            yield from arrays(each, f"{path}[{i}]", seen)
    elif isinstance(thing, dict):
        for key, each in thing.items():
            yield from arrays(each, f"{path}[{key}]", seen)
    elif type(thing).__module__.startswith(("vcam", "segmentation")):
        for name, each in getattr(thing, "__dict__", {}).items():
            yield from arrays(each, f"{path}.{name}", seen)


def different(one: Any, other: Any) -> list[str]:
    """Where two objects of the same kind hold different pixels."""
    ones, others = dict(arrays(one)), dict(arrays(other))
    shared = ones.keys() & others.keys()
    assert len(shared) > 3, shared
    return [at for at in sorted(shared) if not np.array_equal(ones[at], others[at])]


@pytest.fixture(scope="module")
def segmenters() -> Iterator[list[Segmenter]]:
    pair = [Segmenter(machine=Machine("cpu"), quality="balanced") for _ in range(2)]
    yield pair
    for segmenter in pair:
        segmenter.close()


def photograph(seed: int, seq: int) -> tuple[Frame, dict[str, Any]]:
    rng = np.random.default_rng(1000 * seed + seq)
    y = rng.integers(20, 230, (144, 256), np.uint8)
    u, v = (rng.integers(90, 160, (72, 128), np.uint8) for _ in range(2))
    frame = Frame(Planes(y, u, v), seq / 30, seq)
    return frame, {"seq": seq, "pts": seq / 30}


def test_a_wiped_segmenter_holds_nothing_of_what_it_saw(segmenters):
    for seed, segmenter in enumerate(segmenters):
        for seq in range(6):
            frame, told = photograph(seed, seq)
            segmenter.matte(frame.planes, **told)
    before = different(*segmenters)
    for segmenter in segmenters:
        segmenter.wipe()

    assert {"._engine._x", "._pictures[0]", "._smoother._before", "._carrier._alpha"} <= set(before)
    assert different(*segmenters) == []


def test_a_wiped_network_has_forgotten_its_last_picture(segmenters):
    outputs = []
    for seed, segmenter in enumerate(segmenters):
        frame, told = photograph(seed, 99)
        segmenter.matte(frame.planes, **told)
        segmenter.wipe()
        request = segmenter._engine._request
        outputs.append(np.array(request.get_output_tensor(0).data))

    assert np.array_equal(*outputs)


def test_a_wiped_segmenter_goes_on_as_a_new_one(segmenters):
    used, other = segmenters
    mattes = []
    for segmenter in (used, other):
        segmenter.wipe()
    for seq in range(3):
        frame, told = photograph(5, seq)
        used.matte(frame.planes, **told)
    used.wipe()
    for segmenter in (used, other):
        frame, told = photograph(7, 0)
        mattes.append(segmenter.matte(frame.planes, **told).alpha.copy())

    assert np.array_equal(*mattes)


@pytest.mark.parametrize("background", ["blur", "picture", "room"])
@pytest.mark.parametrize("size", [(W, H), (128, 128)])
def test_a_wiped_compositor_holds_nothing_of_what_it_drew(background, size):
    pair = [Compositor(*size) for _ in range(2)]
    look = Look(light_wrap=0.5, mirror=True, light=100, sharp=True)
    for seed, compositor in enumerate(pair):
        for seq in range(3):
            frame = room(seq, float(seq), seed=100 * seed)
            if background == "room":
                compositor.reveal(frame, look)
                continue
            behind: Any = np.full((size[1] * 3 // 2, size[0]), 99, np.uint8)
            behind = Blur(40) if background == "blur" else behind
            compositor.compose(frame, left_half(frame), behind, look)
    if background != "room":
        assert len(different(*pair)) > 5
    held = [(c._outputs, c._blurred, c._fitted, c._fitted_bare) for c in pair]
    for compositor in pair:
        compositor.wipe()

    assert different(*held) == [] if background != "room" else True
    assert not any(output.any() for output in pair[0]._outputs)
    assert (pair[0]._fitted, pair[0]._fitted_bare) == (None, None)


def test_the_guard_and_the_peek_overwrite_what_they_let_go():
    guard, peek, frame = Guard(), RoomWindow(lambda: 0.0), room(1, 1.0)
    guard.judge(frame, left_half(frame), "live")
    peek._until = 1.0
    peek.offer(frame)
    kept = [guard._last_raw, guard._last_picture, guard._last_person, peek._view.bgr]
    assert all(each.any() for each in kept)

    guard.wipe()
    peek.wipe()

    assert not any(each.any() for each in kept)


def test_the_loop_wipes_once_it_rests_and_what_it_showed_last_is_the_card():
    pipe, sink = pipeline([room(i) for i in range(6)])
    drain(pipe, 5)
    assert any(output.any() for output in pipe.compositor._outputs)

    pipe.settings.set_mode("paused")
    drain(pipe, 2)

    assert sink.frames[-1].is_card
    assert pipe.wipes == 1
    assert pipe._kept is None
    assert not any(output.any() for output in pipe.compositor._outputs)
    assert pipe.outlet.latest().is_card


def test_a_switched_camera_wipes_before_the_next_frame_and_starts_over():
    pipe, sink = pipeline([room(i) for i in range(12)])
    drain(pipe, 5)
    assert not sink.frames[-1].is_card

    pipe.forget("camera switched")
    drain(pipe, 3)

    # One card of the switch, one for each frame until the third; then that.
    assert [frame.is_card for frame in sink.frames[-4:]] == [True, True, True, False]
    assert pipe.wipes == 1


def test_a_piece_is_not_taken_again_while_a_view_of_it_is_held():
    stock = FramePool()
    held = []
    for seq in range(8):  # as frames are made: views of views, the piece itself let go
        view = stock.take(H * W).reshape(H, W)[: H // 2].reshape(-1, W)
        view[:] = seq
        held.append(view)

    assert [int(view[0, 0]) for view in held] == list(range(8))
    address = {view.ctypes.data for view in held}
    del view, held

    assert stock.take(H * W).ctypes.data in address, "what nobody holds is taken again"


def test_pieces_nobody_holds_are_overwritten_and_the_others_let_go():
    stock = FramePool()
    held, free = stock.take(100), stock.take(200)
    held.fill(7)
    free.fill(8)
    look = free.ctypes.data
    del free

    stock.wipe()

    assert set(held) == {7}
    assert stock._pieces == []
    assert read(look, 200) in (b"", bytes(200))


def test_a_decoder_that_was_wiped_decodes_the_next_picture():
    decoder = MjpegDecoder()
    first = decoder.decode(jpeg(picture(4))).y.copy()
    decoder.wipe()

    assert not any(decoder._inbox[:])
    assert np.array_equal(decoder.decode(jpeg(picture(4))).y, first)


def is_mapped(array: np.ndarray) -> bool:
    """True if the array's memory is a mapping of its own, which the system clears."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(getattr(array, "obj", array), mmap.mmap)


def test_copies_of_what_is_shown_leave_nothing_in_free_memory():
    shown = Compositor(1280, 720).reveal(room(0))

    assert is_mapped(shown.copy().data)
    assert is_mapped(shrunk(shown))


def given_back(size: int, *, overwritten: bool = False) -> tuple[int, int]:
    """Pieces of `size` bytes that still hold what was in them, before `scrub` and after."""
    library = ctypes.PyDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    places = []
    for _ in range(40):
        places.append(library.malloc(size))
        ctypes.memmove(places[-1], MARK * (size // 8), size // 8 * 8)
    # Every second one, so that they lie between others and are not merged with all that is free.
    freed = places[::2]
    with overwritten_when_freed() if overwritten else contextlib.nullcontext():
        for at in freed:
            library.free(at)
    # The last eight bytes of a piece are the library's own: the next piece's note of this one.
    left = sum(MARK in read(at, size - 8 * overwritten) for at in freed)
    scrub()
    return left, sum(MARK in read(at, size) for at in freed)


@pytest.mark.parametrize("size", [40, 1000, 1500, 5000, 100_000])
def test_what_was_given_back_is_cleared(size):
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33")

    # A process of its own with one heap, as the daemon has: a test before may have brought another.
    code = f"from tests.vcam.test_memory import given_back; print(*given_back({size}))"
    environ = os.environ | {"MALLOC_ARENA_MAX": "1"}
    child = subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True)
    left, after = map(int, child.stdout.split())

    assert left > 10
    assert after <= left // 3  # where somebody has put something else meanwhile, the rest stays


@pytest.mark.parametrize("size", [1500, 5000, 100_000])
def test_what_a_decoder_gives_back_is_overwritten_at_once(size):
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33")

    code = "from tests.vcam.test_memory import given_back; "
    code += f"print(*given_back({size}, overwritten=True))"
    environ = os.environ | {"MALLOC_ARENA_MAX": "1"}
    child = subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True)

    assert child.stdout.split()[0] == b"0"


def test_to_scrub_takes_less_than_a_moment():
    started = time.process_time()
    scrub()
    scrub_own()

    assert time.process_time() - started < 5  # some ten milliseconds, where others leave it time


def resting() -> tuple[float, float, float]:
    """Megabytes of files in memory before and after a process lets go of them, and what it says."""
    import cv2
    import openvino

    from vcam.system.memory import let_go_of_libraries

    def files() -> float:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return (sizes["Rss"] - sizes["Anonymous"]) * 1.024e-3

    def work() -> Any:
        rough = np.random.default_rng(3).random((90, 160, 3), np.float32)
        devices = openvino.Core().available_devices
        return devices, cv2.GaussianBlur(rough, (9, 9), 0).tobytes(), (rough[0] @ rough[0].T).sum()

    seen = []
    expected = work()
    for _ in range(2):
        before = files()
        given = let_go_of_libraries() / 1e6
        seen.append((before, files(), given))
        assert work() == expected
    return seen[0]


def test_what_libraries_only_read_is_given_back_and_read_again():
    if sys.platform != "linux":
        pytest.skip("needs Linux's /proc")

    code = "from tests.vcam.test_memory import resting; print(*resting())"
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True)

    assert child.returncode == 0, child.stderr
    before, after, given = map(float, child.stdout.split())
    assert given > 25
    assert before - after > 0.7 * given  # what goes on needs some of it at once


def mapping(start: int, access: str, *, kept: int = 0, own: int = 0, swapped: int = 0) -> str:
    """A library's 64 kB as `/proc/self/smaps` tells of it."""
    first = f"{start:x}-{start + 0x10000:x} {access} 00001000 fe:00 42   /usr/lib/libx.so.1\n"
    sizes = {"Size": 64, "Rss": kept, "Anonymous": own, "Swap": swapped, "SwapPss": swapped}
    return first + "".join(f"{name + ':':16}{size:8} kB\n" for name, size in sizes.items())


def test_what_the_loader_wrote_stays_even_while_it_is_swapped_out():
    maps = mapping(0x10000, "r-xp", kept=24) + mapping(0x20000, "r--p", kept=8, own=4)
    maps += mapping(0x30000, "r--p", kept=8, swapped=4) + mapping(0x40000, "r--p", swapped=64)
    maps += mapping(0x50000, "rw-p", kept=8) + mapping(0x60000, "r--p", kept=4)

    found = list(_clean(maps.splitlines(keepends=True)))

    path = "/usr/lib/libx.so.1"
    assert found == [(0x10000, 0x10000, path, 24 << 10), (0x60000, 0x10000, path, 4 << 10)]


def read(at: int, size: int) -> bytes:
    """What lies there; nothing where there is no memory any more."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        try:
            memory.seek(at)
            return memory.read(size)
        except OSError:
            return b""
