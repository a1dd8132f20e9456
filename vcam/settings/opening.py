"""Openers: what some changes of settings need before they can take effect."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from vcam.settings.config import Config


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
        """Needs of `config`, comparable; as long as they stay the same, nothing is opened."""
        ...

    def open(self, config: Config) -> Opened:
        """Open it, on the thread of who asked for the change.

        Raises:
            VcamError: it cannot be opened, which refuses the change.
        """
        ...
