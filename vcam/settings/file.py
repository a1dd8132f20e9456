"""The user's settings file: written by a thread of its own, and read again when it is edited."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from vcam.errors import ConfigError, VcamError
from vcam.files.whole import replace_file
from vcam.settings import config as configuration
from vcam.settings.choice import Reveal
from vcam.settings.config import Changes, Config
from vcam.settings.edit import BOM, HEADER, edited, old_names

log = logging.getLogger(__name__)


SAVE_AFTER = 0.25  # seconds of quiet before the file is written: a dragged slider is one write
SAVE_WITHIN = 1.0  # seconds after which it is written even while changes keep coming
QUIET = 0.1  # seconds without a write after which an edited file is taken as it is
ENDED_WITHIN = 1.0  # seconds in which the file has to take the last changes at the end
WRITTEN_WITHIN = 2.0  # seconds after which it is taken even while somebody keeps writing


class InForce(Protocol):
    """The settings in force, as far as their file needs them."""

    problem: str | None
    unsaved: str | None

    @property
    def current(self) -> Config: ...

    def take(self, make: Callable[[Config], Config]) -> None: ...

    def end_reveal(self) -> None: ...

    def withdraw(self) -> None: ...

    def report(self, *, problem: str | None, unsaved: str | None) -> None: ...


class _OutdatedError(Exception):
    """The file says something else by now."""


class SettingsFile:
    """The user's file: written by one thread, watched by another, both ended on exit."""

    def __init__(
        self,
        settings: InForce,
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

    def __enter__(self) -> SettingsFile:
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
                with contextlib.suppress(_OutdatedError):
                    self._load()
                    break
        with self._wake:
            self._wake.notify_all()  # a file that was mended can be written again

    def _load(self) -> None:
        settings = self._settings
        with self._io:
            try:
                text = self._settled()
            except OSError:
                text, readable = "", False  # `configuration.load` says what is wrong with it
            else:
                readable = True
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
                    raise _OutdatedError
                return config.with_changes(unwritten)

            settings.take(newest)
            log.info("Settings read again from %s", self.path)
        except ConfigError as error:
            problem = f"{error.message}\nThe settings in force stay as they were."
        except VcamError as error:
            problem = f"{self.path}: {error.message}\nThe settings in force stay as they were."
        if problem:
            settings.withdraw()
        # Told before the next reader may come in, who would find the text known and no problem.
        settings.report(problem=problem, unsaved=settings.unsaved)

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
        if self._seen is not None and not self._settings.problem and old_names(self._seen):
            self._settings.report(problem=None, unsaved=self._write({}))
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
            self._settings.report(problem=self._settings.problem, unsaved=problem)
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


def _read(path: Path) -> str | None:
    """The file's text, or None where there is no file."""
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _only(name: str) -> Callable[[object, str], bool]:
    return lambda _, changed: Path(changed).name == name


def _is_empty(text: str) -> bool:
    return not text.removeprefix(BOM).strip()
