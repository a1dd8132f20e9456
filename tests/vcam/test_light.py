"""Light on the person: brought closer to the backdrop's, believable, and nobody's room in it."""

from __future__ import annotations

import dataclasses
import itertools
import math

import cv2
import numpy as np
import pytest
from PIL import Image

from segmentation import jit
from segmentation.matte import Matte
from segmentation.planes import Planes, flat, flat_chroma, i420
from tests.vcam.test_compositor import H, W, disc, image_frame, matte_for
from vcam.compose import arrays, shipped
from vcam.compose.backdrops import open_backdrop
from vcam.compose.compositor import Compositor, look_of
from vcam.compose.light import loops, loops_plain, seen
from vcam.compose.light.person import Light
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame
from vcam.settings import config

# Skin from dark to light, sRGB.
SKINS = [
    (66, 42, 33),
    (95, 62, 48),
    (130, 88, 66),
    (165, 118, 92),
    (204, 156, 128),
    (236, 196, 172),
]
LIT = Look(light=100, decontaminate=False)
MIDDLE = cv2.erode(disc(), np.ones((61, 61))) > 0.99


def drawn(grey: int) -> np.ndarray:
    return np.concatenate([np.full((H, W), grey, np.uint8), np.full((H // 2, W), 128, np.uint8)])


def person(
    skin: tuple[float, ...], *, room: int = 40, seq: int = 0, noise: float = 0.0
) -> tuple[Frame, Matte]:
    """A round face with some darker hair before a plain room."""
    rng = np.random.default_rng(seq)
    image = np.full((H, W, 3), room, np.float32)
    image[disc() > 0.5] = skin
    image[:110][disc()[:110] > 0.5] *= 0.3
    image += rng.normal(0, noise, (H, W, 3)) if noise else 0
    frame = image_frame(np.clip(image + 0.5, 0, 255).astype(np.uint8), seq)
    return frame, matte_for(frame, disc())


def shown(frame: Frame, matte: Matte, behind: np.ndarray | Blur, look: Look) -> Planes:
    return i420(Compositor(W, H).compose(frame, matte, behind, look).data)


def face(planes: Planes) -> tuple[float, float, float]:
    """Mean Y, U and V of the face, chroma about grey."""
    small = MIDDLE[::2, ::2].copy()
    small[:60] = False
    u, v = (float(plane[small].mean()) - 128 for plane in (planes.u, planes.v))
    return float(planes.y[::2, ::2][small].mean()), u, v


def hue(planes: Planes) -> float:
    _, u, v = face(planes)
    return math.degrees(math.atan2(v, u))


@pytest.mark.parametrize("dim", [1.0, 0.5, 0.25])
@pytest.mark.parametrize(
    "behind", [drawn(40), drawn(210), Blur(50)], ids=["dark", "bright", "room"]
)
def test_skin_stays_skin_and_people_keep_their_order(dim, behind):
    before, after, turned = [], [], []
    for skin in SKINS:
        frame, matte = person(tuple(c * dim for c in skin), noise=2.0)
        off, on = (shown(frame, matte, behind, look) for look in (Look(), LIT))
        before.append(face(off)[0])
        after.append(face(on)[0])
        turned.append(abs(hue(on) - hue(off)))
        assert on.y[MIDDLE].max() <= 235

    assert before == sorted(before)
    assert all(b - a > 1 for a, b in itertools.pairwise(after))
    assert max(turned) < 6


def test_a_person_follows_the_backdrop_and_a_dim_one_is_lifted():
    frame, matte = person(SKINS[3])
    own, dark, bright = (
        face(shown(frame, matte, behind, LIT))[0] for behind in (Blur(50), drawn(20), drawn(230))
    )
    dim, dim_matte = person(tuple(c * 0.3 for c in SKINS[3]))

    assert dark < own - 5 < own + 2 < bright
    assert face(shown(dim, dim_matte, Blur(50), LIT))[0] > 1.4 * face(dim.planes)[0]


def test_a_key_light_comes_from_where_the_backdrop_is_bright():
    frame, matte = person(SKINS[3])
    behind = drawn(40)
    behind[:H, W // 2 :] = 220

    for mirror in (False, True):
        look = dataclasses.replace(LIT, mirror=mirror)
        y = shown(frame, matte, behind, look).y.astype(np.float32)
        band = np.s_[H // 2 - 20 : H // 2 + 20]
        assert y[band, 370:400].mean() > y[band, 240:270].mean() + 4


@pytest.mark.parametrize("mirror", [False, True])
def test_a_key_light_comes_from_where_it_is_noted_to_come_from(mirror):
    frame, matte = person(SKINS[3])
    behind = drawn(40)
    behind[:H, : W // 2] = 90  # brighter on the left, whatever is noted
    lean = {}

    for lit_from in ("left", "right", "behind", "even", "above"):
        look = dataclasses.replace(LIT, mirror=mirror, lit_from=lit_from)
        y = shown(frame, matte, behind, look).y.astype(np.float32)
        band = np.s_[H // 2 - 20 : H // 2 + 20]
        lean[lit_from] = y[band, 370:400].mean() - y[band, 240:270].mean()

    assert lean["left"] < -3 < 3 < lean["right"]
    assert all(abs(lean[each]) < 2 for each in ("behind", "even", "above"))


def test_the_note_of_a_background_of_the_programs_reaches_the_look(tmp_path):
    known = config.load(config.default_path(), environ={})
    for name, light in (("paper", "left"), ("loft", shipped.light_of("loft")), ("#204060", "")):
        backdrop = open_backdrop(name, 64, 36)
        look = look_of(known.with_changes({"look": {"light": 40}}), backdrop.lit_from)
        assert look.lit_from == light
        assert look_of(known.with_changes({"look": {"light": 0}}), light).lit_from == ""

    Image.new("RGB", (64, 36)).save(tmp_path / "loft.png")
    assert open_backdrop(str(tmp_path / "loft.png"), 64, 36).lit_from == ""


def test_no_curve_turns_dark_and_light_around_or_clips():
    x = np.linspace(0, 1, 256)
    for luma, spread, behind in itertools.product(
        (0.05, 0.2, 0.5, 0.8), (0.05, 0.4, 0.9), (0.02, 0.3, 0.6, 0.98)
    ):
        someone = seen.Person(luma, spread, -12, 18, 1, -4, 6, 10, 0.5, 0.4, 0.3)
        back = seen.Backlight(behind, 1 - spread, 20, -20, 30, 1.0)
        tone = seen.tone_of(someone, back, 1.0)
        for field in (tone.base - abs(tone.side), tone.base + tone.front + abs(tone.side)):
            y = x + x * (tone.white + (1 - x) * (field + tone.bend * x))
            assert np.diff(y).min() > 0
            assert -1e-6 <= y.min() <= y.max() <= 1 + 1e-6


def dim_room(seq: int, *, room: int = 40) -> tuple[Frame, Matte]:
    return person((30, 22, 18), room=room, seq=seq, noise=3.0)


def test_noise_that_is_lifted_is_averaged_away_and_movement_is_not():
    still, once = Compositor(W, H), Compositor(W, H)
    for seq in range(12):
        frame, matte = dim_room(seq)
        calm, alone = (
            np.diff(
                i420(c.compose(frame, matte, Blur(50), LIT).data).y[170:220, 290:350].astype(int)
            )
            for c in (still, once)
        )
        once.wipe()
    assert calm.std() < 0.7 * alone.std()

    frame, matte = person((160, 110, 90), seq=12)
    now = i420(still.compose(frame, matte, Blur(50), LIT).data).y[MIDDLE]
    fresh = shown(frame, matte, Blur(50), LIT).y[MIDDLE]
    assert now.mean() > fresh.mean() - 1


def test_nothing_of_the_room_is_drawn_into_the_person():
    pictures = []
    for room in (0, 255):
        compositor = Compositor(W, H)
        look = dataclasses.replace(LIT, sharp=True)
        for seq in range(6):
            frame, matte = dim_room(seq, room=room)
            # The person was not there at first: what is averaged must not be the room then.
            gone = dataclasses.replace(matte, alpha=matte.alpha * 0, a=matte.a * 0, b=matte.b * 0)
            out = compositor.compose(frame, gone if seq == 3 else matte, drawn(90), look).data
        pictures.append(i420(out.copy()).y[MIDDLE])

    assert np.array_equal(*pictures)


def test_sharpness_steepens_edges_within_the_person_alone():
    frame, matte = person(SKINS[3])
    soft = cv2.GaussianBlur(frame.planes.y, (0, 0), 2)
    frame = Frame(Planes(soft, frame.planes.u, frame.planes.v), 0.0, 0)
    off, on = (shown(frame, matte, drawn(90), Look(sharp=sharp)).y for sharp in (False, True))

    edge = np.s_[100:120, W // 2 - 20 : W // 2 + 20]  # where hair and face meet
    steep, steeper = (np.abs(np.diff(y[edge].astype(int), axis=0)).max() for y in (off, on))
    assert steeper > 1.1 * steep
    assert np.array_equal(off[disc() < 0.01], on[disc() < 0.01])
    assert np.abs(on.astype(int) - off).max() <= 10


def test_nothing_is_averaged_with_what_was_seen_long_ago():
    before, fresh = Compositor(W, H), Compositor(W, H)
    for seq in range(12):
        before.compose(*dim_room(seq), Blur(50), LIT)
    for seq in range(12, 30):
        before.compose(*dim_room(seq), Blur(50), Look())
    frame, matte = dim_room(30)

    averaged, alone = (c.compose(frame, matte, Blur(50), LIT).data for c in (before, fresh))

    assert np.array_equal(i420(averaged).y[MIDDLE], i420(alone).y[MIDDLE])


def test_on_a_picture_smaller_than_the_matte_sharpness_keeps_away_from_the_room():
    _, matte = dim_room(0)
    h, w = matte.alpha.shape
    light = Light((h // 2, w // 2), (h, w))

    light._find_core(matte, mirror=False, calm=False)

    room_within_reach = cv2.dilate((matte.alpha < 0.5).astype(np.uint8), np.ones((9, 9)))
    assert light._core.any()
    assert not light._core[room_within_reach > 0].any()


def test_light_is_followed_over_seconds_and_forgotten_when_wiped():
    compositor = Compositor(W, H)
    levels = []
    for seq in range(200):
        frame, matte = person(SKINS[4] if seq < 5 else SKINS[1], seq=seq)
        levels.append(face(i420(compositor.compose(frame, matte, drawn(200), LIT).data))[0])
    settled, first = levels[-1], levels[5]
    compositor.wipe()
    fresh = face(i420(compositor.compose(frame, matte, drawn(200), LIT).data))[0]

    assert settled > first + 3
    assert max(abs(b - a) for a, b in itertools.pairwise(levels[5:])) < 2
    assert abs(fresh - settled) < 5


@pytest.mark.skipif(
    jit.how("vcam.compose.light.loops") == "plain", reason="needs numba: pip install numba"
)
@pytest.mark.parametrize(
    ("size", "small", "step", "flags"),
    [
        ((180, 320), (45, 80), 1, (False, True, True)),
        ((180, 320), (45, 80), 2, (True, False, False)),
        ((34, 66), (160, 284), 1, (True, False, True)),
        ((2, 4), (160, 284), 1, (False, True, True)),
        ((358, 638), (80, 142), 2, (True, True, False)),
    ],
    ids=str,
)
def test_compiled_and_plain_light_are_the_same_bytes(size, small, step, flags):
    rng = np.random.default_rng(5)
    (height, width), (h, w) = size, small
    low = np.zeros((arrays.PLANES, h, w), np.float32)
    low[arrays.B] = cv2.resize(disc(), (w, h), interpolation=cv2.INTER_AREA)
    strength = rng.normal(0.3, 0.2, loops.strength_shape(small)).astype(np.float32)
    fields = strength, low[arrays.B].copy()
    numbers = np.array([-0.1, -0.2, 0.7, 1.1, 0.02, -0.03, 0.6, 8, 0.6, 1 / 12, 0.1], np.float32)
    y = rng.integers(0, 256, size, dtype=np.uint8)
    u, v = rng.integers(0, 256, (2, height // 2 * step, width // 2), dtype=np.uint8)
    grid, made = arrays.grid(size, small), []
    low[arrays.PERSON :] = fields[1] * 100 + 90
    for loop, low_loop in (
        (loops._relight, loops._relight_low),
        (loops_plain.relight, loops_plain.relight_low),
    ):
        out = tuple(np.full(n, 90, np.uint8) for n in (y.size, y.size // 4, y.size // 4))
        bounds, lines = (np.zeros((2, n), np.float32) for n in (h, w + loops.COARSE))
        planes, colours = Planes(y, u, v), low.copy()
        work = out, bounds, loops.scratch_for(size, small)
        loop(flat(y), flat_chroma(planes), low, fields, numbers, flags, grid, work)
        low_loop(colours, strength, numbers, bounds, lines)
        made.append((*out, colours))

    there = cv2.resize(low[arrays.B], (width, height)) > 0.02
    for ours, theirs, where in zip(*made, (there, there[::2, ::2], there[::2, ::2]), strict=False):
        assert np.array_equal(ours[where.reshape(-1)], theirs[where.reshape(-1)])
    # Those next to the person's, too: they are enlarged.
    near = cv2.dilate((low[arrays.B] > loops.NOTHING).astype(np.uint8), np.ones((3, 3))) > 0
    assert np.array_equal(made[0][3][:, near], made[1][3][:, near])
    assert (made[0][3] == low)[arrays.PERSON :, ~near].any()
