"""A network, what it predicts, and where it works, as one thing that samplers can call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zaozi.core.config import DiffusionConfig, NetworkConfig, Property, SpaceConfig, TextConfig
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Estimate, Level
from zaozi.diffusion.prediction import estimate
from zaozi.diffusion.schedules import Schedule, schedule
from zaozi.model.space import Space, make_space
from zaozi.nn.dit import DiT
from zaozi.nn.unet import UNet


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a model before its weights are read."""

    name: str
    size: int
    """Side of the finished pictures."""
    channels: int
    network: NetworkConfig
    space: SpaceConfig
    diffusion: DiffusionConfig
    text: TextConfig
    properties: tuple[Property, ...] = ()


def make_network(config: NetworkConfig, properties: tuple[Property, ...] = ()) -> nn.Module:
    """The network a recipe asks for, freshly initialised."""
    return DiT(config, properties) if config.kind == "dit" else UNet(config, properties)


class Denoiser(nn.Module):
    """Conditional denoiser: (x_t `[B, C, s, s]`, level, cond) -> (x0_hat, eps_hat), in x_t's dtype."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.network = make_network(config.network, config.properties)
        self.space: Space = make_space(config.space, config.channels)
        self.schedule: Schedule = schedule(config.diffusion.schedule)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, s, s) of what the network sees."""
        side = self.config.size // self.space.factor
        return self.config.channels, side, side

    def forward(self, x: Tensor, level: Level, cond: Cond) -> Estimate:
        f = self.network(x, level.noise_share(x.shape[0], x.device), cond)
        return estimate(self.config.diffusion.prediction, f.to(x.dtype), x, level)


PLACES = 128**2
"""How many places of a picture attention may compare with each other at most; it takes memory by their square."""


def attended(config: ModelConfig) -> int:
    """How many places of a picture a model's network compares with each other where it attends at its finest."""
    network, levels = config.network, 0
    if network.kind == "unet":
        last = len(network.multipliers) - 1  # the middle, at the last level's resolution, always attends
        levels = min([level for level in network.attention_levels if level <= last], default=last)
    return (config.size // (2 if config.space.kind == "halved" else 1) // network.patch // 2**levels) ** 2


def make_denoiser(config: ModelConfig, *, seed: int = 0) -> Denoiser:
    """A model with fresh weights that are a function of the seed; the global generator is left as it was.

    Raises `ZaoziError` where the picture's side does not suit the network, or its attention would need too much memory.
    """
    side, network = config.size, config.network
    widths = [network.width] if network.kind == "dit" else [network.width * m for m in network.multipliers]
    if any(w % network.head_width for w in widths) or network.head_width % 4:
        raise ZaoziError(
            f"network.head_width {network.head_width} does not suit widths {widths}; use a multiple of 4 that divides them"
        )
    stride = network.patch * (2 if config.space.kind == "halved" else 1)
    if network.kind == "unet":
        stride *= 2 ** (len(network.multipliers) - 1)
    if side % stride:
        raise ZaoziError(f"pictures of {side} pixels do not fit this network; use a side divisible by {stride}")
    if (places := attended(config)) > PLACES:
        raise ZaoziError(
            f"this network attends to {places} places of a picture, more than {PLACES}; use a larger network.patch"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        return Denoiser(config)
