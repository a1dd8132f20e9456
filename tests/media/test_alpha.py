"""What is transparent is black, whatever colour lies hidden there."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.media import made
from vcam.compose import backdrops
from vcam.media import pictures
from vcam.media.clip import ClipSource

HIDDEN, SEEN = (250, 20, 240), (60, 150, 90)
W, H = 96, 64


def rgba(half: int = 128) -> np.ndarray:
    """Three bands: clear with a hidden colour, half clear, whole."""
    image = np.empty((H, W, 4), np.uint8)
    image[:, : W // 3] = (*HIDDEN, 0)
    image[:, W // 3 : 2 * W // 3] = (*SEEN, half)
    image[:, 2 * W // 3 :] = (*SEEN, 255)
    return image


def bands(image: np.ndarray) -> np.ndarray:
    """The colour in the middle of each band."""
    h, w = image.shape[:2]
    return np.array([image[h // 2, w * (2 * i + 1) // 6] for i in range(3)]).astype(int)


EXPECTED = np.array([(0, 0, 0), np.array(SEEN) * 128 / 255, SEEN])


def check(image: np.ndarray, most: int, expected: np.ndarray = EXPECTED) -> None:
    assert np.abs(bands(image) - expected).max() <= most
    clear = image[:, : image.shape[1] // 3 - 3]
    assert clear.max() <= most + 1  # nowhere does the hidden colour show


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("webp", {"lossless": True, "exact": True}),
        ("tif", {}),
        ("avif", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
@pytest.mark.parametrize("bound", [None, 48, 20])
def test_pictures_are_on_black(tmp_path, kind, options, bound):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(rgba()).save(path, **options)

    check(pictures.read_image(path, bound=bound), 4 if kind == "avif" else 1)


def test_grey_with_alpha_and_palettes_with_transparency_are_on_black(tmp_path):
    grey = Image.fromarray(rgba()).convert("LA")
    grey.save(tmp_path / "la.png")
    level = round(0.299 * SEEN[0] + 0.587 * SEEN[1] + 0.114 * SEEN[2])
    palette = Image.new("P", (W, H), 0)
    palette.putpalette([*HIDDEN, *SEEN, *SEEN])
    palette.paste(1, (W // 3, 0, 2 * W // 3, H))
    palette.paste(2, (2 * W // 3, 0, W, H))
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128, 255]))
    palette.save(tmp_path / "p.gif", transparency=0)

    check(
        pictures.read_image(tmp_path / "la.png"), 2, np.array([[0], [level * 128 / 255], [level]])
    )
    check(pictures.read_image(tmp_path / "p.png"), 1)
    check(pictures.read_image(tmp_path / "p.gif"), 1, np.array([(0, 0, 0), SEEN, SEEN]))


@pytest.mark.parametrize(("colour", "depth"), [(2, 8), (2, 16), (0, 8), (0, 16)])
def test_a_colour_that_is_the_key_is_not_seen(tmp_path, colour, depth):
    deep = "B" if depth == 8 else "H"
    scale = 1 if depth == 8 else 257
    key, seen = (HIDDEN, SEEN) if colour == 2 else ((250,), (60,))
    scaled = [[c * scale for c in values] for values in (key, seen)]
    line = struct.pack(f">{len(key) * 48}{deep}", *scaled[0] * 16, *scaled[1] * 32)
    extra = ((b"tRNS", struct.pack(f">{len(key)}H", *scaled[0])),)
    (tmp_path / "a.png").write_bytes(made.png(48, 8, colour, depth, line=line, extra=extra))

    wanted = np.array([(0,) * 3, *[seen if colour == 2 else seen * 3] * 2])
    check(pictures.read_image(tmp_path / "a.png"), 1, wanted)


def test_a_premultiplied_tiff_is_not_multiplied_again(tmp_path):
    image = rgba().astype(int)
    image[..., :3] = np.rint(image[..., :3] * image[..., 3:] / 255)
    data = image.astype(np.uint8).tobytes()
    tags = {258: (8,) * 4, 259: (1,), 262: (2,), 277: (4,), 338: (1,)}
    (tmp_path / "a.tif").write_bytes(made.tiff(W, H, tags, data))

    check(pictures.read_image(tmp_path / "a.tif"), 2)


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("bound", [None, 40])
def test_a_heics_alpha_is_respected(tmp_path, premultiplied, bound):
    image = rgba()
    shown = image[..., :3].copy()
    if premultiplied:
        shown = np.rint(shown * (image[..., 3:] / 255)).astype(np.uint8)
    data = made.heic(
        [shown], 0, (W, H), alpha=np.ascontiguousarray(image[..., 3]), premultiplied=premultiplied
    )
    (tmp_path / "a.heic").write_bytes(data)

    check(pictures.read_image(tmp_path / "a.heic", bound=bound), 4)


CLIPS = [
    ("a.mov", "qtrle", "argb"),
    ("a.mov", "png", "rgba"),
    ("a.mov", "prores_ks", "yuva444p10le"),
    ("a.mkv", "ffv1", "yuva420p"),
    ("a.mkv", "ffv1", "bgra"),
    ("a.webm", "libvpx-vp9", "yuva420p"),
]


def clip(path: Path, codec: str, pixels: str, *, frames: int = 3) -> Path:
    options = {"lossless": "1"} if codec == "libvpx-vp9" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = W, H, pixels
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(rgba(), "rgba").reformat(format=pixels)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "pixels"), CLIPS)
def test_clips_are_on_black_as_source_and_as_background(tmp_path, name, codec, pixels):
    path = clip(tmp_path / name, codec, pixels)

    with ClipSource(path, live=False) as source:
        frames = [source.read(0) for _ in range(3)]
    backdrop = backdrops.open_backdrop(str(path), W, H)
    behind = backdrop.at(0)
    backdrop.close()

    for frame in frames:
        data = pictures.fit_planes(frame.planes, W, H)
        check(pictures.image_from_i420(data), 6)
    check(pictures.image_from_i420(behind), 6)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_on_black_and_forget_the_picture_before(tmp_path, kind):
    first = Image.fromarray(rgba(255))
    second = Image.fromarray(np.ascontiguousarray(rgba(255)[:, ::-1]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {"disposal": 2}
    path = tmp_path / "a.bin"
    first.save(
        path, kind, save_all=True, append_images=[second], duration=100, **options
    )  # fmt: skip

    with ClipSource(path, live=False) as source:
        frames = [source.read(0) for _ in range(2)]

    for frame, mirrored in zip(frames, (False, True), strict=True):
        data = pictures.fit_planes(frame.planes, W, H)
        image = pictures.image_from_i420(data)
        check(image[:, ::-1] if mirrored else image, 6, np.array([(0, 0, 0), SEEN, SEEN]))


def test_a_clip_that_shows_its_alpha_only_to_another_decoder_is_decoded_by_that(tmp_path):
    path = clip(tmp_path / "a.webm", "libvpx-vp9", "yuva420p")

    with av.open(str(path)) as container:  # what FFmpeg takes unless it is told otherwise
        plain = next(container.decode(video=0))

    assert plain.format.name == "yuv420p"
    assert bands(plain.to_ndarray(format="rgb24"))[0, 0] > 200  # shows what is hidden
