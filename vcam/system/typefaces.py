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


def of(language: str) -> Iterator[tuple[str, int]]:
    """Typefaces that may write a language, the likeliest first: a file, and the number in it."""
    if sys.platform == "win32":
        yield from _there(Path("C:/Windows/Fonts"), _WINDOWS.get(language, ("segoeui.ttf",)))
    elif sys.platform == "darwin":
        yield from _there(Path("/System/Library/Fonts"), _MACOS.get(language, ("Helvetica.ttc",)))
    else:
        tag = {"zh": "zh-cn"}.get(language, language)
        asked = ["fc-match", "--format=%{index} %{file}", f"sans-serif:lang={tag}"]
        try:
            done = subprocess.run(
                asked, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
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
