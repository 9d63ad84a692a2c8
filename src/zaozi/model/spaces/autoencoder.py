"""Latent space of a small convolutional autoencoder, fitted to the dataset."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import training_generator
from zaozi.core.types import Shape
from zaozi.model.adversary import Adversary
from zaozi.model.space import Pictures, Space, crops, fitting, psnr, statistics
from zaozi.nn.convolutional import ConvBlock

BATCH, CROP = 32, 64
"""Crops per step of `fit`, and their side in pixels."""


@spaces.add
@config("space")
class AutoencoderConfig(SpaceConfig):
    """Latents of a small convolutional autoencoder (latent diffusion, arXiv:2112.10752)."""

    kind: Literal["autoencoder"] = "autoencoder"
    factor: Annotated[int, Range(2, 32)] = 4
    """Pixels per side of a latent: 2, 4, 8, 16 or 32."""
    latent_channels: Annotated[int, Range(1, 256)] = 4
    """Channels of the latents."""
    width: Annotated[int, Range(4, 1024)] = 48
    """Channels at half the pictures' resolution; each further halving has up to twice as many."""
    blocks: Annotated[int, Range(0, 16)] = 2
    """Residual blocks per resolution."""
    steps: Annotated[int, Range(0)] = 3000
    """Training steps of the autoencoder, before the denoiser is trained."""
    noise: Annotated[float, Range(0, 2)] = 0.2
    """Largest standard deviation of the noise that the decoder learns to ignore, relative to that of the latents."""
    norm: Annotated[float, Range(0)] = 1e-4
    """Weight of the latents' mean square in the loss, which keeps them bounded."""
    adversarial: Annotated[float, Range(0)] = 0.5
    """Weight of the adversarial loss in the second half of the steps; 0 for none."""

    def shape(self, size: int, channels: int) -> Shape:
        if self.factor & (self.factor - 1):
            raise ZaoziError(f"space.factor {self.factor} is not a power of two; use 2, 4, 8, 16 or 32")
        if size % self.factor:
            raise ZaoziError(f"pictures of {size} pixels do not divide by space.factor {self.factor}; use another size")
        return self.latent_channels, size // self.factor, size // self.factor

    def build(self, channels: int) -> Autoencoder:
        return Autoencoder(self, channels)


class Autoencoder(Space):
    """Encoder and decoder of residual 3x3 convolutions. Latents are standardised per channel on the training split.

    Trained with the mean absolute error, noise on the latents, so that small errors of the denoiser still decode to clean
    pictures, and an adversarial loss.
    """

    bounds = None
    cacheable = True

    def __init__(self, settings: AutoencoderConfig, channels: int) -> None:
        super().__init__()
        self.settings, self.fit_steps = settings, settings.steps
        levels = int(math.log2(settings.factor))
        widths = [settings.width * min(2**k, 4) for k in range(levels)]

        def blocks(width: int) -> list[nn.Module]:
            return [ConvBlock(width) for _ in range(settings.blocks)]

        inward: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, widths[0], 3, padding=1)]
        for k, width in enumerate(widths):
            if k:
                inward.append(nn.Conv2d(widths[k - 1], width, 3, stride=2, padding=1))
            inward += blocks(width)
        self.encoder = nn.Sequential(*inward, nn.SiLU(), nn.Conv2d(widths[-1], settings.latent_channels, 3, padding=1))
        outward: list[nn.Module] = [nn.Conv2d(settings.latent_channels, widths[-1], 3, padding=1)]
        for k, width in reversed(list(enumerate(widths))):
            outward += blocks(width)
            if k:
                outward += [nn.Conv2d(width, 4 * widths[k - 1], 3, padding=1), nn.PixelShuffle(2)]
        last = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        self.decoder = nn.Sequential(*outward, nn.SiLU(), last, nn.PixelShuffle(2))
        self.register_buffer("mean", torch.zeros(settings.latent_channels, 1, 1))
        self.register_buffer("std", torch.ones(settings.latent_channels, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        return (self.encoder(pictures) - self.mean) / self.std

    def decode(self, x0: Tensor) -> Tensor:
        made: Tensor = self.decoder(x0 * self.std + self.mean)
        return made.clamp(-1.0, 1.0)

    def fit(
        self,
        data: Pictures,
        *,
        seed: int = 0,
        drawn: Tensor | None = None,
        watch: Callable[[int, float], None] | None = None,
    ) -> str:
        """Train on random crops, then compute the latents' mean and standard deviation per channel."""
        how = self.settings
        optimiser = torch.optim.Adam(self.parameters(), lr=1e-3, betas=(0.5, 0.99))
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / 50, max(2.0 - 2.0 * step / max(self.fit_steps, 1), 0.02))
        )
        adversary = Adversary(data.pictures.shape[1], seed=seed) if how.adversarial else None
        with fitting(self):
            for step in range(self.fit_steps):
                generator = training_generator(seed, step, 0, 4)
                real = crops(data, generator, count=BATCH, side=CROP, multiple=how.factor)
                z = self.encoder(real)
                spread = (
                    how.noise
                    * torch.rand(len(z), 1, 1, 1, generator=generator)
                    * z.detach().float().std((0, 2, 3), keepdim=True)
                )
                made = self.decoder(z + spread * torch.randn(z.shape, generator=generator)).float()
                error = (made - real).abs().mean()
                loss = error + how.norm * z.float().square().mean()
                judge = adversary if step >= self.fit_steps // 2 else None
                if judge:
                    loss = loss + how.adversarial * judge.loss(made, real)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                decay.step()
                if judge:
                    judge.step(made, real)
                if watch:
                    watch(step, error.item())
        if not self.fit_steps:
            return ""
        self.mean.copy_(torch.zeros_like(self.mean))
        self.std.copy_(torch.ones_like(self.std))
        mean, std = statistics(self.encode, data)
        self.mean.copy_(mean)
        self.std.copy_(std)
        return f"autoencoder: PSNR {psnr(self, data):.1f} dB on training pictures"
