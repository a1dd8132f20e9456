"""Options of the command line as settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vcam.errors import UsageError
from vcam.settings import choice
from vcam.settings.choice import Reveal
from vcam.settings.config import Config, load
from vcam.system.paths import expanded


def load_config(options: argparse.Namespace) -> Config:
    """The settings as a command sees them: its options, the environment, the file."""
    return load(options.config, flags=flags_of(options))


def flags_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings that the command line gives, which outrank the file."""
    flags: dict[str, dict[str, Any]] = {}
    for option, section, key in (
        ("source", "camera", "source"),
        ("sink", "output", "sink"),
        ("background", "background", "use"),
        ("quality", "matte", "quality"),
    ):
        value = getattr(options, option, None)
        if value is not None and not (option == "background" and revealing(options)):
            flags.setdefault(section, {})[key] = absolute(value, option)
    return flags


def revealing(options: argparse.Namespace) -> Reveal | None:
    """The user's word to show the room, in `options` of `start` and `background`; else None.

    Raises:
        UsageError: the word is a file's or a preset's name too, or hides the room.
    """
    wish = options.background
    if not hasattr(options, "show_my_room"):
        return None

    if options.show_my_room:
        try:
            return choice.reveal_of(wish or "none")
        except ValueError as error:
            raise UsageError(
                f"--show-my-room shows no background {wish!r}, {error}",
                hint="Give --show-my-room alone.",
            ) from None
    if wish != "none":
        return None
    if Path(wish).exists():
        raise UsageError(
            "'none' is a file here, and the word for your room",
            hint="Give ./none for the file, or --show-my-room.",
        )
    if options.command == "start":  # no daemon runs that could be asked
        from vcam.compose import backdrops  # slow to import, for this word alone

        if "none" in {preset.name for preset in backdrops.presets()}:
            raise UsageError(
                "'none' is a background of yours, and the word for your room",
                hint="Give preset:none for the background, or --show-my-room.",
            )
    return choice.Reveal()


def absolute(value: str, option: str) -> str:
    """Make a file name independent of the directory the daemon will run in."""
    if option == "background":
        return absolute_background(value)
    if option == "quality":
        return value
    prefix = "file:" if option == "sink" and value.startswith("file:") else ""
    path = Path(value.removeprefix(prefix))
    if option == "source" and value in ("", "auto", "demo"):
        return value  # whatever lies here under that name
    if prefix or path.exists():
        text = str(path.absolute())
        return prefix + (choice.text_of(text) if option == "source" else text)
    return value


def absolute_background(value: str) -> str:
    """A path made absolute; a keyword, colour or preset as it is."""
    try:
        wish = choice.parse(value)
    except ValueError:
        return value  # who validates it says what is wrong
    if isinstance(wish, choice.File):
        return str(choice.File(str(expanded(wish.path).absolute())))
    if not isinstance(wish, choice.Preset) or (value.islower() and not Path(wish.name).is_file()):
        return value
    from vcam.compose import backdrops  # slow to import, for such names alone

    names = {preset.name for preset in backdrops.presets()}
    if wish.name not in names and Path(wish.name).is_file():
        return str(choice.File(str(Path(wish.name).absolute())))
    return str(choice.Preset(choice.called(wish.name, names)))
