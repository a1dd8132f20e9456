"""The settings in force: one immutable object swapped as a whole, kept in the user's file.

`Settings.change` takes effect at once; writing the file happens on a thread of its own, so that a
slow or read-only disk never delays a picture. Edits made by hand are read back the same way.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from vcam.errors import ConfigError, VcamError
from vcam.settings.choice import Reveal
from vcam.settings.config import Changes, Config
from vcam.settings.file import SettingsFile
from vcam.settings.opening import Opened, Opener
from vcam.system.systemd import boottime

log = logging.getLogger(__name__)

Mode = Literal["live", "paused", "frozen"]

A_WISH_OF_ITS_OWN = "to show the room is a wish of its own, told alone and by name"


@dataclass(frozen=True, slots=True)
class Revealed:
    """The user's wish that others see the room: how, through which door, and since when."""

    how: Reveal
    by: str  # "command line", "settings file", "tray", "settings page" or "a program"
    since: float  # seconds since the epoch
    standing: bool = False  # the settings file says so itself: a pause does not end it


class Now(NamedTuple):
    """Everything the frame loop reads from the settings, at one instant."""

    config: Config
    mode: Mode
    revealed: Revealed | None
    back_at: float | None = None  # paused until about then, by `boottime`


class Step(NamedTuple):
    """The last change, as it can be taken back: values it replaced, or a background it deleted."""

    back: dict[str, dict[str, Any]]
    at: float  # on the monotonic clock
    deleted: str = ""
    put_back: Callable[[], None] = lambda: None

    @property
    def names(self) -> list[str]:
        """Settings it concerns as "section.key", or the background as "presets.NAME"."""
        if self.deleted:
            return [f"presets.{self.deleted}"]
        return [f"{section}.{key}" for section, keys in self.back.items() for key in keys]


UNDO_WITHIN: Final = 60.0  # seconds a change can be taken back
UNDO_JOINS: Final = 2.0  # seconds in which changes of the same settings, of a slider say, are one
SAFE_BACKGROUND: Final = "studio"  # drawn by the program: always there
_HIDING: Final = {"background": {"use": SAFE_BACKGROUND}}


class Settings:
    """The settings in force. Any thread may change them; the loop reads `now` once a frame.

    `now` is replaced, never altered, so that reading it needs no lock. Only `show_room` and the
    settings file's own `use = "none"` set `now.revealed`: the one gate to the room.
    """

    def __init__(self, config: Config) -> None:
        self.now = Now(config, "live", _standing(config))
        if self.now.revealed:
            _announce(self.now.revealed)
        self.revision = 0  # grows with every change; doors compare it
        self.problem: str | None = None  # why the last edit of the file was not taken
        self.unsaved: str | None = None  # why the last change could not be written to the file
        self._listeners: list[Callable[[Config], None]] = []
        self._checks: list[Callable[[Config, Config], None]] = []
        self._observers: list[Callable[[], None]] = []
        self._opener: Opener | None = None
        self._asked = 0  # changes that were asked for so far
        self._chosen = 0  # number of the one that named the background in force
        self._changing = threading.Lock()  # held while a change takes effect; no file is opened
        self._counting = threading.Lock()  # held for an instant, so that a pause never waits
        self._file: SettingsFile | None = None
        self._step: Step | None = None  # replaced as a whole

    @property
    def current(self) -> Config:
        """The settings in force."""
        return self.now.config

    @property
    def mode(self) -> Mode:
        """Live, paused or frozen."""
        return self.now.mode

    @property
    def revealed(self) -> Revealed | None:
        """The wish to show the room while it is in force."""
        return self.now.revealed

    @property
    def path(self) -> Path | None:
        """The file the settings are kept in, while they are."""
        return self._file.path if self._file else None

    def change(self, changes: Changes) -> Config:
        """Apply `{section: {key: value}}`; takes effect on the next frame.

        A background hides the room again. `use = "none"` alone, with nothing beside it, is the
        word to show it; it is never written to the file.

        Raises:
            ConfigError: something is wrong; nothing was changed.
            VcamError: the daemon cannot do it (a background that does not open); nothing changed,
                but the room is hidden.
        """
        use = changes.get("background", {}).get("use")
        several = sum(map(len, changes.values())) > 1
        if several and self.revealed and use == str(self.revealed.how):
            changes = _without_use(changes)  # an echo of what is in force
        elif use == "none" and several:
            raise ConfigError(
                f"{A_WISH_OF_ITS_OWN}; it came with other changes",
                hint="Send the other changes first, then POST /reveal.",
            )
        elif use == "none":
            return self.show_room("a program")
        return self._change(changes, hide=changes.get("background", {}).get("use") is not None)

    @property
    def step(self) -> Step | None:
        """The last change while it can be taken back."""
        step = self._step
        return step if step and time.monotonic() - step.at <= UNDO_WITHIN else None

    def undo(self) -> list[str]:
        """Take the last change back; names of the settings that were changed.

        A background comes back, never the room.

        Raises:
            VcamError: there is none, or it was more than a minute ago.
        """
        step, self._step = self.step, None
        if step is None:
            raise VcamError(
                "there is nothing to take back",
                hint=f"A change can be taken back for {UNDO_WITHIN:.0f} seconds.",
            )
        step.put_back()
        if step.back:
            self._change(step.back, hide="use" in step.back.get("background", {}))
        self._step = None
        self._tell()
        return step.names

    def deleted(self, name: str, put_back: Callable[[], None], used: str = "") -> None:
        """Remember that a background was deleted; `used` was in force until then."""
        back = {"background": {"use": used}} if used else {}
        self._step = Step(back, time.monotonic(), name, put_back)
        self._tell()

    def choose(self, changes: Changes) -> Config:
        """Apply a preset or look by the user's choice; hides the room whatever it holds.

        Raises:
            VcamError: as `change`.
        """
        return self._change(changes, hide=True)

    def placed(self, name: str, put_back: Callable[[], None]) -> None:
        """Remember that a picture was fitted anew; what a slider does in one go is one change."""
        last = self._step
        joined = last and last.deleted == name and time.monotonic() - last.at < UNDO_JOINS
        self.deleted(name, last.put_back if last and joined else put_back)

    def show_room(self, by: str, how: Reveal | None = None) -> Config:
        """Show the room to others until a background is chosen, a pause, or the end of the call."""
        wish = Revealed(how or Reveal(), by, time.time())
        with self._counting:
            before = self.now.revealed
            if before is None or before.how != wish.how:
                self.now = self.now._replace(revealed=wish)
                self.revision += 1
        if self.now.revealed is wish:
            _announce(wish)
        self._tell()
        return self.current

    def hide(self) -> None:
        """Put the background in force back in front of the room."""
        self.end_reveal()
        if isinstance(self.current.background.choice, Reveal):  # or the next start would show it
            self._change({"background": {"use": SAFE_BACKGROUND}}, hide=True)

    def end_reveal(self) -> None:
        """Hide the room at once: never waits for a background that is being opened."""
        with self._counting:
            ended = self._end_reveal()
        _farewell(ended)
        self._tell()

    def end_call(self) -> None:
        """Hide the room, unless the settings file shows it: whoever it was shown to is gone.

        The same after another camera was chosen and after the machine slept: the wish was for what
        the user saw then.
        """
        wish = self.revealed
        if wish is not None and not wish.standing:
            self.end_reveal()

    def withdraw(self) -> None:
        """Hide the room if the settings file alone showed it: it does not say so any more."""
        wish = self.revealed
        if wish is not None and not wish.standing:
            return
        if isinstance(self.current.background.choice, Reveal):
            self.end_reveal()
            # In force, and not written: the file is its owner's to mend.
            self._take(_without_room, hide=True)
            self._tell()

    def _change(self, changes: Changes, *, hide: bool) -> Config:
        before = self.current
        before.with_changes(changes)  # a mistake is told of before anything is changed
        if hide:  # a background may take long to open, or not open at all
            self.end_reveal()
        with self._counting:
            self._asked += 1
            number = self._asked

        def newest() -> Changes:
            # What was opened for a background may be there after one that was chosen later.
            late = number < self._chosen and "use" in changes.get("background", {})
            return _without_use(changes) if late else changes

        def keep() -> None:
            if "use" in newest().get("background", {}):
                self._chosen = number
            if self._file:
                self._file.save(newest())

        try:
            config = self._take(lambda now: now.with_changes(newest()), hide=hide, then=keep)
        except VcamError:
            if hide and isinstance(self.current.background.choice, Reveal):
                self._take(_without_room, hide=True, then=self._save_hiding)
            raise
        self._remember(before, config)
        self._tell()
        return config

    def _remember(self, before: Config, after: Config) -> None:
        """Keep what a change replaced; a reveal is no setting, and is not brought back."""
        old, new = before.model_dump(), after.model_dump()
        if isinstance(before.background.choice, Reveal):
            old["background"]["use"] = new["background"]["use"]
        old["control"]["welcome"] = new["control"]["welcome"]  # nobody's wish, but a note
        back = {
            section: {key: value for key, value in keys.items() if value != new[section][key]}
            for section, keys in old.items()
        }
        step = Step({section: keys for section, keys in back.items() if keys}, time.monotonic())
        last = self._step
        if last and last.names == step.names and step.at - last.at < UNDO_JOINS:
            step = step._replace(back=last.back)
        if step.back:
            self._step = step

    def _save_hiding(self) -> None:
        if self._file:
            self._file.save(_HIDING)

    def _take(
        self,
        make: Callable[[Config], Config],
        *,
        hide: bool = False,
        then: Callable[[], None] = lambda: None,
    ) -> Config:
        """Put what `make` makes of the settings in force, once what it needs is open.

        Opening takes as long as a disk takes, so other changes go on meanwhile, and `make` is asked
        again afterwards. `then` is called while no other change can come in between.
        """
        opener, opened, need = self._opener, None, None
        try:
            while True:
                before = self.current
                config = make(before)
                if config != before:
                    for check in self._checks:
                        check(before, config)
                if opener is not None and opener.needs(config) not in (opener.needs(before), need):
                    if opened is not None:
                        opened.close()
                        opened = None
                    need = opener.needs(config)
                    opened = opener.open(config)
                with self._changing:
                    before, config = self.current, make(self.current)
                    unmet = opener is not None and opener.needs(config) not in (
                        opener.needs(before),
                        need,
                    )
                    if unmet:
                        continue
                    changed = opener is not None and opener.needs(config) != opener.needs(before)
                    self._swap(config, opened if changed else None, hide=hide)
                    opened = None if changed else opened
                    then()
                    return config
        finally:
            if opened is not None:
                opened.close()

    def _end_reveal(self) -> Revealed | None:
        """End a reveal and return it; `_counting` is held."""
        ended = self.now.revealed
        if ended is not None:
            self.now = self.now._replace(revealed=None)
            self.revision += 1
        return ended

    def check(self, check: Callable[[Config, Config], None]) -> None:
        """Call `check(old, new)` before each change; a VcamError from it refuses the change."""
        self._checks.append(check)

    def opens(self, opener: Opener) -> None:
        """Have `opener` open what a change needs, so that the loop never waits for a file."""
        self._opener = opener

    def replace(self, config: Config) -> None:
        """Take a whole new configuration, as after an edit of the file.

        Raises:
            VcamError: a check refused it; nothing changed.
        """
        self.take(lambda _: config)

    def set_mode(self, mode: Mode, back_in: float | None = None) -> None:
        """Pause, the card counting `back_in` seconds down, freeze or go live; never waits."""
        ended = None
        back_at = boottime() + back_in if back_in and mode == "paused" else None
        with self._counting:
            self.now = self.now._replace(mode=mode, back_at=back_at)
            self.revision += 1
            if mode == "paused" and self.now.revealed and not self.now.revealed.standing:
                ended = self._end_reveal()
        _farewell(ended)
        self._tell()

    def toggle(self) -> Mode:
        """Pause, or go live where it is paused or frozen; the mode that is in force then."""
        mode: Mode = "paused" if self.mode == "live" else "live"
        self.set_mode(mode)
        return mode

    def subscribe(self, listener: Callable[[Config], None]) -> None:
        """Call `listener(config)` after each change, on the thread that made it."""
        self._listeners.append(listener)

    def observe(self, observer: Callable[[], None]) -> Callable[[], None]:
        """Call `observer()` after anything here changed, mode and problems too; returns the undo.

        It is called on the thread that made the change and must return at once.
        """
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @contextlib.contextmanager
    def kept_in(
        self,
        path: Path,
        *,
        flags: Changes | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Iterator[Settings]:
        """Write changes to `path` and take up edits of it, until the block ends.

        The file need not exist, nor its directory. `flags` and `environ` are what outranked the
        file when the settings were loaded; each yields to a change of the same setting.
        """
        self._file = SettingsFile(self, path, flags or {}, environ)
        try:
            with self._file:
                yield self
        finally:
            self._file = None

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until every change so far is in the file; False if that took too long or failed."""
        return self._file.flush(timeout) if self._file else True

    def reload(self) -> None:
        """Read the file again now, as after SIGHUP; a bad file is reported in `problem`."""
        if self._file:
            self._file.load()

    def _swap(self, config: Config, opened: Opened | None, *, hide: bool = False) -> None:
        """Put `config` in force; with `hide`, or another background, a reveal ends first."""
        before = self.current
        another = config.background.use != before.background.use
        begun, ended = _standing(config) if another else None, None
        with self._counting:
            if hide or another:
                ended = self._end_reveal()
            if config != before:
                self.now = self.now._replace(config=config, revealed=begun or self.now.revealed)
                self.revision += 1
        _farewell(ended)
        if begun:
            _announce(begun)
        if config == before:
            return
        if opened is not None:
            opened.use()
        for listener in self._listeners:
            listener(config)

    def take(self, make: Callable[[Config], Config]) -> None:
        """Put in force what `make` makes of the settings in force.

        Raises:
            VcamError: what it needs cannot be opened, or a check refused it; nothing changed.
        """
        self._take(make)
        self._tell()

    def refresh(self) -> None:
        """Open anew what the settings need and changed by itself; a VcamError leaves all as is."""
        if (opener := self._opener) is None:
            return
        opened = opener.open(config := self.current)
        with self._changing:
            if opener.needs(self.current) == opener.needs(config):
                opened.use()
                return
        opened.close()

    def report(self, *, problem: str | None, unsaved: str | None) -> None:
        """Tell observers of what is wrong with the file, and of what cannot be written."""
        if (problem, unsaved) == (self.problem, self.unsaved):
            return
        for new, old in ((problem, self.problem), (unsaved, self.unsaved)):
            if new and new != old:
                log.warning("%s", new)
        with self._counting:
            self.problem, self.unsaved = problem, unsaved
            self.revision += 1
        self._tell()

    def _tell(self) -> None:
        for observer in tuple(self._observers):
            observer()


def _standing(config: Config) -> Revealed | None:
    """The reveal that the settings file asks for in so many words: `use = "none"`."""
    wish = config.background.choice
    if not isinstance(wish, Reveal):
        return None
    return Revealed(wish, "settings file", time.time(), standing=True)


def _announce(wish: Revealed) -> None:
    log.warning("OTHERS SEE YOUR ROOM from now on; asked for by: %s", wish.by)


def _farewell(ended: Revealed | None) -> None:
    if ended is not None:
        log.warning("your room is hidden again, after %.1f s", time.time() - ended.since)


def _without_room(config: Config) -> Config:
    """`config` with a drawn background where it shows the room."""
    hidden = not isinstance(config.background.choice, Reveal)
    return config if hidden else config.with_changes(_HIDING)


def _without_use(changes: Changes) -> dict[str, dict[str, Any]]:
    """`changes` less the background's name."""
    kept = {section: dict(keys) for section, keys in changes.items()}
    kept["background"].pop("use")
    return kept
