"""Convolutional blocks of the spaces' encoders and decoders, and a discriminator of patches."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.nn.layers import zeroed


class ConvBlock(nn.Module):
    """Residual block of two 3x3 convolutions, `[B, C, h, w] -> [B, C, h, w]`; the identity at initialization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


def patch_discriminator(channels: int, width: int = 48) -> nn.Sequential:
    """Build a network that scores patches of pictures: `[B, C, S, S] -> [B, 1, S/16, S/16]`, for S divisible by 2.

    It begins with a pixel-unshuffle: convolutions at full resolution would take most of its time.
    """
    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    before = 4 * channels
    for after, stride in ((width, 1), (4 * width // 3, 2), (2 * width, 2), (8 * width // 3, 2)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 1))
