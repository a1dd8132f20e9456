"""Text that others wrote, made harmless before a terminal, a log, a panel or a bus gets it.

Names of programs, cameras, files and streams are chosen by anybody. `plain` is for where such a
name is read; `say` and `Formatter` stand at the way out, so that nothing slips through. What could
steer a terminal, hide, turn round or break a line is shown as Python writes it: `\\x1b`, `\\u202e`.
"""

from __future__ import annotations

import argparse
import copy
import logging
import re
import sys
import threading
import unicodedata
from collections.abc import Iterable
from typing import Any, Final, TextIO

NAME: Final = 200  # characters of a name; nothing that names a thing needs more
LINE: Final = 2000  # characters of a line that says something
LINES: Final = 200  # lines of one message

# These count as printable and yet leave no mark: joiners, fillers, and selectors of variants that
# can carry a message of their own. The two selectors that emoji need stay.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: object, limit: int | None = NAME) -> str:
    """One line that only shows: no control or format characters, at most `limit` characters.

    Where something is left out of the middle there is a "…". Bytes of a file name that are no
    UTF-8, which Python keeps as lone surrogates, read `\\xff`.
    """
    words = text if isinstance(text, str) else str(text)
    if limit is not None:
        words = _shortened(words, limit)
    if words.isprintable() and not _UNSEEN.search(words):
        return words
    words = "".join(_shown(character) for character in words)
    return words if limit is None else _shortened(words, limit)


def block(text: object, limit: int | None = LINE) -> str:
    """The same for a text of several lines, which stay lines; one beyond `LINES` is left out."""
    lines = str(text).split("\n")
    if limit is not None and len(lines) > LINES:
        lines = [*lines[: LINES - 1], "…"]
    return "\n".join(plain(line, limit) for line in lines)


def escaped(text: str) -> str:
    """Text for where `<`, `>` and `&` are markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def say(*parts: object, file: TextIO | None = None, limit: int | None = LINE) -> None:
    """Print, as `print` does; what the stream's encoding lacks is written as an escape.

    `limit` bounds each line; None is for what programs read.
    """
    stream = sys.stdout if file is None else file
    text = block(" ".join(str(part) for part in parts), limit) + "\n"
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


class Parser(argparse.ArgumentParser):
    """Reads a command line, and repeats what it does not know without obeying it.

    Options are written out: `--show` for "show me the background" would else be `--show-my-room`.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(message.rstrip("\n"), file=file or sys.stderr, limit=None)


class Formatter(logging.Formatter):
    """Writes a record as one line that nobody can forge a second one with; a traceback follows."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = plain(record.message, LINE)
        return plain(super().formatMessage(record), None)

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; what another handler made of its traceback is not taken over."""
        record = copy.copy(record)
        record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return block(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return block(super().formatStack(stack_info))


def log_to(handlers: Iterable[logging.Handler], level: str, style: str) -> None:
    """Send every record of this process, warnings included, to `handlers` and nowhere else."""
    handlers = list(handlers)
    for handler in handlers:
        handler.setFormatter(Formatter(style))
    logging.basicConfig(level=level, handlers=handlers)
    logging.captureWarnings(True)


def catch_last_words() -> None:
    """Log what ends a thread or the program, instead of letting Python print it as it is."""
    log = logging.getLogger("vcam")

    def of_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_type is not SystemExit and told.exc_value is not None:
            name = told.thread.name if told.thread else "a thread"
            log.error("%s ended", name, exc_info=told.exc_value)

    def of_program(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("ended", exc_info=error)

    threading.excepthook = of_thread
    sys.excepthook = of_program


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def _shown(character: str) -> str:
    if character.isprintable() and not _UNSEEN.match(character):
        return character
    if unicodedata.category(character) == "Zs":
        return " "  # the spaces of other typefaces and languages
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return _SHORT.get(character) or f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
