"""Every setting described for people: type, range, default, and the words of `config.toml`."""

from __future__ import annotations

import functools
from typing import Any

from vcam.settings import config


@functools.cache
def settings_schema() -> dict[str, dict[str, dict[str, Any]]]:
    """Every setting as `{section: {key: {type, default, description, restart, …}}}`.

    `minimum`, `maximum` and `choices` are there where a setting has them; `restart` is true where a
    change takes effect only when the daemon starts again.
    """
    model = config.Config.model_json_schema()
    text = config.default_path().read_text(encoding="utf-8")
    words, defaults = descriptions(text), config.load(config.default_path(), environ={})
    plain = defaults.model_dump()
    schema: dict[str, dict[str, dict[str, Any]]] = {}
    for section, reference in model["properties"].items():
        fields = model["$defs"][reference["$ref"].rsplit("/", 1)[-1]]["properties"]
        schema[section] = {}
        for key, field in fields.items():
            entry: dict[str, Any] = {
                "type": field.get("type", "string"),
                "default": plain[section][key],
                "description": words.get((section, key), ""),
                "restart": field.get("restart", False),
            }
            for name, ours in (("minimum", "minimum"), ("maximum", "maximum"), ("enum", "choices")):
                if name in field:
                    entry[ours] = field[name]
            schema[section][key] = entry
    return schema


def descriptions(text: str) -> dict[tuple[str, str], str]:
    """Read what the comments of a settings file say about each setting.

    A comment describes every setting below it, up to the next comment or blank line.
    """
    found: dict[tuple[str, str], str] = {}
    section, comment, fresh = "", [""], True
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            comment = [line[1:].strip()] if fresh else [*comment, line[1:].strip()]
            fresh = False
        elif line.startswith("["):
            section, comment, fresh = line.strip("[] "), [], True
        elif "=" in line:
            found[section, line.split("=", 1)[0].strip()] = " ".join(comment).strip()
            fresh = True
        else:
            comment, fresh = [], True
    return found
