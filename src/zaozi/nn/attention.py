"""Self-attention of pictures (with 2-D rotary positions) and cross-attention to text tokens (with a learned null token)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.components import NetworkConfig
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError
from zaozi.nn.layers import zeroed

PLACES = 128**2
"""Maximum number of positions in self-attention; memory grows with their square."""


@config("network")
class AttentionConfig(NetworkConfig):
    """Settings of all networks with attention."""

    width: Annotated[int, Range(1, 16_384)] = 256
    """Channels of the transformer's residual stream, or of the U-Net's finest level."""
    depth: Annotated[int, Range(1, 512)] = 8
    """Blocks of the transformer, or residual blocks per level of the U-Net."""
    head_width: Annotated[int, Range(4, 16_384)] = 64
    """Channels per attention head; must divide the width (of every level)."""
    patch: Annotated[int, Range(1, 1024)] = 8
    """Patch size of the transformer, or of the U-Net's pixel-unshuffle stem, in pixels of the space."""
    cross_attention: bool = True
    """Whether pictures attend to the text tokens."""
    pooled_text: bool = True
    """Whether the pooled text is added to the time embedding."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Dropout rate of the hidden units of the transformer's MLPs, or of the U-Net's residual blocks."""

    @property
    def is_random(self) -> bool:
        return self.dropout > 0


def check_heads(head_width: int, widths: Sequence[int]) -> None:
    """Raises `ZaoziError` if the head width does not divide all widths or is not a multiple of 4."""
    if any(w % head_width for w in widths) or head_width % 4:
        raise ZaoziError(
            f"network.head_width {head_width} does not suit widths {list(widths)}; use a multiple of 4 that divides them"
        )


def check_places(places: int) -> None:
    """Raises `ZaoziError` if self-attention would have more than `PLACES` positions."""
    if places > PLACES:
        raise ZaoziError(
            f"this network attends to {places} places of a picture, more than {PLACES}; use a larger network.patch"
        )


def rotary_table(side: int, head_width: int, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Return cos and sin `[side * side, head_width / 2]` of axial 2-D rotary positions (arXiv:2104.09864; 2403.13298, eq. 8).

    Half of the channel pairs rotate with the row, half with the column, at head_width / 4 frequencies from 1 to about 1/base.
    """
    count = head_width // 4
    frequencies = base ** (-torch.arange(count) / count)
    angles = torch.arange(side)[:, None] * frequencies  # (side, head_width/4)
    rows = angles[:, None, :].expand(side, side, count)
    columns = angles[None, :, :].expand(side, side, count)
    both = torch.cat([rows, columns], dim=-1).reshape(side * side, 2 * count)
    return both.cos(), both.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (i, i + D/2) of x `[B, H, N, D]` by their angles `[N, D/2]`."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, weigh: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return softmax(q k^T / sqrt(D)) v for q `[B, H, N, D]` and k, v `[B, H, L, D]`.

    With `weigh`, also return the weights `[B, H, N, L]`. On a CPU, use two plain matrix products: for N and L in the tens
    they train faster than the fused kernel.
    """
    if q.device.type != "cpu" and not weigh:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, N, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1).to(v.dtype)
    return weights @ v, weights if weigh else None


def _heads(x: Tensor, head_width: int) -> Tensor:
    return x.unflatten(-1, (-1, head_width)).transpose(1, 2)  # (B, H, N, D)


class _Attention(nn.Module):
    """Common base: queries from pictures `[B, N, width]`, keys and values from `source` `[B, L, source_width]`."""

    def __init__(self, width: int, source_width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(source_width, width, bias=False)
        self.value = nn.Linear(source_width, width, bias=False)
        self.query_norm = nn.RMSNorm(head_width)
        self.key_norm = nn.RMSNorm(head_width)

    def heads(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries `[B, H, N, D]`, keys and values `[B, H, L, D]`, with QK normalization (arXiv:2302.05442, sec. 2)."""
        q = self.query_norm(_heads(self.query(x), self.head_width))
        k = self.key_norm(_heads(self.key(source), self.head_width))
        return q, k, _heads(self.value(source), self.head_width)


class SelfAttention(_Attention):
    """Multi-head attention over N tokens `[B, N, width]`."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__(width, width, head_width)
        self.out = zeroed(nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        q, k, v = self.heads(x, x)  # (B, H, N, D)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        y, _ = attend(q.to(v.dtype), k.to(v.dtype), v)  # (B, H, N, D)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, N, width)


class CrossAttention(_Attention):
    """Pictures `[B, N, width]` attend to text tokens `[B, L, text_width]` where `mask` `[B, L]` is True.

    A learned null token is always prepended, so a row without text attends to that token alone. With `keep_weights`, the
    attention weights `[B, H, N, 1 + L]` of the last call are kept in `self.weights`, for inspection.
    """

    def __init__(self, width: int, text_width: int, head_width: int) -> None:
        super().__init__(width, text_width, head_width)
        self.null = nn.Parameter(0.02 * torch.randn(text_width))
        self.out = zeroed(nn.Linear(width, width, bias=False))
        self.keep_weights = False
        self.weights: Tensor | None = None

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        null = self.null.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([null, tokens], dim=1)  # (B, 1 + L, text_width)
        mask = F.pad(mask, (1, 0), value=True)[:, None, None, :]  # (B, 1, 1, 1 + L)
        q, k, v = self.heads(x, tokens)
        y, weights = attend(q.to(v.dtype), k.to(v.dtype), v, mask, weigh=self.keep_weights)  # (B, H, N, D)
        self.weights = None if weights is None else weights.detach()
        return self.out(y.transpose(1, 2).flatten(2))  # (B, N, width)
