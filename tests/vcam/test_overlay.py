"""Name, title, logo and clock: readable on anything, in every script, and in their corner."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.vcam.test_compositor import (
    BLUE,
    GREEN,
    RED,
    disc,
    image_frame,
    matte_for,
    pictured,
    plain,
)
from tests.vcam.test_compositor import H as TALL
from tests.vcam.test_compositor import W as WIDE
from vcam.compose.compositor import Compositor
from vcam.compose.scene import Look
from vcam.errors import BackgroundError
from vcam.overlay import bidi
from vcam.overlay import tag as overlay
from vcam.overlay.tag import Tag
from vcam.settings.config import OverlaySettings

SIZE = (1280, 720)
NOTHING = {"name": "", "title": "", "pronouns": "", "logo": "", "clock": False}


def wish(**given: object) -> OverlaySettings:
    return OverlaySettings(**(NOTHING | {"show": True, "corner": "bottom-left"} | given))


def laid(grey: int, **given: object) -> np.ndarray:
    data = np.full((SIZE[1] * 3 // 2, SIZE[0]), grey, np.uint8)
    data[SIZE[1] :] = 128
    shown = Tag(wish(**given), *SIZE).drawn()
    assert shown is not None
    shown.lay(data)
    return data[: SIZE[1]]


def test_nothing_is_drawn_where_nothing_is_asked_for():
    assert Tag(wish(name="  \n"), *SIZE).drawn() is None
    assert Tag(wish(name="Anna", logo="gone.png", show=False), *SIZE).drawn() is None
    assert Tag(wish(clock=True), *SIZE).drawn("12:34") is not None


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_it_stands_in_its_corner_and_touches_nothing_else(corner):
    shown = laid(128, name="Anna Müller", title="Pilot", corner=corner) != 128

    rows, columns = np.nonzero(shown)
    upper, lefter = rows.mean() < SIZE[1] / 2, columns.mean() < SIZE[0] / 2
    assert (upper, lefter) == (corner.startswith("top"), corner.endswith("left"))
    assert shown.mean() < 0.06
    assert rows.min() > 0
    assert columns.min() > 0
    assert rows.max() < SIZE[1] - 1
    assert columns.max() < SIZE[0] - 1


@pytest.mark.parametrize("grey", [16, 128, 235])
def test_letters_stand_out_from_their_plate_on_any_background(grey):
    data = laid(grey, name="Anna", corner="top-left")
    part = data[24:90, 24:160].astype(float)

    assert part.max() > 220
    # 4.5 to 1, as readable text needs: the plate has a luminance of 0.18 at most.
    plate = np.median(part)
    assert ((plate - 16) / 219) ** 2.2 < 0.18


@pytest.mark.parametrize(
    "name", ["Anna", "王小明", "日本 太郎", "김철수", "דנה כהן", "محمد علي", "Иван"]
)
def test_every_script_is_written_and_not_in_boxes(name):
    letters = "".join(sorted(set(name.replace(" ", ""))))
    if overlay._face(letters) is None:
        pytest.skip(f"needs a typeface for {name}: apt install fonts-noto-cjk fonts-dejavu")

    assert np.ptp(laid(128, name=name).astype(int)) > 150


def test_right_to_left_is_put_in_order_and_joined():
    assert [run.text for run in bidi.runs("Dana דנה 12 x")] == ["Dana ", "12", "דנה ", " x"]
    assert bidi.runs("محمد (BBC)") == [(")", True), ("BBC", False), ("محمد (", True)]
    assert bidi.drawn(bidi.Run("דנה", True)) == "הנד"
    assert bidi.drawn(bidi.Run("(א", True)) == "א)"
    assert ascii(bidi.drawn(bidi.Run("علي", True))) == ascii("\ufef2\ufee0\ufecb")
    assert ascii(bidi.drawn(bidi.Run("سلام", True))) == ascii("\ufee1\ufefc\ufeb3")


def test_without_a_shaper_the_same_letters_are_drawn(monkeypatch):
    if overlay._face("محدعلي") is None:
        pytest.skip("needs an Arabic typeface: apt install fonts-dejavu")
    shaped = laid(128, name="محمد علي")

    def plain_one(found, size):
        path, index = found
        return ImageFont.truetype(path, size, index, layout_engine=ImageFont.Layout.BASIC)

    monkeypatch.setattr(overlay, "typeface", plain_one)

    by_hand = laid(128, name="محمد علي")
    assert np.mean(np.abs(shaped.astype(int) - by_hand) > 60) < 0.0005


def test_a_name_that_is_too_long_is_cut_off_and_signs_that_nobody_draws_are_left_out():
    shown = Tag(wish(name="A" + "n" * 79), *SIZE).drawn()
    assert shown is not None
    assert shown.place[2] < SIZE[0] / 2

    odd = Tag(wish(name="Anna \U0010fffd\x07"), *SIZE).drawn()
    same = Tag(wish(name="Anna"), *SIZE).drawn()
    assert odd is not None
    assert same is not None
    assert abs(odd.place[2] - same.place[2]) < 12


def test_accents_and_joiners_without_a_typeface_are_no_boxes_and_what_is_lost_is_told():
    strange = "\U00010600"  # of Linear A
    if overlay._face(strange) is not None:
        pytest.skip("there is a typeface for everything")
    same = {
        "Zoe": "Z\u0336oe\u200d",
        "Zo\u00e9": "Zoe\u0301",
        "Anna": f"Anna{strange}\u200d{strange}",
    }

    for plain_one, written in same.items():
        one, other = (Tag(wish(name=name), *SIZE) for name in (plain_one, written))
        assert np.array_equal(one.drawn().colours[0], other.drawn().colours[0])
        assert strange in other.problem if strange in written else not other.problem
        assert not one.problem


def test_a_logo_keeps_its_transparency_and_other_files_are_refused(tmp_path: Path):
    logo = np.zeros((50, 100, 4), np.uint8)
    logo[:, 50:] = 255
    Image.fromarray(logo).save(tmp_path / "logo.png")
    Image.fromarray(logo[..., :3]).save(tmp_path / "logo.jpg")

    data = laid(100, logo=str(tmp_path / "logo.png"))

    assert (data != 100).any()
    changed = np.nonzero(data != 100)
    assert data[changed].max() == 235
    assert len(np.unique(changed[1])) < 1.1 * 72  # the right half of a tenth of the height
    with pytest.raises(BackgroundError, match="JPEG"):
        Tag(wish(logo=str(tmp_path / "logo.jpg")), *SIZE)


def test_it_lies_over_composites_of_every_maker():
    alpha = disc()
    frame = image_frame(pictured(alpha, RED, GREEN))
    matte = matte_for(frame, alpha)
    compositor = Compositor(WIDE, TALL)
    bare = compositor.compose(frame, matte, plain(BLUE), Look()).data.copy()
    compositor.overlay = shown = Tag(wish(name="Anna"), WIDE, TALL).drawn()
    assert shown is not None
    left, top, width, height = shown.place
    there = np.s_[top : top + height, left : left + width]

    drawn = compositor.compose(frame, matte, plain(BLUE), Look()).data.copy()
    adopted = compositor.compose(
        frame, dataclasses.replace(matte, composite=bare), plain(BLUE), Look()
    ).data.copy()
    revealed = compositor.reveal(frame).data

    assert np.array_equal(drawn, adopted)
    assert (drawn[there] != bare[there]).any()
    assert (drawn[there].max(), revealed[there].max()) == (235, 235)
    outside = np.ones((TALL, WIDE), bool)
    outside[there] = False
    assert np.array_equal(drawn[:TALL][outside], bare[:TALL][outside])
