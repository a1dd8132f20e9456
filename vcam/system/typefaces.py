"""Typefaces of this machine for languages that the one drawn with otherwise cannot write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TIMEOUT: Final = 5.0  # seconds; fontconfig's first answer reads every font there is
_WINDOWS: Final = {
    "ja": ("YuGothM.ttc", "meiryo.ttc", "msgothic.ttc"),
    "zh": ("msyh.ttc", "simsun.ttc"),
}
_MACOS: Final = {
    "ja": ("ヒラギノ角ゴシック W3.ttc", "Hiragino Sans GB.ttc"),
    "zh": ("PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc"),
}
# For letters of any language.
_WINDOWS_ALL: Final = (
    "segoeui.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf", "LeelawUI.ttf",
)  # fmt: skip
_MACOS_ALL: Final = (
    "Helvetica.ttc", "Supplemental/Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc", "GeezaPro.ttc", "ArialHB.ttc",
)  # fmt: skip


def of(language: str) -> Iterator[tuple[str, int]]:
    """Typefaces that may write a language, the likeliest first: a file, and the number in it."""
    if sys.platform == "win32":
        yield from _there(Path("C:/Windows/Fonts"), _WINDOWS.get(language, ("segoeui.ttf",)))
    elif sys.platform == "darwin":
        yield from _there(Path("/System/Library/Fonts"), _MACOS.get(language, ("Helvetica.ttc",)))
    else:
        tag = {"zh": "zh-cn"}.get(language, language)
        yield from _matching(f"lang={tag}")


def writing(letters: str) -> Iterator[tuple[str, int]]:
    """Typefaces that may write these letters, the likeliest first."""
    if sys.platform == "win32":
        yield from _there(Path("C:/Windows/Fonts"), _WINDOWS_ALL)
    elif sys.platform == "darwin":
        yield from _there(Path("/System/Library/Fonts"), _MACOS_ALL)
    else:
        codes = " ".join(f"{ord(letter):x}" for letter in sorted({*letters}))
        yield from _matching(f"charset={codes}")


def _matching(wish: str) -> Iterator[tuple[str, int]]:
    """The typeface that fontconfig has for a wish."""
    asked = ["fc-match", "--format=%{index} %{file}", f"sans-serif:{wish}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    index, _, path = done.stdout.partition(" ")
    if done.returncode == 0 and index.isdecimal():
        # The upper half is a variant of the typeface, which Pillow does not ask for.
        yield path, int(index) & 0xFFFF


def _there(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for name in names:
        if (folder / name).exists():
            yield str(folder / name), 0
