"""What cameras send becomes planes, and what is damaged becomes an error, never half a picture."""

from __future__ import annotations

import io
from mmap import mmap

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vcam.sources.decode
from vcam.errors import SourceError
from vcam.sources.decode import MjpegDecoder, Unpacker, open_turbo

W, H = 320, 180


@pytest.fixture(scope="module", params=["libjpeg-turbo", "libav"], autouse=True)
def library(request):
    """Everything here holds with either library."""
    if request.param == "libjpeg-turbo" and open_turbo() is None:
        pytest.skip("libturbojpeg0 is not installed")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "libav":
            patch.setattr(vcam.sources.decode, "open_turbo", lambda: None)
        yield request.param


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (H // 12, W // 16, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(image + rng.normal(0, 4, image.shape), 0, 255), np.uint8)


def jpeg(image: np.ndarray, subsampling: str = "4:2:2", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, subsampling=subsampling, **options)
    return file.getvalue()


def rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Full-range planes as a picture."""
    chroma = [cv2.resize(plane, y.shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in (v, u)]
    return np.asarray(cv2.cvtColor(np.dstack([y, *chroma]), cv2.COLOR_YCrCb2RGB), np.int16)


@pytest.mark.parametrize(
    ("subsampling", "rows"), [("4:2:2", H), ("4:2:0", H // 2), ("4:4:4", H)], ids=str
)
def test_a_jpeg_becomes_its_planes(subsampling, rows):
    image = picture()

    planes = MjpegDecoder().decode(jpeg(image, subsampling))

    y, u, v = planes.each
    assert (y.shape, u.shape, v.shape) == ((H, W), (rows, W // 2), (rows, W // 2))
    assert planes.full_range
    assert np.abs(rgb(y, u, v) - image).mean() < 6


@pytest.mark.parametrize("zeros", [1, 300, 100_000])
def test_padding_after_the_picture_is_ignored(zeros):
    y = MjpegDecoder().decode(jpeg(picture()) + bytes(zeros)).y

    assert y.shape == (H, W)


def test_planes_stay_as_they_are_while_the_next_pictures_are_decoded():
    decoder = MjpegDecoder()
    y, u, v = decoder.decode(jpeg(picture())).each
    kept = y.copy(), u.copy(), v.copy()

    for seed in range(1, 12):
        decoder.decode(jpeg(picture(seed)))

    assert all(np.array_equal(a, b) for a, b in zip((y, u, v), kept, strict=True))


@pytest.mark.parametrize("kind", ["yuyv", "nv12"])
def test_packed_pictures_are_kept_whole_and_their_planes_are_the_same(kind):
    size = W * H * 2 if kind == "yuyv" else W * H * 3 // 2
    pictures = [np.random.default_rng(i).integers(0, 256, size, np.uint8) for i in range(12)]
    taken_apart, kept_whole = Unpacker(W, H), Unpacker(W, H)
    kept_whole.packed = True

    wanted = [getattr(taken_apart, kind)(data) for data in pictures]
    found = [getattr(kept_whole, kind)(data) for data in pictures]

    for mine, theirs, data in zip(found, wanted, pictures, strict=True):
        for a, b in zip(mine.each, theirs.each, strict=True):
            assert np.array_equal(a, b)
        start = mine.y.ctypes.data
        assert mine.u.ctypes.data - start == (1 if kind == "yuyv" else W * H)
        assert not np.shares_memory(mine.y, data), "the camera fills its buffer again"


@given(st.integers(2, 20_000))
@settings(max_examples=40, deadline=None)
def test_a_truncated_jpeg_is_an_error(length):
    data = jpeg(picture())

    with pytest.raises(SourceError, match="no whole JPEG"):
        MjpegDecoder().decode(data[: min(length, len(data) - 3)])


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8, 0.95])
def test_a_jpeg_with_its_middle_missing_is_an_error(at):
    data = jpeg(picture())
    cut = round(len(data) * at)

    with pytest.raises(SourceError, match="damaged JPEG"):
        MjpegDecoder().decode(data[:cut] + data[cut + 1500 : -2] + b"\xff\xd9")


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_jpeg_that_ends_too_early_is_an_error_even_with_an_end_mark(at):
    data = jpeg(picture())

    with pytest.raises(SourceError, match="damaged JPEG"):
        MjpegDecoder().decode(data[: round(len(data) * at)] + b"\xff\xd9")


@pytest.mark.parametrize("garbage", [b"", b"\xff\xd8", b"\0" * 5000, b"\xff\xd8" + b"x" * 900])
def test_garbage_is_an_error(garbage):
    with pytest.raises(SourceError):
        MjpegDecoder().decode(garbage)


def test_noise_inside_the_jpeg_never_comes_out_as_grey():
    """Flipped bytes either fail or stay a picture of the right size: nothing is concealed."""
    rng = np.random.default_rng(0)
    data = jpeg(picture())
    failures = 0

    for _ in range(40):
        torn = bytearray(data)
        for at in rng.integers(700, len(data) - 2, 40):
            torn[at] = int(rng.integers(0, 255))
        try:
            y = MjpegDecoder().decode(bytes(torn)).y
            assert y.shape == (H, W)
        except SourceError:
            failures += 1

    assert failures >= 30


def test_a_good_picture_after_a_bad_one_is_whole():
    decoder, data = MjpegDecoder(), jpeg(picture())
    expected = MjpegDecoder().decode(data).y
    with pytest.raises(SourceError):
        decoder.decode(data[: len(data) // 2] + b"\xff\xd9")

    y = decoder.decode(data).y

    assert np.array_equal(y, expected)


def test_an_odd_picture_is_refused_with_a_hint():
    with pytest.raises(SourceError, match="319x180, expected even") as caught:
        MjpegDecoder().decode(jpeg(np.ascontiguousarray(picture()[:, :319])))

    assert "vcam devices" in caught.value.hint


def test_yuyv_becomes_planes():
    data = np.arange(8, dtype=np.uint8).repeat(1).reshape(2, 4)  # Y0 U Y1 V, two rows

    planes = Unpacker(2, 2).yuyv(data)

    y, u, v = planes.each
    assert y.tolist() == [[0, 2], [4, 6]]
    assert (u.tolist(), v.tolist()) == ([[1], [5]], [[3], [7]])
    assert not planes.full_range


def test_nv12_becomes_planes():
    data = np.array([1, 2, 3, 4, 9, 8], np.uint8)

    y, u, v = Unpacker(2, 2).nv12(data).each

    assert (y.tolist(), u.tolist(), v.tolist()) == ([[1, 2], [3, 4]], [[9]], [[8]])


@pytest.mark.parametrize("unpack", [Unpacker.yuyv, Unpacker.nv12])
def test_a_short_raw_picture_is_an_error(unpack):
    with pytest.raises(SourceError, match="sent 40 bytes, expected"):
        unpack(Unpacker(64, 48), np.zeros(40, np.uint8))


def test_an_odd_raw_size_is_refused():
    with pytest.raises(SourceError, match="sends 63x48"):
        Unpacker(63, 48)


def test_held_planes_are_never_written_again_and_free_ones_are():
    unpacker = Unpacker(64, 48)
    rng = np.random.default_rng(0)
    held = []
    for _ in range(20):
        data = rng.integers(0, 256, 64 * 48 * 2, dtype=np.uint8)
        y = unpacker.yuyv(data).y
        held.append((y, data.reshape(48, 64, 2)[..., 0].copy()))

    assert all(np.array_equal(y, kept) for y, kept in held)

    y = None
    held.clear()
    places = set()
    for _ in range(20):
        y = unpacker.yuyv(data).y
        places.add(y.ctypes.data)
    assert len(places) <= 2


@pytest.mark.parametrize("subsampling", ["4:2:2", "4:2:0"])
def test_both_libraries_give_the_same_planes(subsampling, library, monkeypatch):
    data = jpeg(picture(4), subsampling)
    turbo = open_turbo()
    if library == "libav" or turbo is None:
        pytest.skip("compared once")
    monkeypatch.setattr(vcam.sources.decode, "open_turbo", lambda: None)

    inbox = mmap(-1, len(data))
    inbox[:] = data
    ours, theirs = turbo.decode(inbox, len(data)), MjpegDecoder().decode(data)

    assert ours is not None
    assert ours.full_range == theirs.full_range
    for a, b in zip(ours.each, theirs.each, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2


def test_what_the_camera_says_of_its_levels_is_believed():
    data = jpeg(picture(), comment=b"CS=ITU601")

    assert MjpegDecoder().decode(jpeg(picture())).full_range
    assert not MjpegDecoder().decode(data).full_range


def test_a_camera_that_leaves_out_the_huffman_tables_is_understood():
    data = jpeg(picture(), optimize=False)
    bare = bytearray(data[:2])
    at = 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            bare += data[at : at + size]
        at += size
    bare += data[at:]
    assert len(bare) < len(data) - 300

    for ours, theirs in zip(
        MjpegDecoder().decode(bytes(bare)).each, MjpegDecoder().decode(data).each, strict=True
    ):
        assert np.array_equal(ours, theirs)
