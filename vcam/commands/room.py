"""The command that has the room behind learnt or forgotten, and says how much of it is known."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

from vcam.client import Client
from vcam.foreign_text import say

COUNTDOWN: Final = 3  # seconds to step aside
LESSON: Final = 2.5  # seconds that learning takes, and a little


def run(options: argparse.Namespace) -> int:
    """`vcam room`: learn, forget or tell; the exit code."""
    client = Client.connect()
    if options.what == "forget":
        client.forget_room()
        say("The room is forgotten. It is learnt again when nobody is there.")
        return 0
    if options.what == "learn":
        return _learn(client)
    say(_told(client.status()))
    return 0


def _learn(client: Client) -> int:
    say("Step out of the picture.")
    for left in range(COUNTDOWN, 0, -1):
        say(f"{left} …")
        sys.stdout.flush()
        time.sleep(1)
    client.learn_room()
    time.sleep(LESSON)
    status = client.status()
    say(_told(status))
    if _known(status) > 0.5:
        say("You can come back.")
        return 0
    say("vcam: hardly anything of the room was learnt", file=sys.stderr)
    say("      Look at `vcam status`: it must be live, and the webcam must stand.", file=sys.stderr)
    return 1


def _known(status: dict[str, Any]) -> float:
    return float((status["engine"].get("room") or {}).get("known") or 0.0)


def _told(status: dict[str, Any]) -> str:
    room = status["engine"].get("room")
    if room is None:
        return "The room is not learnt by this engine."
    words = f"{_known(status):.0%} of the room is known."
    if room.get("forgotten"):
        words += f" It was forgotten last: {room['forgotten']}."
    if room.get("showing"):
        words += " A part of it keeps being taken for you, and is taken out."
    return words
