"""Engines that make mattes, as the frame loop sees them: the processor's, and those beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from segmentation.motion.room import RoomCopy, RoomWord
    from segmentation.planes import Planes
    from segmentation.refine import People
    from vcam.compose.scene import Scene


class Mattes(Protocol):
    """An engine that makes mattes. Owned by one thread, closed by who opened it."""

    draws: bool  # it sets the person into the scene as well: its mattes come with a composite

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times, for the status."""
        ...

    def matte(
        self, planes: Planes, *, seq: int, pts: float, scene: Scene | None = None
    ) -> Matte | None:
        """Return the matte of the frame of these planes; None while the engine is made ready."""
        ...

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength and show other people from the next frame on; any thread."""
        ...

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone now, or forget it; any thread. False where none is learnt."""
        ...

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        ...

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread."""
        ...

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now; its owner's thread."""
        ...

    @property
    def room_map(self) -> NDArray[np.uint8] | None:
        """Where the room is known, (h, w) uint8, 255 where it is; None where none is learnt."""
        ...

    def reset(self) -> None:
        """Forget the frames before."""
        ...

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them."""
        ...

    def close(self) -> None:
        """Give the engine back."""
        ...


class Aside(Mattes, Protocol):
    """An engine beside the processor's, which serves until this one is ready."""

    def prepare(self, planes: Planes, scene: Scene) -> bool:
        """Have what such frames need made ready aside; true once it is."""
        ...
