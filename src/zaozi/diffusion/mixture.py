"""A Gaussian mixture with noised density, score and optimal denoiser in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zaozi.core.types import Estimate, Level


@dataclass(frozen=True)
class Mixture:
    """Isotropic Gaussians with means `[K, D]`, standard deviations `[K]` and weights `[K]`.

    Samples are `[B, 1, 1, D]`, float64.
    """

    means: Tensor
    stds: Tensor
    weights: Tensor

    def _parts(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return log responsibilities `[B, K]`, differences `[B, K, D]` and variances `[K]` of the noised mixture."""
        alpha, sigma = float(level.alpha), float(level.sigma)
        variance = alpha**2 * self.stds**2 + sigma**2
        difference = x.flatten(1)[:, None] - alpha * self.means
        d = self.means.shape[1]
        log = self.weights.log() - difference.square().sum(-1) / (2 * variance) - d / 2 * variance.log()
        return log, difference, variance

    def log_density(self, x: Tensor, level: Level) -> Tensor:
        """Return log q_t(x) up to a constant, `[B]`."""
        return self._parts(x, level)[0].logsumexp(-1)

    def denoise(self, x: Tensor, level: Level) -> Estimate:
        """Return E[x0 | x_t] and the matching noise estimate."""
        alpha, sigma = float(level.alpha), float(level.sigma)
        log, difference, variance = self._parts(x, level)
        share = log.softmax(-1)[..., None]
        each = self.means + (alpha * self.stds**2 / variance)[:, None] * difference
        x0 = (share * each).sum(1).reshape(x.shape)
        return Estimate(x0, (x - alpha * x0) / sigma)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        return (self.means[which] + self.stds[which, None] * noise).reshape(count, 1, 1, -1)


TWO = Mixture(
    means=torch.tensor([[-0.7, 0.2], [0.6, -0.3]], dtype=torch.float64),
    stds=torch.tensor([0.15, 0.25], dtype=torch.float64),
    weights=torch.tensor([0.3, 0.7], dtype=torch.float64),
)
