"""Clips of a fixed webcam with true alpha: a room alone, then somebody comes in, sits and moves.

People and rooms are photographs of a manifest. Their light is that of a real camera: exposure that
follows who comes in, a soft shadow, light that is uneven and sways, noise, a codec. The room does
not move, but in the kinds that say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from train.data.datasets import Alpha, Image, Pair, read_image, read_matte
from train.data.manifests import Row, read_room
from train.errors import DataError

KINDS: Final = ("sit", "sit", "sit", "late", "lamp", "chair", "nudge")  # in turn
WIDTH, HEIGHT, FPS = 640, 360, 25
ALONE, FRAMES = 40, 165  # of the room alone; in all
HAPPENS = 110  # the frame from which lamp, chair and camera are otherwise


@dataclass(frozen=True, slots=True)
class Scene:
    """A person before a room.

    Shapes:
        person: (h, w, 3) uint8 RGB; alpha: (h, w) float32; room: (H, W, 3) uint8 RGB
    """

    name: str
    kind: str
    person: Image
    alpha: Alpha
    room: Image


def scenes(pairs: list[Pair], rooms: list[tuple[Path, Row]], count: int) -> Iterator[Scene]:
    """So many scenes, each of another person and another room.

    Raises:
        DataError: there are fewer people or rooms, or one cannot be read.
    """
    if min(len(pairs), len(rooms)) < count:
        raise DataError(
            f"{len(pairs)} people and {len(rooms)} rooms for {count} clips",
            hint="Ask for fewer, or give a manifest with more.",
        )
    for number in range(count):
        pair = pairs[number * len(pairs) // count]
        path, row = rooms[number * len(rooms) // count]
        kind = KINDS[number % len(KINDS)]
        name = f"{kind}-{number:02d}"
        yield Scene(
            name, kind, read_image(pair.image), read_matte(pair.matte), read_room(path, row)
        )


def frames(scene: Scene, count: int = FRAMES) -> Iterator[tuple[Image, Alpha]]:
    """So many frames of a scene, (HEIGHT, WIDTH, 3) uint8 RGB each, and their true alpha."""
    rng = np.random.default_rng(sum(map(ord, scene.name)))
    room, person = _framed(scene.room), _inside(scene.person, scene.alpha)
    moved = room.copy()
    left, width = WIDTH // 8, WIDTH // 6
    moved[HEIGHT // 2 :, -2 * width : -width] = room[HEIGHT // 2 :, left : left + width]
    light = rng.standard_normal((3, 4)).astype(np.float32)
    light = cv2.resize(light, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]
    tint = rng.uniform(0.97, 1.03, 3).astype(np.float32)
    drift, phase = rng.uniform(-0.08, 0.1), rng.uniform(0, 6)
    for number in range(count):
        alpha, seen = _placed(scene, person, number, phase)
        happened = number >= HAPPENS
        behind = moved if scene.kind == "chair" and happened else room
        shade = cv2.GaussianBlur(np.roll(alpha, (4, 9), (0, 1)), (0, 0), 11)[..., None]
        sway = 0.04 + 0.03 * math.sin(number / 5)
        behind = behind * (1 - 0.22 * shade) * (1 + sway * light * min(1, 4 * alpha.mean()))
        if scene.kind == "lamp" and happened:
            behind = behind * _colour(1.1, 0.97, 0.85) + _colour(14, 6, 0)
            seen = seen * _colour(1.06, 0.98, 0.9) + _colour(8, 4, 0)
        x = seen * alpha[..., None] + behind * (1 - alpha[..., None])
        there = min(1.0, 3 * float(alpha.mean()))
        x = x * (1 + drift * there) * (1 + (tint - 1) * there)
        if scene.kind == "nudge" and happened:
            push = np.array([[1, 0, 6], [0, 1, -4]], np.float32)
            x = cv2.warpAffine(x, push, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)
            alpha = cv2.warpAffine(alpha, push, (WIDTH, HEIGHT))
        x = x + rng.normal(0, 2.5, (HEIGHT, WIDTH, 1)) + rng.normal(0, 1.5, x.shape)
        coded = cv2.imencode(".jpg", np.clip(x, 0, 255).astype(np.uint8)[..., ::-1])[1]
        decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        yield np.ascontiguousarray(decoded[..., ::-1]), alpha


def write(scene: Scene, folder: Path, count: int = FRAMES) -> None:
    """Write NAME.mp4 and NAME_alpha.mkv, for `evaluate --clips`."""
    folder.mkdir(parents=True, exist_ok=True)
    files: tuple[tuple[Path, str, str, dict[str, str]], ...] = (
        (folder / f"{scene.name}.mp4", "libx264", "yuv420p", {"crf": "14"}),
        (folder / f"{scene.name}_alpha.mkv", "ffv1", "gray", {}),
    )
    outs: list[tuple[av.container.OutputContainer, VideoStream]] = []
    for path, codec, layout, options in files:
        out = av.open(str(path), "w")
        stream = out.add_stream(codec, rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, layout
        outs.append((out, stream))
    for image, alpha in frames(scene, count):
        grey = np.round(alpha * 255).astype(np.uint8)
        for (out, stream), picture, kind in zip(
            outs, (image, grey), ("rgb24", "gray"), strict=True
        ):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, kind)))
    for out, stream in outs:
        out.mux(stream.encode(None))
        out.close()


def _placed(
    scene: Scene, person: NDArray[np.float32], number: int, phase: float
) -> tuple[Alpha, NDArray[np.float32]]:
    """The person in a frame: alpha and colours, which go on beyond it."""
    h, w = scene.alpha.shape
    since = number - ALONE if scene.kind != "late" else number + ALONE
    if since < 0:
        return np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH, 3), np.float32)
    come = min(1.0, since / 30)
    come = come * come * (3 - 2 * come)
    x = WIDTH / 2 + (1 - come) * WIDTH * 0.75 + 17 * math.sin(since / 9 + phase) * come
    y = HEIGHT + 2 + 3 * math.sin(since / 6)
    scale = HEIGHT * 0.86 / h * (1 + 0.05 * math.sin(since / 14 + phase))
    matrix = cv2.getRotationMatrix2D((w / 2, h), 2.5 * math.sin(since / 11), scale)
    matrix[:, 2] += (x - w / 2, y - h)
    alpha = cv2.warpAffine(scene.alpha, matrix, (WIDTH, HEIGHT))
    seen = cv2.warpAffine(person, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    return np.clip(alpha, 0, 1).astype(np.float32), np.asarray(seen, np.float32)


def _colour(red: float, green: float, blue: float) -> NDArray[np.float32]:
    return np.array((red, green, blue), np.float32)


def _framed(room: Image) -> NDArray[np.float32]:
    """As much of a room as a webcam on a desk sees: its lower middle."""
    h, w = room.shape[:2]
    scale = 1.25 * max(WIDTH / w, HEIGHT / h)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    large = cv2.resize(room, (math.ceil(w * scale), math.ceil(h * scale)), interpolation=how)
    top, left = round(0.75 * (large.shape[0] - HEIGHT)), (large.shape[1] - WIDTH) // 2
    return np.asarray(large[top : top + HEIGHT, left : left + WIDTH], np.float32)


def _inside(image: Image, alpha: Alpha) -> NDArray[np.float32]:
    """The person's colours, gone on with beyond the outline: nothing of the old room is left."""
    colours = image.astype(np.float32)
    weight = (alpha > 0.95).astype(np.float32)
    out, missing = colours.copy(), weight < 1
    for deviation in (2, 5, 12, 30):
        near = cv2.GaussianBlur(weight, (0, 0), deviation)
        mean = cv2.GaussianBlur(colours * weight[..., None], (0, 0), deviation)
        found = missing & (near > 0.01)
        out[found] = mean[found] / near[found, None]
        missing &= ~found
    return out
