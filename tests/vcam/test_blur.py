"""A blur hides the room: letters behind the person cannot be read at any strength."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from segmentation.matte import Matte
from segmentation.planes import Planes
from vcam.compose.backdrops import open_backdrop
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame
from vcam.media.pictures import i420_from_image, image_from_i420
from vcam.settings.choice import LEAST_BLUR

W, H = 1280, 720
WORDS = ("SECRET", "BUDGET", "LETTER", "WINDOW", "GARDEN", "MARKET", "SILVER")
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf")
pytestmark = pytest.mark.skipif(
    shutil.which("tesseract") is None or not FONT.exists(),
    reason="apt install tesseract-ocr fonts-dejavu-core",
)


def notice(height: int) -> Frame:
    """A white wall with `WORDS` in black capitals of `height` pixels, and a person at the left."""
    image = Image.new("RGB", (W, H), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(str(FONT), round(height / 0.73))
    for i, word in enumerate(WORDS):
        draw.text((330 + 450 * (i % 2), 30 + (i // 2) * 1.7 * height), word, "black", font)
    draw.rectangle((0, 0, 300, H), (90, 60, 50))
    data = i420_from_image(np.asarray(image))
    flat, half = data.reshape(-1), (H // 2, W // 2)
    u, v = (flat[at : at + W * H // 4].reshape(half) for at in (W * H, W * H * 5 // 4))
    return Frame(Planes(data[:H], u, v), 0.0, 1)


def matte(frame: Frame, size: tuple[int, int] = (224, 384)) -> Matte:
    alpha = np.zeros(size, np.float32)
    alpha[:, : size[1] * 300 // W] = 1
    zero = np.zeros_like(alpha)
    planes = (np.ascontiguousarray(p) for p in frame.planes.each)
    picture = np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_AREA) for p in planes])
    return Matte(zero, alpha.copy(), alpha, 1, 0.0, alpha, picture, False, True)


def read(shown: np.ndarray, folder: Path) -> set[str]:
    """The words that can be read in `shown`, as it is and smaller, with its contrast stretched."""
    found: set[str] = set()
    for scale in (1, 2, 4):
        small = cv2.resize(shown, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        sharp = small + 3.0 * (
            small - cv2.GaussianBlur(small.astype(np.float32), (0, 0), 16 / scale)
        )
        for picture in (small, sharp):
            wide = cv2.normalize(picture.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX)
            Image.fromarray(wide.astype(np.uint8)).save(folder / "seen.png")
            command = ["tesseract", str(folder / "seen.png"), "-", "--psm", "6"]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found |= set(text.upper().split())
    return found & set(WORDS)


@pytest.mark.parametrize("height", [24, 48])
@pytest.mark.parametrize("strength", [LEAST_BLUR, 60, 100])
def test_letters_behind_a_blur_cannot_be_read(tmp_path: Path, height: int, strength: int):
    frame = notice(height)

    shown = Compositor(W, H).compose(frame, matte(frame), Blur(strength), Look())

    assert read(image_from_i420(shown.data)[:, 310:], tmp_path) == set()


def test_the_reader_reads_them_where_the_blur_is_weak(tmp_path: Path):
    frame = notice(48)

    shown = Compositor(W, H).compose(frame, matte(frame), Blur(3), Look())

    assert len(read(image_from_i420(shown.data)[:, 310:], tmp_path)) >= 5


@pytest.mark.parametrize("use", ["blur", *(f"blur:{n}" for n in (0, 1, 5, LEAST_BLUR - 1))])
def test_no_setting_blurs_less_than_that(use: str):
    assert open_backdrop(use, 64, 36, blur=0).at(0) == Blur(LEAST_BLUR)
    assert open_backdrop(f"blur:{LEAST_BLUR + 1}", 64, 36).at(0) == Blur(LEAST_BLUR + 1)
