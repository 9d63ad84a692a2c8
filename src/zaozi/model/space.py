"""Where diffusion happens: the pictures' pixels, or half of them with a small learned stage to come back."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.config import SpaceConfig
from zaozi.core.noise import training_generator
from zaozi.nn.layers import zeroed


class Space(nn.Module):
    """The seam between pictures `[B, C, S, S]` and what the denoiser sees; this one is the identity."""

    factor = 1
    """How many times smaller the side is that the denoiser sees."""
    bounds: tuple[float, float] | None = (-1.0, 1.0)
    """Within which the denoiser's pictures lie, where that is known."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] -> x0."""
        return pictures

    def decode(self, x0: Tensor) -> Tensor:
        """x0 -> pictures in [-1, 1]."""
        return x0.clamp(-1.0, 1.0)


class Halved(Space):
    """Half the side by averaging 2x2 pixels; twice the side by bilinear interpolation and a learned residual.

    The residual is four 3x3 convolutions on the small picture and a pixel shuffle (arXiv:1609.05158).
    """

    factor = 2

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(width, 4 * channels, 3, padding=1)),
        )

    def encode(self, pictures: Tensor) -> Tensor:
        return F.avg_pool2d(pictures, 2)

    def enlarge(self, small: Tensor) -> Tensor:
        """The learned 2x stage before its clamp: `[B, C, s, s] -> [B, C, 2s, 2s]`."""
        smooth = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return smooth + F.pixel_shuffle(self.net(small), 2)

    def decode(self, x0: Tensor) -> Tensor:
        return self.enlarge(x0.clamp(-1.0, 1.0)).clamp(-1.0, 1.0)

    def fit(
        self,
        batch: Callable[[torch.Generator], Tensor],
        steps: int,
        *,
        seed: int = 0,
        watch: Callable[[int, float], None] | None = None,
    ) -> float:
        """Fit the 2x stage on real pictures `batch(generator)`, noised a little so that drawn ones suit it too.

        Mean absolute error, Adam with a cosine decay. Returns the mean absolute error of the last 20 steps.
        """
        optimiser = torch.optim.Adam(self.parameters(), lr=2e-3)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        errors: list[float] = []
        self.train().requires_grad_(True)
        for step in range(steps):
            generator = training_generator(seed, step, 0, 2)
            large = batch(generator)
            small = self.encode(large)
            spread = 0.15 * torch.rand(len(small), 1, 1, 1, generator=generator)
            noisy = small + spread * torch.randn(small.shape, generator=generator)
            error = (self.enlarge(noisy.clamp(-1.0, 1.0)) - large).abs().mean()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            decay.step()
            errors.append(error.item())
            if watch:
                watch(step, errors[-1])
        self.eval().requires_grad_(False)
        return sum(errors[-20:]) / max(len(errors[-20:]), 1)


def make_space(config: SpaceConfig, channels: int) -> Space:
    """The space a recipe asks for."""
    return Halved(channels, config.width) if config.kind == "halved" else Space()
