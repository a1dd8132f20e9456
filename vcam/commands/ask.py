"""Commands that ask the running daemon: status, pause, background, settings page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vcam.client import Client, browser
from vcam.commands import start
from vcam.commands.options import absolute, revealing, running
from vcam.errors import UsageError, VcamError
from vcam.foreign_text import plain, say
from vcam.settings import choice
from vcam.settings.choice import Reveal
from vcam.settings.config import load
from vcam.system import patience

# A live picture, by who gets it.
SEEN: Final = {"programs": "live", "file": "live, recording only", "page": "preview only"}


def status(options: argparse.Namespace) -> int:
    """`vcam status`: print what the camera does; the exit code."""
    status = Client.connect().status()
    if options.json:
        say(json.dumps(status, indent=2), limit=None)
        return 0
    reason = f" ({status['reason']})" if status.get("reason") else ""
    shown_to = status.get("shown_to", "programs")
    state = status["state"] if status["state"] != "live" else SEEN[shown_to]
    engine, latency = status["engine"], status["latency_ms"]
    watchers = plain(", ".join(status["watchers"])) or "nobody"
    say(f"state       {state}{reason}")
    say(f"camera      {plain(status['source']['name'])}")
    for sink in status["sinks"]:
        say(f"output      {plain(sink['name'])}, {sink['width']}x{sink['height']}")
    if shown_to == "page":
        say("output      none: no program can see you; `vcam doctor` says how to get a camera")
    say(f"background  {plain(status['background'])}")
    if status.get("revealed"):
        say(f"            OTHERS SEE YOUR ROOM, asked for by: {status['revealed']['by']}")
    say(f"watched by  {watchers}")
    say(f"speed       {status['fps']} fps, {latency['p50']} ms from camera to output")
    say(f"model       {engine.get('model')} on {engine.get('device')}, {engine.get('precision')}")
    say(f"costs       {status['cpu_percent']} % of a core, {status['rss_mb']} MB")
    known = (engine.get("room") or {}).get("known")
    if known:
        say(f"room        {known:.0%} known")
    for receipt in status.get("receipts", ())[-1:]:
        say(f"last call   {receipt['text']}")
    for problem in (*status["problems"], engine.get("problem"), status["config_problem"]):
        for number, line in enumerate(str(problem or "").splitlines()):
            say(f"{'' if number else 'note':<12}{line}")
    return 0


def pause(options: argparse.Namespace) -> int:
    """`vcam pause`: show the card to others; the exit code."""
    return _did(Client.connect().pause, "Paused: others see the card.")


def resume(options: argparse.Namespace) -> int:
    """`vcam resume`: show the person again; the exit code."""
    return _did(Client.connect().resume, "Live.")


def toggle(options: argparse.Namespace) -> int:
    """`vcam toggle`: pause, or take a pause or freeze back; the exit code."""
    paused = Client.connect().toggle() == "paused"
    say("Paused: others see the card." if paused else "Live.")
    return 0


def freeze(options: argparse.Namespace) -> int:
    """`vcam freeze`: keep the last picture of the person; the exit code."""
    return _did(Client.connect().freeze, "Frozen.")


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
        say(f"Background: {plain(_choose(client, wish))}")
    if options.save is not None:
        client.keep(options.save)
        say(f"Kept as {options.save!r}.")
    return 0


def _reveal(client: Client, how: Reveal, *, named: bool) -> None:
    """Show the room; `named` says that the user named the room itself, not by the word "none"."""
    if not named and "none" in {one["name"] for one in client.presets()}:
        raise UsageError(
            "'none' is a background of yours, and the word for your room",
            hint="Give preset:none for the background, or --show-my-room.",
        )
    client.show_room(str(how), by="command line")
    say(f"Background: {how}")
    say("Others see your room. A background, a pause or the end of the call hides it again.")


def _list_presets() -> int:
    from vcam.compose.library import entries  # slow to import

    status = running()
    used = status["preset"] if status else None
    for entry in entries():
        say(f"{'*' if entry.name == used else ' '} {plain(entry.name):<16} {entry.kind}")
    say('  next, previous, blur, blur:N, "#rrggbb", none, or the path of a picture or clip')
    return 0


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


def open_page(options: argparse.Namespace) -> int:
    """`vcam open`: take the browser to the settings page, or close it; the exit code."""
    if options.close:
        closed = Client.connect().close_page()
        say("The settings page is closed." if closed else "The settings page was not open.")
        return 0
    try:
        return start.open_page()
    except VcamError as error:
        # From a menu there is no terminal: what went wrong is said where the page would be.
        desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        if desktop and not sys.stderr.isatty():
            browser.tell("VBG Camera did not start", error.message, error.hint)
        raise
