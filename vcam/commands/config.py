"""`vcam config`: the settings file's place, every setting, or a check of the file."""

from __future__ import annotations

import argparse

from vcam.errors import ConfigError
from vcam.foreign_text import say
from vcam.settings.config import default_path, load, user_path
from vcam.words import _


def run(options: argparse.Namespace) -> int:
    """Print the path, print every setting, or check the file; the exit code."""
    path = options.config or user_path()
    if options.what == "path":
        say(path)
    elif options.what == "show":
        say(default_path().read_text(encoding="utf-8").rstrip("\n"), limit=None)
    else:
        if not path.exists():
            if options.config:
                raise ConfigError(
                    f"{path} does not exist", hint="Give the path of a settings file."
                )
            say(_("{0} does not exist; the defaults are used.", path))
            return 0
        load(path)
        say(_("{0} is fine.", path))
    return 0
