"""The texts of a page of HTML: found, and put into another language."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final

from vcam.words import Words

# What a reader sees or hears: between tags, and in these attributes.
_TEXT: Final = re.compile(
    r'>(?P<between>[^<>]*[^\W\d_][^<>]*)<|\b(?:alt|title|aria-label)="(?P<attribute>[^"]+)"'
)
_KEPT: Final = re.compile(
    r'<(code|kbd|title|h1|option(?= [^>]*translate="no"))\b[^>]*>.*?</\1>', re.DOTALL
)


def texts(page: str) -> Iterator[str]:
    """Each text that `translated` would look up."""
    for found in _TEXT.finditer(_KEPT.sub("<>", page)):
        yield _words(found)


def translated(page: str, words: Words) -> str:
    """The page in another language; names, commands and keys stay."""
    made, at = [], 0
    for kept in [*_KEPT.finditer(page), None]:
        end = kept.start() if kept else len(page)
        # A text may end where something begins that is kept.
        made.append(_TEXT.sub(lambda found: _put(found, words), page[at:end] + "<")[:-1])
        if kept is None:
            break
        made.append(kept[0][:-1])
        at = kept.end() - 1
    return "".join(made).replace('<html lang="en">', f'<html lang="{words.language}">')


def _words(found: re.Match[str]) -> str:
    return html.unescape(found["between"] or found["attribute"]).strip()


def _put(found: re.Match[str], words: Words) -> str:
    part = "between" if found["between"] else "attribute"
    text = _words(found)
    made = html.escape(words.say(text), quote=part == "attribute")
    before, after = found[0].split(found[part])
    inside = found[part]
    lead = inside[: len(inside) - len(inside.lstrip())]
    return before + lead + made + inside[len(inside.rstrip()) :] + after
