"""Pictures and clips upright, unmirrored and with square pixels, whatever turned them."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from segmentation.planes import Planes
from tests.media import made
from vcam.compose.compositor import Compositor
from vcam.frame import Frame
from vcam.media import formats, pictures, turns
from vcam.media.clip import ClipSource
from vcam.settings import config
from vcam.sources import source_opener
from vcam.sources.fill import filled

# Four corners that no turn or mirror leaves where they are.
CORNERS = [[(220, 30, 30), (30, 200, 30)], [(40, 40, 220), (230, 230, 230)]]


def picture(width: int = 96, height: int = 64) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    for i, j in itertools.product(range(2), repeat=2):
        rows = slice(i * height // 2, (i + 1) * height // 2)
        image[rows, j * width // 2 : (j + 1) * width // 2] = CORNERS[i][j]
    return image


def near(found: np.ndarray, wanted: np.ndarray, most: int = 12) -> bool:
    """True if both are of one shape, and alike in the middle of each quarter."""
    if found.shape != wanted.shape:
        return False
    h, w = wanted.shape[:2]
    at = [(i * h // 4, j * w // 4) for i, j in itertools.product((1, 3), repeat=2)]
    return all(np.abs(found[y, x].astype(int) - wanted[y, x]).max() <= most for y, x in at)


def stored(orientation: int) -> np.ndarray:
    """What a camera stores so that `orientation` makes `picture()` of it, by Pillow's own word."""
    undone = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    image = Image.fromarray(picture())
    image.getexif()[274] = undone
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_pictures_are_upright_by_their_exif(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(stored(orientation)).save(path, exif=exif)

    assert near(pictures.read_image(path), picture(), 30)
    small = pictures.read_image(path, bound=48)
    assert near(small, picture(48, 32), 30)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_leaves_a_picture_as_it_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)

    assert near(pictures.read_image(tmp_path / "a.png"), picture())


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_phones_heic_is_upright_by_its_boxes(tmp_path, angle, mirror, tiled):
    image = picture(128, 64) if tiled else picture()
    wanted = np.rot90(image, angle)
    extra = [made.box("irot", bytes([angle]))]
    if mirror is not None:
        extra.append(made.box("imir", bytes([mirror])))
        wanted = wanted[:, ::-1] if mirror else wanted[::-1]
    tiles = [image[:, :64], image[:, 64:]] if tiled else [image]
    data = made.heic(tiles, 2 if tiled else 0, image.shape[1::-1], properties=tuple(extra))
    (tmp_path / "a.heic").write_bytes(data)

    assert near(pictures.read_image(tmp_path / "a.heic"), wanted)


def test_a_heic_is_cropped_as_it_says(tmp_path):
    crop = struct.pack(">4IiIiI", 48, 1, 32, 1, 24, 1, 16, 1)  # the lower right quarter
    data = made.heic([picture()], 0, (96, 64), properties=(made.box("clap", crop),))
    (tmp_path / "a.heic").write_bytes(data)

    image = pictures.read_image(tmp_path / "a.heic")

    assert image.shape == (32, 48, 3)
    assert np.abs(image.reshape(-1, 3).mean(0) - CORNERS[1][1]).max() <= 4


def test_two_turns_are_one():
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for first, second in itertools.product(turns.EXIF.values(), repeat=2):
        assert np.array_equal(first.then(second)(numbers), second(first(numbers)))


def clip(path: Path, image: np.ndarray, *, pixel: Fraction = Fraction(1), codec="libx264") -> Path:
    pixels = {"mjpeg": "yuvj422p", "ffv1": "yuv422p"}.get(codec, "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.sample_aspect_ratio = pixel
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace="ITU601")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    with ClipSource(path, live=False) as source:
        frame = source.read(0)
        size = source.size
    assert frame.planes.u.shape[0] in (frame.height // 2, frame.height)
    data = pictures.fit_planes(frame.planes, frame.width, frame.height)
    return pictures.image_from_i420(data), size


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Overwrite the matrix in the track's header, where phones say how they were held."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("matrix", [m for m in itertools.product((-1, 0, 1), repeat=4)
                                    if abs(m[0] * m[3] - m[1] * m[2]) == 1
                                    and abs(m[0]) + abs(m[1]) == 1
                                    and abs(m[2]) + abs(m[3]) == 1])  # fmt: skip
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_clips_are_turned_and_mirrored_by_their_matrix(tmp_path, matrix, codec):
    path = clip(tmp_path / "a.mov", picture(), codec=codec)
    with_matrix(path, *matrix)

    image, size = shown(path)

    # The matrix takes a stored point (x, y), y down, to (a x + c y, b x + d y).
    a, b, c, d = matrix
    h, w = picture().shape[:2]
    wanted = np.empty((w, h, 3) if a == 0 else (h, w, 3), np.uint8)
    y, x = np.mgrid[0:h, 0:w]
    left, top = a * x + c * y, b * x + d * y
    wanted[top - top.min(), left - left.min()] = picture()
    assert size == wanted.shape[1::-1]
    assert near(image, wanted, 30)


def test_ffmpegs_own_turns_are_respected(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("pip install -U av")
        stream.set_display_rotation(90)
        frame = av.VideoFrame.from_ndarray(picture(), "rgb24").reformat(format="yuv420p")
        container.mux([*stream.encode(frame), *stream.encode(None)])

    assert near(shown(path)[0], np.rot90(picture()), 30)


@pytest.mark.parametrize(
    ("stored", "pixel", "seen"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((720, 480), Fraction(8, 9), (640, 480)),
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),
        ((96, 64), Fraction(1), (96, 64)),
        ((96, 64), Fraction(2, 1), (192, 64)),
        ((96, 64), Fraction(100, 1), (96, 64)),  # damaged
    ],
)
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_pixels_are_square(tmp_path, stored, pixel, seen, kind):
    path = clip(tmp_path / f"a.{kind}", picture(*stored), pixel=pixel)

    image, size = shown(path)

    assert size == seen
    assert near(image, picture(*seen), 30)


def test_long_pixels_and_a_turn_together(tmp_path):
    path = clip(tmp_path / "a.mp4", picture(), pixel=Fraction(2))
    with_matrix(path, 0, 1, -1, 0)

    image, size = shown(path)

    assert size == (64, 192)
    assert near(image, np.rot90(picture(192, 64), -1), 30)


def test_odd_sizes_keep_theirs_and_are_even_within(tmp_path):
    path = clip(tmp_path / "a.mkv", picture(95, 63), codec="ffv1")

    image, size = shown(path)

    assert size == (95, 63)
    assert image.shape == (64, 96, 3)


def test_every_orientation_is_known_by_number():
    assert sorted(turns.EXIF) == list(range(1, 9))
    assert len(set(turns.EXIF.values())) == 8
    assert formats.NAMED["HEIC"].kind == "picture"


def person(width: int, height: int) -> Frame:
    """A frame whose luma is its row, and whose red difference is its column."""
    y = np.repeat(np.arange(height, dtype=np.uint8)[:, None], width, 1)
    v = np.repeat(np.arange(width // 2, dtype=np.uint8)[None], height // 2, 0)
    return Frame(Planes(y, np.full_like(v, 128), v), 1.0, 7)


@pytest.mark.parametrize(
    ("size", "kept"),
    [((90, 160), (90, 50)), ((160, 90), (160, 90)), ((200, 90), (160, 90)), ((120, 90), (120, 68))],
)
def test_a_source_of_another_shape_fills_the_frame_when_asked(size, kept):
    frame = filled(person(*size), 1280, 720)

    assert (frame.width, frame.height) == kept
    assert frame.planes.u.shape == (kept[1] // 2, kept[0] // 2)
    assert (frame.pts, frame.seq) == (1.0, 7)
    cut = size[1] - kept[1]
    assert cut * 0.25 - 2 <= frame.planes.y[0, 0] <= cut * 0.35  # more below than above
    assert frame.planes.v[0, 0] == (size[0] - kept[0]) // 4  # as much left as right


@pytest.mark.parametrize("fill", [False, True])
def test_a_phones_clip_is_whole_or_fills_as_the_settings_say(tmp_path, fill):
    path = clip(tmp_path / "a.mp4", picture(90, 160))
    base = config.load(config.default_path(), environ={})
    now = base.with_changes({"camera": {"source": str(path), "fill": fill}})

    with source_opener(now.camera, now.output)() as source:
        frame = source.read(1)

    assert (frame.width, frame.height) == ((90, 50) if fill else (90, 160))
    assert source.name == "clip a.mp4"
    assert not base.camera.fill


def test_a_cropped_frame_is_composited_as_its_copy_is():
    frame = filled(person(90, 160), 1280, 720)
    whole = [np.ascontiguousarray(p) for p in frame.planes.each]

    cropped = Compositor(128, 72).reveal(frame).data
    copied = Compositor(128, 72).reveal(replace(frame, planes=Planes(*whole))).data

    assert np.array_equal(cropped, copied)
