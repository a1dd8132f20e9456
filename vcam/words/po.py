"""The reader of gettext's .po files: catalogues are used as translators write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_ENTRY: Final = re.compile(r'^msgid ((?:"[^\n]*"\n)+)msgstr ((?:"[^\n]*"(?:\n|\Z))+)', re.MULTILINE)
_PIECE: Final = re.compile(r'^"(.*)"$', re.MULTILINE)
_ESCAPE: Final = re.compile(r"\\(.)")
_PLAIN: Final = {"n": "\n", "t": "\t"}


def read(path: Path) -> dict[str, str]:
    """Translations by what they translate; what has none, and the header, are left out."""
    text = path.read_text(encoding="utf-8")
    found = {_joined(msgid): _joined(msgstr) for msgid, msgstr in _ENTRY.findall(text)}
    return {msgid: msgstr for msgid, msgstr in found.items() if msgid and msgstr}


def _joined(pieces: str) -> str:
    """The text of one or more quoted lines."""
    text = "".join(_PIECE.findall(pieces))
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _PLAIN.get(found[1], found[1]), text)


def quoted(text: str) -> str:
    """A text as a .po file writes it, on one line."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(character, written)
    return f'"{text}"'
