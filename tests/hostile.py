"""Names as nobody friendly chooses them, and the question whether a text is harmless."""

from __future__ import annotations

import unicodedata

ESCAPE = "\x1b[31mred\x1b]0;title\x07"
NAMES = {
    "escape": ESCAPE,
    "c1": "a\x9b31mb\x85c\x90d",
    "lines": "one\nvcam: forged\r\ntwo\u2028three\u2029four\vfive\fsix",
    "bidi": "gpj.\u202eexe\u2066x\u2069\u200f\u061c",
    "zero-width": "a\u200bb\u2060c\ufeffd\u00ade\u180ef\u200dg\u034fh\u3164i",
    "tags": "flag\U000e0041\U000e0042\U000e007f\U000e0101",
    "surrogate": "\ud800high \udfff and byte \udcff",
    "nul": "a\x00b",
    "markup": "<b>bold</b> <img src=x onerror=alert(1)> & \"quoted\" 'too' _under__score",
    "long": "x" * 10_000_000,
    "long escapes": "\x1b" * 10_000_000,
}
_UNSEEN = {0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0} | set(range(0xE0100, 0xE01F0))


def harmful(text: str, *, lines: bool = True) -> list[str]:
    """The characters of `text` that do more than show, as escapes; newlines too unless `lines`."""
    return [
        ascii(c)
        for c in text
        if not (c == "\n" and lines)
        and (unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" or ord(c) in _UNSEEN)
    ]
