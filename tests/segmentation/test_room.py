"""The room behind: learnt where nobody is, fitted to the light, forgotten when it is another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation import kernels
from segmentation.kernels import LIMITED
from segmentation.motion.room import AGAIN, ALONE, FIRST, FRAMES, PROVEN, Room
from tests.bench import known_room

H, W = 108, 192
MATRIX = np.ascontiguousarray(LIMITED, np.float32)
SCALE = np.array([[4.4, -2.1], [4.5, -2.0], [4.4, -1.8]], np.float32)
NOBODY = np.zeros((H, W), np.float32)


def wall(seed: int = 0) -> np.ndarray:
    """A room with edges and texture everywhere, (3, H, W) float32 Y, U and V."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 190, (3, H // 6, W // 6)).astype(np.float32)
    coarse[1:] = 128 + (coarse[1:] - 125) / 4
    made = np.stack([cv2.resize(p, (W, H), interpolation=cv2.INTER_LINEAR) for p in coarse])
    made[0] += np.kron(rng.choice((-12, 12), (H // 3, W // 3)), np.ones((3, 3)))
    return made


def disc(x: int = 96, radius: int = 30) -> np.ndarray:
    alpha = np.zeros((H, W), np.float32)
    cv2.circle(alpha, (x, 70), radius, 1.0, -1)
    return alpha


class Watched:
    """A room, the inputs it fills, and a camera with noise that looks fifteen times a second."""

    def __init__(self) -> None:
        self.room, self.x, self.now = Room(), np.zeros((1, 7, H, W), np.float32), 50.0
        self.rng = np.random.default_rng(1)
        self.before = NOBODY

    def see(
        self, scene: np.ndarray, alpha: np.ndarray = NOBODY, *, count: int = 1, noise: float = 2.0
    ) -> np.ndarray:
        """Look `count` times; return the last matte, after the room's objections."""
        out = alpha
        for _ in range(count):
            seen = scene + self.rng.normal(0, noise, scene.shape)
            picture = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
            self.room.look(picture, self.before, (MATRIX, SCALE), self.x)
            out = alpha.copy()
            self.room.object_to(out)
            self.room.learn(picture, out, self.now, present=bool(out.any()))
            self.before, self.now = out, self.now + 1 / 15
        return out


@pytest.fixture
def watched() -> Watched:
    """A room that was seen alone for three seconds."""
    made = Watched()
    made.see(wall(), count=45)
    assert made.room.known == 1.0
    return made


def before(room: np.ndarray, alpha: np.ndarray, level: float = 40.0) -> np.ndarray:
    """Somebody in plain clothes before the room."""
    person = np.array([level, 120, 140], np.float32)[:, None, None]
    return (room * (1 - alpha) + person * alpha).astype(np.float32)


@pytest.mark.parametrize("inputs", [3, 7])
def test_compiled_and_plain_differences_are_the_same_bits(inputs):
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (3, H, W), dtype=np.uint8)
    room = rng.uniform(0, 255, (3, H, W)).astype(np.float32)
    weight = rng.integers(0, 6, (H, W), dtype=np.uint8)
    fit = np.array([[1.02, 1], [0.98, 2], [1, -1]], np.float32)
    found = []
    for compare in (kernels._compare_compiled, kernels._compare_plain):
        x, apart = np.zeros((1, inputs, H + 4, W), np.float32), np.zeros((H, W), np.uint8)
        compare(picture, room, weight, fit, (MATRIX, SCALE), 3, x, apart)
        found.append((x, apart))

    for ours, theirs in zip(*found, strict=True):
        assert np.array_equal(ours, theirs)
    assert (found[0][0][0, 3:] != 0).any() == (inputs == 7)


@pytest.mark.parametrize("again", [AGAIN, -np.inf])
def test_compiled_and_plain_lessons_are_the_same_bits(again):
    found = []
    for learn in (kernels._learn_compiled, kernels._learn_plain):
        rng = np.random.default_rng(3)
        picture = rng.integers(0, 256, (3, H, W), dtype=np.uint8)
        near = rng.choice(np.uint8([0, 0, 1, 2]), (H, W))
        memory = (
            (picture + rng.normal(0, 4, (3, H, W))).astype(np.float32),
            rng.integers(0, 26, (H, W), dtype=np.uint8),
            rng.integers(0, 5, (H, W), dtype=np.uint8),
            rng.uniform(0, 100, (H, W)),
        )
        fit = np.array([[1.02, 1], [0.98, 2], [1, -1]], np.float32)
        learn(picture, near, fit, (100.0, again, 6.0, 24, 5), memory)
        found.append(memory)

    for ours, theirs in zip(*found, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_room_is_known_a_second_after_everybody_left():
    watched = Watched()

    watched.see(wall(), count=int(ALONE * 15))
    assert watched.room.known == 0
    watched.see(wall(), count=6)

    assert watched.room.known == 1.0
    assert np.abs(watched.x[0, 3:6]).max() < 0.5, "the room is as it was, but for noise"
    assert watched.x[0, 6].mean() > 0.5


def test_of_a_plain_wall_the_network_is_told_only_where_it_looks_otherwise():
    watched, plain, alpha = Watched(), wall(), disc(48)
    plain[:, :, : W // 2] = 120
    edge = W // 2 // 8 * 8

    watched.see(plain, count=45)
    known = watched.x[0, 6].copy()
    watched.see(before(plain, alpha), alpha, count=PROVEN + 2)

    assert watched.room.known == 1.0
    assert not known[:, :edge].any()
    assert known[:, edge + 8 :].mean() > 0.9
    body = cv2.erode(alpha, np.ones((5, 5))) > 0
    away = cv2.dilate(alpha, np.ones((5, 5)))[:, :edge] == 0
    assert watched.x[0, 6][body].min() == 1
    assert not watched.x[0, 3:, :, :edge][:, away].any()


def test_the_network_is_told_where_somebody_hides_the_room(watched):
    alpha = disc()
    watched.see(before(wall(), alpha), alpha, count=PROVEN + 2)

    apart = np.abs(watched.x[0, 3:6]).max(axis=0)
    assert np.median(apart[alpha > 0.5]) > 8 * np.median(apart[alpha == 0])


def test_what_stands_in_a_known_room_is_told_until_it_is_another_room(watched):
    alpha = disc()

    watched.see(before(wall(), alpha), alpha)
    there = watched.room.stands
    watched.see(wall(), alpha)  # called a person, and only the room
    nobody = watched.room.stands
    watched.see(wall(seed=5), alpha)
    elsewhere = watched.room.stands

    assert 0.8 * alpha.mean() < there < 1.2 * alpha.mean()
    assert nobody < 0.001
    assert elsewhere == 0


def test_of_somebody_in_the_rooms_colour_the_network_is_told_nothing():
    watched, plain, alpha = Watched(), wall(), disc(48)
    plain[:, :, : W // 2] = 120
    watched.see(plain, count=45)
    head = disc(48, 12)

    watched.see(before(plain, head), alpha, count=3 * PROVEN)  # all below the head is as the wall
    assert not watched.x[0, 3:].any()
    watched.see(before(plain, alpha), alpha, count=PROVEN - 1)
    assert not watched.x[0, 3:].any(), "not yet for sure"
    watched.see(before(plain, alpha), alpha, count=3)
    assert watched.x[0, 6].any()


def test_what_is_called_a_person_is_not_learnt_though_it_sits_still():
    watched, alpha = Watched(), disc()

    watched.see(before(wall(), alpha), alpha, count=15 * 80)

    known = watched.room.map > 0
    assert not known[alpha > 0].any()
    assert known[:, :30].all(), "beside the person it is"


def test_where_somebody_was_it_is_learnt_after_a_minute():
    watched, left, right = Watched(), disc(50), disc(140)
    watched.see(before(wall(), left), left, count=15)

    watched.see(before(wall(), right), right, count=int(15 * (FIRST + 3)))
    assert not (watched.room.map > 0)[left > 0].any()
    watched.see(before(wall(), right), right, count=int(15 * AGAIN))

    assert (watched.room.map > 0)[left > 0].all()


@pytest.mark.parametrize(("gain", "offset"), [(1.2, 0), (0.8, 10), (1.1, -12)])
def test_exposure_is_fitted_away(watched, gain, offset):
    other = wall()
    other[0] = other[0] * gain + offset
    other[1:] += 4
    watched.see(other, count=6)

    assert watched.room.known == 1.0
    assert np.abs(watched.x[0, 3:6]).mean() < 0.12
    assert np.allclose(watched.room._fit[0, 0], gain, atol=0.05)


def moved(scene: np.ndarray) -> np.ndarray:
    return np.roll(scene, (-6, 9), (1, 2))


def lamp(scene: np.ndarray) -> np.ndarray:
    light = np.linspace(0, 70, W, dtype=np.float32)
    return scene + np.stack([np.tile(light, (H, 1)), NOBODY, NOBODY])


@pytest.mark.parametrize(
    "change", [moved, lamp, lambda scene: wall(5)], ids=["moved", "lit", "other"]
)
def test_another_room_is_forgotten_at_once_and_learnt_again(watched, change):
    alpha = disc()
    watched.see(before(change(wall()), alpha), alpha, count=2)

    assert watched.room.known == 0
    assert "changed" in watched.room.forgotten
    assert not watched.x[0, 3:].any(), "nothing wrong is told"

    watched.see(change(wall()), count=30)
    assert watched.room.known == 1.0


def test_in_another_light_nothing_is_taken_out_by_the_picture_before(watched):
    """A frame after a stall, say, in which somebody is elsewhere and the light is on."""
    watched.see(before(wall(), disc(40)), disc(40), count=FRAMES)
    there = disc(140)

    out = watched.see(before(lamp(wall()), there), there)

    assert out[there > 0.5].min() == 1


def test_a_chair_that_was_moved_is_unlearnt_where_it_was(watched):
    scene = wall()
    scene[:, 60:100, 20:60] = np.array([30, 128, 128], np.float32)[:, None, None]
    alpha = disc(140)

    watched.see(before(scene, alpha), alpha, count=30)
    assert np.abs(watched.x[0, 3:6, 64:96, 24:56]).mean() > 0.5, "it may be somebody"
    watched.see(before(scene, alpha), alpha, count=45)

    assert watched.room.known == 1.0
    assert np.abs(watched.x[0, 3:6, 64:96, 24:56]).mean() < 0.2


def test_the_room_found_again_in_the_matte_is_taken_out_of_it(watched):
    person, pouf = disc(120), np.zeros((H, W), np.float32)
    pouf[50:90, 10:60] = 1

    out = watched.see(before(wall(), person), np.maximum(person, pouf), count=FRAMES)

    assert out[54:86, 14:56].max() < 0.05, "the pouf is gone"
    assert out[person > 0.5].mean() > 0.97, "and the person is not"
    assert watched.room.showing
    watched.see(before(wall(), person), person)
    assert not watched.room.showing


@pytest.mark.parametrize("clothes", ["plain", "as the wall", "printed"])
def test_it_never_speaks_against_a_person(clothes):
    """Nor against one in the colour of a plain wall, or with a texture as fine as the room's."""
    room = wall() if clothes != "as the wall" else np.full((3, H, W), 128, np.float32)
    room[:, : H // 4] = wall()[:, : H // 4]
    watched, rng = Watched(), np.random.default_rng(4)
    watched.see(room, count=45)
    least = 1.0
    for step in range(100):
        alpha = disc(96 + round(20 * np.sin(step / 9)))
        level = {"plain": 200.0, "as the wall": 128.0, "printed": 128.0}[clothes]
        scene = before(room, alpha, level)
        if clothes == "as the wall":
            scene = room.copy()
        if clothes == "printed":
            print_ = cv2.resize(rng.uniform(-60, 60, (18, 32)).astype(np.float32), (W, H))
            scene[0] += print_ * alpha
        least = min(least, float(watched.see(scene, alpha)[alpha > 0.5].mean()))

    assert least > 0.995


def test_a_ghost_of_somebody_shows_nothing_of_the_room(watched):
    """A room learnt with somebody in it differs where they were: that alone is no person."""
    alpha = disc()
    ghost = Watched()
    ghost.see(before(wall(), alpha), NOBODY, count=45)

    out = ghost.see(wall(), NOBODY, count=3)

    assert not out.any()
    assert ghost.room.known > 0.9
    ghost.see(wall(), count=75)
    assert np.abs(ghost.x[0, 3:6]).mean() < 0.1, "and is unlearnt in some seconds"


def test_somebody_the_network_does_not_see_is_not_learnt(watched):
    """Who comes in and moves stays a difference, of which the network is told where it may be."""
    for step in range(150):
        alpha = disc(round(150 - 40 * min(1, step / 40) + 6 * np.sin(step / 4)))
        watched.see(before(wall(), alpha), NOBODY)

    apart = np.abs(watched.x[0, 3:6]).max(axis=0)[alpha > 0.5]
    learnt = np.abs(watched.room._room[0] - wall()[0])[alpha > 0.5] > 10
    assert learnt.mean() < 0.1
    assert np.mean(apart > 1) > 0.1


def test_another_size_keeps_what_is_known(watched):
    watched.room.resize(H // 2, W // 2)

    assert watched.room.map.shape == (H // 2, W // 2)
    assert watched.room.known == 1.0
    watched.x = np.zeros((1, 7, H // 2, W // 2), np.float32)
    small = np.stack([cv2.resize(p, (W // 2, H // 2)) for p in wall()])
    watched.before = np.zeros((H // 2, W // 2), np.float32)
    watched.see(small, watched.before)
    assert watched.room.known == 1.0
    assert np.abs(watched.x[0, 3:6]).mean() < 0.4


def test_nothing_is_left_when_it_was_wiped(watched):
    watched.room.wipe()

    for name, kept in vars(watched.room).items():
        if isinstance(kept, np.ndarray) and name not in ("_last_person", "_fit", "_nobody"):
            assert not kept.any(), name
    assert watched.room.known == 0
    assert watched.room.forgotten == "", "that is no reason to tell"


@pytest.mark.parametrize(
    "end",
    [Room.wipe, Room.forget, lambda room: room.resize(H // 2, W // 2)],
    ids=["wiped", "forgotten", "another size"],
)
def test_pictures_that_were_kept_are_overwritten(watched, end):
    watched.see(before(wall(), disc()), disc(), count=30)
    room = watched.room
    kept = {name: vars(room)[f"_{name}"] for name in ("room", "lit", "seen", "apart", "otherwise")}
    kept["detail"] = room._furniture._detail
    assert all(picture.any() for picture in kept.values())

    end(room)

    assert [name for name, picture in kept.items() if picture.any()] == []


def test_every_room_that_the_benchmark_compares_looks_and_objects():
    rooms = known_room.ways(np.zeros((H, W), np.bool_), alone=True)

    assert rooms.keys() == set(known_room.WAYS)
    for room in filter(None, rooms.values()):
        x = np.zeros((1, 7, H, W), np.float32)
        room.look(np.zeros((3, H, W), np.uint8), np.zeros((H, W), np.float32), (MATRIX, SCALE), x)
        room.object_to(np.zeros((H, W), np.float32))
