"""The text of `config.toml` with changed values in it, its comments and order kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vcam.errors import ConfigError
from vcam.settings import config as configuration
from vcam.settings.config import Changes

BOM: Final = "\ufeff"  # the mark that editors of Windows put before a text

HEADER = (
    "# VBG Camera: your own settings. Only the lines that differ from the defaults are needed;\n"
    "# `vcam config show` lists every setting with its meaning.\n"
)


def edited(text: str, changes: Changes) -> str:
    """Return the TOML `text` with `changes` applied; comments, order and layout stay.

    Raises:
        ConfigError: `text` is not TOML, so that nothing can be put into it.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        mark, text = text[: text.startswith(BOM)], text.removeprefix(BOM)
        document = tomlkit.parse(_under_new_names(text))
        for section, keys in changes.items():
            if section not in document:
                if document.as_string().strip():
                    document.add(tomlkit.nl())
                document.add(section, tomlkit.table())
            table: Any = document[section]
            for key, value in keys.items():
                if key in table and _same(table[key], value):
                    continue
                plain = isinstance(value, Mapping)
                table[key] = tomlkit.inline_table() if plain else value
                if plain:
                    table[key].update(value)
        result = document.as_string()
        tomlkit.parse(result)  # never write what could not be read again
        return mark + result
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"your settings file is not valid TOML: {error}", hint="Mend that line of the file."
        ) from error


def _under_new_names(text: str) -> str:
    """The TOML `text` with renamed settings where they are now, each with the comment beside it."""
    import tomlkit
    from tomlkit.items import SingleKey

    for (section, key), (to, new) in configuration.RENAMED.items():
        document = tomlkit.parse(text)
        found = document.get(section)
        if not isinstance(found, Mapping) or key not in found:
            continue
        table: Any = found
        if new in document.get(to, {}):
            del table[key]  # the new name counts; the old one was read by nobody
        elif to == section:
            body = table.value.body
            at = next(i for i, (name, _) in enumerate(body) if name and name.key == key)
            body[at] = (SingleKey(new, sep=" = "), body[at][1])
        else:
            value = table[key]
            del table[key]
            if to not in document:
                document.add(tomlkit.nl())
                document.add(to, tomlkit.table())
            document[to][new] = value
        if not table and section not in configuration.Config.model_fields:
            del document[section]
        text = document.as_string()
    return text


def old_names(text: str) -> bool:
    """True if a setting in the TOML `text` has another name now; False if it is not TOML."""
    try:
        return edited(text, {}) != text
    except ConfigError:
        return False


def _same(old: Any, new: Any) -> bool:
    plain = old.unwrap() if hasattr(old, "unwrap") else old
    return type(plain) is type(new) and bool(plain == new)
