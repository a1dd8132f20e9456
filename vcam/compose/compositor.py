"""Puts the person of a frame in front of a backdrop: one of the two makers of `SafeFrame`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from segmentation.constants import BLACK, GREY
from segmentation.planes import Planes, flat, flat_chroma, i420, i420_shape
from vcam.compose import arrays, kernels
from vcam.compose.colours import Colours
from vcam.compose.constants import (
    BLUR_MOST,
    GAIN,
    SHIFT,
)
from vcam.compose.framing import Crop, Framer
from vcam.compose.light.person import Light
from vcam.compose.light.rim import Rim
from vcam.compose.scene import Blur, Look
from vcam.frame import SafeFrame
from vcam.system.memory import blank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from vcam.compose.scene import Overlay, Picture
    from vcam.frame import Frame
    from vcam.settings.config import Config

BUFFERS: Final = 2  # a composite stays valid while the next one is drawn
WHOLE: Final = Crop(0.0, 0.0, 1.0, 1.0)
WHOLE_PIXEL: Final = 0.02  # pixels beside one that do not count
ROWS: Final = 256  # of a matte at full size, made at once


def look_of(config: Config, lit_from: str = "") -> Look:
    """The look that the settings ask for, before a backdrop with that note of its light."""
    return Look(
        light_wrap=config.background.light_wrap,
        decontaminate=config.background.decontaminate,
        mirror=config.camera.mirror,
        framing=config.look.framing,
        zoom=config.look.zoom,
        shift=(config.look.shift_x, config.look.shift_y),
        light=config.look.light,
        sharp=config.look.sharp,
        lit_from=lit_from if config.look.light else "",
    )


def crops(look: Look) -> bool:
    """True if only a part of the frame may be shown; engines that draw do not know how."""
    return look.framing != "off" or look.zoom > 1


class Compositor:
    """Draws composites of one fixed size, even in width and height. Owned by one thread."""

    def __init__(self, width: int, height: int) -> None:
        if width % 2 or height % 2 or width < 2 or height < 2:
            raise ValueError(f"output is {width}x{height}, expected even numbers")
        self.width = width
        self.height = height
        self._outputs = [np.zeros(i420_shape(width, height), np.uint8) for _ in range(BUFFERS)]
        self._turn = 0
        self._blurred = np.zeros(i420_shape(width, height), np.uint8)
        self._fitted: _Fit | None = None
        self._fitted_bare: _Fit | None = None  # of frames that are shown as they are
        self._framer = Framer(width / height)
        # How the last frame lies in its composite: the part of it, flipped or not, and its size
        self._lies: tuple[Crop, bool, tuple[int, int]] = WHOLE, False, (width, height)
        self.overlay: Overlay | None = None  # laid over every composite

    def wipe(self) -> None:
        """Overwrite every picture that is kept, those that were handed out among them.

        What frames of one shape take is given back as well: a rest may be long.
        """
        blank((*self._outputs, self._blurred))
        self._framer.reset()
        for fit in (self._fitted, self._fitted_bare):
            if fit is not None:
                fit.wipe()
        self._fitted = self._fitted_bare = None

    def compose(
        self, frame: Frame, matte: Matte, backdrop: Picture | Blur, look: Look
    ) -> SafeFrame:
        """Return the person of `frame` in front of `backdrop`; valid until the call after next.

        Raises:
            ValueError: `matte` belongs to another frame, or `backdrop` has another size.
        """
        if matte.seq != frame.seq:
            raise ValueError(f"matte of frame {matte.seq}, expected that of frame {frame.seq}")
        if matte.composite is not None:
            self._lies = WHOLE, look.mirror, (frame.width, frame.height)
            return self._adopt(frame, matte.composite)
        crop = None
        if crops(look) or not self._framer.rests:
            crop = self._framer.crop(matte.alpha, (frame.width, frame.height), look, frame.pts)
            if crop is None and frame.width > self.width:
                crop = WHOLE  # as sharp as its parts, and at a third of the cost of all its pixels
        fit = self._fit(frame, matte, crop)
        fit.aim(crop, mirror=look.mirror)
        self._lies = crop or WHOLE, look.mirror, (fit.width, fit.height)
        planes = fit.planes(frame.planes, mirror=look.mirror)
        if isinstance(backdrop, Blur) or look.decontaminate:
            fit.colours.take(matte, full_range=planes.full_range)
        if isinstance(backdrop, Blur):
            behind = self._blur(fit, matte, backdrop, look.mirror)
        else:
            behind = backdrop
            if behind.shape != self._blurred.shape or behind.dtype != np.uint8:
                raise ValueError(
                    f"backdrop is {behind.dtype} {behind.shape}, expected {self._blurred.shape}"
                )
        out = self._next()
        if not fit.fills:
            np.copyto(out, behind)  # the bars beside the person
        fit.fill_low(matte, look, behind, moves=isinstance(backdrop, Blur))
        shown = planes
        if look.lit:
            shown = fit.lit().shown(planes, matte, fit.low, look, backdrop, fit.grid)
        self._draw(fit, (planes, shown), behind, out, (look.decontaminate, look.light_wrap > 0))
        return self._shown(out, frame)

    def as_shown(self, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a matte as its person lies in the composite, of that shape. Any thread.

        Shapes:
            alpha: (h, w) float32, of a whole frame; returns: another (h, w) float32
        """
        crop, mirror, (width, height) = self._lies
        h, w = alpha.shape
        top, left = min(round(crop.top * h), h - 1), min(round(crop.left * w), w - 1)
        bottom, right = round((crop.top + crop.height) * h), round((crop.left + crop.width) * w)
        part = alpha[top : max(bottom, top + 1), left : max(right, left + 1)]
        part = part[:, ::-1] if mirror else part
        # What lies beside a frame of another shape holds nobody.
        scale = max(width / self.width, height / self.height)
        across = max(0, round(part.shape[1] * (self.width * scale / width - 1) / 2))
        down = max(0, round(part.shape[0] * (self.height * scale / height - 1) / 2))
        return np.pad(part, ((down, down), (across, across)))

    def _adopt(self, frame: Frame, composite: NDArray[np.uint8]) -> SafeFrame:
        """Take what the engine drew from this very frame's matte, now that it may be shown.

        A copy: the engine draws into its memory again before anybody has judged that frame.
        """
        expected = i420_shape(self.width, self.height)
        if composite.shape != expected or composite.dtype != np.uint8:
            raise ValueError(
                f"composite is {composite.dtype} {composite.shape}, expected uint8 {expected}"
            )
        out = self._next()
        np.copyto(out, composite)
        return self._shown(out, frame)

    def reveal(self, frame: Frame, look: Look | None = None) -> SafeFrame:
        """Return the frame as it is, room and all: only ever on the user's explicit wish.

        Nothing in this module calls it: the pipeline does while `Settings.now.revealed` is set.
        """
        mirror = look is not None and look.mirror
        if self._fitted_bare is None or not self._fitted_bare.of(frame, (2, 2)):
            if self._fitted_bare is not None:
                self._fitted_bare.wipe()
            self._fitted_bare = _Fit(frame, (2, 2), self.width, self.height)
        fit = self._fitted_bare
        fit.low[arrays.B] = 2
        planes = fit.planes(frame.planes, mirror=mirror)
        out = self._next()
        if not fit.fills:
            out[: self.height], out[self.height :] = BLACK, GREY
        # Nothing of the backdrop is shown.
        self._draw(fit, (planes, planes), self._blurred, out, (False, False))
        return self._shown(out, frame, revealed=True)

    def _shown(self, out: NDArray[np.uint8], frame: Frame, *, revealed: bool = False) -> SafeFrame:
        if self.overlay is not None:
            self.overlay.lay(out)
        return SafeFrame(
            out, frame.pts, frame.seq, is_card=False, maker=__name__, revealed=revealed
        )

    def _draw(
        self,
        fit: _Fit,
        planes: tuple[Planes, Planes],
        behind: NDArray[np.uint8],
        out: NDArray[np.uint8],
        wishes: tuple[bool, bool],
    ) -> None:
        """Blend planes that fit over `behind` into `out`, with clean edges or spilt light.

        Of `planes` the first are the frame's, which the matte was made for, the second are shown.
        """
        guide, shown = planes
        kernels.compose(
            (flat(guide.y), flat(shown.y)),
            flat_chroma(shown),
            (fit.low, fit.rim.planes),
            (shown.full_range, *wishes),
            (fit.grid, fit.rim_grid),
            (behind.reshape(-1), out.reshape(-1)),
            (self.width, self.height, fit.left, fit.top),
            fit.scratch,
        )

    def _next(self) -> NDArray[np.uint8]:
        self._turn = (self._turn + 1) % BUFFERS
        return self._outputs[self._turn]

    def _fit(self, frame: Frame, matte: Matte, crop: Crop | None) -> _Fit:
        cut = crop is not None
        if self._fitted is None or not self._fitted.of(frame, matte.a.shape, cut=cut):
            if self._fitted is not None:
                self._fitted.wipe()  # nobody reaches it any more
            self._fitted = _Fit(frame, matte.a.shape, self.width, self.height, cut=cut)
        return self._fitted

    def _blur(self, fit: _Fit, matte: Matte, blur: Blur, mirror: bool) -> NDArray[np.uint8]:
        """Return the room at output size, blurred, the person's colours kept out of it."""
        sigma = max(0.0, min(blur.strength, 100.0)) / 100 * BLUR_MOST * max(matte.alpha.shape)
        parts = fit.inside(self._blurred)
        fit.colours.blurred(sigma, parts, fit.crop)
        if mirror:
            for part in parts:
                cv2.flip(part, 1, part)
        if not fit.fills:
            for part, whole in zip(parts, i420(self._blurred).each, strict=True):
                _extend(part, whole)
        return self._blurred


class _Fit:
    """Place of frames of one shape in the output, and the buffers that takes.

    With `cut` it is for a part of the frame, which fills the output.
    """

    def __init__(
        self,
        frame: Frame,
        small: tuple[int, ...],
        width: int,
        height: int,
        *,
        cut: bool = False,
    ) -> None:
        self._key = (frame.planes.y.shape, frame.planes.u.shape, tuple(small), cut)
        scale = min(width / frame.width, height / frame.height)
        self.width = width if cut else min(width, max(2, round(frame.width * scale / 2) * 2))
        self.height = height if cut else min(height, max(2, round(frame.height * scale / 2) * 2))
        self.left = (width - self.width) // 4 * 2
        self.top = (height - self.height) // 4 * 2
        self.fills = (self.width, self.height) == (width, height)
        self.crop: Crop | None = None
        self._aimed: tuple[Crop, bool] | None = None
        self.rim = Rim(*small[:2])
        self.grid, self.rim_grid = (
            arrays.grid((self.height, self.width), size)
            for size in ((small[0], small[1]), self.rim.size)
        )
        self.low = np.zeros((arrays.PLANES, *small), np.float32)
        self.scratch = kernels.scratch_for((self.height, self.width), (small[0], small[1]))
        self.colours = Colours(*small[:2])
        self._light: Light | None = None
        self._scaled: list[NDArray[np.uint8]] | None = None
        if cut or (self.width, self.height) != (frame.width, frame.height):
            c = (self.height // 2, self.width // 2)
            self._scaled = [np.zeros(s, np.uint8) for s in ((self.height, self.width), c, c)]
        self._flipped = [np.zeros(p.shape, np.uint8) for p in self._scaled or frame.planes.each]
        self._between = np.zeros(frame.planes.y.size if cut else 0, np.uint8)

    def of(self, frame: Frame, small: tuple[int, ...], *, cut: bool = False) -> bool:
        """True if it was made for frames and mattes of these shapes."""
        return self._key == (frame.planes.y.shape, frame.planes.u.shape, tuple(small), cut)

    def wipe(self) -> None:
        """Overwrite what is kept of the frame."""
        blank((self.low, self.scratch, self._between, *(self._scaled or ()), *self._flipped))
        self.colours.wipe()
        self.rim.wipe()
        if self._light is not None:
            self._light.wipe()

    def lit(self) -> Light:
        """The person's light; made when it is first asked for."""
        if self._light is None:
            self._light = Light((self.height, self.width), self.low.shape[1:])
        return self._light

    def aim(self, crop: Crop | None, *, mirror: bool) -> None:
        """Show this part of the frames that come.

        Raises:
            ValueError: it reaches beyond the frame, where no pixel has a matte of its own.
        """
        if crop is not None and not crop.inside:
            raise ValueError(f"{crop} is shown, expected a part of the frame")
        self.crop = crop
        if crop is None or self._aimed == (crop, mirror):
            return
        self._aimed = crop, mirror
        shown = crop.mirrored if mirror else crop
        rows, columns = (shown.top, shown.height), (shown.left, shown.width)
        h, w = self.low.shape[1:]
        self.grid, self.rim_grid = (
            arrays.grid((self.height, self.width), size, rows, columns)
            for size in ((h, w), self.rim.size)
        )

    def planes(self, whole: Planes, *, mirror: bool) -> Planes:
        """Return a frame's planes at the size they have in the output, flipped if asked."""
        planes = list(whole.each)
        if self._scaled:
            shrinks = self.width < whole.width and self.crop is None
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            for plane, scaled in zip(planes, self._scaled, strict=True):
                part = plane if self.crop is None else self._cut(plane, self.crop)
                cv2.resize(part, scaled.shape[::-1], scaled, interpolation=method)
            planes = list(self._scaled)
        if mirror:
            for plane, flipped in zip(planes, self._flipped, strict=True):
                cv2.flip(plane, 1, flipped)
            planes = list(self._flipped)
        y, u, v = planes
        return Planes(y, u, v, whole.full_range)

    def _cut(self, plane: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
        """The part of a plane: a view where it lies on whole pixels, else between them."""
        rows, columns = plane.shape
        w, h = max(2, round(crop.width * columns)), max(2, round(crop.height * rows))
        # Whole pixels in size: the little that is missing is spread to both sides.
        left = min(max((crop.left + crop.width / 2) * columns - w / 2, 0), columns - w)
        top = min(max((crop.top + crop.height / 2) * rows - h / 2, 0), rows - h)
        x, y = round(left), round(top)
        if max(abs(left - x), abs(top - y)) < WHOLE_PIXEL:
            return plane[y : y + h, x : x + w]
        between = self._between[: h * w].reshape(h, w)
        middle = left + (w - 1) / 2, top + (h - 1) / 2
        return np.asarray(cv2.getRectSubPix(plane, (w, h), middle, between, cv2.CV_8U))

    def fill_low(self, matte: Matte, look: Look, behind: NDArray[np.uint8], *, moves: bool) -> None:
        """Fill the planes at model size that the kernel enlarges; `behind` is the room or stays."""
        low = self.low
        np.multiply(matte.a, np.float32(1 / 255), out=low[arrays.A])
        low[arrays.B] = matte.b
        if look.decontaminate:
            self.colours.person(low[arrays.PERSON : arrays.PERSON + 3])
            self.colours.room(low[arrays.ROOM : arrays.ROOM + 3])
        if look.light_wrap > 0:
            if moves:
                self.rim.follow(self.colours.room_bytes)
            else:
                self.rim.look(behind, self.inside(behind), self.crop, mirror=look.mirror)
            self.rim.fill(matte.alpha, look.light_wrap, mirror=look.mirror)
        if look.mirror:
            for plane in low:
                cv2.flip(plane, 1, plane)

    def inside(self, data: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The parts of an output's planes that the frame covers."""
        parts = []
        for plane, half in zip(i420(data).each, (1, 2, 2), strict=True):
            top, left = self.top // half, self.left // half
            parts.append(plane[top : top + self.height // half, left : left + self.width // half])
        return parts


def _extend(part: NDArray[np.uint8], whole: NDArray[np.uint8]) -> None:
    """Repeat the edges of `part`, a view into `whole`, over the bars beside it."""
    at = (part.ctypes.data - whole.ctypes.data) // whole.strides[1]
    top, left = divmod(at, whole.shape[1])
    bottom, right = top + part.shape[0], left + part.shape[1]
    whole[top:bottom, :left] = part[:, :1]
    whole[top:bottom, right:] = part[:, -1:]
    whole[:top] = whole[top]
    whole[bottom:] = whole[bottom - 1]


def alpha_at(matte: Matte, y: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the matte at the size of the frame it belongs to, 0..1.

    Shapes:
        y: (H, W) uint8 luma of that frame, as stored
        returns: (H, W) float32
    """
    h, w = y.shape
    out = np.empty((h, w), np.float32)
    low, high, weight = arrays.taps(h, matte.a.shape[0])
    for top in range(0, h, ROWS):  # a large picture would take gigabytes at once
        part = slice(top, top + ROWS)
        a, b = (
            cv2.resize(
                plane[low[part]] + (plane[high[part]] - plane[low[part]]) * weight[part, None],
                (w, len(low[part])),
                interpolation=cv2.INTER_LINEAR,
            )
            for plane in (matte.a, matte.b)
        )
        alpha = (a * (y[part].astype(np.float32) / 255) + b) * GAIN
        np.clip(alpha - SHIFT, 0, 1, out=out[part])
    return out
