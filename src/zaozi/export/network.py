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


class OfClass(SimpleNamespace):
    """A property `column` that is one of several `values`; number k of the network is values[k - 1], and 0 is none."""

    def embedding(self, width: int) -> nn.Module:
        """Build the module that maps numbers `[B]` to vectors `[B, width]`."""
        return nn.Embedding(len(self.values) + 1, width, padding_idx=0)

    def rows(self, value: str, count: int, total: int) -> Tensor:
        """Return a value as the network's numbers `[total]`, for the first `count` rows."""
        if value not in self.values:
            raise ValueError(f"{self.column} '{value}' is unknown (known: {', '.join(self.values)})")
        return torch.tensor([self.values.index(value) + 1] * count + [0] * (total - count))


class OfNumber(SimpleNamespace):
    """A property `column` that is a number, of this `mean` and `std` in training; NaN is none."""

    def embedding(self, width: int) -> nn.Module:
        """Build the module that maps numbers `[B]` to vectors `[B, width]`."""
        return NumberEmbedding(self.mean, self.std, width)

    def rows(self, value: float, count: int, total: int) -> Tensor:
        """Return a value as the network's numbers `[total]`, for the first `count` rows."""
        return torch.tensor([float(value)] * count + [torch.nan] * (total - count))


def build_dit(how: Any, channels: int, conditions: Any) -> nn.Module:
    """Build a vision transformer from its settings."""
    return DiT(how, channels, conditions)


def build_unet(how: Any, channels: int, conditions: Any) -> nn.Module:
    """Build a U-Net from its settings."""
    how.stride = how.patch * 2 ** (len(how.multipliers) - 1)
    return UNet(how, channels, conditions)


def build_unet_of_diffusers(how: Any, channels: int, conditions: Any) -> nn.Module:
    """Build a U-Net of diffusers from its settings."""
    how.own = json.loads(how.settings)
    how.reads_text = how.own["_class_name"] == TEXTUAL
    return UNetOfDiffusers(how, conditions.text_width)


def build_pixels(how: Any, channels: int) -> Space:
    """Build the space of pixels."""
    return Pixels(how.snap)


def build_latents_of_diffusers(how: Any, channels: int) -> Space:
    """Build the space of an autoencoder of diffusers."""
    how.own = json.loads(how.settings)
    return Diffusers(how, channels)


PROPERTIES = {"class": OfClass, "number": OfNumber}
NETWORKS = {"dit": build_dit, "unet": build_unet, "diffusers": build_unet_of_diffusers}
SPACES: dict[str, Any] = {
    "pixels": build_pixels,
    "halved": Halved,
    "autoencoder": Autoencoder,
    "diffusers": build_latents_of_diffusers,
}


class Denoiser(ModelMixin, ConfigMixin):
    """Network, decoder and stages of a model, built from their settings."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        pictures: Mapping[str, Any],
        network_config: Mapping[str, Any],
        space_config: Mapping[str, Any],
        diffusion: Mapping[str, Any],
        text: Mapping[str, Any],
        properties: Sequence[Mapping[str, Any]] = (),
        stage: Mapping[str, Any] = {},
        stage_configs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        latents = pictures["shape"][0]
        self.conditions = SimpleNamespace(
            text_width=text["width"],
            properties=[PROPERTIES[p["kind"]](**p) for p in properties],
            lower_channels=latents if stage.get("factor", 1) > 1 else 0,
        )
        build, space = NETWORKS[network_config["kind"]], SPACES[space_config["kind"]]
        self.network = build(SimpleNamespace(**network_config), latents, self.conditions)
        self.space: Any = space(SimpleNamespace(**space_config), pictures["channels"])
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
        made: Tensor = self.space.decode(x0)
        return made

    def limited(self, x0: Tensor, eps: Tensor, x: Tensor, level: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Clamp x0_hat to the range of the space, if it has one, with eps_hat to match: guidance pushes it out."""
        if self.space.bounds is None:
            return x0, eps
        return from_x0(x0.clamp(*self.space.bounds), x, Level(0.0, *level))
