"""Commands that ask the running daemon: status, pause, background, settings page."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vcam.client import Client, terminal
from vcam.commands.options import absolute, revealing
from vcam.commands.page import running
from vcam.errors import UsageError, VcamError
from vcam.files.watched import watch
from vcam.foreign_text import plain, say
from vcam.settings import choice
from vcam.settings.choice import Reveal
from vcam.settings.config import load
from vcam.system import patience
from vcam.words import _, mark, told

# A live picture, by who gets it.
SEEN: Final = {
    "programs": mark("live"),
    "file": mark("live, recording only"),
    "page": mark("preview only"),
}
STATES: Final = {
    "starting": mark("starting"),
    "idle": mark("idle"),
    "paused": mark("paused"),
    "frozen": mark("frozen"),
    "fault": mark("fault"),
}


def status(options: argparse.Namespace) -> int:
    """`vcam status`: print what the camera does; the exit code."""
    status = Client.connect().status()
    if options.json:
        say(json.dumps(status, indent=2), limit=None)
        return 0
    reason = f" ({told(status['reason'])})" if status.get("reason") else ""
    shown_to = status.get("shown_to", "programs")
    state = SEEN[shown_to] if status["state"] == "live" else STATES.get(status["state"], "?")
    engine, latency = status["engine"], status["latency_ms"]
    watchers = plain(", ".join(status["watchers"])) or _("nobody")
    rows = [(_("state"), f"{_(state)}{reason}"), (_("camera"), plain(status["source"]["name"]))]
    for sink in status["sinks"]:
        rows.append((_("output"), f"{plain(sink['name'])}, {sink['width']}x{sink['height']}"))
    if shown_to == "page":
        none = _("none: no program can see you; `vcam doctor` says how to get a camera")
        rows.append((_("output"), none))
    rows.append((_("background"), plain(status["background"])))
    if revealed := status.get("revealed"):
        rows.append(("", _("OTHERS SEE YOUR ROOM, asked for by: {0}", _(revealed["by"]))))
    model, device, precision = (engine.get(key) for key in ("model", "device", "precision"))
    rows += [
        (_("watched by"), watchers),
        (_("speed"), _("{0} fps, {1} ms from camera to output", status["fps"], latency["p50"])),
        *([(_("model"), _("{0} on {1}, {2}", model, device, precision))] if model else []),
        (_("costs"), _("{0} % of a core, {1} MB", status["cpu_percent"], status["rss_mb"])),
    ]
    if known := (engine.get("room") or {}).get("known"):
        rows.append((_("room"), _("{0} known", f"{known:.0%}")))
    rows += [(_("last call"), told(one["text"])) for one in status.get("receipts", ())[-1:]]
    for problem in (*status["problems"], engine.get("problem"), status["config_problem"]):
        for number, line in enumerate(str(problem or "").splitlines()):
            rows.append(("" if number else _("note"), told(line)))
    for name, text in rows:
        say(f"{name}{' ' * max(12 - width_of(name), 1)}{text}")
    return 0


def width_of(text: str) -> int:
    """Columns that a text takes in a terminal, where a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def pause(options: argparse.Namespace) -> int:
    """`vcam pause`: show the card to others; the exit code."""
    back_in = None if options.back_in is None else seconds_of(options.back_in)
    return _did(lambda: Client.connect().pause(back_in), _("Paused: others see the card."))


def seconds_of(text: str) -> float:
    """A time that was typed: 5m, 90s, 1h; minutes where nothing else is said.

    Raises:
        UsageError: it is none, or longer than a day.
    """
    found = re.fullmatch(r"(\d{1,5}) ?(s|m|h|)", text.strip())
    seconds = int(found[1]) * {"s": 1, "h": 3600}.get(found[2], 60) if found else 0
    if not 0 < seconds <= 24 * 3600:
        raise UsageError(f"{text!r} is no time up to a day", hint="Give 5m, 90s or 1h.")
    return float(seconds)


def resume(options: argparse.Namespace) -> int:
    """`vcam resume`: show the person again; the exit code."""
    return _did(Client.connect().resume, _("Live."))


def toggle(options: argparse.Namespace) -> int:
    """`vcam toggle`: pause, or take a pause or freeze back; the exit code."""
    paused = Client.connect().toggle() == "paused"
    say(_("Paused: others see the card.") if paused else _("Live."))
    return 0


def freeze(options: argparse.Namespace) -> int:
    """`vcam freeze`: keep the last picture of the person; the exit code."""
    return _did(Client.connect().freeze, _("Frozen."))


def _did(order: Callable[[], object], words: str) -> int:
    order()
    say(words)
    return 0


def background(options: argparse.Namespace) -> int:
    """`vcam background`: choose one, list them or keep the look in force; the exit code."""
    wish = options.background
    how = revealing(options)
    if wish is None and options.save is None and how is None:
        return _list_presets()
    if wish is not None and wish.startswith("#"):
        load(flags={"background": {"use": wish}})  # a typo needs no daemon to be told
    client = Client.connect()
    if how is not None:
        _reveal(client, how, named=options.show_my_room)
    elif wish is not None:
        say(_("Background: {0}", plain(_choose(client, wish))))
    if options.save is not None:
        client.keep(options.save)
        say(_("Kept as {0!r}.", options.save))
    return 0


def _reveal(client: Client, how: Reveal, *, named: bool) -> None:
    """Show the room; `named` says that the user named the room itself, not by the word "none"."""
    if not named and "none" in {one["name"] for one in client.presets()}:
        raise UsageError(
            "'none' is a background of yours, and the word for your room",
            hint="Give preset:none for the background, or --show-my-room.",
        )
    client.show_room(str(how), by="command line")
    say(_("Background: {0}", how))
    say(_("Others see your room. A background, a pause or the end of the call hides it again."))


def _list_presets() -> int:
    from vcam.compose.library import entries  # slow to import

    watch(load().background.folder)
    status = running()
    used = status["preset"] if status else None
    how = terminal.kind_of(os.environ, terminal=sys.stdout.isatty())
    if how:
        _show_presets(how, used)
    for entry in () if how else entries():  # names alone
        say(f"{'*' if entry.name == used else ' '} {plain(entry.name):<16} {entry.kind}")
    say(_('  next, previous, blur, blur:N, "#rrggbb", none, or the path of a picture or clip'))
    return 0


def _show_presets(how: terminal.Kind, used: str | None) -> None:
    """The list with a small picture of each; what cannot be drawn is grey."""
    from PIL import Image

    from vcam.compose.library import entries, thumbnail

    tiles = []
    for entry in entries():
        try:
            image = Image.open(io.BytesIO(thumbnail(entry.name))).convert("RGB")
        except VcamError:
            image = Image.new("RGB", (16, 9), (90, 90, 90))
        tiles.append((f"{'* ' if entry.name == used else ''}{entry.name}", image))
    width = shutil.get_terminal_size().columns
    for at in range(0, len(tiles), 24):  # the first ones while others are still drawn
        terminal.write(terminal.show(tiles[at : at + 24], how, width))


def _choose(client: Client, wish: str) -> str:
    """Take up what `vcam background` was given; a file becomes a preset first. Its name."""
    if wish in ("next", "previous"):
        return str(client.step(1 if wish == "next" else -1))
    if wish.startswith("look:"):
        return str(client.use(wish.removeprefix("look:")))
    from vcam.compose.backdrops import MAX_UPLOAD  # slow to import

    use = absolute(wish, "background")
    load(flags={"background": {"use": use}})
    chosen = choice.parse(use)
    if isinstance(chosen, choice.Preset):
        names = [one["name"] for one in client.presets()]
        if (name := choice.called(chosen.name, names)) in names:
            return str(client.use(name))
    # Too large a clip stays where it is and is used from there.
    if isinstance(chosen, choice.File):
        file = Path(chosen.path)
        if patience.within(file, lambda: file.is_file() and file.stat().st_size <= MAX_UPLOAD):
            return str(client.use(client.add_preset(file)["name"]))
    client.change({"background": {"use": use}})
    return wish
