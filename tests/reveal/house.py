"""One daemon's loop, settings and doors in this process, stepped by hand, with a canary room."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tests.fakes import ListSink, Slot, StepClock, matting, outlet
from tests.faults import canary
from tests.faults.kinds import truth
from vcam import cli
from vcam.client import Client
from vcam.commands import options
from vcam.compose.backdrops import open_backdrop
from vcam.control import server
from vcam.errors import VcamError
from vcam.frame import SafeFrame
from vcam.guard import Fault
from vcam.pipeline import Pipeline
from vcam.running import Daemon
from vcam.settings import config
from vcam.settings.file import SettingsFile
from vcam.settings.live import Settings
from vcam.sinks.demand import Demand
from vcam.system import paths
from vcam.tray.app import Tray

# Names that a keyword, a colour, a step or a prefix could be taken for.
NAMES = ("none", "blur", "blur:5", "blur:90", "#00ff00", "next", "previous", "preset:none", "None")
SIZE = {"width": canary.W, "height": canary.H}


class _Icon:
    HAS_NOTIFICATION = False

    def __init__(self, *_: object) -> None:
        pass


class House:
    """Everything a user can reach. `begin` starts a daemon anew, over the file as it is now."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "config.toml"
        self.seq, self.clock, self.frames = 0, StepClock(), 0
        self.recent: list[Any] = []
        own = paths.backgrounds_dir()
        own.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray(np.full((36, 64, 3), 90, np.uint8))
        for name in NAMES:
            grey.save(own / f"{name}.png")
            grey.save(folder / f"{name}.png")
        plain = {"light_wrap": 0.0, "decontaminate": True, "blur": 50}
        matte = {"smoothing": 0.6, "people": "everyone"}
        looks = {
            name: {"background": {"use": use, **plain}, "matte": matte}
            for name, use in (
                ("Home", "none"),
                ("Weak", "blur:1"),
                ("blur ", "none"),
                ("Blue", "#0000ff"),
            )
        }
        (own.parent / "looks.json").write_text(json.dumps(looks))
        self.stop = threading.Event()
        self.wishes: Settings
        self.begin()

    def begin(self, *flags: str, **environ: str) -> None:
        """Start the daemon as `vcam start FLAGS` with `environ` would."""
        if not self.file.exists():
            self.file.write_text('[background]\nuse = "studio"\n')
        typed = cli.build_parser().parse_args(["start", "--config", str(self.file), *flags])
        with mock.patch.dict(os.environ, environ):
            chosen = config.load(self.file, flags=options.flags_of(typed))
        self.wishes = Settings(chosen.with_changes({"output": SIZE}))
        if (word := options.revealing(typed)) is not None:
            self.wishes.show_room("command line", word)
        self._disk = SettingsFile(
            self.wishes, self.file, options.flags_of(typed) | {"output": SIZE}, environ
        )
        self.wishes._file = self._disk
        self.sink = ListSink(canary.W, canary.H)
        shown = outlet(self.sink)
        demand = Demand(shown, on_demand=True, idle_after=0.0)
        demand.wait = lambda *_: None  # type: ignore[method-assign]  # idle without sleeping
        self.slot = Slot([])
        from vcam.daemon import _first_backdrop

        self.pipe = Pipeline(
            self.slot,  # type: ignore[arg-type]
            matting(lambda frame: truth(frame)),  # type: ignore[arg-type]
            _first_backdrop(self.wishes.current)[0],
            shown,
            self.wishes,
            demand,
            clock=self.clock,
        )
        self.pipe.guard.confident_frames = 1
        self.daemon = Daemon(self.pipe, self.file, self.stop, threading.Event())
        self.wishes.check(self.daemon.prepare)
        self.wishes.opens(self.daemon)
        self.wishes.subscribe(self.daemon.apply)

    def save(self) -> None:
        """Write what is pending to the settings file, as its own thread would."""
        batch, self._disk._pending = self._disk._pending, {}
        self._disk._writing = {}
        if batch:
            assert self._disk._write(batch) is None

    @property
    def outranked(self) -> bool:
        """True while the background of the command line counts, whatever the file says."""
        return "use" in self._disk._flags.get("background", {})

    def edit(self, use: str) -> None:
        """Write `use` into the settings file by hand and have it read again, as on SIGHUP."""
        self.save()
        self.file.write_text(f"[background]\nuse = {json.dumps(use)}\n")
        os.utime(self.file, (1, 1 + self.seq))
        self.wishes.reload()

    def step(self, *, camera: bool = True, watched: bool = True) -> SafeFrame:
        """Run the loop once and return what was shown."""
        self.seq += 1
        self.frames += 1
        self.clock.now += 1 / 30
        frame = canary.frame(self.seq, self.clock.now)
        self.recent = [*self.recent[-2:], frame]
        self.slot.items = [frame if camera else Fault("camera unplugged")]
        self.sink.who = ["Meeting"] if watched else []
        self.pipe.demand._asked_at = 0.0
        if not watched:
            self.pipe.demand._seen_at = float("-inf")
        self.pipe.step(self.stop)
        shown = self.sink.frames[-1]
        del self.sink.frames[:-1]
        return shown

    def shows_room(self, shown: SafeFrame) -> bool:
        """True if a patch of any of the last rooms can be recognised in `shown`."""
        return not shown.is_card and canary.seen(shown.data, self.recent, blurred=True) > 0

    def cli(self, *words: str) -> int:
        """Run a command of the command line in this process."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return cli.main(words)

    def tray(self, *titles: str) -> None:
        """Click through the tray's menu."""
        tray = Tray(_Icon, Client.connect)
        tray.view = tray._look()
        entries: Any = tray._entries()
        for title in titles:
            found = next(e for e in entries if str(e.text).startswith(title))
            entries = found.submenu
        found(None)


@contextlib.contextmanager
def house(folder: Path) -> Iterator[tuple[House, Client]]:
    """A house in `folder`, its doors open, and a client at the local one."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    (folder / "run").mkdir(mode=0o700)
    logging.disable(logging.CRITICAL)
    try:
        with mock.patch.dict(os.environ, places):
            one = House(folder)

            class Door:
                """The daemon of the moment."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(one.daemon, name)

            with server.serve(Door(), socket_path=paths.socket_path()):  # type: ignore[arg-type]
                yield one, Client.connect()
    finally:
        logging.disable(logging.NOTSET)


__all__ = ["NAMES", "House", "VcamError", "house", "open_backdrop"]
