"""Carries a matte from one frame to the next along the optical flow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from segmentation.kernels import in_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

AGREED: Final = 0.2  # part of the person that may differ between two mattes that agree
LEAST: Final = 0.02  # of the picture, the smallest person that is meant by that
NEW: Final = 0.25  # mean alpha around a block, below which nobody was there before
LOOKS: Final = 3  # looks in a row that must agree before a matte is carried on
LATE: Final = 2.0  # usual intervals after which a matte is too old to be carried
LONGEST: Final = 0.3  # seconds after which it is too old at any rate of frames
CALM: Final = 1.5  # pixels a person may have moved since the last look for the next to be put off
MOST: Final = 0.95  # share of the person's blocks that tell how much it moved
LONGER: Final = 2  # times as many frames to a look then,
OLDEST: Final = 0.25  # but no more seconds
SMALLEST: Final = 64  # pixels a side; OpenCV's flow crashes on some strips of less
PACED: Final = 9  # intervals of which the usual one is the median

# A frame is compared at half the model's size, in blocks of four pixels: a mean over many tells a
# person from the wall behind where one pixel drowns in noise. All that follows is relative to what
# the frame itself has of noise, contrast and slopes.
QUIET: Final = 0.25  # share of blocks that hold still at least; what they change by is noise
ROUNDING: Final = 0.25  # levels: what rounding adds to it
NOISY: Final = (2.5, 4.0, 4.0)  # times the noise of Y, U, V that a block found again may change by
ASTRAY: Final = (1.5, 0.5, 0.5)  # pixels the flow may be off: so much of luma's slope is allowed
FAINT: Final = 0.05  # part of the plane's contrast that is no change to speak of
VISIBLE: Final = 5.0  # times the noise, the contrast of luma that anything is recognised by
PERSON: Final = 0.05  # mean alpha from which a block shows some of the person
SOLID: Final = 0.9  # and from which it is all person
WINDOW: Final = 0.002  # share of the picture: more of the person must not be lost at the edges,
FACE: Final = 0.005  # nor more inside, where a mouth opens,
LOST: Final = 0.02  # nor more of the whole picture: somebody who comes in
_BLOCK: Final = np.ones((3, 3), np.uint8)


class Carrier:
    """Remembers the last frame and its matte. Owned by one thread.

    The flow is from "Fast Optical Flow using Dense Inverse Search" (Kroeger et al., ECCV 2016,
    https://arxiv.org/abs/1603.03590).
    Differs: it is looked for at half the model's size, at a third of the cost. What small and fast
    motion that loses, the check refuses, and then the network looks.

    What the network says out of the blue is not carried on until it has said it `LOOKS` times: who
    waits for several mattes to agree before showing one must not count copies. A matte is carried
    only while frames come as they use to: much can happen in a stall.

    Shapes:
        picture: (3, h, w) uint8, Y, U and V at model size; alpha: (h, w) float32
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._size = (0, 0)
        self._agreed = 0  # looks in a row that agree with what was known before them
        self._pts = self._looked = float("-inf")
        self._moved_by = 0.0  # pixels of model size, since the network looked,
        self._step = 0.0  # and from the frame before the last one carried to it
        self._confirmed = 0  # looks in a row that found the person where the frames before had it
        # A part of the person looks different since: a room that comes up slowly changes too little
        # in each frame to be lost.
        self._other = False
        self._gaps: deque[float] = deque(maxlen=PACED)

    def calm(self, pts: float, *, ahead: bool = False) -> bool:
        """True where what the network saw lately has hardly moved, nor become another, since.

        What it took for a person for the first time may be a mistake, and is soon looked at again.
        With `ahead` the frame at hand counts as moved by half of what the one before it was: flow
        that would only tell that the network has to look is not worth its time.
        """
        sure = self._confirmed >= LOOKS and not self._other
        moved = self._moved_by + (0.5 * self._step if ahead else 0.0)
        return sure and moved <= CALM and pts - self._looked <= OLDEST

    def reset(self) -> None:
        """Forget the last frame."""
        self._agreed = self._confirmed = 0
        self._pts = self._looked = float("-inf")
        self._gaps.clear()

    def wipe(self) -> None:
        """Forget the last frame, and overwrite what is kept of it."""
        self.reset()
        if self._size != (0, 0):
            kept: list[NDArray[Any]] = [*self._halves, self._moved, self._slopes, self._alpha]
            kept += [self._seven]
            for each in (*kept, self._tidied, self._part, self._from, self._half_from, self._seen):
                each.fill(0)
            # It keeps pictures of its own. After its `collectGarbage` the next flow is a crash.
            before, now = self._halves
            self._flow.calc(before[0], now[0], None)

    def keep(self, picture: NDArray[np.uint8], alpha: NDArray[np.float32], pts: float) -> None:
        """Remember a frame that was looked at and its matte."""
        if alpha.shape != self._size:
            self._make(*alpha.shape)
        if self._agreed:
            least = LEAST * alpha.size  # what an empty room has of person is noise
            person = max(cv2.sumElems(alpha)[0], cv2.sumElems(self._alpha)[0], least)
            differ = cv2.norm(alpha, self._alpha, cv2.NORM_L1)
            self._agreed = self._agreed if differ <= AGREED * person else 0
        part = self._part_of(alpha)
        news = np.count_nonzero(cv2.absdiff(part, self._part) > NEW)
        same = self._agreed > 0 and news <= WINDOW * part.size
        self._confirmed = self._confirmed + 1 if same else 0
        near = cv2.dilate(self._part, _BLOCK)
        if np.count_nonzero((part > 0.5) & (near < NEW)) > WINDOW * part.size:
            self._agreed = min(self._agreed, LOOKS - 2)
        self._agreed += 1
        _halve(picture, self._halves[1])
        for plane, seen in zip(self._halves[1], self._seen, strict=True):
            np.copyto(seen, _blocks(plane))
        self._remember(alpha, part, pts)
        self._looked, self._moved_by, self._step, self._other = pts, 0.0, 0.0, False

    def settle(self, tidied: NDArray[np.float32]) -> None:
        """Remember what was left of the last matte that was kept, once it was tidied."""
        np.copyto(self._tidied, tidied)

    def carry(
        self,
        picture: NDArray[np.uint8],
        outs: tuple[NDArray[np.float32], NDArray[np.float32]],
        pts: float,
    ) -> bool:
        """Fill `outs` with the last matte, as it was kept and tidied, moved to this frame's pixels.

        Both are remembered. Returns False where the frame is not surely the one before moved on,
        where that one is too old, or the looks before it did not agree; `outs` are no use then.
        """
        if self._agreed < LOOKS or picture.shape[1:] != self._size or not self._in_time(pts):
            return False
        if min(self._size) < SMALLEST:
            return False
        before, now = self._halves
        _halve(picture, now)
        flow = self._flow.calc(now[0], before[0], None)
        cv2.add(flow, self._half_grid, self._half_from)
        linear, replicate = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        for plane, moved in zip(before, self._moved, strict=True):
            cv2.remap(plane, self._half_from, None, linear, moved, replicate)
        # Scaled while it is small, and by OpenCV: NumPy takes ten times as long over pairs.
        h, w = self._size
        cv2.multiply(flow, (w / now.shape[2], h / now.shape[1], 0, 0), flow)
        cv2.resize(flow, (w, h), self._from, interpolation=linear)
        cv2.add(self._from, self._grid, self._from)
        out, tidied = outs
        cv2.remap(self._alpha, self._from, None, linear, out, replicate)
        part = self._part_of(out)
        if not self._found(now, part):
            return False
        cv2.remap(self._tidied, self._from, None, linear, tidied, replicate)
        self._step = _speed(flow, part)
        self._moved_by += self._step
        self._remember(out, part, pts)
        self.settle(tidied)
        return True

    def _in_time(self, pts: float) -> bool:
        """True if no more time has gone by since the last frame than between frames as a rule."""
        if not self._gaps:
            return False
        usual = sorted(self._gaps)[len(self._gaps) // 2]
        return 0 < pts - self._pts <= min(LATE * usual, LONGEST)

    def _found(self, now: NDArray[np.uint8], part: NDArray[np.float32]) -> bool:
        """True if all of the person was surely found again where the flow says, in every plane.

        Shapes:
            now: (3, h / 2, w / 2); part: (h / 8, w / 8), mean alpha where it was moved to
        """
        self._compare(now)
        slope = self._seven[6]
        lost, other = np.zeros((2, *slope.shape), np.bool_)
        for c in range(3):
            change, means = self._seven[c], self._seven[3 + c]
            noise = _quiet(change)
            contrast = float(cv2.meanStdDev(means)[1][0, 0])
            if c == 0:
                if contrast < VISIBLE * noise:
                    return False  # whoever left would not be missed
                slope = np.maximum(slope - 1.2 * noise, 0)  # noise has slopes of its own
            faint = FAINT * contrast
            lost |= change - ASTRAY[c] * slope > NOISY[c] * noise + faint
            drift, astray = cv2.absdiff(means, self._seen[c]), ASTRAY[c] + 0.5 * self._moved_by
            other |= drift - astray * slope > NOISY[c] * _quiet(drift) + faint
        if np.count_nonzero(other & (part > PERSON)) > WINDOW * part.size:
            self._other = True
        if np.count_nonzero(lost) > LOST * lost.size:
            return False
        lost &= part > PERSON
        return not lost.any() or self._harmless(lost, part)

    def _compare(self, now: NDArray[np.uint8]) -> None:
        """Fill the means over blocks of what is compared: see `kernels.in_blocks`."""
        if now.shape[1] % 4 == 0 and now.shape[2] % 4 == 0:
            in_blocks(self._moved, now, self._seven)
            return
        luma = self._moved[0]
        cv2.absdiff(luma[:, 1:], luma[:, :-1], self._slopes[0][:, :-1])
        cv2.absdiff(luma[1:], luma[:-1], self._slopes[1][:-1])
        self._seven[6] = 0.5 * (_blocks(self._slopes[0]) + _blocks(self._slopes[1]))
        for c in range(3):
            self._seven[c] = _blocks(cv2.absdiff(self._moved[c], now[c]))
            self._seven[3 + c] = _blocks(now[c])

    def _harmless(self, lost: NDArray[np.bool_], part: NDArray[np.float32]) -> bool:
        """True if next to nothing was lost but inside the person: a mouth, not a window."""
        inside = cv2.erode((part > SOLID).view(np.uint8), _BLOCK).view(np.bool_)
        _, pieces = cv2.connectedComponents(lost.view(np.uint8), connectivity=8)
        edge = np.isin(pieces, np.unique(pieces[lost & ~inside])) & lost
        windows, everywhere = np.count_nonzero(edge), np.count_nonzero(lost)
        return bool(windows <= WINDOW * lost.size and everywhere <= FACE * lost.size)

    def _part_of(self, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
        """Share of person in each block."""
        size = self._moved.shape[:0:-1]
        return _blocks(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR))

    def _make(self, h: int, w: int) -> None:
        self._size = (h, w)
        self._agreed = 0
        half = (max(1, h // 2), max(1, w // 2))
        self._halves = [np.zeros((3, *half), np.uint8) for _ in range(2)]
        self._moved = np.zeros((3, *half), np.uint8)
        self._slopes = np.zeros((2, *half), np.uint8)
        self._alpha, self._tidied = np.zeros((h, w), np.float32), np.zeros((h, w), np.float32)
        self._part = np.zeros_like(_blocks(self._moved[0]))
        self._seen = np.zeros((3, *self._part.shape), np.float32)  # blocks of the last look's frame
        self._seven = np.zeros((7, *self._part.shape), np.float32)
        self._grid, self._half_grid = _places(h, w), _places(*half)
        self._from, self._half_from = np.zeros_like(self._grid), np.zeros_like(self._half_grid)

    def _remember(self, alpha: NDArray[np.float32], part: NDArray[np.float32], pts: float) -> None:
        """Remember a frame, of which the second of the halves was made."""
        self._halves.reverse()
        np.copyto(self._alpha, alpha)
        self._part = part
        gap, self._pts = pts - self._pts, pts
        if 0 < gap < float("inf"):  # neither the first frame's nor a clock's step back
            self._gaps.append(gap)


def _blocks(plane: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of each block of about four by four pixels."""
    # Linear weights at half the size are the mean of four; an area average of sizes that are no
    # multiple costs ten times as much.
    small = np.asarray(plane, np.float32)
    for _ in range(2):
        h, w = small.shape
        small = cv2.resize(small, (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_LINEAR)
    return small


def _quiet(change: NDArray[np.float32]) -> float:
    """Noise: the change of the blocks that changed least."""
    at = int(QUIET * (change.size - 1))
    return float(np.partition(change.ravel(), at)[at]) + ROUNDING


def _speed(flow: NDArray[np.float32], part: NDArray[np.float32]) -> float:
    """Pixels that nearly all of the person moved by at most.

    Shapes:
        flow: (h, w, 2); part: (about h / 4, w / 4), the person's share of each block
    """
    at = flow[2::4, 2::4]
    here = part[: at.shape[0], : at.shape[1]] > PERSON
    steps = np.abs(at[: here.shape[0], : here.shape[1]][here]).max(axis=1)
    if not steps.size:
        return 0.0
    most = int(MOST * (steps.size - 1))
    return float(np.partition(steps, most)[most])


def _places(h: int, w: int) -> NDArray[np.float32]:
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    return np.ascontiguousarray(np.stack([x, y], axis=-1))


def _halve(picture: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    # Linear weights at half the size are the mean of the four nearest; sides may be odd.
    for plane, half in zip(picture, out, strict=True):
        cv2.resize(plane, half.shape[::-1], half, interpolation=cv2.INTER_LINEAR)
