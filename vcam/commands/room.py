"""The command that has the room behind learnt or forgotten, and says how much of it is known."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

from vcam.client import Client
from vcam.errors import DaemonError
from vcam.files.rooms import forget_all
from vcam.foreign_text import say
from vcam.words import _, told

COUNTDOWN: Final = 3  # seconds to step aside
LESSON: Final = 2.5  # seconds that learning takes, and a little


def run(options: argparse.Namespace) -> int:
    """`vcam room`: learn, forget or tell; the exit code."""
    if options.what == "forget":
        # What lies on disk goes, whether or not a camera runs.
        kept = forget_all()
        try:
            Client.connect().forget_room()
        except DaemonError:
            if not kept:
                raise
            say(_("The room that was kept on disk is deleted; no camera runs."))
            return 0
        say(_("The room is forgotten. It is learnt again when nobody is there."))
        return 0
    client = Client.connect()
    if options.what == "learn":
        return _learn(client)
    say(_told(client.status()))
    return 0


def _learn(client: Client) -> int:
    say(_("Step out of the picture."))
    for left in range(COUNTDOWN, 0, -1):
        say(f"{left} …")
        sys.stdout.flush()
        time.sleep(1)
    client.learn_room()
    time.sleep(LESSON)
    status = client.status()
    say(_told(status))
    if _known(status) > 0.5:
        say(_("You can come back."))
        return 0
    say(_("vcam: hardly anything of the room was learnt"), file=sys.stderr)
    look = _("Look at `vcam status`: it must be live, and the webcam must stand.")
    say(f"      {look}", file=sys.stderr)
    return 1


def _known(status: dict[str, Any]) -> float:
    return float((status["engine"].get("room") or {}).get("known") or 0.0)


def _told(status: dict[str, Any]) -> str:
    room = status["engine"].get("room")
    if not status["engine"].get("engine"):
        return _("Nothing of the room is known yet: the camera has not been open.")
    if room is None:
        return _("The room is not learnt by this engine.")
    words = _("{0} of the room is known.", f"{_known(status):.0%}")
    if room.get("forgotten"):
        words += " " + _("It was forgotten last: {0}.", told(room["forgotten"]))
    if room.get("showing"):
        words += " " + _("A part of it keeps being taken for you, and is taken out.")
    return words
