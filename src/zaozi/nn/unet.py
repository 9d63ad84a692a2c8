"""Denoising U-Net: convolutions down and up, with self-attention and text cross-attention at the low resolutions.

Based on DDPM (arXiv:2006.11239, app. B) with adaptive group normalization (arXiv:2105.05233), text cross-attention as in
latent diffusion (arXiv:2112.10752) and pooled text added to the level embedding as in Imagen (arXiv:2205.11487). A
pixel-unshuffle stem reduces the cost of large pictures.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.components import Conditions, networks
from zaozi.core.config import Length, Range, config
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Shape
from zaozi.nn.attention import AttentionConfig, CrossAttention, SelfAttention, check_heads, check_places
from zaozi.nn.layers import LevelEmbedding, PropertyEmbedding, TextProjection, zeroed

LEVELS = 8
"""Maximum number of levels."""


@networks.add
@config("network")
class UNetConfig(AttentionConfig):
    """Convolutions, with attention at the low resolutions."""

    kind: Literal["unet"] = "unet"
    multipliers: Annotated[tuple[Annotated[int, Range(1, 64)], ...], Length(1, LEVELS)] = (1, 2, 3)
    """Channels of each level, as multiples of the width; each level halves the resolution."""
    attention_levels: tuple[Annotated[int, Range(0, LEVELS - 1)], ...] = (1, 2)
    """Levels (0 is the finest) with self-attention and text cross-attention."""
    middle_attention: bool = True
    """Whether the block between the two halves has them, too; without any attention, pictures can have any size."""

    @property
    def stride(self) -> int:
        """The picture sides must be divisible by this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    def check(self, shape: Shape) -> None:
        check_heads(self.head_width, [self.width * m for m in self.multipliers])
        _, height, width = shape
        if height % self.stride or width % self.stride:
            raise ZaoziError(f"a picture of {width}x{height} does not fit; use sides divisible by {self.stride}")
        last = len(self.multipliers) - 1
        if not self.middle_attention and not any(level <= last for level in self.attention_levels):
            return
        finest = min([level for level in self.attention_levels if level <= last], default=last)
        check_places((height // self.patch // 2**finest) * (width // self.patch // 2**finest))

    def build(self, shape: Shape, conditions: Conditions) -> UNet:
        return UNet(self, shape[0], conditions)

    @property
    def least_weights(self) -> int:
        return self.depth * len(self.multipliers)

    @classmethod
    def sizes(cls) -> dict[str, Self]:
        return {
            "unet-tiny": cls(width=32, depth=1, head_width=32, multipliers=(1, 2), attention_levels=(1,)),
            "unet-small": cls(width=48, depth=1, head_width=48, patch=4),
            "unet-base": cls(width=64, depth=2, patch=4),
        }


def _groups(channels: int) -> int:
    """Return the largest number of groups, at most 32, that divides the channels."""
    return next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)


class ResBlock(nn.Module):
    """Two 3x3 convolutions; the condition scales and shifts the input of the second. `[B, in, h, w] -> [B, out, h, w]`."""

    def __init__(self, in_channels: int, out_channels: int, cond_width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(in_channels), in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = zeroed(nn.Linear(cond_width, 2 * out_channels))
        self.norm2 = nn.GroupNorm(_groups(out_channels), out_channels)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.dropout = dropout

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, h, w)
        scale, shift = self.modulation(c)[:, :, None, None].chunk(2, dim=1)  # (B, out, 1, 1)
        h = F.silu(self.norm2(h) * (1 + scale) + shift)  # (B, out, h, w)
        h = F.dropout(h, self.dropout, self.training)
        return self.skip(x) + self.conv2(h)  # (B, out, h, w)


class Attend(nn.Module):
    """Self-attention, then optional cross-attention to the text, over the h * w positions of `[B, C, h, w]`."""

    def __init__(self, channels: int, config: UNetConfig, text_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.attention = SelfAttention(channels, config.head_width)
        self.cross = CrossAttention(channels, text_width, config.head_width) if config.cross_attention else None

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        b, channels, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, h * w, C)
        h = x.flatten(2).transpose(1, 2) + self.attention(tokens)  # (B, h * w, C)
        if self.cross is not None:
            h = h + self.cross(F.layer_norm(h, (channels,)), cond.tokens, cond.mask)  # (B, h * w, C)
        return h.transpose(1, 2).reshape(b, channels, height, width)


class Stage(nn.Module):
    """A residual block, followed by attention to text states of `text_width` channels (0: no attention)."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig, text_width: int) -> None:
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, 4 * config.width, config.dropout)
        self.attend = Attend(out_channels, config, text_width) if text_width else None

    def forward(self, x: Tensor, c: Tensor, cond: Cond) -> Tensor:
        x = self.block(x, c)
        return x if self.attend is None else self.attend(x, cond)


class UNet(nn.Module):
    """F(x_t, u, cond): pictures `[B, C, S, S]` and the noise share u `[B]` in [0, 1] -> `[B, C, S, S]`.

    S must be divisible by patch * 2^(levels - 1). The output is zero at initialization; that of a super-resolution stage is
    the smaller picture, to which the network adds what is missing.
    Raises `ZaoziError` if S is not divisible.
    """

    def __init__(self, config: UNetConfig, channels: int, conditions: Conditions) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.multipliers]
        text_widths = [conditions.text_width * (i in config.attention_levels) for i in range(len(widths))]
        cond_width = 4 * config.width
        pixels = channels * config.patch**2
        seen = (channels + conditions.lower_channels) * config.patch**2
        self.lower = LevelEmbedding(cond_width) if conditions.lower_channels else None
        self.level = LevelEmbedding(cond_width)
        self.pooled = TextProjection(conditions.text_width, cond_width) if config.pooled_text else None
        self.properties = PropertyEmbedding(conditions.properties, cond_width)
        self.stem = nn.Conv2d(seen, widths[0], 3, padding=1)

        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        channels, skips = widths[0], [widths[0]]
        for i, w in enumerate(widths):
            stages = nn.ModuleList()
            for _ in range(config.depth):
                stages.append(Stage(channels, w, config, text_widths[i]))
                channels = w
                skips.append(w)
            self.down.append(stages)
            if i + 1 < len(widths):
                self.shrink.append(nn.Conv2d(w, w, 3, stride=2, padding=1))
                skips.append(w)
        middle = (conditions.text_width * config.middle_attention, 0)
        self.middle = nn.ModuleList(Stage(channels, channels, config, w) for w in middle)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, w in reversed(list(enumerate(widths))):
            stages = nn.ModuleList()
            for _ in range(config.depth + 1):
                stages.append(Stage(channels + skips.pop(), w, config, text_widths[i]))
                channels = w
            self.up.append(stages)
            if i > 0:
                self.grow.append(nn.Conv2d(w, w, 3, padding=1))
        self.last_norm = nn.GroupNorm(_groups(channels), channels)
        self.last = zeroed(nn.Conv2d(channels, pixels, 3, padding=1))

    def forward(self, x: Tensor, u: Tensor, cond: Cond) -> Tensor:
        p, stride = self.config.patch, self.config.stride
        if x.shape[-1] % stride or x.shape[-2] % stride:
            raise ZaoziError(f"a picture of {x.shape[-1]}x{x.shape[-2]} does not fit; use sides divisible by {stride}")
        c = self.level(u)  # (B, cond_width)
        if self.pooled is not None:
            c = c + self.pooled(cond.pooled, cond.mask)  # (B, cond_width)
        if self.lower is not None:
            if cond.lower is None:
                raise ZaoziError("a super-resolution stage needs a picture to enlarge; draw it with a smaller model")
            c = c + self.lower(cond.lower.share)  # (B, cond_width)
            x = torch.cat([x, cond.lower.picture.to(x)], dim=1)  # (B, 2 C, S, S)
        c = F.silu(self.properties(cond.properties, c))  # (B, cond_width)

        h = self.stem(F.pixel_unshuffle(x, p))  # (B, width, S/p, S/p)
        skips = [h]
        for i, stages in enumerate(self.down):
            for stage in stages.children():
                h = stage(h, c, cond)
                skips.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)  # half the side
                skips.append(h)
        for stage in self.middle:
            h = stage(h, c, cond)
        for i, stages in enumerate(self.up):
            for stage in stages.children():
                h = stage(torch.cat([h, skips.pop()], dim=1), c, cond)
            if i < len(self.grow):
                h = self.grow[i](F.interpolate(h, scale_factor=2.0, mode="nearest"))  # twice the side
        h = self.last(F.silu(self.last_norm(h)))  # (B, C * p * p, S/p, S/p)
        made = F.pixel_shuffle(h, p)  # (B, C, S, S)
        return made if cond.lower is None else made + cond.lower.picture.to(made)
