"""The README's pictures are the program's own: made again, they show the same, and no room."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from desktop import missing
from PIL import Image

from vcam.compose.backdrops import open_backdrop
from vcam.media.pictures import image_from_i420

pytestmark = [
    pytest.mark.desktop,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the panel is a Linux one"),
]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PREVIEW = (36, 74, 822, 514)  # of the page's picture
SIDES = (0.04, 0.24), (0.86, 0.96)  # of the preview: nobody is there
LIKE = 0.9  # correlation of two pictures that show the same


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pictures

    lacking = [*missing(), *(name for name in pictures.NEEDED if not shutil.which(name))]
    if lacking:
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    if shutil.which("chromium") is None:
        pytest.skip("apt-get install chromium")
    folder = tmp_path_factory.mktemp("pictures")
    pictures.make(folder, tmp_path_factory.mktemp("home"))
    return folder


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def behind(scene: str, width: int, height: int) -> np.ndarray:
    """The background as RGB."""
    even = open_backdrop(scene, width // 2 * 2 + 2, height // 2 * 2 + 2).at(0)
    assert isinstance(even, np.ndarray)
    image = Image.fromarray(image_from_i420(even))
    return np.asarray(image.resize((width, height)))


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of two pictures' outlines, a hundred pixels wide."""
    size = (100, 50)
    a, b = (np.asarray(image.convert("L").resize(size), float).ravel() for image in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(
    "name", ["page-light.png", "page-dark.png", "tray-menu.png", "replaced.jpg"]
)
def test_a_picture_made_again_shows_the_same(made, name):
    before, now = opened(IMAGES / name), opened(made / name)

    assert np.allclose(before.size, now.size, atol=24)
    assert likeness(before, now) > LIKE


@pytest.mark.parametrize("where", ["docs", "made"])
@pytest.mark.parametrize(("name", "scene"), [("light", "loft"), ("dark", "forest")])
def test_beside_the_person_the_preview_is_the_background_alone(made, where, name, scene):
    folder = IMAGES if where == "docs" else made
    shown = np.asarray(opened(folder / f"page-{name}.png").crop(PREVIEW), int)
    height, width = shown.shape[:2]
    wanted = behind(scene, width, height)[:, ::-1].astype(int)  # a mirror turns it, too

    for left, right in SIDES:
        part = (
            slice(int(height * 0.05), int(height * 0.8)),
            slice(int(width * left), int(width * right)),
        )
        assert np.abs(shown[part] - wanted[part]).mean() < 12


@pytest.mark.parametrize("where", ["docs", "made"])
@pytest.mark.parametrize(("place", "scene"), [(1, "loft"), (2, "dusk")])
def test_beside_the_person_a_rendered_picture_is_the_background_alone(made, where, place, scene):
    folder = IMAGES if where == "docs" else made
    whole = opened(folder / "replaced.jpg")
    width, height = (whole.width - 16) // 3, whole.height
    left = place * (width + 8)
    shown = np.asarray(whole.crop((left, 0, left + width, height)), int)
    wanted = behind(scene, width, height).astype(int)

    rows = slice(int(height * 0.05), int(height * 0.8))
    for begin, end in ((0.02, 0.12), (0.7, 0.97)):
        part = rows, slice(int(width * begin), int(width * end))
        assert np.abs(shown[part] - wanted[part]).mean() < 12
