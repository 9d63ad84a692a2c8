"""Layers shared by both networks: the noise level embedding and the non-text conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zaozi.core.components import Property


def zeroed(module: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """Set the weights and bias of a layer to zero, so that its output is initially zero. Returns the layer."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def sinusoids(values: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """Return cos and sin of values `[B]` at width/2 frequencies from 1 to 1/period: `[B, width]` (arXiv:1706.03762, sec. 3.5)."""
    frequencies = torch.exp(-math.log(period) * torch.arange(width // 2, device=values.device) / (width // 2))
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class LevelEmbedding(nn.Module):
    """Embed the noise share u in [0, 1]: sinusoids of 1000 u, then a two-layer MLP. `[B] -> [B, width]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, u: Tensor) -> Tensor:
        return self.mlp(sinusoids(1000.0 * u, 256))  # (B, width)


def part_name(column: str) -> str:
    """Convert a column name to a module name: prefixed, since names such as 'type' are not allowed, and without dots."""
    return "of_" + column.replace(".", "_")


class PropertyEmbedding(nn.Module):
    """Add the embeddings of the given properties, `[B, width]`. All are initially zero; a missing property adds nothing."""

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
    """Project the pooled text to a vector added to the level embedding, `[B, width]`; rows without text use a learned null."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_width)
        self.project = nn.Linear(text_width, width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, pooled: Tensor, mask: Tensor) -> Tensor:
        has_text = mask.any(dim=1, keepdim=True)  # (B, 1)
        return torch.where(has_text, self.project(self.norm(pooled)), self.null)


class NumberEmbedding(nn.Linear):
    """32 sines and cosines of 10 z, z = (value - mean) / std, projected; zero for NaN. `[B] -> [B, width]`."""

    def __init__(self, mean: float, std: float, width: int) -> None:
        super().__init__(64, width)
        zeroed(self)
        self.mean, self.std = mean, std

    def forward(self, value: Tensor) -> Tensor:
        known = ~value.isnan()
        z = (value.nan_to_num() - self.mean) / self.std
        return super().forward(sinusoids(10.0 * z, 64, period=100.0)) * known[:, None]
