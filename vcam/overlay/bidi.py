"""The order in which letters are drawn: right-to-left scripts, numbers and brackets among them.

A simple form of Unicode's bidirectional algorithm (https://www.unicode.org/reports/tr9/), for one
line without embeddings; and the joined forms of Arabic letters, for who draws letter by letter.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Final, NamedTuple

_MIRRORED: Final = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_ARABIC: Final = range(0xFB50, 0xFF00)  # where the joined forms stand
_KINDS: Final = ("<isolated>", "<initial>", "<medial>", "<final>")
_LAM_ALEF: Final = tuple("\u0644" + alef for alef in "\u0622\u0623\u0625\u0627")


class Run(NamedTuple):
    """Letters of one direction, in the order in which they are read."""

    text: str
    rtl: bool


def base_is_rtl(text: str) -> bool:
    """True if a line that begins so is written from the right."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return kind != "L"
    return False


def runs(text: str) -> list[Run]:
    """Cut a line into runs, in the order in which they stand from left to right."""
    levels = _levels(text, int(base_is_rtl(text)))
    found: list[tuple[int, str]] = []
    for letter, level in zip(text, levels, strict=True):
        if found and found[-1][0] == level:
            found[-1] = level, found[-1][1] + letter
        else:
            found.append((level, letter))
    for level in range(max((one[0] for one in found), default=0), 0, -1):
        at = 0
        while at < len(found):
            end = at
            while end < len(found) and found[end][0] >= level:
                end += 1
            found[at:end] = found[at:end][::-1]
            at = max(end, at + 1)
    return [Run(part, level % 2 == 1) for level, part in found]


def _levels(text: str, base: int) -> list[int]:
    """Each letter's level: odd is from the right."""
    kinds: list[str] = []
    strong = "R" if base else "L"
    last = strong
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        kind = {"AL": "R", "AN": "N"}.get(kind, kind)
        if kind == "NSM":
            kind = kinds[-1] if kinds else strong
        elif kind == "EN":  # a number among letters from the left is one of them
            kind = "L" if last == "L" else "N"
        elif kind not in ("L", "R", "N"):
            kind = ""
        if kind in ("L", "R"):
            last = kind
        kinds.append(kind)
    levels = []
    for at, kind in enumerate(kinds):
        if not kind:
            before = next((k for k in reversed(kinds[:at]) if k), strong)
            after = next((k for k in kinds[at:] if k), strong)
            # Numbers count as letters from the right for what lies beside them.
            before, after = ("R" if k == "N" else k for k in (before, after))
            kind = before if before == after else strong
        levels.append(2 if kind == "N" else 1 if kind == "R" else 2 * base)
    return levels


def drawn(run: Run) -> str:
    """A run as letters from left to right, each in its joined form."""
    if not run.rtl:
        return run.text
    clusters: list[str] = []
    for letter in _joined(run.text):
        if clusters and unicodedata.combining(letter):
            clusters[-1] += letter
        else:
            clusters.append(letter.translate(_MIRRORED))
    return "".join(reversed(clusters))


def _joined(text: str) -> str:
    forms = _forms()
    letters: list[str] = []
    for letter in text:
        if letters and letters[-1] + letter in _LAM_ALEF:
            letters[-1] += letter
        else:
            letters.append(letter)
    shown = []
    for at, letter in enumerate(letters):
        kinds = forms.get(letter)
        if kinds is None:
            shown.append(letter)
            continue
        before = _beside(letters, at, -1)
        after = _beside(letters, at, 1)
        joins_back = "final" in kinds and "initial" in forms.get(before, {})
        joins_on = "initial" in kinds and "final" in forms.get(after, {})
        form = ("medial" if joins_on else "final") if joins_back else ""
        shown.append(kinds.get(form or ("initial" if joins_on else "isolated"), letter))
    return "".join(shown)


def _beside(letters: list[str], at: int, step: int) -> str:
    """The next letter that is no mark; "" if there is none."""
    at += step
    while 0 <= at < len(letters):
        if not unicodedata.combining(letters[at][0]):
            return letters[at]
        at += step
    return ""


@functools.cache
def _forms() -> dict[str, dict[str, str]]:
    """The forms of each Arabic letter, and of lam before alef, as Unicode lists them."""
    forms: dict[str, dict[str, str]] = {}
    for code in _ARABIC:
        kind, _, rest = unicodedata.decomposition(chr(code)).partition(" ")
        letters = "".join(chr(int(part, 16)) for part in rest.split())
        if kind in _KINDS and (len(letters) == 1 or letters in _LAM_ALEF):
            forms.setdefault(letters, {}).setdefault(kind[1:-1], chr(code))
    return forms
