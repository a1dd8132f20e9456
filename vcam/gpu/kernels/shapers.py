# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""All stages of a frame but the network, in Triton's kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vcam.compose.scene import Scene
from vcam.gpu import torch_draw, torch_matte
from vcam.gpu.kernels.between import Body
from vcam.gpu.kernels.colours import Colours, Spill
from vcam.gpu.kernels.common import BLOCK, blocks
from vcam.gpu.kernels.draw import Draw
from vcam.gpu.kernels.language import kernel, tl
from vcam.gpu.kernels.pieces import BAD, CUT, PRESENT
from vcam.gpu.kernels.prepare import Prepare
from vcam.gpu.kernels.refine import Refine
from vcam.gpu.kernels.tail import Tail
from vcam.gpu.packing import HEADER, Packing
from vcam.gpu.resample import Shrink
from vcam.gpu.rig import Rig


@dataclass(frozen=True)
class Shapers:
    """The stages of a `Plan`; of its network, what is not a convolution."""

    prepare: Prepare
    _refine: Refine
    _colours: Colours
    _spill: Spill
    _draw: Draw
    _tail: Tail | None  # None where the network ends in logits of full size
    body: Body | None  # the network but its tail; None where it is used as it is

    def alpha(self, features: Tensor) -> Tensor:
        """See `Tail`."""
        return self._tail(features)

    def refine(self, raw: Tensor, picture: Tensor, header: Tensor) -> tuple[Tensor, ...]:
        """See `Refine`."""
        return self._refine(raw, picture, header)

    def draw(
        self,
        data: Tensor,
        picture: Tensor,
        made: tuple[Tensor, ...],
        behind: Tensor,
        out: Tensor,
        pictured: bool,
    ) -> None:
        """Put the person in front of the backdrop; see `Plan.draw`."""
        scene, colours = self._draw.scene, self._colours
        (alpha, a, b), purity, wrap = made, None, None
        if scene.look.decontaminate or not pictured:
            colours.take(picture, alpha, full_range=self._draw.full_range)
        if not pictured:
            colours.blur(behind)
        if scene.look.decontaminate:
            purity = colours.near()
        if scene.look.light_wrap > 0:
            wrap = self._spill(alpha, behind)
        self._draw(data, a, b, purity, wrap, behind, out)

    def answer(self, raw: Tensor, picture: Tensor, header: Tensor, out: Tensor, step: int) -> None:
        """Fill an answer's header, mattes and picture, of which one row in `step` and column.

        Shapes:
            header, out: bytes of a frame on its way up, and of an answer on its way down
        """
        (h, w), made = raw.shape, self._refine.made
        thin = (-(-h // step), -(-w // step))
        n = thin[0] * thin[1]
        _answer[blocks(n)](
            raw, *made, picture, self._refine.counts, header[:8].view(torch.int64),
            out[:24].view(torch.int64), out[HEADER : HEADER + 16 * n].view(torch.float32),
            out[HEADER + 16 * n :], h, w, *thin, STEP=step, BLOCK=BLOCK,
        )  # fmt: skip

    def wipe(self) -> None:
        """Leave nothing of a picture behind."""
        for stage in (self._refine, self._colours, self._spill, self._draw, self._tail):
            if stage is None:
                continue
            for buffer in stage.pictures:
                buffer.zero_()
        self.prepare.picture.zero_()
        self.prepare.x.zero_()


@dataclass(frozen=True)
class Twins:
    """The stages of a plan in torch's kernels, which those in Triton's follow and keep state in."""

    packing: Packing
    scene: Scene
    sizes: tuple[tuple[int, int], tuple[int, int]]  # of the network's input, and the frame in it
    colour: tuple[Tensor, Tensor]  # matrix and scale of `torch_matte.to_input`
    shrinks: list[Shrink]
    tidy: torch_matte.Tidy
    smoother: torch_matte.Smoother
    colours: torch_draw.Colours
    fit: torch_draw.Fit
    spill: torch_draw.Spill


def follow(twins: Twins, rig: Rig) -> Shapers:
    """Return the stages that do as `twins` do.

    Raises:
        RuntimeError: frames are too large.
    """
    packing, scene, fit, (full, size) = twins.packing, twins.scene, twins.fit, twins.sizes
    return Shapers(
        Prepare(packing, twins.shrinks, twins.colour, twins.sizes, rig.dtype, rig.inputs),
        Refine(twins.tidy, twins.smoother),
        Colours(twins.colours, fit, scene, size),
        Spill(twins.spill, fit, scene, size),
        Draw(packing, fit, scene, rig.device),
        None if rig.head is None else Tail(rig.head.conv, full, size),
        Body.of(rig.network),
    )


@kernel
def _answer(
    raw, alpha, a, b, picture, counts, number, header, floats, bytes_, h, w, thin_h, thin_w,
    STEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = thin_h * thin_w
    inside = place < n
    at = place // thin_w * STEP * w + place % thin_w * STEP
    # One pixel that is no number, sampled or not, makes all of them so: the guard must see it.
    bad = tl.load(counts + BAD) != 0
    for k in tl.static_range(4):
        plane = raw if k == 0 else alpha if k == 1 else a if k == 2 else b
        x = tl.load(plane + at, mask=inside, other=0)
        tl.store(floats + k * n + place, tl.where(bad, float("nan"), x), mask=inside)
    for k in tl.static_range(3):
        x = tl.load(picture + k * h * w + at, mask=inside, other=0)
        tl.store(bytes_ + k * n + place, x.to(tl.int32).to(tl.uint8), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(header, tl.load(number))
        tl.store(header + 1, tl.load(counts + PRESENT).to(tl.int64))
        tl.store(header + 2, tl.load(counts + CUT).to(tl.int64))
