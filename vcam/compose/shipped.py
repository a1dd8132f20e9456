"""Pictures and loops that come with the program: who made them, and what they are lit from."""

from __future__ import annotations

import datetime
import functools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

FOLDER: Final = Path(__file__).resolve().parent.parent / "assets" / "backgrounds"
MANIFEST: Final = FOLDER / "pictures.json"
DAILY: Final = "daily"  # the name of another of the pictures each day

Light = Literal["left", "right", "above", "behind", "even"]

# What the drawn ones are lit from; the pictures' is in the manifest.
DRAWN_LIGHT: Final[dict[str, Light]] = {"studio": "even", "paper": "left", "slate": "even"}

# Names of backgrounds of older releases: a file of the user's never had one of them for its own.
RESERVED: Final = frozenset(
    {"studio", "loft", "paper", "dusk", "lights", "forest", "coast", "slate"}
)


@dataclass(frozen=True, slots=True)
class Shipped:
    """A picture or loop of the program's."""

    name: str
    path: Path
    kind: Literal["picture", "clip"]
    light: Light
    title: str  # what its author called it
    author: str
    source: str  # an address, or the program in this repository that made it
    licence: str  # by its SPDX name

    @property
    def credit(self) -> dict[str, str]:
        """Title, author, source and licence, which are told wherever it is offered."""
        return {
            "title": self.title,
            "author": self.author,
            "source": self.source,
            "licence": self.licence,
            "licence_url": _LICENCES[self.licence],
        }


_LICENCES: Final = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "LGPL-3.0": "https://www.gnu.org/licenses/lgpl-3.0.html",
    "GPL-2.0-or-later": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
}


@functools.cache
def known() -> dict[str, Shipped]:
    """Every one by its name, in the order people see them."""
    found = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return {
        name: Shipped(
            name,
            FOLDER / told["file"],
            "clip" if told["file"].endswith(".mp4") else "picture",
            *(told[key] for key in ("light", "title", "author", "source", "licence")),
        )
        for name, told in found.items()
    }


def light_of(name: str) -> Light | None:
    """Where the light of a background of the program's comes from; None for any other."""
    if name == DAILY:
        return of_day(today()).light
    shipped = known().get(name)
    return shipped.light if shipped else DRAWN_LIGHT.get(name)


def today() -> datetime.date:
    """The date here; another one begins at local midnight."""
    return datetime.date.today()


def of_day(day: datetime.date) -> Shipped:
    """The picture of a day: each once before one comes again, and none twice in a row."""
    names = [one.name for one in known().values() if one.kind == "picture"]
    turn, place = divmod(day.toordinal(), len(names))
    return known()[_shuffled(names, turn)[place]]


def _shuffled(names: list[str], turn: int) -> list[str]:
    """An order of the names for each turn, which never begins as the one before ended."""

    def order(number: int) -> list[str]:
        mixed = list(names)
        random.Random(number).shuffle(mixed)
        return mixed

    mixed, before = order(turn), order(turn - 1)
    if mixed[0] == before[-1]:
        mixed[0], mixed[1] = mixed[1], mixed[0]
    return mixed


def page() -> str:
    """`docs/credits.md`: who made which, from where, and under what terms."""
    rows = []
    for one in known().values():
        told = one.credit
        called = f" (“{told['title']}”)" if told["title"] else ""
        address = told["source"].startswith("https:")
        source = told["source"].rpartition("/")[2] if address else f"`{told['source']}`"
        link = f"[{source}]({told['source']})" if address else f"[{source}](../{told['source']})"
        licence = f"[{told['licence']}]({told['licence_url']})"
        rows.append(
            f"| {one.name.capitalize()}{called} | {told['author']} | {link} | {licence} "
            f"| {one.light} |"
        )
    return PAGE.format(rows="\n".join(rows))


PAGE: Final = """# Pictures and loops that come with the program

`python -m vcam.manual credits` wrote this page; a test compares the two. The same is told on the
settings page, under *Who made these pictures*.

Photographs and paintings come from Debian's packages, where each one's `copyright` names author and
licence. They were cut to 1920x1080 and softened, and some were made lighter or darker, by
[`photographs.py`](artwork/photographs.py). The rooms are rendered, and the loops drawn,
by programs in [`docs/artwork/`](artwork). Paper, Studio and Slate are drawn by the program itself.

| background | author | from | licence | its light comes from |
|---|---|---|---|---|
{rows}

The portrait that is shown where there is no webcam is the astronaut Eileen Collins (NASA, public
domain).
"""
