"""Denoiser of a zaozi model for diffusers: the network, the decoder and the super-resolution stages, with their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from zaozi.core.types import Cond, Level, Lower
from zaozi.diffusion.prediction import estimate, from_x0
from zaozi.model.space import Space
from zaozi.model.spaces.autoencoder import Autoencoder
from zaozi.model.spaces.diffusers import Diffusers
from zaozi.model.spaces.halved import Halved
from zaozi.model.spaces.pixels import Pixels
from zaozi.nn.diffusers import TEXTUAL, UNetOfDiffusers
from zaozi.nn.dit import DiT
from zaozi.nn.layers import NumberEmbedding
from zaozi.nn.unet import UNet


class Property(SimpleNamespace):
    """A condition other than text: its `column`, `kind` ('class' or 'number'), and `values` or `mean` and `std`."""

    def embedding(self, width: int) -> nn.Module:
        """Build the module that maps numbers `[B]` to vectors `[B, width]`."""
        if self.kind == "class":
            return nn.Embedding(len(self.values) + 1, width, padding_idx=0)
        return NumberEmbedding(self.mean, self.std, width)

    def rows(self, value: str | float, count: int, total: int) -> Tensor:
        """Return a value as the network's numbers `[total]`, for the first `count` rows: the place of a class, counted from 1,
        or the number itself. The other rows have none: 0, or NaN."""
        if self.kind == "number":
            return torch.tensor([float(value)] * count + [torch.nan] * (total - count))
        if value not in self.values:
            raise ValueError(f"{self.column} '{value}' is unknown (known: {', '.join(self.values)})")
        return torch.tensor([self.values.index(value) + 1] * count + [0] * (total - count))


def build_network(how: Mapping[str, Any], channels: int, conditions: Any) -> nn.Module:
    """Build the network from its settings."""
    settings: Any = SimpleNamespace(**how)
    if settings.kind == "diffusers":
        settings.own = json.loads(settings.settings)
        settings.reads_text = settings.own["_class_name"] == TEXTUAL
        return UNetOfDiffusers(settings, conditions.text_width)
    if settings.kind == "dit":
        return DiT(settings, channels, conditions)
    settings.stride = settings.patch * 2 ** (len(settings.multipliers) - 1)
    return UNet(settings, channels, conditions)


def build_space(how: Mapping[str, Any], channels: int) -> Space:
    """Build the space from its settings: pixels, or latents with their decoder."""
    settings: Any = SimpleNamespace(**how)
    if settings.kind == "pixels":
        return Pixels(settings.snap)
    if settings.kind == "diffusers":
        settings.own = json.loads(settings.settings)
        return Diffusers(settings, channels)
    return Halved(settings, channels) if settings.kind == "halved" else Autoencoder(settings, channels)


class Denoiser(ModelMixin, ConfigMixin):
    """Network, decoder and stages of a model, built from their settings."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        size: int,
        channels: int,
        shape: Sequence[int],
        network_config: Mapping[str, Any],
        space_config: Mapping[str, Any],
        diffusion: Mapping[str, Any],
        text: Mapping[str, Any],
        properties: Sequence[Mapping[str, Any]] = (),
        stage: Mapping[str, Any] = {},
        stage_configs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        self.conditions = SimpleNamespace(
            text_width=text["width"],
            properties=[Property(**p) for p in properties],
            lower_channels=shape[0] if stage.get("factor", 1) > 1 else 0,
        )
        self.network = build_network(network_config, shape[0], self.conditions)
        self.space = build_space(space_config, channels)
        self.stages = nn.ModuleList(Denoiser(**part) for part in stage_configs)

    def forward(
        self,
        x: Tensor,
        level: tuple[float, float],
        tokens: Tensor,
        mask: Tensor,
        pooled: Tensor,
        properties: Mapping[str, Tensor] = {},
        lower: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (x0_hat, eps_hat) of x_t `[B, C, h, w]` at level (alpha, sigma), where x_t = alpha x0 + sigma eps.

        Text: token states `[B, L, D]`, mask `[B, L]` and pooled vector `[B, D]`; a row whose mask is False has no text.
        `properties` are numbers `[B]` by column. `lower`, for a super-resolution stage: the enlarged picture with noise,
        `[B, C, S, S]`, and its share of noise, `[B]`.
        """
        alpha, sigma = level
        at = Level(0.0, alpha, sigma)
        cond = Cond(tokens, mask, pooled, dict(properties), Lower(*lower) if lower else None)
        f = self.network(x, at.noise_share(len(x), x.device).to(x.dtype), cond)
        return estimate(self.config.diffusion["prediction"], f, x, at)

    def decode(self, x0: Tensor) -> Tensor:
        """Map x0 to pictures `[B, C, S, S]` in [-1, 1]."""
        return self.space.decode(x0)

    def limited(self, x0: Tensor, eps: Tensor, x: Tensor, level: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Clamp x0_hat to the range of the space, if it has one, with eps_hat to match: guidance pushes it out."""
        if self.space.bounds is None:
            return x0, eps
        return from_x0(x0.clamp(*self.space.bounds), x, Level(0.0, *level))
