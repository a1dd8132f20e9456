"""The room as the GPU's process learns it, on the host, after a frame's answer was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from segmentation.motion.room import NEAR, OTHER, PIXEL, SAME, Room
from segmentation.motion.state import OTHERWISE, State
from segmentation.motion.words import Words
from vcam.gpu.room import compared as places
from vcam.gpu.room.compared import Compared, Known

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOK: Final = 0.12  # seconds from one look at the room to the next
# The host's looks fill no network's input: of colours they need to know nothing.
COLOURS: Final = np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32)
NO_INPUT: Final = np.zeros((1, 3, 1, 1), np.float32)
SURELY: Final = np.float32(1)  # alpha of what is no number: nothing is learnt there


class Learner:
    """Learns the room from the frames that were compared with it. Owned by one thread.

    All that it holds of a picture lies in `Room`, and in memory that `wipe` overwrites.
    """

    def __init__(self, *, pinned: bool) -> None:
        self.room = Room()
        self.words = Words()
        self._pinned = pinned
        self._looked = float("-inf")
        self._somebody = False  # since the last look
        self._turn = 0
        self._size = (0, 0)
        self._allocate(0, 0)

    def follow(self, compared: Compared, pts: float, *, present: bool, cut: bool) -> None:
        """Learn from the frame that was compared last, and have the next one compared with it.

        `present` says that somebody was there, `cut` that the scene is another. To be called on the
        stream of `compared`.
        """
        self._somebody |= present
        if cut:
            self.room.forget("the scene changed")
        elif self._is_due(compared, pts):
            self._look(compared, pts)
        elif compared.version == self.room.version:
            return
        self._show(compared)

    def wipe(self) -> None:
        """Overwrite all that is kept of the room here; that on the GPU is its plan's."""
        self.room.wipe()
        self.words.wipe()
        self._overwrite()
        self._looked, self._somebody = float("-inf"), False

    @property
    def info(self) -> dict[str, Any]:
        """Share known, since when, and why it was forgotten, for the status."""
        return self.room.info

    def _is_due(self, compared: Compared, pts: float) -> bool:
        lately = 0 <= pts - self._looked < LOOK and compared.size == self._size
        return self.words.waiting or not lately

    def _look(self, compared: Compared, pts: float) -> None:
        if compared.size != self._size:
            self.room.wipe()
            self._overwrite()
            self._allocate(*compared.size)
        self._looked = pts
        before = self._alphas[self._turn].numpy()
        self._turn = 1 - self._turn
        self._seen.copy_(compared.picture)
        self._alphas[self._turn].copy_(compared.before)
        picture: NDArray[np.uint8] = self._seen.numpy()
        alpha: NDArray[np.float32] = self._alphas[self._turn].numpy()
        np.copyto(alpha, SURELY, where=np.isnan(alpha))
        self.room.look(picture, before, COLOURS, NO_INPUT)
        self.words.take(self.room, pts, compared.size)
        self.room.object_to(alpha)
        self.room.learn(picture, alpha, pts, present=self._somebody)
        self._somebody = False

    def _show(self, compared: Compared) -> None:
        """Bring what changed to the GPU."""
        state = self.room.state
        if state is None:
            if compared.version:
                compared.forget()
                self._known.whole.zero_()
            return
        self._fill(state)
        known = self._known
        np.copyto(known.room.numpy(), state.room)
        if not state.there.all():
            np.copyto(known.room.numpy(), np.float32(places.UNKNOWN), where=~state.there)
        if compared.version == state.version:
            compared.known.head.copy_(known.head)
            return
        np.copyto(known.rich.numpy(), state.rich)
        if not np.array_equal(known.there.numpy(), state.there):
            np.copyto(known.there.numpy(), state.there)
            np.copyto(known.free.numpy(), np.where(state.there, np.float32(NEAR), np.float32(-1)))
        compared.known.whole.copy_(known.whole)
        compared.version = state.version

    def _fill(self, state: State) -> None:
        """Write what each look changes."""
        noise, numbers = state.noise, self._known.numbers.numpy()
        numbers[places.GAIN], numbers[places.OFFSET] = state.fit.T
        numbers[places.SLOPE] = 1 / max(OTHERWISE[0], OTHERWISE[1] * noise)
        numbers[places.FLOOR] = -1
        numbers[places.STRANGE] = max(OTHER[0], OTHER[1] * noise)
        numbers[places.PIXEL] = SAME[0] + PIXEL * noise
        numbers[places.BALANCE] = 0 if state.tells else -np.inf
        # The processor rounds a part's mean before it is judged: half a level more is the same.
        same = np.float32(np.floor(SAME[0] + SAME[1] * noise) + 0.5)
        np.copyto(self._known.firm.numpy(), state.firm * same)

    def _overwrite(self) -> None:
        with torch.inference_mode():
            for kept in (self._seen, self._alphas, self._known.whole):
                kept.zero_()

    def _allocate(self, h: int, w: int) -> None:
        self._size = (h, w)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=self._pinned)

        self._seen = zeros(3, h, w, dtype=torch.uint8)
        self._alphas = zeros(2, h, w)
        self._known = Known(zeros(places.length((h, w))), (h, w))
