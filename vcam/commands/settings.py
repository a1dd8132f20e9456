"""Settings by name, with a daemon that runs or without, and the file they are kept in."""

from __future__ import annotations

import argparse
import difflib
import json
from typing import Any

from vcam.client import Client
from vcam.commands.options import absolute
from vcam.errors import ConfigError, DaemonError, UsageError
from vcam.foreign_text import plain, say
from vcam.settings.config import Config, default_path, load, typed, user_path
from vcam.settings.live import Settings
from vcam.words import _


def get(options: argparse.Namespace) -> int:
    """`vcam get [KEY]`: print one setting, or all of them; the exit code."""
    values = _values()
    if options.key is not None:
        section, key = section_and_key(options.key)
        say(_shown(values[section][key]), limit=None)
        return 0
    for section, keys in values.items():
        for key, value in keys.items():
            say(f"{section}.{key} = {_shown(value)}", limit=None)
    return 0


def set_(options: argparse.Namespace) -> int:
    """`vcam set KEY VALUE`: put a setting in force and keep it; the exit code.

    Raises:
        UsageError: there is no such setting, or it would show the room.
        ConfigError: the value is wrong.
    """
    section, key = section_and_key(options.key)
    value = typed(options.value, getattr(getattr(load_defaults(), section), key))
    option = {"background.use": "background", "camera.source": "source", "output.sink": "sink"}
    if f"{section}.{key}" in option:
        value = absolute(str(value), option[f"{section}.{key}"])
    if (section, key, value) == ("background", "use", "none"):
        raise UsageError("no setting shows your room", hint="Run `vcam background --show-my-room`.")
    changes = {section: {key: value}}
    load(flags=changes)  # a wrong value is told of by what was typed
    answer = change(changes)
    say(f"{section}.{key} = {_shown(answer[section][key])}", limit=None)
    return 0


def change(changes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Put settings in force and keep them, with a daemon that runs or without; return them all."""
    try:
        return dict(Client.connect().change(changes)["values"])
    except DaemonError as error:
        if error.running:
            raise
    with Settings(load()).kept_in(user_path()) as settings:
        values = settings.change(changes).model_dump()
        settings.flush()
    return values


def undo(options: argparse.Namespace) -> int:
    """`vcam undo`: take the last change back; the exit code."""
    client = Client.connect()
    names = client.undo()
    values = client.settings()["values"]
    for name in names:
        section, _dot, key = name.partition(".")
        if section == "presets":
            say(_("{0} is back.", plain(key)))
            continue
        say(f"{name} = {_shown(values[section][key])}", limit=None)
    return 0


def file(options: argparse.Namespace) -> int:
    """`vcam config`: print the path, print every setting, or check the file; the exit code."""
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


def load_defaults() -> Config:
    """The shipped settings, whatever the user's file and environment say."""
    return load(default_path(), environ={})


def _values() -> dict[str, dict[str, Any]]:
    try:
        values: dict[str, dict[str, Any]] = Client.connect().settings()["values"]
        return values
    except DaemonError as error:
        if error.running:
            raise
        return load().model_dump()


def known_names() -> list[str]:
    """Every setting as `section.key`."""
    return [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]


def section_and_key(name: str) -> tuple[str, str]:
    """The two parts of a setting's name; a key alone will do where one section has it.

    Raises:
        UsageError: there is no such setting.
    """
    names = known_names()
    found = [known for known in names if name in (known, known.partition(".")[2])]
    if len(found) == 1:
        section, _, key = found[0].partition(".")
        return section, key
    near = found or difflib.get_close_matches(name, names, 1, 0.5)
    keys = {known.partition(".")[2]: known for known in names}
    near = near or [keys[key] for key in difflib.get_close_matches(name, keys, 1, 0.6)]
    guess = f"; did you mean {' or '.join(near[:3])}?" if near else ""
    raise UsageError(
        f"{name!r} is not a setting{guess}", hint="Run `vcam get` to list every setting."
    )


def _shown(value: object) -> str:
    """A value as `set` takes it, a table as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
