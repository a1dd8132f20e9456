"""The user's file and the language it asks for: found without reading every setting."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from vcam import words


def user_path() -> Path:
    """The user's own file, in the platform's configuration directory; it may not exist yet."""
    if explicit := os.environ.get("VCAM_CONFIG"):
        return Path(explicit)
    import platformdirs

    return Path(platformdirs.user_config_dir("vcam", appauthor=False)) / "config.toml"


def language_of(wish: str, environ: Mapping[str, str]) -> str:
    """The language that the setting `control.language` asks for; "auto": the desktop's."""
    return words.of_desktop(environ) if wish == "auto" else words.choose([wish])


def language_now() -> str:
    """The language of this process, before its settings are read."""
    wish = os.environ.get("VCAM_CONTROL_LANGUAGE") or _in_file(user_path())
    return language_of(wish, os.environ)


def _in_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "language" not in text:
            return "auto"
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        return str(tomllib.loads(text)["control"]["language"])
    except (OSError, ValueError, LookupError, TypeError):
        return "auto"  # whoever reads the settings says what is wrong
