"""`docs/formats.md`: what is read where, and in which words the rest is refused."""

from __future__ import annotations

from typing import Final

from vcam.media.formats import CLIPS_OUT, FORMATS, PICTURES_OUT, Format

_TOP: Final = """# Formats

Made by `python -m vcam.manual formats`; a test compares it with the table that the program reads.

A file's kind is judged by its content, never by the ending of its name. Backgrounds, `--source` and
`vcam render` read by the same table.

- **Pictures** are read upright (EXIF, HEIF's turns and mirrors), in sRGB (ICC profiles; the colour
  codes of PNG, HEIC and AVIF), 16 bits and fractions scaled, transparent parts on black.
- **Clips** and animations are read upright, with square pixels, by the matrix, range, transfer and
  primaries they are tagged with (BT.709 where untagged and of 720 lines or more, else BT.601), HDR
  (PQ, HLG) compressed to what a screen shows, transparent parts on black.
- Nothing that names other files or addresses is followed. A picture whose decoding would take more
  than 440 MB is refused before it begins, and one is decoded at a time.
- `vcam render` scales pictures of more than 6144 pixels a side down to that, and says so.

## Read

| | background | source | render: in | render: out | sink `file:` |
|---|---|---|---|---|---|
"""
_REFUSED: Final = """
## Refused

The same in every place: the sentence begins with the file's name, and ends with what to do.

| | the file is … | what to do |
|---|---|---|
"""
NOTHING: Final = "no"
_BOTTOM: Final = """
Also refused, by name: a clip that holds sound alone or a song's cover; a codec that FFmpeg cannot
decode or that is not on the list (`vcam/media/stream.py`); VP8 with transparency where FFmpeg came
without its decoder; pictures that are damaged, or of more pixels than the budget allows; folders,
pipes and devices.
"""


def _row(one: Format) -> str:
    moving = one.kind != "picture"
    shown = {"picture": ("shown", "shown"), "animation": ("plays", "plays")}
    background, source = shown.get(one.kind, ("plays", "plays"))
    names = CLIPS_OUT if one.kind == "clip" else PICTURES_OUT
    out = ", ".join(f"`{s}`" for s, name in names.items() if name == one.name) or NOTHING
    sink = out if moving else NOTHING
    into = "a clip" if moving else "a picture"
    return f"| {one.name} | {background} | {source} | gives {into} | {out} | {sink} |"


def page() -> str:
    """The page, as Markdown."""
    read = [_row(one) for one in FORMATS if one.kind != "refused"]
    refused = [
        f"| {one.name} | {one.noun} | {one.hint} |" for one in FORMATS if one.kind == "refused"
    ]
    return _TOP + "\n".join(read) + "\n" + _REFUSED + "\n".join(refused) + "\n" + _BOTTOM
