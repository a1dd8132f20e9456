"""One finding of the doctor, and the words that several checks share."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vcam.doctor.facts import Surroundings

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `error`: the camera cannot be used; `warning`: it works worse or for some programs not at all;
    `note`: worth knowing. `command` is one line for a shell, "" where only a person can act.
    Findings `about` the same thing tell one fact, and only the first of them is kept.
    """

    severity: Severity
    what: str
    why: str
    command: str = ""
    needs_root: bool = False
    about: str = ""

    def told(self) -> dict[str, Any]:
        """The finding as plain JSON values, less the fact it is about."""
        return {name: value for name, value in asdict(self).items() if name != "about"}


Check = Callable[[Surroundings], Iterator[Finding]]


def install(seen: Surroundings) -> str:
    return f"bash {shlex.quote(seen.installer)}"


def wanted(seen: Surroundings, kind: str) -> bool:
    """True if the picture is meant to go to sinks of this kind."""
    sinks = str(seen.setting("output", "sink") or "auto").split(",")
    return any(sink in ("auto", kind) or sink.startswith("/dev/") for sink in sinks)
