"""Diffusion transformer: a vision transformer over patches, conditioned on the noise level and text.

Based on DiT (arXiv:2212.09748) and PixArt-alpha (arXiv:2310.00426): one shared modulation with a learned table per block, text
cross-attention in every second block, normalized queries and keys, 2-D rotary positions.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.components import Conditions, networks
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Shape
from zaozi.nn.attention import AttentionConfig, CrossAttention, SelfAttention, check_heads, check_places, rotary_table
from zaozi.nn.layers import LevelEmbedding, PropertyEmbedding, TextProjection, zeroed


@networks.add
@config("network")
class DiTConfig(AttentionConfig):
    """A vision transformer."""

    kind: Literal["dit"] = "dit"
    cross_every: Annotated[int, Range(1, 512)] = 2
    """Use cross-attention in every n-th block."""

    def check(self, shape: Shape) -> None:
        check_heads(self.head_width, [self.width])
        _, height, width = shape
        if height != width or height % self.patch:
            raise ZaoziError(
                f"a picture of {width}x{height} does not fit; use a square with a side divisible by {self.patch}"
            )
        check_places((height // self.patch) ** 2)

    def build(self, shape: Shape, conditions: Conditions) -> DiT:
        if conditions.lower_channels:
            raise ZaoziError("a vision transformer is no super-resolution stage; use network.kind = 'unet'")
        return DiT(self, shape[0], conditions)

    @property
    def least_weights(self) -> int:
        return self.depth

    @classmethod
    def sizes(cls) -> dict[str, Self]:
        return {
            "dit-tiny": cls(width=64, depth=2, head_width=32),
            "dit-small": cls(width=192, depth=6),
            "dit-base": cls(width=256, depth=8),
        }


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class Block(nn.Module):
    """Transformer block on `[B, N, width]`: self-attention, cross-attention to text states of `text_width` channels
    (0: none) and an MLP, all residual."""

    def __init__(self, config: DiTConfig, text_width: int) -> None:
        super().__init__()
        width = config.width
        table = torch.zeros(6, width)
        table[[2, 5]] = 1.0  # the gates
        self.table = nn.Parameter(table)
        self.attention = SelfAttention(width, config.head_width)
        self.cross = CrossAttention(width, text_width, config.head_width) if text_width else None
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = zeroed(nn.Linear(4 * width, width, bias=False))
        self.dropout = config.dropout

    def forward(self, x: Tensor, modulation: Tensor, cond: Cond, rotary: tuple[Tensor, Tensor]) -> Tensor:
        # modulation: (B, 6, width)
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.table)[:, :, None].unbind(1)  # (B, 1, width)
        x = x + gate1 * self.attention(_modulate(x, shift1, scale1), rotary)  # (B, N, width)
        if self.cross is not None:
            x = x + self.cross(F.layer_norm(x, x.shape[-1:]), cond.tokens, cond.mask)  # (B, N, width)
        h = F.gelu(self.up(_modulate(x, shift2, scale2)), approximate="tanh")  # (B, N, 4 * width)
        h = F.dropout(h, self.dropout, self.training)
        return x + gate2 * self.down(h)  # (B, N, width)


class DiT(nn.Module):
    """F(x_t, u, cond): pictures `[B, C, S, S]` and the noise share u `[B]` in [0, 1] -> `[B, C, S, S]`.

    S is any multiple of the patch size. The output is zero at initialization.
    Raises `ZaoziError` if S is not divisible or the picture is not square.
    """

    def __init__(self, config: DiTConfig, channels: int, conditions: Conditions) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.width, channels * config.patch**2
        self.embed = nn.Linear(pixels, width)
        self.level = LevelEmbedding(width)
        self.pooled = TextProjection(conditions.text_width, width) if config.pooled_text else None
        self.properties = PropertyEmbedding(conditions.properties, width)
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        every = config.cross_every if config.cross_attention else 0
        self.blocks = nn.ModuleList(
            Block(config, conditions.text_width if every and i % every == every - 1 else 0) for i in range(config.depth)
        )
        self.last_modulation = zeroed(nn.Linear(width, 2 * width))
        self.last = zeroed(nn.Linear(width, pixels))
        self._rotary: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def _positions(self, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if (side, device) not in self._rotary:
            with torch.inference_mode(False):  # cached for later calls, which may need gradients
                cos, sin = rotary_table(side, self.config.head_width)
                self._rotary[side, device] = cos.to(device), sin.to(device)
        return self._rotary[side, device]

    def forward(self, x: Tensor, u: Tensor, cond: Cond) -> Tensor:
        b, channels, height, width = x.shape
        p = self.config.patch
        if height != width or height % p:
            raise ZaoziError(f"a picture of {width}x{height} does not fit; use a square with a side divisible by {p}")
        side = height // p
        rotary = self._positions(side, x.device)

        c = self.level(u)  # (B, width)
        if self.pooled is not None:
            c = c + self.pooled(cond.pooled, cond.mask)  # (B, width)
        c = F.silu(self.properties(cond.properties, c))  # (B, width)
        modulation = self.modulation(c).unflatten(-1, (6, -1))  # (B, 6, width)

        h = x.reshape(b, channels, side, p, side, p).permute(0, 2, 4, 1, 3, 5).reshape(b, side * side, -1)
        h = self.embed(h)  # (B, N, width)
        for block in self.blocks:
            h = block(h, modulation, cond, rotary)  # (B, N, width)
        shift, scale = self.last_modulation(c)[:, None].chunk(2, dim=-1)  # (B, 1, width)
        h = self.last(_modulate(h, shift, scale))  # (B, N, C * p * p)
        h = h.reshape(b, side, side, channels, p, p).permute(0, 3, 1, 4, 2, 5)  # (B, C, side, p, side, p)
        return h.reshape(b, channels, height, width)
