"""Small pictures in a terminal that can show them, by what it says of itself in the environment.

Nothing is asked of the terminal: one that does not answer would keep everybody waiting.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from vcam.foreign_text import plain

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["kitty", "iterm", "sixel", "blocks", ""]

COLUMNS, ROWS = 22, 6  # character cells of one picture
GAP: Final = 2
DOTS: Final = (220, 124)  # pixels of one picture where the terminal takes pixels
PIECE: Final = 4096  # characters that kitty takes at a time
SIXEL: Final = ("foot", "mlterm", "contour", "yaft")


def kind_of(environ: Mapping[str, str], *, terminal: bool) -> Kind:
    """The way a terminal shows pictures; "" where it does not, or where there is none."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if not terminal or term in ("", "dumb") or "NO_COLOR" in environ:
        return ""
    if not term.startswith(("screen", "tmux")):  # which hold pictures back
        if "KITTY_WINDOW_ID" in environ or "kitty" in term or "ghostty" in term:
            return "kitty"
        if program in ("iTerm.app", "WezTerm"):
            return "iterm"
        if "sixel" in term or term.split("-")[0] in SIXEL:
            return "sixel"
    return "blocks" if environ.get("COLORTERM") in ("truecolor", "24bit") else ""


def show(tiles: Sequence[tuple[str, Image]], kind: Kind, width: int) -> str:
    """Pictures in rows, each with its name beneath, for a terminal of `width` cells."""
    across = max(1, (width + GAP) // (COLUMNS + GAP))
    rows = [tiles[at : at + across] for at in range(0, len(tiles), across)]
    return "".join(_row(row, kind) for row in rows)


def _row(row: Sequence[tuple[str, Image]], kind: Kind) -> str:
    images = [image for _, image in row]
    if kind == "sixel":
        drawn = _sixel(_beside(images)) + "\n"
    elif kind == "blocks":
        drawn = _blocks(images)
    else:
        one = _kitty if kind == "kitty" else _iterm
        # Room first: a picture at the last line would scroll away under the cursor.
        drawn = "\n" * ROWS + f"\x1b[{ROWS}A"
        for place, image in enumerate(images):
            right = place * (COLUMNS + GAP)
            aside = f"\x1b[{right}C" if right else ""
            drawn += f"\x1b7{aside}{one(image)}\x1b8"
        drawn += f"\x1b[{ROWS}B\r"
    names = (plain(name)[:COLUMNS].ljust(COLUMNS) for name, _ in row)
    return f"{drawn}{(' ' * GAP).join(names).rstrip()}\n\n"


def _png(image: Image) -> str:
    buffer = io.BytesIO()
    image.resize(DOTS).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _kitty(image: Image) -> str:
    """From kitty's graphics protocol, https://sw.kovidgoyal.net/kitty/graphics-protocol/."""
    text = _png(image)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    told = f"a=T,f=100,q=2,C=1,c={COLUMNS},r={ROWS},"
    drawn = ""
    for place, piece in enumerate(pieces):
        more = int(place < len(pieces) - 1)
        drawn += f"\x1b_G{told if not place else ''}m={more};{piece}\x1b\\"
    return drawn


def _iterm(image: Image) -> str:
    """From iTerm2's inline images, https://iterm2.com/documentation-images.html."""
    told = f"inline=1;width={COLUMNS};height={ROWS};preserveAspectRatio=0"
    return f"\x1b]1337;File={told}:{_png(image)}\x07"


def _beside(images: Sequence[Image]) -> Image:
    from PIL import Image as images_

    wide, high = DOTS
    sheet = images_.new("RGB", ((wide + 20) * len(images) - 20, high))
    for place, image in enumerate(images):
        sheet.paste(image.resize(DOTS), (place * (wide + 20), 0))
    return sheet


def _sixel(image: Image) -> str:
    """From DEC's sixel graphics: bands of six rows, one colour of the palette after the other."""
    import numpy as np

    few = image.quantize(128)
    palette = few.getpalette() or []
    pixels = np.asarray(few)
    drawn = [f'\x1bPq"1;1;{image.width};{image.height}']
    for number in range(len(palette) // 3):
        red, green, blue = (round(value / 2.55) for value in palette[3 * number : 3 * number + 3])
        drawn.append(f"#{number};2;{red};{green};{blue}")
    bits = 1 << np.arange(6)
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        for number in np.unique(band):
            signs = 63 + ((band == number) * bits[: len(band), None]).sum(axis=0)
            drawn.append(f"#{number}{bytes(signs.astype(np.uint8)).decode()}$")
        drawn.append("-")
    return "".join(drawn) + "\x1b\\"


def _blocks(images: Sequence[Image]) -> str:
    """Two pixels a cell: the upper half in front, the lower one behind."""
    small = [image.convert("RGB").resize((COLUMNS, 2 * ROWS)).load() for image in images]
    lines = []
    for row in range(ROWS):
        cells = []
        for pixels in small:
            line = ""
            for x in range(COLUMNS):
                upper, lower = pixels[x, 2 * row], pixels[x, 2 * row + 1]  # type: ignore[index]
                front, behind = (";".join(map(str, colour)) for colour in (upper, lower))  # type: ignore[arg-type]
                line += f"\x1b[38;2;{front};48;2;{behind}m▀"
            cells.append(line + "\x1b[0m")
        lines.append((" " * GAP).join(cells))
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put it on the terminal as it is: what others wrote in it is plain already."""
    sys.stdout.write(text)
    sys.stdout.flush()
