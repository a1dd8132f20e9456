"""Choices of what others see behind the person: one type a kind, read from text in one place.

The settings file, the command line and the doors write a choice as text. `parse` reads it once;
inside, a file's or a preset's name is a `File` or a `Preset` and cannot be taken for a keyword.

    none                Reveal      the room as it is
    blur, blur:N        Blur        the room, made unreadable
    #rrggbb             Colour
    preset:NAME, NAME   Preset      drawn by the program, or a file in the backgrounds folder
    file:PATH, a path   File; file://PATH, percent-encoded, for one whose name is not UTF-8
    look:NAME           Look        a background and how the person is set into it
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

# The least blur that counts as hiding the room, in percent: letters up to a fifteenth of the
# picture's height are unreadable from here on, see `tests/vcam/test_blur.py`.
LEAST_BLUR: Final = 25
KEYWORDS: Final = frozenset({"none", "blur", "next", "previous"})
EXPECTED: Final = 'expected a file, a preset name, "blur", "blur:N", "#rrggbb" or "none"'

URL: Final = "file://"

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_BLUR: Final = re.compile(r"blur:(\d{1,3})")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Reveal:
    """The room for all to see: as it is, or under a `blur` in percent too weak to hide it."""

    blur: int | None = None

    def __str__(self) -> str:
        return "none" if self.blur is None else f"blur:{self.blur}"


@dataclass(frozen=True, slots=True)
class Blur:
    """The room blurred by `percent`; None is the strength that is set beside the background."""

    percent: int | None = None

    def __str__(self) -> str:
        return "blur" if self.percent is None else f"blur:{self.percent}"


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour, as `#rrggbb`."""

    text: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, each 0..255."""
        red, green, blue = bytes.fromhex(self.text[1:])
        return red, green, blue

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Preset:
    """A background with a name, the user's own or the program's."""

    name: str

    def __str__(self) -> str:
        plain = self.name.strip() and self.name not in KEYWORDS and ":" not in self.name
        return self.name if plain and _kind(self.name) is Preset else f"preset:{self.name}"


@dataclass(frozen=True, slots=True)
class File:
    """A picture or clip by its path."""

    path: str

    def __str__(self) -> str:
        if (text := text_of(self.path)) != self.path:
            return text
        plain = (
            _is_path(self.path) and _kind(self.path) is File and not self.path.startswith("file:")
        )
        return self.path if plain else f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class Look:
    """A look the user kept under a name; no background by itself, so never in the settings."""

    name: str

    def __str__(self) -> str:
        return f"look:{self.name}"


Choice = Reveal | Blur | Colour | Preset | File | Look


def parse(text: str) -> Choice:
    """The choice that `text` writes.

    Raises:
        ValueError: it is empty, or a colour or blur that is none; says what was expected.
    """
    if not text.strip():
        raise ValueError(EXPECTED)
    kind = _kind(text)
    if kind is Reveal:
        return Reveal()
    if kind is Blur:
        return Blur(None if text == "blur" else _percent(text))
    if kind is Colour:
        if not _COLOUR.fullmatch(text):
            raise ValueError('expected "#rrggbb" or "blur:N"')
        return Colour(text)
    if kind is Look:
        return Look(text.removeprefix("look:"))
    if kind is File:
        return File(path_of(text) if text.startswith(URL) else text.removeprefix("file:"))
    return Preset(text.removeprefix("preset:"))


def called(name: str, names: Collection[str]) -> str:
    """`name` as one of `names` is written: the same, or the only one that differs in case alone."""
    alike = [known for known in names if known.casefold() == name.casefold()]
    return alike[0] if name not in names and len(alike) == 1 else name


def text_of(path: str) -> str:
    """The path as text that settings and doors can carry: an address if it is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return URL + quote(os.fsencode(path))
    return path


def path_of(text: str) -> str:
    """The path that `text` is, or that the `file://` address in it names."""
    if not text.startswith(URL):
        return text
    return os.fsdecode(unquote_to_bytes(text.removeprefix(URL)))


def reveal_of(text: str) -> Reveal:
    """The reveal that `text` names: "none", or a blur of less than `LEAST_BLUR` percent.

    Raises:
        ValueError: it names something else.
    """
    choice = parse(text)
    if isinstance(choice, Reveal):
        return choice
    if isinstance(choice, Blur) and choice.percent is not None and choice.percent < LEAST_BLUR:
        return Reveal(choice.percent)
    raise ValueError(f'expected "none", or "blur:N" with N below {LEAST_BLUR}')


def _kind(text: str) -> type[Choice]:
    if text == "none":
        return Reveal
    if text == "blur" or text.startswith("blur:"):
        return Blur
    if text.startswith("preset:"):
        return Preset
    if text.startswith("look:"):
        return Look
    if text.startswith("file:") or _is_path(text):
        return File
    return Colour if text.startswith("#") else Preset


def _percent(text: str) -> int:
    match = _BLUR.fullmatch(text)
    if match is None:
        raise ValueError('expected "#rrggbb" or "blur:N"')
    if int(match[1]) > 100:
        raise ValueError("expected a blur from 0 to 100 percent")
    return int(match[1])


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith("~") or bool(_DRIVE.match(text))
