"""Pictures of one's own: which part is shown, how dark, how soft, and that it is kept."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from vcam.compose import fitting, library
from vcam.compose.backdrops import open_backdrop
from vcam.compose.fitting import Fitting
from vcam.errors import BackgroundError
from vcam.system.paths import backgrounds_dir


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """A picture four times as wide as high: dark, bright, dark, bright, each as wide as high."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    backgrounds_dir().mkdir(parents=True)
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, 100:200] = image[:, 300:] = 200
    Image.fromarray(image).save(backgrounds_dir() / "stripes.png")
    return "stripes"


def shown(name):
    return open_backdrop(name, 100, 100).at(0)[:100].astype(int)


def test_the_part_that_is_wished_is_shown(stripes):
    seen = []
    for x in (-1.0, 1 / 3, 1.0):
        library.place(stripes, {"x": x})
        seen.append(shown(stripes).mean())

    assert seen[0] < 20
    assert seen[2] > 180
    assert seen[0] < seen[1] < seen[2] or seen[1] < 20  # the third stripe is dark


def test_darker_softer_and_larger_are_what_they_say(stripes):
    library.place(stripes, {"x": 1.0})
    plain = shown(stripes)
    library.place(stripes, {"x": 1.0, "darken": 50})
    darker = shown(stripes)
    library.place(stripes, {"blur": 100})
    soft = np.abs(np.diff(shown(stripes), axis=1)).max()
    library.place(stripes, {})
    sharp = np.abs(np.diff(shown(stripes), axis=1)).max()
    library.place(stripes, {"x": -1.0, "zoom": 4})

    assert darker.mean() < 0.65 * plain.mean()
    assert soft < sharp / 2
    assert shown(stripes).std() < 2  # a quarter of one stripe


def test_it_is_kept_beside_the_pictures_and_taken_back(stripes):
    library.place(stripes, {"zoom": 2})
    back = library.place(stripes, {"zoom": 3, "darken": 20})
    file = backgrounds_dir().parent / "pictures.json"
    assert json.loads(file.read_text())["stripes.png"]["zoom"] == 3
    assert fitting.Fittings().of(backgrounds_dir() / "stripes.png") == Fitting(zoom=3, darken=20)

    back()

    assert library.find(stripes).fitting == Fitting(zoom=2)


def test_a_picture_that_is_deleted_takes_along_how_it_was_placed(stripes):
    path = backgrounds_dir() / "stripes.png"
    library.place(stripes, {"zoom": 2})
    content = path.read_bytes()

    back = library.remove(stripes)
    path.write_bytes(content)  # another one of that name
    assert library.find(stripes).fitting == Fitting()
    path.unlink()
    back()

    assert library.find(stripes).fitting == Fitting(zoom=2)


@pytest.mark.parametrize(
    "told", [{"zoom": 9}, {"zoom": "2"}, {"x": float("nan")}, {"y": True}, {"s": 1}]
)
def test_what_makes_no_sense_is_refused(stripes, told):
    with pytest.raises(BackgroundError, match="expected x from -1 to 1"):
        library.place(stripes, told)


def test_only_pictures_of_ones_own_are_fitted(stripes):
    with pytest.raises(BackgroundError, match="no picture of yours"):
        library.place("coast", {"zoom": 2})


def test_a_damaged_file_leaves_the_pictures_as_they_are(stripes):
    (backgrounds_dir().parent / "pictures.json").write_text('{"stripes.png": {"zoom": 99}, "a": 3}')

    assert fitting.Fittings().of(backgrounds_dir() / "stripes.png") == Fitting()


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", '"' + "a" * (2 << 20) + '"'])
def test_a_file_of_nonsense_leaves_them_too(stripes, text):
    (backgrounds_dir().parent / "pictures.json").write_text(text)

    assert fitting.Fittings().of(backgrounds_dir() / "stripes.png") == Fitting()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_nobody_waits_for_a_pipe_in_its_place(stripes):
    os.mkfifo(backgrounds_dir().parent / "pictures.json")

    assert fitting.Fittings().of(backgrounds_dir() / "stripes.png") == Fitting()


def test_a_picture_whose_name_is_no_utf_8_is_placed(stripes):
    picture = backgrounds_dir() / os.fsdecode(b"m\xfcsli.png")
    fitting.Fittings().keep(picture, Fitting(zoom=2))

    assert fitting.Fittings().of(picture) == Fitting(zoom=2)


@pytest.mark.parametrize(("columns", "rows"), [(122, 69), (122, 700), (1100, 122)])
@pytest.mark.parametrize("x", [-1.0, 0.0, 1.0])
def test_all_of_a_picture_is_shown_whatever_its_size(columns, rows, x):
    image = np.zeros((rows, columns, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, columns)
    image[..., 1] = np.linspace(0, 250, rows)[:, None]

    seen = Fitting(x=x, y=x, darken=1).fit(image, 1280, 720).astype(int)

    fits = min(columns / 1280, rows / 720) / np.array((columns / 1280, rows / 720))
    assert abs(np.ptp(seen[360, :, 0]) - 247 * fits[0]) < 12
    assert abs(np.ptp(seen[:, 640, 1]) - 247 * fits[1]) < 12
