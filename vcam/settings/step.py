"""The last change of the user's, as it can be taken back for a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

UNDO_WITHIN: Final = 60.0  # seconds a change can be taken back
UNDO_JOINS: Final = 2.0  # seconds in which changes of the same settings, of a slider say, are one


class Step(NamedTuple):
    """Values that a change replaced, or a background that was deleted."""

    back: dict[str, dict[str, Any]]  # values of before
    at: float  # on the monotonic clock
    deleted: str = ""  # a background's name
    put_back: Callable[[], None] = lambda: None  # undeletes it; raises VcamError

    @property
    def names(self) -> list[str]:
        """Settings it concerns as "section.key", or the background as "presets.NAME"."""
        if self.deleted:
            return [f"presets.{self.deleted}"]
        return [f"{section}.{key}" for section, keys in self.back.items() for key in keys]
