"""The scene that the person of a frame is set into: a backdrop, and how they stand in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # (height * 3 // 2, width) I420, limited range, contiguous


@dataclass(frozen=True, slots=True)
class Look:
    """Ways in which the person is joined with the backdrop."""

    light_wrap: float = 0.0  # how much of a bright backdrop spills over the edges, 0..1
    decontaminate: bool = True  # take the room's colour out of soft edges
    mirror: bool = False  # flip the person left to right; the backdrop stays
    framing: str = "off"  # or "head-and-shoulders", "close": follow the person
    zoom: float = 1.0  # how much the frame is enlarged, 1..2
    shift: tuple[float, float] = (0.0, 0.0)  # where to, -1..1 across and down


@dataclass(frozen=True, slots=True)
class Blur:
    """The room itself as backdrop, blurred; `strength` is 0..100 percent."""

    strength: float = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Backdrop and look of one frame, at the output's size."""

    width: int
    height: int
    behind: Picture | Blur
    look: Look = field(default_factory=Look)

    @property
    def blur(self) -> Blur | None:
        """The blur of the room behind the person; None where a picture is."""
        return self.behind if isinstance(self.behind, Blur) else None
