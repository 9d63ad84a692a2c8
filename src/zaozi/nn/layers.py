"""Small parts that both networks share: the level's embedding and the conditions beside the text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zaozi.core.components import Property


def zeroed(module: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The same layer with weights and bias zero, so that a network starts by saying nothing."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def sinusoids(values: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """cos and sin of values `[B]` at width/2 frequencies from 1 down to 1/period: `[B, width]` (arXiv:1706.03762, sec. 3.5)."""
    frequencies = torch.exp(-math.log(period) * torch.arange(width // 2, device=values.device) / (width // 2))
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class LevelEmbedding(nn.Module):
    """The noise share u in [0, 1] as a vector: sinusoids of 1000 u, then a two-layer MLP. `[B] -> [B, width]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, u: Tensor) -> Tensor:
        return self.mlp(sinusoids(1000.0 * u, 256))  # (B, width)


def part_name(column: str) -> str:
    """A column's name as a module's: prefixed, since modules refuse names such as 'type', and without dots."""
    return "of_" + column.replace(".", "_")


class PropertyEmbedding(nn.Module):
    """The sum of the given properties' vectors, `[B, width]`; all start at zero, and one not given adds nothing."""

    def __init__(self, properties: Sequence[Property], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({part_name(p.column): p.embedding(width) for p in properties})
        self.columns = {p.column: part_name(p.column) for p in properties}

    def forward(self, given: Mapping[str, Tensor], c: Tensor) -> Tensor:
        for column, name in self.columns.items():
            if column in given:
                c = c + self.parts[name](given[column])
        return c  # (B, width)


class TextProjection(nn.Module):
    """The pooled text as a vector to add to the level's, `[B, width]`, with a learned null for rows without text."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_width)
        self.project = nn.Linear(text_width, width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, pooled: Tensor, mask: Tensor) -> Tensor:
        has_text = mask.any(dim=1, keepdim=True)  # (B, 1)
        return torch.where(has_text, self.project(self.norm(pooled)), self.null)
