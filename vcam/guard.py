"""The one door to the sinks: decides for every frame whether people see you or the privacy card.

`Guard.judge` looks at a frame and the matte that was computed for it and answers with a `Verdict`.
Everything it is not sure of is the card. It never touches pixels that are shown; the compositor
and the card do that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from segmentation.motion.temporal import moved
from vcam.system.memory import blank

if TYPE_CHECKING:
    from segmentation.matte import Matte
    from vcam.frame import Frame
    from vcam.settings.live import Mode

State = Literal["starting", "live", "paused", "frozen", "idle", "fault"]

# A matte may call no more than this share of its pixels undecided (between 0.1 and 0.9).
MAX_UNDECIDED: Final = 0.45
# The person may not grow by more than this share of the picture from one second to the next.
MAX_GROWTH: Final = 0.45
# A matte that calls nearly everything person shows nearly all of the room, whoever is right.
MAX_AREA: Final = 0.96
# From one frame to the next no more of the person may be where nobody was. Somebody who moves near
# and far was seen to reach 0.12, and 0.18 at 8 frames a second; a torn picture 0.27 to 0.4.
MAX_NEW: Final = 0.3


@dataclass(frozen=True, slots=True)
class Fault:
    """Reason for no matte, or no frame: a value, not an exception, so that the loop runs on."""

    reason: str  # what the card says: "camera unplugged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision on one frame: the picture of the person, or the card and its reason."""

    state: State
    reason: str = ""

    @property
    def live(self) -> bool:
        """True if the composite may be shown; everything else is the card or the frozen frame."""
        return self.state == "live"


class Guard:
    """Judges each frame. Owned by the pipeline thread; others leave their `doubt`.

    `confident_frames` frames in a row must pass before anything but the card is shown, at the
    start and after every fault.
    """

    def __init__(self, confident_frames: int = 3, deadline: float = 0.5) -> None:
        self.confident_frames = confident_frames
        self.deadline = deadline  # seconds from capture to write
        self._doubts: deque[str] = deque()  # left by other threads, until the next frame
        self._streak = 0
        self._areas: deque[tuple[float, float]] = deque()
        self._last_person: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None
        self._last_raw: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
        self._last_picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None
        self._last_pts = float("-inf")
        self._reason = ""

    def judge(self, frame: Frame | Fault | None, matte: Matte | Fault, mode: Mode) -> Verdict:
        """Say what may be shown for `frame`, whose matte is `matte`."""
        while self._doubts:
            self.distrust(self._doubts.popleft())
        reason = self._objection(frame, matte)
        if reason:
            self._streak = 0
            self._reason = reason
        else:
            self._streak += 1
        if mode == "paused":
            self._streak = 0
            return Verdict("paused", "paused")
        if mode == "frozen":
            return Verdict("frozen", "frozen")
        if reason:
            return Verdict("fault", reason)
        if self._streak < self.confident_frames:
            return Verdict("fault" if self._reason else "starting", self._reason or "starting")
        self._reason = ""
        return Verdict("live")

    def in_time(self, pts: float, now: float) -> bool:
        """True if a composite of a frame captured at `pts` may still be written at `now`."""
        if self._doubts:
            return False  # they came while it was drawn, and count from the next frame on
        if -0.5 <= now - pts <= self.deadline:
            return True
        self.distrust("late")
        return False

    def doubt(self, reason: str) -> None:
        """Have it start over with the next frame: something changed under the loop. Any thread.

        No frame that is judged or finished afterwards counts as one of the confident ones before.
        """
        self._doubts.append(reason)

    def distrust(self, reason: str = "") -> None:
        """Start over. Pipeline thread only."""
        self._streak = 0
        self._reason = reason
        self.wipe()

    def wipe(self) -> None:
        """Overwrite what is kept of the frames before. Pipeline thread only."""
        self._areas.clear()
        blank((self._last_raw, self._last_picture, self._last_person))
        self._last_raw = self._last_picture = self._last_person = None

    def _objection(self, frame: Frame | Fault | None, matte: Matte | Fault) -> str:
        """The first thing that is wrong, in the words of the card; "" if nothing is."""
        if frame is None:
            return "no picture from the camera"
        if isinstance(frame, Fault):
            return frame.reason
        if isinstance(matte, Fault):
            return matte.reason
        if matte.seq != frame.seq:
            return "matte of another frame"
        # Each step back is refused once and is where time goes on from: after a single stamp from
        # the future, every picture would be old until the clock got there.
        new = frame.pts > self._last_pts
        self._last_pts = frame.pts if isfinite(frame.pts) else float("-inf")
        if not new:
            return "an old picture"
        raw, alpha = matte.raw, matte.alpha
        if raw.ndim != 2 or alpha.shape != raw.shape or matte.a.shape != raw.shape:
            return "matte of the wrong shape"
        if matte.b.shape != raw.shape:
            return "matte of the wrong shape"
        low, high, total = float(raw.min()), float(raw.max()), float(raw.sum())
        if not np.isfinite(total) or not np.isfinite(float(alpha.sum())):
            return "matte is not a number"
        if not np.isfinite(float(matte.a.sum())) or not np.isfinite(float(matte.b.sum())):
            return "matte is not a number"
        if low < -0.01 or high > 1.01:
            return "matte out of range"
        if high - low < 1e-6:
            return "matte is constant"
        if self._is_frozen(matte):
            return "matte stands still"
        undecided = float(np.count_nonzero((raw > 0.1) & (raw < 0.9))) / raw.size
        if undecided > MAX_UNDECIDED:
            return "looking for you"
        area = float(alpha.mean())
        elsewhere = self._is_elsewhere(alpha, matte.raw)
        if area > MAX_AREA or self._jumped(frame.pts, area) or elsewhere:
            return "looking for you"
        return ""

    def _is_frozen(self, matte: Matte) -> bool:
        """True if the network answered bit for bit the same although the picture moved."""
        if not matte.looked:
            return (
                False  # it was not asked; moved along with the picture, the answer always differs
            )
        raw, picture = matte.raw, matte.picture
        last_raw, last_picture = self._last_raw, self._last_picture
        if last_raw is None or last_picture is None or last_raw.shape != raw.shape:
            self._last_raw, self._last_picture = raw.copy(), picture.copy()
            return False
        same = bool(np.array_equal(last_raw, raw))
        if same:
            # Compared with the picture the answer was first given for, so that a slow drift counts.
            return moved(last_picture, picture)
        np.copyto(last_raw, raw)
        np.copyto(last_picture, picture)
        return False

    def _is_elsewhere(
        self,
        alpha: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        raw: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> bool:
        """True if most of the person is where nobody was one frame ago: nobody moves that fast.

        Whom the network saw there and the settings left out was there all the same.
        """
        last, person = self._last_person, alpha > 0.5
        self._last_person = person | (raw > 0.5)
        if last is None or last.shape != person.shape or not last.any():
            return False
        here = np.count_nonzero(person)
        return bool(np.count_nonzero(person > last) > MAX_NEW * here)

    def _jumped(self, pts: float, area: float) -> bool:
        """True if the person suddenly covers far more than within the last second."""
        areas = self._areas
        while areas and not 0 <= pts - areas[0][0] <= 1.0:
            areas.popleft()
        jumped = bool(areas) and area - float(np.median([a for _, a in areas])) > MAX_GROWTH
        if jumped:
            areas.clear()  # if it stays so, it is the new normal once the streak is long enough
        areas.append((pts, area))
        return jumped
