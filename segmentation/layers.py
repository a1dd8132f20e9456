"""The blocks BiSeNet is built from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBnRelu(nn.Sequential):
    """Convolution, batch normalisation, ReLU; `fold` merges the first two for inference.

    Shapes:
        x: (B, in_channels, h, w) float
        returns: (B, out_channels, h / stride, w / stride)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    From "Deep Residual Learning" (He et al., CVPR 2016, https://arxiv.org/abs/1512.03385), fig. 2.

    Shapes:
        x: (B, in_channels, h, w) float
        returns: (B, out_channels, h / stride, w / stride)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)


class AttentionRefinement(nn.Module):
    """Reweight channels by their global mean.

    From "BiSeNet" (Yu et al., ECCV 2018, https://arxiv.org/abs/1808.00897), fig. 2(b).

    Shapes:
        x: (B, in_channels, h, w) float; B >= 2 while training (BatchNorm on 1x1)
        returns: (B, out_channels, h, w), same dtype
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(in_channels, out_channels)
        self.attention = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)  # (B, C, h, w)
        weight = x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * torch.sigmoid(self.bn(self.attention(weight)))


class FeatureFusion(nn.Module):
    """Join the spatial and the context path, then reweight channels by their global mean.

    From "BiSeNet" (Yu et al., ECCV 2018, https://arxiv.org/abs/1808.00897), fig. 2(c).

    Shapes:
        spatial, context: (B, C, h, w) of the same h, w; in_channels is the sum of their C
        returns: (B, out_channels, h, w)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(in_channels, out_channels, kernel=1)
        squeezed = max(out_channels // 4, 4)
        self.squeeze = nn.Conv2d(out_channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, out_channels, 1)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.conv(torch.cat((spatial, context), dim=1))  # (B, out, h, w)
        weight = x.mean(dim=(2, 3), keepdim=True)  # (B, out, 1, 1)
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(weight))))
        fused: Tensor = x + x * weight
        return fused
