"""Networks by name, so that people can say `dit-small` and know what they mean."""

from __future__ import annotations

from zaozi.core.config import DiffusionConfig, NetworkConfig, SpaceConfig, TextConfig
from zaozi.core.errors import unknown
from zaozi.model.denoiser import Denoiser, ModelConfig, make_denoiser

SIZES: dict[str, NetworkConfig] = {
    "dit-tiny": NetworkConfig(kind="dit", width=64, depth=2, head_width=32),
    "dit-small": NetworkConfig(kind="dit", width=192, depth=6),
    "dit-base": NetworkConfig(kind="dit", width=256, depth=8),
    "unet-tiny": NetworkConfig(
        kind="unet", width=32, depth=1, head_width=32, multipliers=(1, 2), attention_levels=(1,)
    ),
    "unet-small": NetworkConfig(kind="unet", width=48, depth=1, head_width=48, patch=4),
    "unet-base": NetworkConfig(kind="unet", width=64, depth=2, patch=4),
}


def sized(name: str, *, size: int = 128, channels: int = 1) -> Denoiser:
    """A fresh model of a named size for pictures of `size` pixels, in half-size space. Raises `ZaoziError`."""
    if name not in SIZES:
        raise unknown("size", name, SIZES)
    space = SpaceConfig(kind="halved")
    return make_denoiser(ModelConfig(name, size, channels, SIZES[name], space, DiffusionConfig(), TextConfig()))
