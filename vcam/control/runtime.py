"""The part of a running daemon that the control doors may ask; `vcam.daemon` implements it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.motion.room import RoomWord
    from vcam.frame import SafeFrame
    from vcam.room_view import RoomView
    from vcam.settings.live import Settings


class Runtime(Protocol):
    """A running daemon, as seen by its doors. Every method may be called from any thread."""

    settings: Settings

    def status(self) -> dict[str, Any]:
        """The state as plain JSON values: see `GET /status`."""
        ...

    def pulse(self) -> Hashable:
        """Everything in the status whose change is told at once; cheap, and never waits."""
        ...

    def stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        ...

    def latest(self) -> SafeFrame | None:
        """The last frame that reached a sink, as a copy that stays valid; None before the first."""
        ...

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room behind now, or forget it; False where none is learnt."""
        ...

    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        ...

    def room(self) -> RoomView | None:
        """The room as it is, for the signed-in page alone; None if no picture comes."""
        ...
