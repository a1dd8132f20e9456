"""The scene that the GPU sets the person into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scene:
    """The picture or blur behind the person, and the way they are joined.

    Shapes:
        backdrop: (height * 3 // 2, width) uint8 I420, limited range, contiguous; None where the
            room itself, blurred by `blur` percent, is the backdrop
    """

    width: int
    height: int
    backdrop: NDArray[np.uint8] | None = None
    blur: float = 50.0
    decontaminate: bool = True
    light_wrap: float = 0.0
    mirror: bool = False
