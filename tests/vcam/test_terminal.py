"""`vcam background` in a terminal: pictures where it can show them, and names where it cannot."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from vcam.client import terminal as pictures

TRUE = {"COLORTERM": "truecolor"}


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", **TRUE}, "blocks"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", **TRUE}, "blocks"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "dumb", **TRUE}, ""),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, ""),
        ({}, ""),
    ],
)
def test_a_terminal_is_taken_at_its_word(environ, kind):
    assert pictures.kind_of(environ, terminal=True) == kind
    assert pictures.kind_of(environ, terminal=False) == ""


def tiles(count=3):
    return [(f"n{i}\x1b[2J", Image.new("RGB", (32, 18), (200, 20 * i, 30))) for i in range(count)]


@pytest.mark.parametrize("kind", ["kitty", "iterm", "sixel", "blocks"])
def test_names_stand_beneath_and_are_harmless(kind):
    shown = pictures.show(tiles(), kind, width=80)

    assert all(f"n{i}" in shown for i in range(3))
    assert "\x1b[2J" not in shown


def test_kitty_gets_whole_pictures_in_pieces():
    shown = pictures.show(tiles(1), "kitty", width=80)

    pieces = re.findall(r"\x1b_G[^;]*m=(\d);([^\x1b]*)\x1b\\", shown)
    assert [more for more, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    data = base64.b64decode("".join(piece for _, piece in pieces))
    assert Image.open(io.BytesIO(data)).getpixel((5, 5)) == (200, 0, 30)


def test_blocks_are_as_wide_as_they_say_and_in_the_pictures_colour():
    shown = pictures.show(tiles(2), "blocks", width=80)

    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()[: pictures.ROWS]]
    assert {len(line) for line in lines} == {2 * pictures.COLUMNS + pictures.GAP}
    assert "38;2;200;20;30" in shown


def test_sixels_are_the_picture():
    shown = pictures.show(tiles(1), "sixel", width=80)

    assert shown.startswith('\x1bPq"1;1;220;124#0;2;78;0;12')
    body = shown[shown.index("#0", 30) :]
    assert body.count("~" * 220) >= 19  # whole bands of one colour
