"""The loops at full size: compiled and plain agree to the bit, at every size."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import threading
import time

import cv2
import numpy as np
import pytest

from segmentation import jit
from segmentation.planes import Planes, flat, flat_chroma
from vcam.compose import arrays, kernels, kernels_plain
from vcam.compose.light import small as loops

rng = np.random.default_rng(5)
compiled = pytest.mark.skipif(
    jit.how("vcam.compose.kernels") == "plain", reason="needs numba: pip install numba"
)


def scene(height: int, width: int, h: int, w: int) -> tuple[np.ndarray, ...]:
    """Random planes, backdrop and low planes with a person in the middle; seeded."""
    rng = np.random.default_rng(height * width + h)
    low = np.zeros((arrays.PLANES, h, w), np.float32)
    y, x = np.mgrid[0:h, 0:w]
    inside = np.clip(4 - 9 * np.hypot((y + 0.5) / h - 0.6, (x + 0.5) / w - 0.5), 0, 1)
    soft = inside * (1 - inside) * 4
    low[arrays.A] = rng.normal(0, 0.5 / 255, (h, w)) * soft
    low[arrays.B] = inside - low[arrays.A] * 128
    low[2:8] = rng.random((6, h, w)) * 255
    luma = rng.integers(0, 256, (height, width), dtype=np.uint8)
    chroma = rng.integers(0, 256, (2, height, width // 2), dtype=np.uint8)
    backdrop = rng.integers(0, 256, height * width * 3 // 2, dtype=np.uint8)
    return low, luma, chroma, backdrop


def rim_of(low: np.ndarray) -> np.ndarray:
    """Light around the person of a scene, at half the size, with the same seed for the same."""
    rng, (h, w) = np.random.default_rng(low.size), low.shape[1:]
    rim = np.zeros((arrays.RIM, max(1, h // 2), max(1, w // 2)), np.float32)
    y, x = np.mgrid[0 : rim.shape[1], 0 : rim.shape[2]]
    away = np.abs(np.hypot(y / (h / 2) - 0.6, x / (w / 2) - 0.5) - 0.35)
    rim[arrays.WRAP] = np.clip(0.4 - 3 * away, 0, 1)
    rim[arrays.LIGHT :] = rim[arrays.WRAP] * rng.random((3, *rim.shape[1:])) * 255
    return rim


def arguments(
    low: np.ndarray,
    luma: np.ndarray,
    chroma: np.ndarray,
    backdrop: np.ndarray,
    out: np.ndarray,
    *,
    size: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
    step: int = 1,
    full_range: bool = False,
    clean: bool = True,
    wrap: bool = True,
    shown: np.ndarray | None = None,
) -> tuple[object, ...]:
    (height, width), (_, h, w) = luma.shape, low.shape
    u, v = (np.ascontiguousarray(plane[: height * step // 2]) for plane in chroma)
    layers = low, rim_of(low)
    return (
        (flat(luma), flat(luma if shown is None else shown)),
        flat_chroma(Planes(luma, u, v)),
        layers,
        (full_range, clean, wrap),
        tuple(arrays.grid((height, width), layer.shape[1:]) for layer in layers),
        (backdrop, out),
        (size[1], size[0], corner[1], corner[0]),
        kernels.scratch_for((height, width), (h, w)),
    )


def both(size: tuple[int, int], small: tuple[int, int], **options: object) -> list[np.ndarray]:
    low, luma, chroma, backdrop = scene(*size, *small)
    made = []
    for compose in (kernels._compose, kernels_plain.compose):
        out = np.zeros(size[0] * size[1] * 3 // 2, np.uint8)
        compose(*arguments(low, luma, chroma, backdrop, out, size=size, **options))
        made.append(out)
    return made


@compiled
@pytest.mark.parametrize("step", [1, 2], ids=["4:2:0", "4:2:2"])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("clean", [False, True], ids=["as it is", "decontaminated"])
@pytest.mark.parametrize("wrap", [False, True], ids=["", "wrapped"])
def test_compiled_and_plain_composites_are_the_same_bytes(step, full_range, clean, wrap):
    options = {"step": step, "full_range": full_range, "clean": clean, "wrap": wrap}

    ours, theirs = both((180, 320), (45, 80), **options)

    assert np.array_equal(ours, theirs)


@compiled
@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((2, 2), (1, 1)),
        ((2, 4), (160, 284)),
        ((34, 66), (160, 284)),
        ((18, 130), (5, 3)),
        ((718, 1278), (160, 284)),
        ((1080, 1920), (160, 284)),
        ((2160, 3840), (224, 398)),
    ],
    ids=str,
)
def test_every_even_size_comes_out_the_same(size, small):
    ours, theirs = both(size, small, full_range=True)

    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    "compose", [kernels._compose, kernels_plain.compose], ids=["compiled", "plain"]
)
def test_only_the_part_that_the_frame_covers_is_drawn(compose):
    low, luma, chroma, _ = scene(60, 80, 15, 20)
    size = (100, 160)
    backdrop = np.full(size[0] * size[1] * 3 // 2, 77, np.uint8)
    out = np.zeros_like(backdrop)

    luma |= 1
    options = {"clean": False, "wrap": False}

    compose(*arguments(low, luma, chroma, backdrop, out, size=size, corner=(20, 40), **options))

    area = size[0] * size[1]
    drawn = out[:area].reshape(size) > 0
    assert drawn[20:80, 40:120].all()
    assert drawn.sum() == 60 * 80
    u = out[area : area * 5 // 4].reshape(50, 80)
    assert u[10:40, 20:60].any()
    assert not u[:10].any()


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
def test_all_person_is_the_frame_and_all_room_is_the_backdrop(full_range):
    low, luma, chroma, backdrop = scene(64, 96, 16, 24)
    low[:] = 0
    size, area = luma.shape, luma.size
    person, room = np.zeros_like(backdrop), np.zeros_like(backdrop)

    kernels.compose(*arguments(low, luma, chroma, backdrop, room, size=size, wrap=False))
    low[arrays.B] = 1
    options = {"full_range": full_range, "wrap": False}
    kernels.compose(*arguments(low, luma, chroma, backdrop, person, size=size, **options))

    expected = np.floor(luma * (219 / 255) + 16.5) if full_range else luma
    assert np.array_equal(room, backdrop)
    assert np.abs(person[:area] - expected.reshape(-1)).max() == 0


def test_the_edge_lies_where_linear_enlargement_puts_it():
    import cv2

    low, luma, chroma, backdrop = scene(144, 256, 18, 32)
    low[arrays.A] = 0
    luma[:], backdrop[:] = 255, 0
    out = np.zeros_like(backdrop)

    options = {"clean": False, "wrap": False}
    kernels.compose(*arguments(low, luma, chroma, backdrop, out, size=luma.shape, **options))

    alpha = cv2.resize(low[arrays.B], (256, 144), interpolation=cv2.INTER_LINEAR)
    alpha = np.clip(alpha * 1.02 - 0.01, 0, 1)
    assert np.abs(out[: luma.size].reshape(luma.shape) - alpha * 255).max() <= 1


def test_without_machine_code_the_same_picture_comes_out():
    program = textwrap.dedent(
        """
        import os, hashlib
        os.environ["VCAM_LOOPS"] = "plain"
        from vcam.compose import kernels, kernels_plain
        from tests.vcam.test_kernels import arguments, scene
        import numpy as np
        assert kernels.compose is kernels_plain.compose
        low, luma, chroma, backdrop = scene(90, 160, 20, 36)
        out = np.zeros_like(backdrop)
        kernels.compose(*arguments(low, luma, chroma, backdrop, out, size=luma.shape))
        print(hashlib.sha256(out).hexdigest())
        """
    )
    low, luma, chroma, backdrop = scene(90, 160, 20, 36)
    out = np.zeros_like(backdrop)
    kernels.compose(*arguments(low, luma, chroma, backdrop, out, size=luma.shape))

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == hashlib.sha256(out).hexdigest()


@compiled
def test_other_threads_run_while_a_composite_is_drawn():
    low, luma, chroma, backdrop = scene(2160, 3840, 224, 398)
    low[arrays.B] = 0.5
    out = np.zeros_like(backdrop)
    values = arguments(low, luma, chroma, backdrop, out, size=luma.shape)
    drawing, turns = threading.Event(), 0

    def draw() -> None:
        for _ in range(12):
            kernels.compose(*values)
        drawing.set()

    thread = threading.Thread(target=draw)
    thread.start()
    while not drawing.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()

    assert turns > 24


def test_yuyv_is_taken_apart_the_same_way_by_both():
    data = rng.integers(0, 256, 2 * 34 * 60, dtype=np.uint8)
    sizes = (34 * 60, 34 * 30, 34 * 30)
    ours, theirs = ([np.zeros(size, np.uint8) for size in sizes] for _ in "ab")

    kernels._split_yuyv(data, *ours)
    kernels_plain.split_yuyv(data, *theirs)

    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_rows_with_padding_are_used_in_place():
    padded = rng.integers(0, 256, (20, 64), dtype=np.uint8)
    plane = padded[:, :50]

    data, line = flat(plane)

    assert line == 64
    assert data.size == 19 * 64 + 50
    assert np.shares_memory(data, padded)
    assert data[3 * 64 + 7] == plane[3, 7]


def test_mirrored_planes_are_copied_first():
    plane = rng.integers(0, 256, (20, 50), dtype=np.uint8)

    data, line = flat(plane[:, ::-1])

    assert line == 50
    assert np.array_equal(data.reshape(20, 50), plane[:, ::-1])


@pytest.mark.parametrize("size", [(80, 142), (5, 9), (2, 4), (2, 2)], ids=str)
def test_averages_of_colours_are_the_same_bits_and_those_of_a_box(size):
    planes = rng.random((3, *size), np.float32) * 255
    alpha = rng.random(size, np.float32)
    made = []
    for average in (loops._near, kernels_plain.near):
        out = np.zeros((3, *size), np.float32)
        average(planes, alpha, (0.4, 1 / -0.35), 1e-3, out, loops.near_scratch(size))
        made.append(out)

    weight = np.clip((alpha - 0.4) / -0.35, 0, 1)
    wanted = [cv2.blur(p * weight, (7, 7)) + p * 1e-3 for p in planes]
    wanted /= cv2.blur(weight, (7, 7)) + 1e-3
    assert np.array_equal(*made)
    assert np.abs(made[0] - wanted).max() < 0.01


@compiled
def test_light_that_spills_is_the_same_bits():
    around, lights = rng.random((54, 97), np.float32), rng.random((3, 54, 97), np.float32) * 255
    ours, theirs = (np.zeros((arrays.RIM, 54, 97), np.float32) for _ in "ab")

    loops._spilt(around, lights, 0.3, ours)
    kernels_plain.spilt(around, lights, 0.3, theirs)

    assert np.array_equal(ours, theirs)
    assert 0.2 < (ours[arrays.WRAP] > 0).mean() < 0.95
