"""Which sinks an `[output] sink` names, and why one that was hoped for is not there."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vcam.errors import ConfigError, SinkError
from vcam.sinks.base import Wanted
from vcam.sinks.outlet import Outlet

if TYPE_CHECKING:
    from vcam.compose.card import Card
    from vcam.sinks.base import Sink
    from vcam.stats import Stats

log = logging.getLogger(__name__)

Opener = Callable[[], "Sink"]


@dataclass(slots=True)
class Sinks:
    """The sinks that are wanted, which of them are open, and the reason that one is not."""

    wanted: list[Wanted] = field(default_factory=list)
    opened: list[Sink | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # "" for a sink that is open

    def outlet(self, card: Card, stats: Stats, *, fps: float) -> Outlet:
        """Hand the open sinks over to an outlet, which closes them."""
        opened, self.opened = self.opened, []
        return Outlet(self.wanted, card, stats, fps=fps, opened=opened, problems=self.problems)


@contextlib.contextmanager
def open_sinks(
    names: str, width: int, height: int, fps: float, format: str = "i420"
) -> Iterator[Sinks]:
    """Open every sink in `names`, which are separated by commas.

    What "auto" hopes for may be missing, which is noted; what was named must open.

    Raises:
        SinkError: a sink that was named cannot be opened.
        ConfigError: a name means nothing.
    """
    sinks = Sinks()
    try:
        for wanted in wanted_sinks(names, width, height, fps, format):
            sink, problem = None, ""
            try:
                sink = wanted.open()
            except SinkError as error:
                if not wanted.hoped:
                    raise
                problem = str(error)
                log.info("no %s", problem)
            sinks.wanted.append(wanted)
            sinks.opened.append(sink)
            sinks.problems.append(problem)
        yield sinks
    finally:
        for left in sinks.opened:
            if left is not None:
                left.__exit__(None, None, None)


def wanted_sinks(
    names: str, width: int, height: int, fps: float, format: str = "i420"
) -> list[Wanted]:
    """The sinks in `names`, each once; "auto" is every virtual camera there may be.

    Raises:
        ConfigError: a name means nothing.
    """
    found: dict[str, Wanted] = {}
    for name in (part.strip() for part in names.split(",")):
        if name == "auto":
            linux = sys.platform.startswith("linux")
            for kind in ("v4l2loopback", "pipewire") if linux else ("obs",):
                opener = _opener(kind, width, height, fps, format)
                found.setdefault(kind, Wanted(kind, opener, hoped=True, lasting=linux))
        elif name != "none":
            found[name] = Wanted(name, _opener(name, width, height, fps, format))
    return list(found.values())


def _opener(name: str, width: int, height: int, fps: float, format: str) -> Opener:
    if name.startswith("file:"):
        from vcam.sinks.file import FileSink

        path = name.removeprefix("file:")
        return lambda: FileSink(path, width, height, fps)
    if name == "v4l2loopback" or name.startswith("/dev/"):
        from vcam.sinks.v4l2loopback import V4L2LoopbackSink

        device = name if name.startswith("/dev/") else None
        return lambda: V4L2LoopbackSink(device, width, height, fps, format)
    if name == "pipewire":
        from vcam.sinks.pipewire import PipeWireSink

        return lambda: PipeWireSink(width, height, fps)
    if name == "obs":
        from vcam.sinks.obs import ObsSink

        return lambda: ObsSink(width, height, fps)
    raise ConfigError(
        f"the sink {name!r} is unknown, expected auto, v4l2loopback, pipewire, obs, none, "
        "a /dev path or file:NAME.mp4",
        hint="Run `vcam devices` to list virtual cameras.",
    )
