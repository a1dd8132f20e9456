"""Views rendered by the processor, with OpenCV.

Shapes:
    images are (H, W, 3) uint8 RGB, mattes (H, W) uint8, alphas (h, w) float32 in 0..1
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from train.data.datasets import Alpha, Image
from train.views import draw, known_room, things
from train.views.draw import Augment, Camera, Cover, Framed, Light, Moved, Part, Scene, Size

MARGIN = 4  # pixels around a view in which a transplanted person's edge is looked for


def view(
    image: Image,
    matte: Image,
    rooms: Sequence[Image],
    size: Size,
    rng: Generator,
    options: Augment,
) -> tuple[Image, Alpha]:
    """Draw and render one view of a picture: framed, lit and degraded like a webcam's.

    Shapes:
        rooms: each (H, W, 3) uint8 RGB
        returns: (h, w, 3) uint8 RGB, (h, w) float32 in 0..1; where `options.known` is set the
            picture has four more channels: the room's RGB, and 255 where it is known
    """
    with_room, known = options.known > 0, options.known
    options = draw.chosen(rng, options)
    drawn = draw.scene(matte, rooms, size, rng, options)
    seen, alpha = scene(drawn, image, matte, rooms)
    bare = part(drawn.room, rooms, size) if with_room and drawn.room else None
    # Things are put where the body is seen, which only the pixels tell.
    if drawn.person and rooms and options.seat and rng.random() < options.seat:
        stuff = part(draw.part(rooms, size, rng), rooms, size)
        seen, bare = things.seat(seen, alpha, stuff, rng, bare)
    if drawn.person and rooms and options.held and rng.random() < options.held:
        seen, alpha = things.held(seen, alpha, part(draw.part(rooms, size, rng), rooms, size), rng)
    if not with_room:
        return camera(draw.camera(rng, options, grain=size), seen), alpha
    behind = known_room.nothing(size)
    if rng.random() < known:
        other = part(draw.part(rooms, size, rng), rooms, size) if rooms else seen
        seen, behind = known_room.scene(seen, alpha, bare, other, rng)
    lens = draw.camera(rng, options, grain=size)
    image, told = behind.image, behind.known
    seen = camera(lens, seen)
    if behind.known.any():
        image = known_room.drifted(camera(known_room.camera_of(lens), image), rng)
        told = known_room.told(seen, alpha, known_room.Behind(image, behind.known))
    return np.dstack((seen, image, told)), alpha


def scene(drawn: Scene, image: Image, matte: Image, rooms: Sequence[Image]) -> tuple[Image, Alpha]:
    """Render what is before the camera, with the person's alpha."""
    size, person = drawn.size, drawn.person
    behind = part(drawn.room, rooms, size) if drawn.room else None
    if isinstance(person, Framed):
        seen, alpha = framed(person, image, matte, size)
    elif person is not None and behind is not None:
        seen, alpha = moved(person, image, matte, behind)
    else:
        assert behind is not None
        return behind, np.zeros(size, np.float32)
    if drawn.cover:
        seen = covered(drawn.cover, seen, part(drawn.cover.stuff, rooms, size))
    return seen, alpha


def part(drawn: Part, rooms: Sequence[Image], size: Size) -> Image:
    """Render a part of a room."""
    h, w = size
    rows = slice(drawn.top, drawn.top + drawn.rows)
    columns = slice(drawn.left, drawn.left + drawn.columns)
    seen = cv2.resize(rooms[drawn.number][rows, columns], (w, h), interpolation=cv2.INTER_AREA)
    if drawn.blur:
        seen = cv2.GaussianBlur(seen, (0, 0), drawn.blur)
    return np.ascontiguousarray(seen[:, ::-1] if drawn.mirrored else seen, np.uint8)


def framed(drawn: Framed, image: Image, matte: Image, size: Size) -> tuple[Image, Alpha]:
    """Render a person where the picture was taken."""
    h, w = size
    if drawn.scale < 0.6:  # linear interpolation looks at two pixels only
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / drawn.scale), np.uint8)
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    seen = cv2.warpAffine(image, drawn.matrix, (w, h), **flags)
    alpha = cv2.warpAffine(matte, drawn.matrix, (w, h), **flags)
    return np.asarray(seen, np.uint8), alpha.astype(np.float32) / np.float32(255)


def moved(drawn: Moved, image: Image, matte: Image, background: Image) -> tuple[Image, Alpha]:
    """Cut the person out and put them before `background`."""
    h, w = background.shape[:2]
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
    person = cv2.warpAffine(image, drawn.matrix, (w, h), **flags).astype(np.float32)
    wider = drawn.matrix + np.array([[0, 0, MARGIN], [0, 0, MARGIN]], np.float32)
    size = (w + 2 * MARGIN, h + 2 * MARGIN)  # so that an edge at the view's own is seen whole
    alpha = cv2.warpAffine(matte, wider, size, **flags).astype(np.float32) / np.float32(255)
    # The rim of the old room goes: the edge moves in a little and becomes soft.
    blurred = cv2.GaussianBlur(alpha, (0, 0), drawn.edge)
    soft = np.clip((blurred - 0.25) / 0.6, 0, 1)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    soft = np.ascontiguousarray(soft, np.float32)
    inside = alpha[MARGIN:-MARGIN, MARGIN:-MARGIN] > 0.5
    behind = background.astype(np.float32)
    if drawn.lit and inside.any():
        ratio = (float(behind.mean()) + 40) / (float(person[inside].mean()) + 40)
        person *= np.float32(min(max(ratio, 0.6), 1.5))
    blend = person * soft[..., None] + behind * (1 - soft[..., None])
    seen = np.clip(blend, 0, 255).astype(np.uint8)
    if drawn.blended:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), 0.6), np.uint8)
    return seen, soft


def covered(drawn: Cover, image: Image, stuff: Image) -> Image:
    """Put something before the picture.

    The person's alpha stays: what hides the person hides no room there.
    """
    shape = np.zeros(image.shape[:2], np.float32)
    cv2.ellipse(shape, drawn.centre, drawn.axes, drawn.degrees, 0, 360, 1, -1)
    cover = cv2.GaussianBlur(shape, (0, 0), 1).astype(np.float32)
    seen: NDArray[np.float32] = image * (1 - cover[..., None]) + stuff * cover[..., None]
    return seen.astype(np.uint8)


def camera(drawn: Camera, image: Image) -> Image:
    """Render light, lens, sensor and codec of a cheap camera."""
    x = lit(image.astype(np.float32), drawn.light)
    h, w = x.shape[:2]
    if drawn.few:
        size = int(w * drawn.few), int(h * drawn.few)
        few = cv2.resize(x, size, interpolation=cv2.INTER_AREA)
        x = cv2.resize(few, (w, h), interpolation=cv2.INTER_LINEAR)
    if drawn.streak:
        x = cv2.filter2D(x, -1, streak(*drawn.streak))
    if drawn.grain is not None:
        x = x + np.float32(drawn.noise) * drawn.grain
    seen = np.clip(x, 0, 255).astype(np.uint8)
    if drawn.chroma and h % 2 == w % 2 == 0:
        seen = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    if drawn.quality:
        _, coded = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, drawn.quality])
        seen = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(seen, np.uint8)


def lit(x: NDArray[np.float32], light: Sequence[Light]) -> NDArray[np.float32]:
    """Change the light, step by step.

    Shapes:
        x: (h, w, 3) float32, 0..255
    """
    for step in light:
        first = step.values[0]
        if step.kind == "balance":
            x = x * np.array(step.values, np.float32)
        elif step.kind == "exposure":
            x = x * first + step.values[1]
        elif step.kind == "contrast":
            mean = float(x.mean())
            x = (x - mean) * first + mean
        elif step.kind == "saturation":
            grey = x.mean(axis=2, keepdims=True)
            x = grey + (x - grey) * first
        elif step.kind == "gamma":
            x = 255 * np.power(np.clip(x, 0, 255) / 255, first)
    return np.clip(x, 0, 255).astype(np.float32)


def streak(length: int, degrees: float) -> NDArray[np.float32]:
    """The kernel of a motion blur, (length, length)."""
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), degrees, 1)
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(kernel / max(float(kernel.sum()), 1e-3), np.float32)
