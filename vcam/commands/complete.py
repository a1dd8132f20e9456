"""`vcam complete KIND`: words for the shells' completions, one a line, as quickly as can be."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable
from typing import Any

from vcam.client import Client
from vcam.commands.settings import known_names, section_and_key
from vcam.errors import VcamError
from vcam.foreign_text import plain, say
from vcam.settings.config import load
from vcam.settings.schema import settings_schema
from vcam.system import devices

SINKS = ("auto", "v4l2loopback", "pipewire", "obs", "none", "file:")


def run(options: argparse.Namespace) -> int:
    """Print the words; nothing at all where they cannot be had. The exit code."""
    with contextlib.suppress(VcamError, OSError):
        for word in WORDS[options.kind](options.of):
            if word == plain(word):  # a name that a shell could stumble over is typed by hand
                say(word)
    return 0


def _backgrounds(of: str) -> Iterable[str]:
    words = ["next", "previous", "blur"]
    with contextlib.suppress(VcamError):
        return [*(str(one["name"]) for one in Client.connect().presets()), *words]
    from vcam.compose import library  # slow to import, where no daemon can be asked

    return [*(entry.name for entry in library.entries()), *words]


def _cameras(of: str) -> Iterable[str]:
    return ["auto", "demo", *(camera.name for camera in devices.list_cameras())]


def _sinks(of: str) -> Iterable[str]:
    return [*SINKS, *(camera.path for camera in devices.list_virtual_cameras())]


def _keys(of: str) -> Iterable[str]:
    return known_names()


def _values(of: str) -> Iterable[str]:
    section, key = section_and_key(of)
    by_name = {"background.use": _backgrounds, "camera.source": _cameras, "output.sink": _sinks}
    if f"{section}.{key}" in by_name:
        return by_name[f"{section}.{key}"](of)
    about: dict[str, Any] = settings_schema()[section][key]
    if about["type"] == "boolean":
        return ["true", "false"]
    now = load().model_dump()[section][key]
    return [str(choice) for choice in about.get("choices", () if isinstance(now, dict) else [now])]


WORDS = {
    "backgrounds": _backgrounds,
    "cameras": _cameras,
    "sinks": _sinks,
    "keys": _keys,
    "values": _values,
}
