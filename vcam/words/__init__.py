"""The words of the program in the user's language: one gettext catalogue a language, `de.po` say.

What is printed or shown at once goes through `_`. Errors, findings and reasons are made and logged
in English, perhaps in another process, and travel so; whoever shows one says `told` of it, which
finds the sentence it was made from. English needs no catalogue and costs nothing.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from vcam.words import po

FOLDER: Final = Path(__file__).resolve().parent
LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "ja", "zh")
_TRADITIONAL: Final = ("hant", "tw", "hk", "mo")  # Chinese that the catalogue is not written in
_GAP: Final = re.compile(r"\{(\d+)[^}]*\}")
_SENTENCES: Final = re.compile(r"(?<=[.!?:]) (?=\S)")


class Words:
    """The texts of one language. Any thread may ask."""

    def __init__(self, language: str, entries: Mapping[str, str]) -> None:
        self.language = language
        self.entries = entries

    def say(self, text: str, *values: object) -> str:
        """A text with its gaps `{0}`, `{1}` filled."""
        found = self.entries.get(text, text)
        return found.format(*values) if values else found

    def told(self, text: str) -> str:
        """A text that was made in English elsewhere, line by line; what is not known stays."""
        if not self.entries or not text:
            return text
        return "\n".join(self._line(line) for line in text.split("\n"))

    def _line(self, line: str) -> str:
        if line in self.entries:
            return self.entries[line]
        for pattern, order, text in self._sentences:
            if found := pattern.fullmatch(line):
                parts = dict(zip(order, found.groups(), strict=True))
                return _GAP.sub(lambda gap: self._line(parts[gap[1]]), text)  # noqa: B023
        # What ends a sentence may have been put there later.
        if line.endswith(".") and (told := self._line(line[:-1])) != line[:-1]:
            return told + self.say(".")
        pieces = _SENTENCES.split(line)
        if len(pieces) > 1:
            return " ".join(self._line(piece) for piece in pieces)
        return line

    @functools.cached_property
    def _sentences(self) -> list[tuple[re.Pattern[str], list[str], str]]:
        """Texts with gaps, those that say most first: pattern, the gaps' order, translation."""
        found = []
        for msgid, text in self.entries.items():
            if _GAP.search(msgid) and sum(map(str.isalpha, _GAP.sub("", msgid))) > 3:
                literal = _GAP.split(msgid)[::2]
                pattern = "(.+?)".join(map(re.escape, literal))
                found.append((len("".join(literal)), pattern, _GAP.findall(msgid), text))
        found.sort(key=lambda one: -one[0])
        return [(re.compile(pattern, re.DOTALL), order, text) for _, pattern, order, text in found]


@functools.cache
def of(language: str) -> Words:
    """The words of a language; English for one that there is no catalogue of."""
    path = FOLDER / f"{language}.po"
    known = language in LANGUAGES and path.exists()
    return Words(language, po.read(path)) if known else Words("en", {})


_now = of("en")


def use(language: str) -> None:
    """Speak this language from now on, in this process."""
    global _now
    _now = of(language)


def _(text: str, *values: object) -> str:
    """A text in the language in use, with its gaps `{0}`, `{1}` filled."""
    return _now.say(text, *values)


def told(text: str) -> str:
    """A text that was made in English elsewhere, in the language in use."""
    return _now.told(text)


def mark(text: str) -> str:
    """The text itself: it stands in a table, and is translated by `_` where it is shown."""
    return text


def choose(wanted: Iterable[str]) -> str:
    """The first of the languages that there is a catalogue of; tags as in `de_AT` or `pt-BR`."""
    for tag in wanted:
        language, *more = re.split(r"[-_.@]", tag.strip().lower())
        if language in LANGUAGES and not (language == "zh" and set(more) & set(_TRADITIONAL)):
            return language
    return "en"


def of_desktop(environ: Mapping[str, str]) -> str:
    """The language of the desktop, as gettext finds it."""
    return choose(_tags(environ))


def _tags(environ: Mapping[str, str]) -> Iterator[str]:
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environ[name] for name in names if environ.get(name)), "")
    if not locale and sys.platform == "win32":
        import ctypes
        from locale import windows_locale

        locale = windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
    if locale.partition(".")[0] not in ("", "C", "POSIX"):  # a program that is to be plain stays so
        yield from environ.get("LANGUAGE", "").split(":")
    yield locale


def accepted(header: str) -> str:
    """The language of a browser, by its Accept-Language."""
    weighed = []
    for part in header.split(","):
        tag, _sep, weight = part.partition(";q=")
        try:
            weighed.append((-float(weight or 1), tag))
        except ValueError:
            continue
    return choose(tag for _weight, tag in sorted(weighed, key=lambda one: one[0]))
