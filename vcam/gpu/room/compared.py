"""A frame beside the learned room, in torch: as `Room.look` and `Room.object_to` do it.

A CUDA graph records it: see `vcam.gpu.torch_matte`. The room itself comes from the host now and
then; with nothing of it here the network's input and the matte stay as they are, to the bit.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from segmentation.constants import ROOM_INPUTS, ROOM_SCALE
from segmentation.motion.room import CHANGED
from segmentation.motion.state import CELL

# Numbers before the planes of `Compared.known`:
GAIN, OFFSET = slice(0, 3), slice(3, 6)  # of Y, U and V
SLOPE: Final = 6  # one over the levels from which a pixel looks otherwise
FLOOR: Final = 7  # -1: a pixel that differs by no more looks as before
STRANGE: Final = 8  # levels from which a pixel shows something else
PIXEL: Final = 9  # levels that what is around a pixel differs by at most, which may be the room
BALANCE: Final = 10  # 0 where the network is to be told, less than any balance where it is not
NUMBERS: Final = 16
UNKNOWN: Final = 1e4  # level of a room that is not known, which differs from any picture


def parts(size: tuple[int, int]) -> tuple[int, int]:
    """Return how many parts of the room may be found again, in rows and columns."""
    return max(1, size[0] // CELL), max(1, size[1] // CELL)


def length(size: tuple[int, int]) -> int:
    """Return how many numbers `Compared.known` has at this size."""
    rows, columns = parts(size)
    return NUMBERS + rows * columns + 6 * size[0] * size[1]


class Known:
    """Names the places in the numbers that go up: `Learner` fills them, `Compared` reads them.

    Shapes:
        whole: (length) float32
    """

    def __init__(self, whole: Tensor, size: tuple[int, int]) -> None:
        (rows, columns), (h, w) = parts(size), size
        few = NUMBERS + rows * columns
        planes = whole[few:].view(6, h, w)
        self.whole, self.head = whole, whole[: few + 3 * h * w]  # all, and what each look changes
        self.numbers = whole[:NUMBERS]
        # Levels below which a part is found again, that differ; none where it cannot be.
        self.firm = whole[NUMBERS:few].view(rows, columns)
        self.room, self.free, self.rich, self.there = planes[:3], planes[3], planes[4], planes[5]
        # `free` is alpha below which a pixel is nobody's and is compared; less than any where the
        # room is not known. `rich` is 1 where the room is textured, `there` where it is known.


class Compared:
    """Compares frames with the room: tells the network, and objects to what it says."""

    def __init__(self, size: tuple[int, int], matrix: Tensor, scale: Tensor, *, told: bool) -> None:
        device = matrix.device
        h, w = self.size = size
        self.version = 0  # of `known`; 0 while nothing is known
        self.known = Known(torch.zeros(length(size), device=device), size)
        self.picture = torch.zeros((3, h, w), dtype=torch.uint8, device=device)  # of the last frame
        self.before = torch.zeros(size, device=device)  # and its matte, before any objection
        self._told = told  # the network has inputs for it
        self._apart = torch.zeros((3, h, w), device=device)
        self._far, self._near, self._rests = torch.zeros((3, h, w), device=device)
        self._again = torch.zeros((1, *self.known.firm.shape), device=device)
        self._words = torch.zeros((ROOM_INPUTS, h, w), device=device)
        # Rows make R, G and B of a difference in Y, U and V, and leave 1 in the last plane.
        mix = F.pad(matrix[:, :3] * scale[:, :1] * ROOM_SCALE, (0, 0, 0, 1))
        self._mix = [mix[:, c, None, None].contiguous() for c in range(3)]
        self._one = F.pad(torch.zeros_like(mix[:3, 0]), (0, 1), value=1.0)[:, None, None]
        self._all = torch.ones((), device=device)
        self._whole_parts = h % CELL == 0 and w % CELL == 0

    def tell(self, picture: Tensor, x: Tensor) -> None:
        """Fill the network's inputs for the room, if it has some, and remember what differs.

        Shapes:
            picture: (3, h, w) float32 levels; x: (1, 3 and more, H, W)
        """
        known, apart = self.known, self._apart
        numbers = known.numbers
        self.picture.copy_(picture)
        gain, offset = numbers[GAIN, None, None], numbers[OFFSET, None, None]
        torch.addcmul(offset, known.room, gain, out=apart)
        apart.sub_(picture)
        torch.linalg.vector_norm(apart, float("inf"), 0, out=self._far)
        torch.round(_around(self._far.floor_()), out=self._near)
        if not self._told:
            return
        # Where much that is nobody's differs, it is another light or another room: as yet it is
        # not told of, and the host will forget it.
        other = torch.add(apart[0].abs() > numbers[STRANGE], -CHANGED)
        calm = (other * (self.before < known.free)).sum() <= numbers[BALANCE]
        share = torch.addcmul(numbers[FLOOR], self._near, numbers[SLOPE])
        share = share.clamp_(known.rich, known.there).mul_(calm)
        words = torch.addcmul(self._one, self._mix[0], apart[0], out=self._words)
        words.addcmul_(self._mix[1], apart[1]).addcmul_(self._mix[2], apart[2]).mul_(share)
        h, w = self.size
        x[0, 3 : 3 + ROOM_INPUTS, :h, :w].copy_(words)

    def object_to(self, alpha: Tensor) -> Tensor:
        """Return `alpha` without what is surely the room: found again, and textured.

        Shapes:
            alpha, returns: (h, w) float32
        """
        known, numbers = self.known, self.known.numbers
        self.before.copy_(alpha)
        far = self._far[None]
        if self._whole_parts:
            mean = F.avg_pool2d(far, CELL)
        else:
            mean = F.adaptive_avg_pool2d(far, parts(self.size))
        again = torch.lt(mean, known.firm, out=self._again)
        # One cell alone may be chance: what is found again has a neighbour that is, too.
        again.mul_(_around(again[0]) > 2.5 / 9)
        room = F.interpolate(again[None], self.size, mode="bilinear", align_corners=False)[0, 0]
        rests = torch.le(self._near, numbers[PIXEL], out=self._rests)  # a body's rim stays
        return torch.minimum(alpha, torch.addcmul(self._all, room, rests, value=-1))

    def forget(self) -> None:
        """Know nothing of the room from now on."""
        self.version = 0
        self.known.whole.zero_()

    def inherit(self, other: Compared) -> None:
        """Go on with what another of the same size knows."""
        self.version = other.version
        self.known.whole.copy_(other.known.whole)
        self.before.copy_(other.before)

    def wipe(self) -> None:
        """Overwrite all that shows something of the room or a person."""
        self.forget()
        for buffer in self.pictures:
            buffer.zero_()

    @property
    def pictures(self) -> tuple[Tensor, ...]:
        """All that shows something of a room or a person."""
        made = (self._apart, self._far, self._near, self._words, self._rests, self._again)
        return (self.known.whole, self.picture, self.before, *made)


def _around(plane: Tensor) -> Tensor:
    """Return the mean of each pixel and those around it, (h, w)."""
    return F.avg_pool2d(F.pad(plane[None], (1, 1, 1, 1), mode="reflect"), 3, 1)[0]
