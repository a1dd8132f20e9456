"""The scene that the person of a frame is set into: a backdrop, and how they stand in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.planes import i420

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

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
    light: float = 0.0  # how much the person's light is bettered, and brought to the backdrop's, %
    sharp: bool = False  # draw the person's outlines a little stronger
    lit_from: str = ""  # where the backdrop's light comes from, if that was noted; see `shipped`

    @property
    def lit(self) -> bool:
        """True if the person is not drawn in the camera's own pixels."""
        return self.light > 0 or self.sharp


@dataclass(frozen=True, slots=True)
class Blur:
    """The room itself as backdrop, blurred; `strength` is 0..100 percent."""

    strength: float = 50.0


ALONE: Final = Look(decontaminate=False, light=100.0)  # of a scene that an engine does not draw


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Backdrop and look of one frame, at the output's size."""

    width: int
    height: int
    behind: Picture | Blur
    look: Look = field(default_factory=Look)

    @property
    def drawable(self) -> Scene:
        """The scene as an engine that draws is given it: a person in another light is not its own.

        Of such a scene it makes the matte alone, which is the same whatever stands behind.
        """
        return Scene(self.width, self.height, Blur(), ALONE) if self.look.lit else self

    @property
    def blur(self) -> Blur | None:
        """The blur of the room behind the person; None where a picture is."""
        return self.behind if isinstance(self.behind, Blur) else None


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """A small picture with a place in a larger one, even in place and size.

    Shapes:
        colours: Y (h, w), U and V (h/2, w/2), uint8, limited range, times its opacity
        keeps: the same shapes, uint8, how much of what lies below stays, of 255
    """

    left: int
    top: int
    colours: tuple[Bytes, Bytes, Bytes]
    keeps: tuple[Bytes, Bytes, Bytes]

    def lay(self, data: Bytes) -> None:
        """Lay it over an I420 picture."""
        for plane, colour, keep, half in zip(
            i420(data).each, self.colours, self.keeps, (1, 2, 2), strict=True
        ):
            top, left = self.top // half, self.left // half
            part = plane[top : top + colour.shape[0], left : left + colour.shape[1]]
            cv2.multiply(part, keep, part, 1 / 255)
            cv2.add(part, colour, part)

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Left, top, width and height."""
        height, width = self.colours[0].shape
        return self.left, self.top, width, height
