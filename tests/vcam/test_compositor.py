"""What people see: the person, whole, and nothing of the room."""

from __future__ import annotations

import dataclasses
import tracemalloc

import cv2
import numpy as np
import pytest

from segmentation.matte import Matte
from segmentation.planes import Planes, Shrink
from segmentation.refine import Guided
from segmentation.sizes import input_size
from vcam.compose.compositor import Compositor, alpha_at
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame

W, H = 640, 360
PLAIN = Look(decontaminate=False)


def image_frame(image: np.ndarray, seq: int = 0, *, full_range: bool = False) -> Frame:
    """A 4:2:0 frame of an RGB image, read-only."""
    h, w = image.shape[:2]
    data = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    planes = [
        data[: h * w].reshape(h, w),
        data[h * w : h * w * 5 // 4].reshape(h // 2, w // 2),
        data[h * w * 5 // 4 :].reshape(h // 2, w // 2),
    ]
    if full_range:
        wide = (planes[0] - 16.0) * 255 / 219, *((p - 128.0) * 255 / 224 + 128 for p in planes[1:])
        planes = [np.clip(p + 0.5, 0, 255).astype(np.uint8) for p in wide]
    for plane in planes:
        plane.setflags(write=False)
    return Frame(Planes(*planes, full_range), seq / 30, seq)


def matte_for(frame: Frame, alpha: np.ndarray) -> Matte:
    """The matte that a perfect network gives: `alpha` (H, W) at model size, guided."""
    _, (h, w) = input_size(frame.height, frame.width, 288 * 160)
    small = np.asarray(cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA), np.float32)
    picture = np.zeros((3, h, w), np.uint8)
    for plane, out in zip(frame.planes.each, picture, strict=True):
        Shrink(plane.shape, (h, w))(plane, out)
    a, b = np.zeros_like(small), np.zeros_like(small)
    raw = small.copy()
    Guided()(small, picture[0], a, b)
    return Matte(small, a, b, frame.seq, frame.pts, raw, picture, False, True)


def disc(w: int = W, h: int = H, *, x: float = 0.5, radius: float = 0.3) -> np.ndarray:
    """The alpha of a round person."""
    alpha = np.zeros((h, w), np.float32)
    cv2.circle(alpha, (round(x * w), h // 2), round(radius * h), 1.0, -1, cv2.LINE_AA)
    return alpha


def pictured(alpha: np.ndarray, person: object, room: object) -> np.ndarray:
    """An RGB image of a person of one colour, or picture, in a room of another."""
    a = alpha[..., None]
    return np.asarray(np.asarray(person) * a + np.asarray(room) * (1 - a) + 0.5, np.uint8)


def rgb(data: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(data, cv2.COLOR_YUV2RGB_I420), np.int16)


def plain(colour: tuple[int, int, int], w: int = W, h: int = H) -> np.ndarray:
    image = np.empty((h, w, 3), np.uint8)
    image[:] = colour
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)


RED, GREEN, BLUE = (200, 60, 50), (60, 190, 70), (50, 70, 200)


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
def test_person_is_kept_and_the_rest_replaced(full_range):
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN), full_range=full_range)

    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), plain(BLUE), Look())

    shown = rgb(safe.data)
    assert np.abs(shown[alpha > 0.99] - RED).mean() < 4
    assert np.abs(shown[alpha == 0] - BLUE).mean() < 4
    far = cv2.dilate(alpha, np.ones((25, 25))) == 0
    assert np.abs(shown[far] - BLUE).max() <= 4
    assert (safe.seq, safe.pts, safe.is_card) == (frame.seq, frame.pts, False)


def test_a_matte_of_another_frame_is_refused():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN), seq=7)
    matte = dataclasses.replace(matte_for(frame, alpha), seq=6)

    with pytest.raises(ValueError, match="matte of frame 6, expected that of frame 7"):
        Compositor(W, H).compose(frame, matte, plain(BLUE), Look())


def test_a_backdrop_of_another_size_is_refused():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))

    with pytest.raises(ValueError, match="backdrop is uint8"):
        Compositor(W, H).compose(frame, matte_for(frame, alpha), plain(BLUE, 64, 36), Look())


def test_odd_outputs_are_refused():
    with pytest.raises(ValueError, match="641x360, expected even"):
        Compositor(641, 360)


def test_mirror_flips_the_person_and_not_the_backdrop():
    alpha = disc(x=0.3)
    frame = image_frame(pictured(alpha, RED, GREEN))
    backdrop = plain(BLUE)
    backdrop[:40, :60] = 235  # a lamp in the upper left corner

    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), backdrop, Look(mirror=True))

    shown = rgb(safe.data)
    assert np.abs(shown[H // 2, round(0.7 * W)] - RED).max() < 6
    assert np.abs(shown[H // 2, round(0.3 * W)] - BLUE).max() < 6
    assert safe.data[10, 20] == 235


@pytest.mark.parametrize("background", ["picture", "blur"])
def test_a_portrait_camera_fits_into_the_output_with_backdrop_beside_it(background):
    alpha = disc(270, 480, radius=0.2)
    frame = image_frame(pictured(alpha, RED, GREEN))
    behind = plain(BLUE) if background == "picture" else Blur(60)

    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), behind, PLAIN)

    shown = rgb(safe.data)
    ys, xs = np.nonzero(np.abs(shown - RED).max(axis=2) < 20)
    assert xs.max() - xs.min() == pytest.approx(ys.max() - ys.min(), abs=4)  # still a disc
    assert xs.mean() == pytest.approx(W / 2, abs=2)
    beside = BLUE if background == "picture" else GREEN  # the room's own colour goes on
    assert np.abs(shown[:, :200] - beside).max() < 6


@pytest.mark.parametrize("size", [(320, 180), (1280, 720), (960, 540)], ids=str)
def test_a_camera_of_another_size_fills_the_output(size):
    alpha = disc(*size)
    frame = image_frame(pictured(alpha, RED, GREEN))

    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), plain(BLUE), Look())

    expected = cv2.resize(alpha, (W, H), interpolation=cv2.INTER_AREA)
    shown = rgb(safe.data)
    assert np.abs(shown[expected > 0.99] - RED).mean() < 5
    assert np.abs(shown[expected == 0] - BLUE).mean() < 5


def test_the_previous_composite_is_left_alone_while_the_next_is_drawn():
    alpha, compositor = disc(), Compositor(W, H)
    frames = [image_frame(pictured(alpha, c, GREEN), seq=i) for i, c in enumerate((RED, BLUE))]

    first = compositor.compose(frames[0], matte_for(frames[0], alpha), plain(BLUE), Look())
    before = first.data.copy()
    compositor.compose(frames[1], matte_for(frames[1], alpha), plain(RED), Look())

    assert np.array_equal(first.data, before)


def test_reveal_shows_the_frame_as_it_is():
    frame = image_frame(pictured(disc(), RED, GREEN), full_range=True)

    safe = Compositor(W, H).reveal(frame)

    assert np.abs(rgb(safe.data) - pictured(disc(), RED, GREEN)).mean() < 4
    assert not safe.is_card


def test_reveal_mirrors_when_asked():
    frame = image_frame(pictured(disc(x=0.3), RED, GREEN))

    safe = Compositor(W, H).reveal(frame, Look(mirror=True))

    assert np.abs(rgb(safe.data)[H // 2, round(0.7 * W)] - RED).max() < 6


def fringe(look: Look) -> float:
    """How green the soft edge of a dark person is who stood in a green room, now on white."""
    alpha = np.asarray(cv2.GaussianBlur(disc(), (0, 0), 4), np.float32)
    frame = image_frame(pictured(alpha, (60, 45, 40), GREEN))
    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), plain((235, 235, 235)), look)
    ideal = pictured(alpha, (60, 45, 40), (235, 235, 235))
    soft = (alpha > 0.1) & (alpha < 0.9)
    greenness = [
        image[..., 1] - image[..., [0, 2]].mean(axis=-1) for image in (rgb(safe.data), ideal)
    ]
    return float(np.abs(greenness[0] - greenness[1])[soft].mean())


def test_decontamination_takes_the_room_out_of_soft_edges():
    assert fringe(Look()) < 0.5 * fringe(PLAIN)


def test_decontamination_leaves_the_inside_alone():
    rng = np.random.default_rng(0)
    alpha = disc()
    person = cv2.GaussianBlur(rng.integers(0, 256, (H, W, 3)).astype(np.float32), (0, 0), 2)
    frame = image_frame(pictured(alpha, person, GREEN))
    matte = matte_for(frame, alpha)

    clean = Compositor(W, H).compose(frame, matte, plain(BLUE), Look()).data
    as_is = Compositor(W, H).compose(frame, matte, plain(BLUE), PLAIN).data

    inside = cv2.erode(alpha, np.ones((31, 31))) > 0.99
    assert np.array_equal(clean[:H][inside], as_is[:H][inside])


def test_light_wrap_brightens_the_edge_and_not_the_middle():
    alpha = disc()
    frame = image_frame(pictured(alpha, (60, 50, 50), (60, 60, 60)))
    matte = matte_for(frame, alpha)
    white = plain((235, 235, 235))

    without = rgb(Compositor(W, H).compose(frame, matte, white, PLAIN).data)
    wrapped = rgb(
        Compositor(W, H).compose(frame, matte, white, dataclasses.replace(PLAIN, light_wrap=1)).data
    )

    middle = cv2.erode(alpha, np.ones((121, 121))) > 0.99
    edge = (alpha > 0.99) & (cv2.erode(alpha, np.ones((15, 15))) < 0.01)
    assert np.abs(wrapped - without)[middle].max() <= 1
    assert (wrapped - without)[edge].mean() > 15


def blurred_room(strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Composite and truth of a person before a room that is blurred; 40 px band; deviation."""
    rng = np.random.default_rng(4)
    room = cv2.resize(rng.integers(60, 200, (12, 21, 3)).astype(np.uint8), (W, H))
    alpha = disc()
    frame = image_frame(pictured(alpha, (250, 20, 20), room))
    look = Look()
    safe = Compositor(W, H).compose(frame, matte_for(frame, alpha), Blur(strength), look)
    empty = image_frame(room)
    nobody = np.zeros_like(alpha)
    truth = Compositor(W, H).compose(empty, matte_for(empty, nobody), Blur(strength), look)
    distance = cv2.distanceTransform((alpha < 0.01).astype(np.uint8), cv2.DIST_L2, 5)
    band = (distance > 3) & (distance <= 40)
    return rgb(safe.data), rgb(truth.data), band, float(np.abs(rgb(safe.data) - room)[band].mean())


@pytest.mark.parametrize("strength", [10, 50, 100])
def test_blur_has_no_halo_of_the_person(strength):
    shown, truth, band, _ = blurred_room(strength)

    redness = (shown[..., 0] - shown[..., 2])[band].mean() - (truth[..., 0] - truth[..., 2])[
        band
    ].mean()
    assert abs(redness) < 3
    assert np.abs(shown - truth)[band].mean() < 6


def test_stronger_blur_shows_less_of_the_room():
    detail = []
    for strength in (5, 30, 100):
        shown, _, band, _ = blurred_room(strength)
        detail.append(
            float(np.abs(cv2.Laplacian(shown[..., 1].astype(np.float32), -1))[band].mean())
        )

    assert detail[0] > detail[1] > detail[2]


def test_blur_is_mirrored_together_with_the_person():
    rng = np.random.default_rng(4)
    room = cv2.resize(rng.integers(60, 200, (6, 10, 3)).astype(np.uint8), (W, H))
    frame = image_frame(room)
    nobody = matte_for(frame, np.zeros((H, W), np.float32))

    plain_one = rgb(Compositor(W, H).compose(frame, nobody, Blur(40), Look()).data)
    mirrored = rgb(Compositor(W, H).compose(frame, nobody, Blur(40), Look(mirror=True)).data)

    assert np.abs(mirrored[:, ::-1] - plain_one).mean() < 2


def test_a_room_full_of_person_blurs_without_dividing_by_nothing():
    frame = image_frame(pictured(np.ones((H, W), np.float32), RED, GREEN))
    everywhere = matte_for(frame, np.ones((H, W), np.float32))

    safe = Compositor(W, H).compose(frame, everywhere, Blur(100), Look())

    assert np.abs(rgb(safe.data) - RED).max() < 6


def test_alpha_at_full_size_is_what_the_compositor_used():
    alpha = disc()
    frame = image_frame(pictured(alpha, (255, 255, 255), (0, 0, 0)))
    matte = matte_for(frame, alpha)

    full = alpha_at(matte, frame.planes.y)

    safe = Compositor(W, H).compose(frame, matte, plain((0, 0, 0)), PLAIN)
    shown = (safe.data[:H].astype(np.float32) - 16) / 219
    assert full.shape == (H, W)
    assert np.abs(full * (frame.planes.y / 255 - 16 / 255) * 255 / 219 - shown).max() < 0.02


def test_a_warm_compositor_takes_no_memory_for_a_frame():
    alpha, compositor = disc(), Compositor(W, H)
    frames = [image_frame(pictured(alpha, RED, GREEN), seq=i) for i in range(3)]
    mattes = [matte_for(frame, alpha) for frame in frames]
    backdrop = plain(BLUE)
    for behind in (backdrop, Blur(50)):
        for frame, matte in zip(frames, mattes, strict=True):
            compositor.compose(frame, matte, behind, Look())

    peaks = []
    for behind in (backdrop, Blur(50)):
        tracemalloc.start()
        for frame, matte in zip(frames, mattes, strict=True):
            compositor.compose(frame, matte, behind, Look())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert max(peaks) < 8_000  # bytes; a frame is 345,600


@pytest.mark.parametrize(
    ("size", "look"),
    [
        ((W, H), Look(mirror=True)),
        ((W, H), Look(zoom=1.8, shift=(0.6, -1.0), mirror=True)),
        ((W, H), Look(framing="close")),
        ((360, 640), Look(mirror=True)),
        ((960, 360), Look()),
    ],
)
def test_a_matte_is_told_as_its_person_lies_in_the_picture(size, look):
    alpha = disc(*size, x=0.4, radius=0.15)
    frame = image_frame(pictured(alpha, RED, GREEN))
    matte = matte_for(frame, alpha)
    compositor = Compositor(W, H)

    safe = compositor.compose(frame, matte, plain(BLUE), look)

    there = np.abs(rgb(safe.data) - RED).max(axis=2) < 40
    told = cv2.resize(compositor.as_shown(matte.alpha), (W, H)) > 0.5
    assert np.count_nonzero(there != told) < 0.12 * np.count_nonzero(there)
