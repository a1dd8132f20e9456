"""From the planes of a frame to its matte: the engine, who is in it, steadiness and edges."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segmentation.engines import open_engine
from segmentation.errors import EngineError, SegmentationError
from segmentation.governor import CHOSEN, LADDER, START, Governor
from segmentation.kernels import FULL, LIMITED, to_input
from segmentation.matte import Matte
from segmentation.motion.flow import LONGER, Carrier
from segmentation.motion.room import Room, RoomCopy, RoomWord
from segmentation.motion.temporal import Smoother
from segmentation.motion.words import Words
from segmentation.planes import Shrink
from segmentation.refine import Guided, Tidy
from segmentation.sizes import AREAS, input_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.engines import Engine
    from segmentation.planes import Planes
    from segmentation.refine import People

# Area of the network's input in pixels; its shape follows the frame.
QUALITIES: Final = ("auto", "low", "balanced", "high")
STAGES: Final = ("prepare", "infer", "smooth", "refine")


@dataclass(frozen=True, slots=True)
class Machine:
    """The part of this machine that a segmenter may use."""

    engine: str = "auto"
    threads: int = 1
    max_cpu_percent: float = 50.0  # of one core, which quality = "auto" keeps to
    cache_dir: Path | None = None  # keeps compiled models; None keeps none


ANY: Final = Machine()


class Segmenter:
    """Makes mattes. Owned by one thread, closed by who opened it.

    The network is asked two pictures whose answer is known before it is used. Without `examine` it
    is not: that is for measuring a model, never for showing somebody.

    Raises:
        ModelError: the weights are missing, damaged, or not a person model.
        UntrustedError: the network answers the pictures wrongly.
        EngineError: the engine does not work on this machine.
    """

    learns = True  # the room behind, except from stills
    draws = False  # others, that also set the person into a scene, do

    def __init__(
        self,
        model: str = "auto",
        machine: Machine = ANY,
        *,
        quality: str = "balanced",
        smoothing: float = 0.6,
        people: People = "everyone",
        still: bool = False,
        examine: bool = True,
    ) -> None:
        if quality not in QUALITIES:
            raise SegmentationError(
                f"quality is {quality!r}, expected one of {', '.join(map(repr, QUALITIES))}",
                hint='Set quality = "auto".',
            )
        self._governor = Governor(machine.max_cpu_percent) if quality == "auto" else None
        self.level = LADDER[START] if self._governor else CHOSEN[quality]
        self._engine: Engine = open_engine(
            model,
            engine=machine.engine,
            still=still,
            large=quality == "high",
            threads=machine.threads,
            cache_dir=machine.cache_dir,
            size=input_size(9, 16, AREAS[self.level.quality])[0],  # as nearly every webcam needs
            examine=examine,
        )
        self.quality = quality
        self.still = still
        self._carrier = Carrier()
        self._carried = 0  # frames since the network looked
        self._room = Room()
        self._words = Words()
        self._smoother = Smoother(0.0 if still else smoothing)
        self._tidy = Tidy(people)
        self._guided = Guided()
        self._frame: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._turn = 0
        self._shrink_y = self._shrink_c = Shrink((0, 0), (1, 1))
        self._sets: list[tuple[NDArray[np.float32], ...]] = []
        self._pictures: list[NDArray[np.uint8]] = []
        self._raw_before: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._x: NDArray[np.float32] = np.zeros((1, self._engine.layout.inputs, 0, 0), np.float32)
        layout = self._engine.layout
        self._matrix = [layout.matrix(to_rgb) for to_rgb in (LIMITED, FULL)]
        self._scale = layout.scale()

    def prepare(self, height: int, width: int) -> None:
        """Get ready for frames of height x width, and for less of them if time gets short.

        A step up may take a moment when it comes, but every size kept ready costs 18 MB.

        Raises:
            EngineError: the engine does not work on this machine.
        """
        levels = LADDER[: START + 1] if self._governor else (self.level,)
        for quality in {level.quality for level in levels}:
            size, _ = input_size(height, width, AREAS[quality], self._engine.layout.size)
            self._engine.prepare(*size)

    def matte(self, planes: Planes, *, seq: int, pts: float, scene: object = None) -> Matte:
        """Return the matte of the frame of these planes; `scene` is for engines that draw.

        Raises:
            EngineError: the engine failed; try again with the next frame, or open another.
        """
        clock = time.perf_counter
        started = clock()
        y, u, v = planes.each
        if u.shape[0] == y.shape[0]:
            # 4:2:2 has chroma for each row, for which the network's input has no use: an area
            # average of a plane that is not the frame's shape costs ten times all the rest.
            u, v = u[::2], v[::2]
        if (y.shape, u.shape) != self._frame:
            self._fit(y.shape, u.shape)
        self._turn = 1 - self._turn
        alpha, a, b, raw = self._sets[self._turn]
        picture = self._pictures[self._turn]
        self._shrink_y(y, picture[0])
        self._shrink_c(u, picture[1])
        self._shrink_c(v, picture[2])
        prepared = clock()
        looked = not self._carry((raw, alpha), picture, pts)
        if looked:
            self._look(raw, picture, pts, full_range=planes.full_range)
        inferred = clock()
        if looked:
            self._tidy_up(raw, alpha, picture, pts)
        cut = self._smoother(alpha, picture)
        if cut:
            self._room.forget("the scene changed")
        smoothened = clock()
        self._guided(alpha, picture[0], a, b)
        done = clock()
        for stage, seconds in zip(
            STAGES,
            (prepared - started, inferred - prepared, smoothened - inferred, done - smoothened),
            strict=True,
        ):
            self._spent[stage] += 0.05 * (seconds - self._spent[stage])
        if self._governor and self._governor.frame(done - started, inferred - prepared):
            self.level = self._governor.level
            self._fit(y.shape, u.shape)
        return Matte(alpha, a, b, seq, pts, raw, picture, cut, self._tidy.present, looked=looked)

    def _carry(
        self,
        mattes: tuple[NDArray[np.float32], NDArray[np.float32]],
        picture: NDArray[np.uint8],
        pts: float,
    ) -> bool:
        """Fill this frame's mattes, raw and tidied, along the flow; False if it must be looked at.

        What was tidied stays so: pieces and people are told apart where the network looks.
        """
        every = self._every
        if self._carried >= every > 1 and self._carrier.calm(pts, ahead=True):
            every *= LONGER
        if not 0 < self._carried < every or self._tidy.changed or self._words.waiting:
            return False
        if not self._carrier.carry(picture, mattes, pts):
            return False
        if self._carried >= self._every and not self._carrier.calm(pts):
            return False
        self._carried += 1
        return True

    def _tidy_up(
        self,
        raw: NDArray[np.float32],
        alpha: NDArray[np.float32],
        picture: NDArray[np.uint8],
        pts: float,
    ) -> None:
        """Fill `alpha` with what is a person in `raw`."""
        if self.still:
            self._tidy.reset()
            self._smoother.reset()
        np.copyto(alpha, raw)
        learns = self.learns and not self.still
        self._tidy(alpha, picture, pts, stands=self._room.stands if learns else 0.0)
        if self._every > 1:
            self._carrier.settle(alpha)

    @property
    def _every(self) -> int:
        """Frames to one look of the network."""
        return 1 if self.still else self.level.every

    def _look(
        self, raw: NDArray[np.float32], picture: NDArray[np.uint8], pts: float, *, full_range: bool
    ) -> None:
        """Fill `raw` with this frame's matte as the network sees it."""
        to_input(picture, self._matrix[full_range], self._scale, self._x)
        learns = self.learns and not self.still
        if learns:
            colours = self._matrix[full_range], self._scale
            self._room.look(picture, self._raw_before, colours, self._x)
        self._infer(raw)
        if learns:
            self._words.take(self._room, pts, raw.shape)
            self._room.object_to(raw)
            self._room.learn(picture, raw, pts, present=self._tidy.present)
            self._raw_before = raw
        self._carried = 1
        if self._every > 1:
            self._carrier.keep(picture, raw, pts)

    def _infer(self, raw: NDArray[np.float32]) -> None:
        """Fill `raw` with what the network says of `_x`; twice for stills, once mirrored."""
        h, w = raw.shape
        out = self._engine.infer(self._x)
        if out.shape != self._x.shape[2:]:
            raise EngineError(
                f"the model gave a matte of {out.shape}, expected {self._x.shape[2:]}",
                hint='Set model = "auto".',
            )
        np.copyto(raw, out[:h, :w])
        if self.still:
            mirrored = np.ascontiguousarray(self._x[..., ::-1])
            raw += self._engine.infer(mirrored)[:h, ::-1][:, :w]
            raw *= np.float32(0.5)

    @property
    def info(self) -> dict[str, Any]:
        """Engine, network and times for `vcam status`; times are moving averages in ms."""
        return {
            "engine": self._engine.name,
            "device": self._engine.device,
            "model": self._engine.model,
            "precision": self._engine.precision,
            "size": list(self._x.shape[:1:-1]) if self._frame else None,
            "quality": self.level.quality,
            "every": self.level.every,
            "governed": self._governor is not None,
            "cpu_percent": round(self._governor.load * 100, 1) if self._governor else None,
            "present": self._tidy.present,
            "room": self._room.info,
            "notes": list(self._engine.notes),
            "stages_ms": {name: round(s * 1000, 2) for name, s in self._spent.items()},
        }

    def adjust(self, *, smoothing: float, people: People) -> None:
        """Smooth by another strength and show other people from the next frame on; any thread."""
        self._smoother.steady(0.0 if self.still else smoothing)
        self._tidy.people = people

    def tell_room(self, word: RoomWord) -> bool:
        """Learn the room alone from the next look on, or forget it; any thread.

        Returns False where none is learnt.
        """
        self._words.tell(word)
        return True

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        self._words.recall(kept)

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread.

        None while there is none, or little is known.
        """
        return self._words.copy()

    def lend_room(self) -> RoomCopy | None:
        """Return a copy of what is known of the room now, for an engine that goes on.

        None while it is little.
        """
        return self._room.copy()

    @property
    def room_map(self) -> NDArray[np.uint8]:
        """Where the room is known: (h, w) uint8, 255 where it is; any thread."""
        return self._room.map

    def choose_anew(self) -> None:
        """With `people` "only-me", take the most central person for me from now on; any thread."""
        self._tidy.choose_anew()

    def reset(self) -> None:
        """Forget the frames before, as after another camera was chosen."""
        self._smoother.reset()
        self._tidy.reset()
        self._carrier.reset()
        self._carried = 0
        self._room.forget()
        self._engine.reset()

    def wipe(self) -> None:
        """Forget the frames before, and overwrite all that is kept of them, the network's too."""
        self.reset()
        owners = (self._smoother, self._carrier, self._room, self._tidy, self._guided, self._engine)
        for part in owners:
            part.wipe()
        self._words.wipe()
        planes: list[NDArray[Any]] = [plane for each in self._sets for plane in each]
        pictures: list[NDArray[Any]] = [self._x, *self._pictures]
        for kept in (*pictures, *planes):
            kept.fill(0)
        for shrink in (self._shrink_y, self._shrink_c):
            shrink.wipe()

    def close(self) -> None:
        """Overwrite what is kept of the frames before, and give the engine back."""
        try:
            if self._frame is not None:
                self.wipe()
        finally:
            self._engine.close()

    def _fit(self, luma: tuple[int, ...], chroma: tuple[int, ...]) -> None:
        """Choose sizes for frames of this shape and allocate what they need."""
        fresh, self._frame = (luma, chroma) != self._frame, (luma, chroma)
        height, width = luma
        layout = self._engine.layout
        (full_h, full_w), (h, w) = input_size(height, width, AREAS[self.level.quality], layout.size)
        self._x = np.zeros((1, layout.inputs, full_h, full_w), np.float32)
        self._sets = [tuple(np.zeros((h, w), np.float32) for _ in range(4)) for _ in range(2)]
        self._pictures = [np.zeros((3, h, w), np.uint8) for _ in range(2)]
        self._raw_before = self._sets[0][3]
        self._shrink_y, self._shrink_c = Shrink(luma, (h, w)), Shrink(chroma, (h, w))
        if not fresh:
            # Another input size for the same camera: nobody should see the change.
            self._smoother.resize(h, w)
            self._room.resize(h, w)
            self._carrier.reset()
            self._carried = 0
            return
        self.reset()
