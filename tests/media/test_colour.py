"""Known colours in, the same colours out: profiles, codes, depths, matrices, ranges, HDR."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.media import made
from vcam.compose import backdrops
from vcam.media import colour, pictures, shown, tables
from vcam.media.clip import ClipSource

NEAR = 2  # levels
COLOURS = [(200, 60, 30), (40, 150, 70), (60, 80, 190), (128, 128, 128), (235, 220, 200), (0, 0, 0)]
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290))
D50 = np.array([0.9642, 1.0, 0.8249])
CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def xyz(points) -> np.ndarray:
    """RGB to XYZ, adapted to D50 as profiles have it."""
    corner = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points]).T
    matrix = corner[:, :3] * np.linalg.solve(corner[:, :3], corner[:, 3])
    before, after = CONES @ corner[:, 3], CONES @ D50
    return np.linalg.inv(CONES) @ np.diag(after / before) @ CONES @ matrix


def coded_in(points, encode, srgb) -> np.ndarray:
    """An sRGB colour as 0..1 in another space."""
    light = np.array([decode(c / 255) for c in srgb])
    return np.array([encode(v) for v in np.linalg.solve(xyz(points), xyz(SRGB) @ light)])


def decode(v: float) -> float:
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def encode(v: float) -> float:
    v = min(max(v, 0), 1)
    return 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055


def power(gamma: float):
    return lambda v: max(v, 0) ** (1 / gamma)


def profile(points, gamma: float | None, *, grey: bool = False) -> bytes:
    """An ICC profile of version 2: a matrix and one curve for all, or grey."""
    if gamma is None:
        curve = [round(decode(i / 1023) * 65535) for i in range(1024)]
        trc = struct.pack(">4s4xI1024H", b"curv", 1024, *curve)
    else:
        trc = struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))

    def s15(values) -> bytes:
        return struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in values))

    text = struct.pack(">4s4xI", b"desc", 5) + b"made\0" + bytes(79)
    parts = [(b"desc", text), (b"wtpt", s15(D50)), (b"cprt", b"text\0\0\0\0made\0\0\0\0")]
    if grey:
        parts.append((b"kTRC", trc))
    else:
        parts += [(name, trc) for name in (b"rTRC", b"gTRC", b"bTRC")]
        columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), xyz(points).T, strict=True)
        parts += [(name, s15(column)) for name, column in columns]
    table, body, at = b"", b"", 128 + 4 + 12 * len(parts)
    for name, data in parts:
        data += bytes(-len(data) % 4)
        table += struct.pack(">4s2I", name, at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12x4s28x3i48x",
        at + len(body), b"made", 0x02100000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ ",
        b"acsp", *(round(v * 65536) for v in D50),
    )  # fmt: skip
    assert len(head) == 128
    return head + struct.pack(">I", len(parts)) + table + body


def flat(rgb, mode: str = "RGB") -> Image.Image:
    value = tuple(round(float(v) * 255) for v in rgb) if mode == "RGB" else round(float(rgb) * 255)
    return Image.new(mode, (32, 32), value)


def read(path: Path) -> np.ndarray:
    return pictures.read_image(path)[16, 16].astype(int)


SPACES = {
    "Display P3": (P3, None, encode),
    "Adobe RGB": (ADOBE, 563 / 256, power(563 / 256)),
    "ProPhoto": (PROPHOTO, 1.8, power(1.8)),
    "sRGB": (SRGB, None, encode),
    "BT.2020 at 2.4": (BT2020, 2.4, power(2.4)),
}


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("space", SPACES)
def test_a_profile_is_respected(tmp_path, space, kind):
    points, gamma, coder = SPACES[space]
    path = tmp_path / f"a.{kind}"
    icc = profile(points, gamma)
    exact = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True},
             "avif": {"quality": 100, "subsampling": "4:4:4"}}.get(kind, {})  # fmt: skip
    for wanted in COLOURS:
        flat(coded_in(points, coder, wanted)).save(path, icc_profile=icc, **exact)

        # Eight bits of a wide space are steps of up to two levels in this one.
        lossy = kind in ("jpg", "avif")
        near = NEAR + (space == "ProPhoto")
        if lossy:  # a level of a saturated colour in a wide space is three here
            near += 2 if space == "sRGB" or np.ptp(wanted) < 100 else 8
        assert np.abs(read(path) - wanted).max() <= near, wanted


def test_a_wide_space_without_its_profile_would_be_wrong(tmp_path):
    flat(coded_in(PROPHOTO, power(1.8), (40, 150, 70))).save(tmp_path / "a.png")

    assert np.abs(read(tmp_path / "a.png") - (40, 150, 70)).max() > 20


def test_grey_profiles_palettes_alpha_and_cmyk_go_through_theirs(tmp_path):
    icc = profile(SRGB, 1.0, grey=True)
    flat(decode(128 / 255), "L").save(tmp_path / "grey.png", icc_profile=icc)
    wide = flat(coded_in(ADOBE, power(563 / 256), (40, 150, 70)))
    icc = profile(ADOBE, 563 / 256)
    wide.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png", icc_profile=icc)
    clear = wide.convert("RGBA")
    clear.save(tmp_path / "a.png", icc_profile=icc)

    assert np.abs(read(tmp_path / "grey.png") - 128).max() <= NEAR
    for name in ("p.png", "a.png"):
        assert np.abs(read(tmp_path / name) - (40, 150, 70)).max() <= NEAR


def test_a_damaged_profile_or_one_for_another_mode_is_left_out(tmp_path):
    for i, icc in enumerate((b"rubbish" * 40, profile(SRGB, 1.0, grey=True), b"")):
        flat((200 / 255, 60 / 255, 30 / 255)).save(tmp_path / f"{i}.png", icc_profile=icc)

        assert np.abs(read(tmp_path / f"{i}.png") - (200, 60, 30)).max() <= 1


def test_cmyk_and_lab_are_turned_into_what_a_screen_shows(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    image = ImageCms.applyTransform(flat((200 / 255, 60 / 255, 30 / 255)), to_lab)
    image.save(tmp_path / "lab.tif")

    red = read(tmp_path / "red.jpg")
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert np.abs(read(tmp_path / "lab.tif") - (200, 60, 30)).max() <= 4


def heic_with(extra: bytes, rgb) -> bytes:
    image = np.empty((64, 64, 3), np.uint8)
    image[:] = np.rint(np.asarray(rgb) * 255)
    return made.heic([image], 0, (64, 64), properties=(extra,))


def test_a_phones_heic_in_display_p3_keeps_its_colours(tmp_path):
    icc = made.box("colr", b"prof", profile(P3, None))
    codes = made.box("colr", b"nclx", struct.pack(">3HB", 12, 13, 6, 0x80))
    for extra, wanted in itertools.product((icc, codes), COLOURS):
        path = tmp_path / "a.heic"
        path.write_bytes(heic_with(extra, coded_in(P3, encode, wanted)))

        assert np.abs(read(path) - wanted).max() <= NEAR + 1, wanted


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_gamma_and_primaries_of_a_png_are_respected(tmp_path, gamma):
    path = tmp_path / "a.png"
    for wanted in COLOURS[:5]:
        numbers = [0.3127, 0.3290, *(v for point in P3[:3] for v in point)]
        extra = (
            (b"gAMA", struct.pack(">I", round(100000 / gamma))),
            (b"cHRM", struct.pack(">8I", *(round(v * 100000) for v in numbers))),
        )
        values = coded_in(P3, power(gamma), wanted)
        line = bytes(round(float(v) * 255) for v in values) * 8
        path.write_bytes(made.png(8, 8, line=line, extra=extra))

        assert np.abs(pictures.read_image(path)[4, 4].astype(int) - wanted).max() <= NEAR + 1


def test_colour_codes_of_a_png_outrank_all_else(tmp_path):
    values = coded_in(P3, encode, (40, 150, 70))
    line = bytes(round(float(v) * 255) for v in values) * 8
    extra = ((b"cICP", bytes([12, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100000)))
    (tmp_path / "a.png").write_bytes(made.png(8, 8, line=line, extra=extra))

    got = pictures.read_image(tmp_path / "a.png")[4, 4].astype(int)
    assert np.abs(got - (40, 150, 70)).max() <= NEAR


def test_a_camera_that_says_adobe_rgb_in_exif_alone_is_believed(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
    values = coded_in(ADOBE, power(563 / 256), (120, 150, 110))
    assert abs(values[0] * 255 - 120) > NEAR + 2
    flat(values).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)

    assert np.abs(read(tmp_path / "a.jpg") - (120, 150, 110)).max() <= NEAR + 1


RAMP = np.linspace(0, 1, 256)


@pytest.mark.parametrize(
    ("kind", "white", "name"),
    [
        (np.uint16, 65535, "a.png"),
        (np.uint16, 65535, "a.tif"),
        (np.int32, 65535, "a.tif"),
        (np.int32, 2**31 - 1, "a.tif"),
        (np.int32, 255, "a.tif"),
        (np.float32, 1.0, "a.tif"),
        (np.float32, 1.5, "a.tif"),
        (np.float32, 255.0, "a.tif"),
        (np.float32, 4321.5, "a.tif"),
    ],
)
def test_deep_pictures_are_scaled_and_not_clipped(tmp_path, kind, white, name):
    values = np.tile(RAMP * white, (4, 1))
    Image.fromarray((values if kind is np.float32 else np.rint(values)).astype(kind)).save(
        tmp_path / name
    )

    row = pictures.read_image(tmp_path / name)[2, :, 1].astype(int)

    assert np.abs(row - np.arange(256)).max() <= 1


def test_deep_pictures_below_zero_inverted_or_without_a_number_are_read(tmp_path):
    values = np.tile(RAMP * 4 - 2, (4, 1)).astype(np.float32)
    values[0, :] = np.nan
    Image.fromarray(values).save(tmp_path / "signed.tif")
    line = (65535 - np.arange(256) * 257).astype("<u2").tobytes()
    inverted = made.tiff(256, 4, {258: (16,), 262: (0,)}, zlib.compress(line * 4))
    (tmp_path / "inverted.tif").write_bytes(inverted)

    for name in ("signed.tif", "inverted.tif"):
        row = pictures.read_image(tmp_path / name)[2, :, 1].astype(int)
        assert np.abs(row - np.arange(256)).max() <= 1, name


def test_16_bits_of_colour_are_within_a_level(tmp_path):
    line = struct.pack(">3H", *(c * 257 for c in (200, 60, 30))) * 8
    (tmp_path / "a.png").write_bytes(made.png(8, 8, 2, 16, line=line))

    assert (
        np.abs(pictures.read_image(tmp_path / "a.png")[4, 4].astype(int) - (200, 60, 30)).max() <= 1
    )


# Clips. A colour is written as Y, U and V that the test works out itself.
WEIGHTS = {
    4: (0.30, 0.11),
    1: (0.2126, 0.0722),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


def yuv(rgb, matrix: int, *, full: bool, bits: int = 8) -> tuple[int, int, int]:
    kr, kb = WEIGHTS[matrix]
    r, g, b = (np.clip(np.asarray(rgb, float), 0, 1)).tolist()
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    scale = 2 ** (bits - 8)
    if full:
        top = 2**bits - 1
        return round(y * top), round(u * top + 128 * scale), round(v * top + 128 * scale)
    return tuple(round(n * scale) for n in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v))


def clip(
    path: Path, values, size=(64, 36), pixels="yuv420p", *, codec="ffv1", frames=2, **tags
) -> Path:
    """A clip of one colour, lossless; `tags` are the stream's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for i in range(frames):
            frame = av.VideoFrame(*size, pixels)
            for plane, value in zip(frame.planes, values, strict=True):
                deep = "<u2" if "le" in pixels else np.uint8
                view = np.frombuffer(memoryview(plane), deep)
                view[:] = value
            frame.pts = i
            for name, value in tags.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def seen(path: Path) -> np.ndarray:
    """The colour a clip shows, as RGB, and the same as backdrop."""
    with ClipSource(path, live=False) as source:
        frame = source.read(0)
    data = pictures.fit_planes(frame.planes, 64, 36)
    rgb = pictures.image_from_i420(data)[18, 32].astype(int)
    backdrop = backdrops.open_backdrop(str(path), 64, 36)
    behind = pictures.image_from_i420(backdrop.at(0))[18, 32].astype(int)
    backdrop.close()
    assert np.abs(rgb - behind).max() <= 1
    return rgb


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
def test_matrix_and_range_are_as_tagged(tmp_path, matrix, full):
    for wanted in COLOURS:
        values = yuv(np.array(wanted) / 255, matrix, full=full)
        path = clip(tmp_path / "a.mkv", values, colorspace=matrix, color_range=2 if full else 1)

        assert np.abs(seen(path) - wanted).max() <= NEAR, wanted


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 4, 7, 9])
def test_another_matrix_is_exact_to_a_level(matrix, full):
    rng = np.random.default_rng(matrix)
    for rgb in rng.uniform(0, 1, (200, 3)):
        before = yuv(rgb, matrix, full=full)
        planes = [np.full((4, 4), before[0], np.uint8)]
        planes += [np.full((2, 2), n, np.uint8) for n in before[1:]]

        found = [int(p[0, 0]) for p in shown.to_bt601(*planes, matrix, full_range=full)]

        kr, kb = WEIGHTS[matrix]
        y, u, v = before
        y, u, v = (y / 255, (u - 128) / 255, (v - 128) / 255) if full else (
            (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        )  # fmt: skip
        r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
        g = (y - kr * r - kb * b) / (1 - kr - kb)
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        wanted = (luma, (b - luma) / 1.772, (r - luma) / 1.402)
        scale, zero = ((255, 255), 0) if full else ((219, 224), 16)
        exact = [zero + scale[0] * wanted[0], *(128 + scale[1] * n for n in wanted[1:])]
        assert np.abs(np.subtract(found, exact)).max() <= 1.01


@pytest.mark.parametrize(
    ("size", "matrix"), [((64, 718), 6), ((64, 720), 1), ((1280, 64), 6), ((64, 1080), 1)]
)
def test_untagged_clips_are_bt709_from_720_lines_on(tmp_path, size, matrix):
    for wanted in COLOURS[:3]:
        values = yuv(np.array(wanted) / 255, matrix, full=False)
        path = clip(tmp_path / "a.mkv", values, size)

        assert np.abs(seen(path) - wanted).max() <= NEAR + 1, wanted


@pytest.mark.parametrize(
    "pixels", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv422p", "yuv444p"]
)
def test_depth_and_sampling_change_no_colour(tmp_path, pixels):
    bits = 10 if "10" in pixels else 12 if "12" in pixels else 8
    for wanted in COLOURS:
        values = yuv(np.array(wanted) / 255, 1, full=False, bits=bits)
        path = clip(tmp_path / "a.mkv", values, pixels=pixels, colorspace=1, color_range=1)

        assert np.abs(seen(path) - wanted).max() <= NEAR, wanted


@pytest.mark.parametrize("transfer", [8, 4, 5])
def test_transfer_is_as_tagged(tmp_path, transfer):
    coder = power({8: 1.0, 4: 2.2, 5: 2.8}[transfer])
    for wanted in ((200, 160, 130), (128, 128, 128), (250, 250, 250)):
        rgb = [coder(decode(c / 255)) for c in wanted]
        values = yuv(rgb, 1, full=True, bits=10)
        path = clip(
            tmp_path / "a.mkv", values, pixels="yuv444p10le",
            colorspace=1, color_range=2, color_trc=transfer, color_primaries=1,
        )  # fmt: skip

        assert np.abs(seen(path) - wanted).max() <= NEAR + 1, wanted


def pq(nits: float) -> float:
    v = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * v) / (1 + 2392 / 128 * v)) ** (2523 / 32)


def hlg(nits: float) -> float:
    scene = (nits / 1000) ** (1 / 1.2)
    if scene <= 1 / 12:
        return (3 * scene) ** 0.5
    return 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073


def hdr(path: Path, rgb, transfer: int) -> np.ndarray:
    values = yuv(rgb, 9, full=False, bits=10)
    tags = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": 9}
    return seen(clip(path, values, pixels="yuv420p10le", **tags))


@pytest.mark.parametrize(("transfer", "coder"), [(16, pq), (18, hlg)])
def test_hdr_keeps_its_midtones_and_its_order(tmp_path, transfer, coder):
    nits = [0.0, 5, 20, 50, 100, 203, 400, 700, 1000]
    greys = np.array([hdr(tmp_path / "a.mkv", [coder(n)] * 3, transfer) for n in nits])

    plain = [255 * encode(n / 203) for n in nits]
    assert (np.ptp(greys, axis=1) <= NEAR).all()  # grey stays grey
    assert np.abs(greys[:5, 1] - plain[:5]).max() <= NEAR + 1  # up to half of white as they are
    assert (np.diff(greys[:, 1]) > 3).all()  # nothing is clipped into one
    assert 215 <= greys[5, 1] <= 240
    assert greys[-1, 1] >= 253


def test_hdr_colours_are_those_of_the_same_light(tmp_path):
    for wanted in ((150, 90, 70), (80, 120, 90), (80, 90, 150)):
        light = np.array([decode(c / 255) for c in wanted])
        wide = np.linalg.solve(xyz(BT2020), xyz(SRGB) @ light)
        rgb = [pq(203 * v) for v in wide]

        assert np.abs(hdr(tmp_path / "a.mkv", rgb, 16) - wanted).max() <= NEAR + 1, wanted


def test_a_wide_clip_without_hdr_is_brought_into_srgb(tmp_path):
    def bt709(v: float) -> float:
        return 4.5 * v if v < 0.018 else 1.099 * v**0.45 - 0.099

    def back(v: float) -> float:
        return v / 4.5 if v < 0.081 else ((v + 0.099) / 1.099) ** (1 / 0.45)

    for wanted in ((200, 120, 90), (90, 150, 110), (90, 100, 190), *COLOURS[3:5]):
        light = np.array([back(c / 255) for c in wanted])
        wide = [bt709(v) for v in np.linalg.solve(xyz(BT2020), xyz(SRGB) @ light)]
        values = yuv(wide, 9, full=False, bits=10)
        path = clip(
            tmp_path / "a.mkv", values, pixels="yuv420p10le",
            colorspace=9, color_range=1, color_trc=14, color_primaries=9,
        )  # fmt: skip

        assert np.abs(seen(path) - wanted).max() <= NEAR + 1, wanted


def test_the_table_is_as_good_as_the_formula_and_the_plain_loop_as_the_compiled_one():
    rng = np.random.default_rng(5)
    for coding in (
        colour.Coding(9, colour.PQ, 9),
        colour.Coding(9, colour.HLG, 9, True),
        colour.Coding(9, 14, 9),
    ):
        rgb = rng.uniform(0.15, 0.65, (24, 24, 1)) + rng.uniform(-0.1, 0.1, (24, 24, 3))
        rgb = rgb.astype(np.float32)
        full = coding.full_range
        values = np.array([[yuv(c, 9, full=full, bits=16) for c in row] for row in rgb])
        y, u, v = (np.repeat(np.repeat(p, 2, 0), 2, 1) for p in np.moveaxis(values, -1, 0))
        planes = [p.astype(np.uint16) for p in (y, u[::2, ::2], v[::2, ::2])]
        wanted = colour.srgb(rgb, coding)
        out, plain = ([np.zeros(p.shape, np.uint8) for p in planes] for _ in range(2))

        tables.apply(*planes, tables.table(coding), *out)
        tables._apply_plain(*planes, tables.table(coding), *plain)

        expected = np.array([[yuv(c, 6, full=False) for c in row] for row in wanted])
        for got, other, goal in zip(out, plain, np.moveaxis(expected, -1, 0), strict=True):
            step = got.shape[0] // 24
            assert np.abs(got.astype(int) - other).max() <= 1
            error = np.abs(got[::step, ::step].astype(int) - goal)
            assert np.percentile(error, 95) <= 3
            assert error.mean() <= 1


def test_a_jpeg_in_a_clip_is_bt601_and_full_whatever_its_size(tmp_path):
    wanted = (200, 60, 30)
    values = yuv(np.array(wanted) / 255, 6, full=True)
    path = clip(tmp_path / "a.avi", values, (64, 720), "yuvj420p", codec="mjpeg", color_range=2)

    assert np.abs(seen(path) - wanted).max() <= NEAR + 1
