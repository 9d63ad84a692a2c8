"""`Denoiser`: a network with its prediction type, space and schedule, callable by samplers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zaozi.core.components import Conditions, schedules
from zaozi.core.recipe import ModelConfig
from zaozi.core.types import Cond, Estimate, Level, Shape
from zaozi.diffusion.prediction import estimate
from zaozi.diffusion.schedules import Schedule
from zaozi.model.space import Space


class Denoiser(nn.Module):
    """Conditional denoiser: (x_t `[B, C, s, s]`, level, cond) -> (x0_hat, eps_hat), in x_t's dtype."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.shape: Shape = config.space.shape(config.size, config.channels)
        """Shape (C, h, w) of the network's input."""
        lower = self.shape[0] if config.stage.factor > 1 else 0
        self.network = config.network.build(self.shape, Conditions(config.text.width, config.properties, lower))
        self.space: Space = config.space.build(config.channels)
        self.schedule: Schedule = schedules[config.diffusion.schedule]()

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def forward(self, x: Tensor, level: Level, cond: Cond) -> Estimate:
        f = self.network(x, level.noise_share(x.shape[0], x.device), cond)
        return estimate(self.config.diffusion.prediction, f.to(x.dtype), x, level)


def make_denoiser(config: ModelConfig, *, seed: int = 0) -> Denoiser:
    """Create a model with random weights that depend only on the seed; the global generator is not changed.

    Raises `ZaoziError` if pictures of that size do not fit the space or the network.
    """
    config.network.check(config.space.shape(config.size, config.channels))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPU generators
        return Denoiser(config)
