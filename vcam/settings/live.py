"""The settings in force: one immutable object swapped as a whole, kept in the user's file.

`Settings.change` takes effect at once; writing the file happens on a thread of its own, so that a
slow or read-only disk never delays a picture. Edits made by hand are read back the same way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

from vcam.errors import ConfigError, VcamError
from vcam.files.whole import replace_file
from vcam.settings import config as configuration
from vcam.settings.choice import Reveal
from vcam.settings.config import Config

log = logging.getLogger(__name__)

Mode = Literal["live", "paused", "frozen"]
Changes = Mapping[str, Mapping[str, Any]]

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


class Opened(Protocol):
    """Something that was opened for a change, until the change takes effect or does not."""

    def use(self) -> None:
        """Take it into use: the change is in force."""
        ...

    def close(self) -> None:
        """Give it up: the change is not."""
        ...


class Opener(Protocol):
    """Opens what some changes need before they can take effect."""

    def needs(self, config: Config) -> Hashable:
        """What `config` needs; as long as that stays the same, nothing is opened."""
        ...

    def open(self, config: Config) -> Opened:
        """Open it, on the thread of who asked for the change.

        Raises:
            VcamError: it cannot be opened, which refuses the change.
        """
        ...


class _Outdated(Exception):
    """The file says something else by now."""


SAFE_BACKGROUND: Final = "studio"  # drawn by the program: always there
_HIDING: Final = {"background": {"use": SAFE_BACKGROUND}}
SAVE_AFTER = 0.25  # seconds of quiet before the file is written: a dragged slider is one write
SAVE_WITHIN = 1.0  # seconds after which it is written even while changes keep coming
QUIET = 0.1  # seconds without a write after which an edited file is taken as it is
ENDED_WITHIN = 1.0  # seconds in which the file has to take the last changes at the end
WRITTEN_WITHIN = 2.0  # seconds after which it is taken even while somebody keeps writing

BOM: Final = "\ufeff"  # the mark that editors of Windows put before a text

HEADER = (
    "# VBG Camera: your own settings. Only the lines that differ from the defaults are needed;\n"
    "# `vcam config show` lists every setting with its meaning.\n"
)


class Settings:
    """What the user wants right now. Any thread may change it; the loop reads `current` per frame.

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
        self._file: _SettingsFile | None = None

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

    def choose(self, changes: Changes) -> Config:
        """Apply a preset or look by the user's choice; hides the room whatever it holds.

        Raises:
            VcamError: as `change`.
        """
        return self._change(changes, hide=True)

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
        self.current.with_changes(changes)  # a mistake is told of before anything is changed
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
        self._tell()
        return config

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
        self._take(lambda _: config)
        self._tell()

    def set_mode(self, mode: Mode) -> None:
        """Pause, freeze or go live; never waits for a change that is being checked."""
        ended = None
        with self._counting:
            self.now = self.now._replace(mode=mode)
            self.revision += 1
            if mode == "paused" and self.now.revealed and not self.now.revealed.standing:
                ended = self._end_reveal()
        _farewell(ended)
        self._tell()

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
        self._file = _SettingsFile(self, path, flags or {}, environ)
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

    def _report(self, *, problem: str | None, unsaved: str | None) -> None:
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


class _SettingsFile:
    """The user's file: written by one thread, watched by another, both ended on exit."""

    def __init__(
        self,
        settings: Settings,
        path: Path,
        flags: Changes,
        environ: Mapping[str, str] | None,
    ) -> None:
        self.path = path
        self._settings = settings
        self._flags = {section: dict(keys) for section, keys in flags.items()}
        self._environ = dict(os.environ if environ is None else environ)
        self._pending: dict[str, dict[str, Any]] = {}
        self._writing: dict[str, dict[str, Any]] = {}  # taken from pending, not in the file yet
        self._first = self._last = 0.0  # when the oldest and newest pending change came
        self._hurry = False
        self._wake = threading.Condition()
        self._loading = threading.Lock()  # held until what was read is in force
        self._io = threading.Lock()  # one reader or writer of the file at a time
        self._writes = 0  # of the file, so far
        self._seen: str | None = None  # what was read or written last
        with contextlib.suppress(OSError):
            self._seen = _read(path)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._save_until_stopped, name="settings-save", daemon=True),
            threading.Thread(target=self._watch_until_stopped, name="settings-watch", daemon=True),
        ]

    def __enter__(self) -> _SettingsFile:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._stop.set()
            self._wake.notify_all()
        until = time.monotonic() + ENDED_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def save(self, changes: Changes) -> None:
        """Remember to write `changes`; returns at once."""
        now = time.monotonic()
        with self._wake:
            for section, keys in changes.items():
                self._pending.setdefault(section, {}).update(keys)
                for key in keys:
                    self._flags.get(section, {}).pop(key, None)
                    self._environ.pop(f"VCAM_{section}_{key}".upper(), None)
            self._first = self._first or now
            self._last = now
            self._wake.notify_all()

    def flush(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        with self._wake:
            self._hurry = True
            self._wake.notify_all()
            while self._pending or self._writing:
                left = until - time.monotonic()
                if left <= 0 or self._settings.unsaved:
                    return False
                self._wake.wait(left)
        return True

    def load(self) -> None:
        """Take up what the file says now, unless it is what was read or written last."""
        with self._loading:
            while True:
                with contextlib.suppress(_Outdated):
                    self._load()
                    break
        with self._wake:
            self._wake.notify_all()  # a file that was mended can be written again

    def _load(self) -> None:
        settings = self._settings
        with self._io:
            readable = True
            try:
                text = self._settled()
            except OSError:
                text, readable = "", False  # `configuration.load` says what is wrong with it
            if text is None or _is_empty(text):
                # Some editors remove the file, or empty it, before they write it again.
                if isinstance(settings.current.background.choice, Reveal):
                    self._seen = None  # what comes then is read, even if it is the same
                    settings.withdraw()
                return
            known, self._seen = text == self._seen, text
            writes = self._writes
        if known and not settings.problem:
            return
        problem = None
        try:
            config = configuration.load(
                self.path,
                flags=self._flags,
                environ=self._environ,
                text=text if readable else None,
            )
            merged = config.with_changes(self._unwritten())
            if merged.background.use != settings.current.background.use:
                settings.end_reveal()  # what it names now may take long to open

            def newest(_: Config) -> Config:
                unwritten = self._unwritten()
                # What was written since would be undone by the file's older value.
                if writes != self._writes:
                    raise _Outdated
                return config.with_changes(unwritten)

            settings._take(newest)
            settings._tell()
            log.info("Settings read again from %s", self.path)
        except ConfigError as error:
            problem = f"{error.message}\nThe settings in force stay as they were."
        except VcamError as error:
            problem = f"{self.path}: {error.message}\nThe settings in force stay as they were."
        if problem:
            settings.withdraw()
        # Told before the next reader may come in, who would find the text known and no problem.
        settings._report(problem=problem, unsaved=settings.unsaved)

    def _settled(self) -> str | None:
        """The file's text once nobody has written to it for a moment.

        Most editors empty a file before they fill it, and an empty one is valid: all defaults. So
        an empty one is waited for, and does not count if it stays so.
        """
        until = time.monotonic() + WRITTEN_WITHIN
        while True:
            text = _read(self.path)
            if text is None or self._stop.is_set() or time.monotonic() > until:
                return text
            try:
                # A clock that was set back leaves files from the future.
                quiet = WRITTEN_WITHIN if _is_empty(text) else QUIET
                if abs(time.time() - self.path.stat().st_mtime) > quiet:
                    return text
            except FileNotFoundError:
                return None
            self._stop.wait(QUIET / 2)

    def _save_until_stopped(self) -> None:
        # After an upgrade the file may have settings under names of an older version.
        if self._seen is not None and not self._settings.problem and _old_names(self._seen):
            self._settings._report(problem=None, unsaved=self._write({}))
        while True:
            with self._wake:
                while not self._due():
                    self._wake.wait(self._patience())
                if not self._pending:
                    return  # due with nothing pending: stopped
                batch, self._pending = self._pending, {}
                self._writing = batch
                self._first = 0.0
            problem = self._write(batch)
            self._settings._report(problem=self._settings.problem, unsaved=problem)
            with self._wake:
                self._writing = {}
                if problem:
                    # Newer changes win over those that could not be written.
                    for section, keys in batch.items():
                        self._pending[section] = keys | self._pending.get(section, {})
                    self._first = self._last = time.monotonic() + (30.0 - SAVE_AFTER)
                self._hurry = False
                self._wake.notify_all()
                if problem and self._stop.is_set():
                    return

    def _unwritten(self) -> dict[str, dict[str, Any]]:
        """Every change that is in force and not in the file yet; the newest value of each."""
        with self._wake:
            both = {section: dict(keys) for section, keys in self._writing.items()}
            for section, keys in self._pending.items():
                both.setdefault(section, {}).update(keys)
        return both

    def _due(self) -> bool:
        if self._stop.is_set():
            return True
        if not self._pending:
            self._hurry = False
            return False
        now = time.monotonic()
        return self._hurry or now >= min(self._last + SAVE_AFTER, self._first + SAVE_WITHIN)

    def _patience(self) -> float | None:
        if not self._pending:
            return None
        now = time.monotonic()
        return max(0.01, min(self._last + SAVE_AFTER, self._first + SAVE_WITHIN) - now)

    def _write(self, changes: Changes) -> str | None:
        """Put `changes` into the file; the problem as a sentence, or None."""
        try:
            with self._io:
                for _ in range(5):
                    before = _read(self.path)
                    after = edited(before if before is not None else HEADER, changes)
                    # Somebody may have saved the file meanwhile: start again from theirs.
                    if _read(self.path) == before:
                        if after != before:
                            replace_file(self.path, after)
                            self._writes += 1
                            # An edit by hand that was not read yet must still be noticed.
                            if before == self._seen:
                                self._seen = after
                        return None
            return f"{self.path} keeps changing, so the settings in force could not be saved to it."
        except ConfigError as error:
            return f"The change is in force but not saved: {error.message}"
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"The change is in force but not saved: {self.path} cannot be written: {reason}."

    def _watch_until_stopped(self) -> None:
        import watchfiles  # a third of a second on a slow machine, so not before it is needed

        while not self._stop.is_set():
            target = Path(os.path.realpath(self.path))
            if not target.parent.is_dir():
                self._stop.wait(1.0)
                if not target.exists():
                    continue
            self.load()
            try:
                for _ in watchfiles.watch(
                    target.parent,
                    watch_filter=_only(target.name),
                    recursive=False,
                    debounce=200,
                    step=50,
                    rust_timeout=2000,
                    yield_on_timeout=True,
                    stop_event=self._stop,
                    raise_interrupt=False,
                ):
                    self.load()
                    if Path(os.path.realpath(self.path)) != target or not target.parent.is_dir():
                        break  # the link points elsewhere, or the directory went away
            except (OSError, RuntimeError) as error:
                log.info("Edits of %s are noticed by looking every 2 s: %s", self.path, error)
                while not self._stop.wait(2.0):
                    self.load()


def edited(text: str, changes: Changes) -> str:
    """Return the TOML `text` with `changes` applied; comments, order and layout stay.

    Raises:
        ConfigError: `text` is not TOML, so that nothing can be put into it.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        mark, text = text[: text.startswith(BOM)], text.removeprefix(BOM)
        document = tomlkit.parse(_under_new_names(text))
        for section, keys in changes.items():
            if section not in document:
                if document.as_string().strip():
                    document.add(tomlkit.nl())
                document.add(section, tomlkit.table())
            table: Any = document[section]
            for key, value in keys.items():
                if key in table and _same(table[key], value):
                    continue
                plain = isinstance(value, Mapping)
                table[key] = tomlkit.inline_table() if plain else value
                if plain:
                    table[key].update(value)
        result = document.as_string()
        tomlkit.parse(result)  # never write what could not be read again
        return mark + result
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"your settings file is not valid TOML: {error}", hint="Mend that line of the file."
        ) from error


def _under_new_names(text: str) -> str:
    """The TOML `text` with renamed settings where they are now, each with the comment beside it."""
    import tomlkit
    from tomlkit.items import SingleKey

    for (section, key), (to, new) in configuration.RENAMED.items():
        document = tomlkit.parse(text)
        found = document.get(section)
        if not isinstance(found, Mapping) or key not in found:
            continue
        table: Any = found
        if new in document.get(to, {}):
            del table[key]  # the new name counts; the old one was read by nobody
        elif to == section:
            body = table.value.body
            at = next(i for i, (name, _) in enumerate(body) if name and name.key == key)
            body[at] = (SingleKey(new, sep=" = "), body[at][1])
        else:
            value = table[key]
            del table[key]
            if to not in document:
                document.add(tomlkit.nl())
                document.add(to, tomlkit.table())
            document[to][new] = value
        if not table and section not in configuration.Config.model_fields:
            del document[section]
        text = document.as_string()
    return text


def _old_names(text: str) -> bool:
    """Whether a setting in the TOML `text` has another name now; False if it is not TOML."""
    try:
        return edited(text, {}) != text
    except ConfigError:
        return False


def _is_empty(text: str) -> bool:
    return not text.removeprefix(BOM).strip()


def _only(name: str) -> Callable[[object, str], bool]:
    return lambda _, changed: Path(changed).name == name


def _same(old: Any, new: Any) -> bool:
    plain = old.unwrap() if hasattr(old, "unwrap") else old
    return type(plain) is type(new) and bool(plain == new)


def _read(path: Path) -> str | None:
    """The file's text, or None where there is no file."""
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
