"""A background for each program: taken up when it begins to watch, given back when it has left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from vcam.errors import VcamError
from vcam.settings.config import Changes
from vcam.settings.live import Settings

log = logging.getLogger(__name__)

ANY: Final = "*"  # programs without a profile of their own
OURS: Final = "settings page"  # a look at oneself


class _Taken(NamedTuple):
    """A profile in force."""

    wish: str
    before: dict[str, dict[str, Any]]  # what it replaced
    after: dict[str, dict[str, Any]]  # and by what; empty where it could not be taken


class Profiles:
    """Follows who watches. One thread's, on which backgrounds are opened.

    Nothing of it is written to the settings file, and what the user changes during a call stays.
    """

    def __init__(self, settings: Settings, values_of: Callable[[str], Changes]) -> None:
        self._settings = settings
        self._values_of = values_of  # what a background or look of that name sets
        self._taken: _Taken | None = None
        self._seen: dict[str, None] = {}  # programs that watched, in the order they came

    @property
    def seen(self) -> list[str]:
        """Programs that watched since the start; any thread."""
        return list(self._seen)

    def follow(self, watchers: Sequence[str]) -> None:
        """Look once; call it a few times a second."""
        programs = {n.lower(): use for n, use in self._settings.current.profiles.programs.items()}
        names = [name.lower() for name in watchers if name != OURS]
        if any(name not in self._seen for name in names):
            self._seen = self._seen | dict.fromkeys(names)
        wish = next((programs[name] for name in names if name in programs), None)
        if wish is None and names:
            wish = programs.get(ANY)
        wish = wish or None  # "": the user wants it as it is, whatever others are shown
        if wish == (self._taken.wish if self._taken else None):
            return
        self._give_back()
        if wish is not None:
            self._take(wish)

    def _take(self, wish: str) -> None:
        before, after = self._settings.current, None
        try:
            values = self._values_of(wish)
            self._settings.take(lambda now: now.with_changes(values))
            after = self._settings.current
        except VcamError as error:
            log.warning("the background %r for this program: %s", wish, error)
        old, new = before.model_dump(), (after or before).model_dump()
        changed = {
            section: [key for key in keys if old[section][key] != new[section][key]]
            for section, keys in old.items()
        }
        self._taken = _Taken(
            wish,
            {s: {key: old[s][key] for key in keys} for s, keys in changed.items() if keys},
            {s: {key: new[s][key] for key in keys} for s, keys in changed.items() if keys},
        )

    def _give_back(self) -> None:
        """Put back what the profile replaced, less what was changed meanwhile."""
        taken, self._taken = self._taken, None
        if taken is None or not taken.after:
            return
        now = self._settings.current.model_dump()
        back = {
            section: {k: v for k, v in keys.items() if now[section][k] == taken.after[section][k]}
            for section, keys in taken.before.items()
        }
        # A standing wish to show the room comes back by no program's end.
        if back.get("background", {}).get("use") == "none":
            del back["background"]["use"]
        try:
            self._settings.take(lambda config: config.with_changes(back))
        except VcamError as error:
            log.warning("the background of before does not come back: %s", error)
