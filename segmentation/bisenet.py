"""BiSeNet for one class, person, from the paper, with a head that also sees fine detail."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.constants import ROOM_INPUTS
from segmentation.layers import AttentionRefinement, BasicBlock, ConvBnRelu, FeatureFusion

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in 0..1
STD = (0.229, 0.224, 0.225)
STEMS = ("context.conv1.weight", "spatial.layers.0.0.weight")  # what sees the input


class ContextPath(nn.Module):
    """ResNet-18 trunk whose channels are scaled by `width`, with `blocks` instead of two a stage.

    From "BiSeNet" (Yu et al., ECCV 2018), fig. 2(a), on "Deep Residual Learning" (He et al., 2016).
    Differs: where it is `lean`, as `BiSeNet` says.

    Shapes:
        x: (B, inputs, H, W) float
        returns: features at strides 2, 4, 8, 16, 32 with 64, 64, 128, 256, 512 times width
            channels; at 32 a lean one has as many as at 16
    """

    def __init__(
        self, width: float, blocks: int = 2, *, lean: bool = False, inputs: int = 3
    ) -> None:
        super().__init__()
        c = trunk_channels(width, lean=lean)
        stem = 7 if width >= 0.75 else 3  # a 7x7 stem is 15 % of a narrow network's cost
        self.conv1 = nn.Conv2d(inputs, c[0], stem, 2, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(c[0])
        self.layer1 = _stage(c[0], c[1], 1, blocks)
        self.layer2 = _stage(c[1], c[2], 2, blocks)
        self.layer3 = _stage(c[2], c[3], 2, blocks)
        self.layer4 = _stage(c[3], c[4], 2, 1 if lean else blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        half = F.relu(self.bn1(self.conv1(x)))  # (B, c0, H/2, W/2)
        quarter = self.layer1(F.max_pool2d(half, 3, 2, 1))  # (B, c1, H/4, W/4)
        eighth = self.layer2(quarter)  # (B, c2, H/8, W/8)
        sixteenth = self.layer3(eighth)  # (B, c3, H/16, W/16)
        return half, quarter, eighth, sixteenth, self.layer4(sixteenth)  # (B, c4, H/32, W/32)


class SpatialPath(nn.Module):
    """Three strided convolutions that keep detail at 1/8 of the size.

    From "BiSeNet" (Yu et al., ECCV 2018, https://arxiv.org/abs/1808.00897), section 3.1.

    Shapes:
        x: (B, inputs, H, W) float
        returns: (B, 128 * width, H/8, W/8)
    """

    def __init__(self, width: float, inputs: int = 3) -> None:
        super().__init__()
        c = channels(64, width)
        self.layers = nn.Sequential(
            ConvBnRelu(inputs, c, 7, 2),
            ConvBnRelu(c, c, 3, 2),
            ConvBnRelu(c, c, 3, 2),
            ConvBnRelu(c, channels(128, width), 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class BiSeNet(nn.Module):
    """Person logits for a picture.

    From "BiSeNet" (Yu et al., ECCV 2018, https://arxiv.org/abs/1808.00897).
    Differs: one class; after fusion at 1/8 a light decoder joins the trunk's features at 1/4 and
    1/2, because a person's outline is what is looked at; below full width the stem is 3x3, and
    below full width or depth the spatial path is the trunk's own 1/8 features
    (`spatial_path=False`), which costs nothing more. `blocks=1` halves the trunk's depth and keeps
    its channels: in int8, where width is cheap, the better half.

    `lean` leaves out what a trained network of half width hardly missed on photographs: a block and
    half the channels of the last stage. In its context path, features are joined at the smaller of
    two sizes. It multiplies four fifths as often.

    With `room` it also sees what a fixed webcam knows of the room behind, after "Background
    Matting" (Sengupta et al., CVPR 2020, https://arxiv.org/abs/2004.00626).
    Differs: the difference to the room instead of the room, and what is not known of it is told.

    Shapes:
        x: (B, `inputs`, H, W) float, RGB normalised by `MEAN` and `STD`; with `room` then four
            more: `ROOM_SCALE` times (room - picture) of R, G and B, normalised alike, 0 where the
            room is not known, and 1 where it is; H, W multiples of 32
        returns: (B, 1, H, W) logits, positive is person; while training also the auxiliary
            logits of the 1/16 and 1/32 context features, at a quarter of the input's size
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        blocks: int = 2,
        lean: bool = False,
        spatial_path: bool | None = None,
        room: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.blocks = blocks
        self.lean = lean
        self.room = room
        self.inputs = 3 + ROOM_INPUTS if room else 3
        c = trunk_channels(width, lean=lean)
        self._tent: Tensor
        self.context = ContextPath(width, blocks, lean=lean, inputs=self.inputs)
        deep = width >= 0.75 and blocks >= 2 and not lean
        has_spatial = deep if spatial_path is None else spatial_path
        self.spatial = SpatialPath(width, self.inputs) if has_spatial else None
        mid = channels(128, width)
        self.arm16 = AttentionRefinement(c[3], mid)
        self.arm32 = AttentionRefinement(c[4], mid)
        self.tail = ConvBnRelu(c[4], mid, 1)
        self.join32 = ConvBnRelu(mid, mid)
        self.join16 = ConvBnRelu(mid, mid)
        fused = channels(256, width)
        self.fusion = FeatureFusion(channels(128, width) + mid, fused)
        detail4, detail2 = max(channels(48, width), 16), max(channels(24, width), 8)
        self.skip4 = ConvBnRelu(c[1], detail4, 1)
        self.head8 = ConvBnRelu(fused, detail4, 1)
        self.head4 = ConvBnRelu(detail4, detail4)
        self.skip2 = ConvBnRelu(c[0], detail2, 1)
        self.narrow = ConvBnRelu(detail4, detail2, 1)
        self.head2 = ConvBnRelu(detail2, detail2)
        self.logits = nn.Conv2d(detail2, 1, 3, 1, 1)
        self.register_buffer("_tent", _tent(), persistent=False)
        self.aux16 = nn.Conv2d(mid, 1, 1)
        self.aux32 = nn.Conv2d(mid, 1, 1)

    @property
    def layout(self) -> str:
        """Which member of the family it is, in words; weights of one do not fit another."""
        lean = ", lean" if self.lean else ""
        room = ", with the room" if self.room else ""
        return f"of width {self.width:g} with {self.blocks} blocks a stage{lean}{room}"

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        half, quarter, eighth, sixteenth, last = self.context(x)
        tail = self.tail(last.mean(dim=(2, 3), keepdim=True))  # (B, mid, 1, 1)
        at32 = self.arm32(last) + tail  # (B, mid, H/32, W/32)
        at16 = self.arm16(sixteenth) + self._joined(self.join32, at32)  # (B, mid, H/16, W/16)
        context = self._joined(self.join16, at16)  # (B, mid, H/8, W/8)
        spatial = eighth if self.spatial is None else self.spatial(x)
        fused = self.fusion(spatial, context)  # (B, fused, H/8, W/8)
        at4 = self.head4(_grow(self.head8(fused)) + self.skip4(quarter))  # (B, d4, H/4, W/4)
        at2 = self.head2(_grow(self.narrow(at4)) + self.skip2(half))  # (B, d2, H/2, W/2)
        logits = self.logits(at2)  # (B, 1, H/2, W/2)
        if not self.training:
            return self._enlarged(logits)
        logits = _grow(logits)  # (B, 1, H, W)
        aux16 = F.interpolate(self.aux16(context), scale_factor=2.0, mode="bilinear")
        aux32 = F.interpolate(self.aux32(at16), scale_factor=4.0, mode="bilinear")
        return logits, aux16, aux32

    def _joined(self, join: nn.Module, x: Tensor) -> Tensor:
        return _grow(join(x)) if self.lean else join(_grow(x))

    def _enlarged(self, logits: Tensor) -> Tensor:
        """`_grow` for one channel, as a transposed convolution.

        The same to rounding. OpenVINO resizes a single channel at a third of the whole network's
        cost; this takes a tenth of that.
        """
        padded = F.pad(logits, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self._tent.to(padded.dtype), stride=2, padding=3)


def without_room(model: BiSeNet) -> BiSeNet:
    """Take the inputs for the room away, in place: the same answers as with nothing known."""
    if model.room:
        for stem in _stems(model):
            stem.weight = nn.Parameter(stem.weight[:, :3].detach().clone())
            stem.in_channels = 3
        model.room, model.inputs = False, 3
    return model


def with_room(model: BiSeNet) -> BiSeNet:
    """Give inputs for the room, in place, with weights of zero: the same answers as before."""
    if not model.room:
        for stem in _stems(model):
            more = stem.weight.new_zeros((len(stem.weight), ROOM_INPUTS, *stem.kernel_size))
            stem.weight = nn.Parameter(torch.cat((stem.weight.detach(), more), dim=1))
            stem.in_channels = 3 + ROOM_INPUTS
        model.room, model.inputs = True, 3 + ROOM_INPUTS
    return model


def _stems(model: BiSeNet) -> list[nn.Conv2d]:
    named = dict(model.named_modules())
    found = [named.get(name.removesuffix(".weight")) for name in STEMS]
    return [stem for stem in found if isinstance(stem, nn.Conv2d)]


def channels(full: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of 8, which vector units like."""
    return max(8, int(full * width / 8 + 0.5) * 8)


def trunk_channels(width: float, *, lean: bool = False) -> list[int]:
    """Channels of the trunk's features at strides 2, 4, 8, 16 and 32."""
    return [channels(n, width) for n in (64, 64, 128, 256, 256 if lean else 512)]


def _stage(before: int, after: int, stride: int, blocks: int) -> nn.Sequential:
    more = [BasicBlock(after, after) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(before, after, stride), *more)


def _grow(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _tent() -> Tensor:
    """Weights of the four nearest pixels when bilinear interpolation doubles a size."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    return (line[:, None] * line)[None, None]  # (1, 1, 4, 4)
