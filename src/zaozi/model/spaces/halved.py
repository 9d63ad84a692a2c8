"""Half-resolution space, with a small learned upsampler as decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import training_generator
from zaozi.core.types import Shape
from zaozi.model.adversary import Adversary
from zaozi.model.snap import snapped
from zaozi.model.space import Pictures, Space, crops, fitting, place
from zaozi.nn.convolutional import ConvBlock
from zaozi.nn.layers import zeroed

CROP = 64
"""Size of the crops on which the 2x stage is trained, in pixels."""


@spaces.add
@config("space")
class HalvedConfig(SpaceConfig):
    """Half the resolution, decoded by a small learned 2x stage."""

    kind: Literal["halved"] = "halved"
    width: Annotated[int, Range(1, 4096)] = 32
    """Channels of the 2x stage."""
    blocks: Annotated[int, Range(0, 64)] = 0
    """Residual blocks of the 2x stage; 0 for four plain convolutions."""
    steps: Annotated[int, Range(0)] = 600
    """Training steps of the 2x stage, before the denoiser is trained."""
    crops: Annotated[int, Range(1)] = 64
    """Crops per training step of the 2x stage."""
    rate: Annotated[float, Range(0, 1)] = 2e-3
    """Initial learning rate of the 2x stage."""
    noise: Annotated[float, Range(0, 2)] = 0.15
    """Largest standard deviation of the noise on the small pictures while the 2x stage is trained."""
    adversarial: Annotated[float, Range(0)] = 0.0
    """Weight of the adversarial loss after a quarter of the steps; 0 for none."""
    snap: Annotated[float, Range(0, 0.5)] = 0.0
    """How close to -1 or 1 x0 becomes -1 or 1 before it is decoded: drawings have faint grey in their black and white."""

    def shape(self, size: int, channels: int) -> Shape:
        if size % 2:
            raise ZaoziError(f"pictures of {size} pixels cannot be halved; use an even side, or space.kind = 'pixels'")
        return channels, size // 2, size // 2

    def build(self, channels: int) -> Halved:
        return Halved(self, channels)


class Halved(Space):
    """Downsamples by averaging 2x2 pixels; upsamples by bilinear interpolation and a learned residual.

    The residual is computed by 3x3 convolutions at low resolution and a pixel shuffle (arXiv:1609.05158).
    """

    averages = True
    learns_from_drawn = True

    def __init__(self, settings: HalvedConfig, channels: int) -> None:
        super().__init__()
        self.settings, self.fit_steps = settings, settings.steps
        width = settings.width
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for _ in range(settings.blocks):
            layers.append(ConvBlock(width))
        for _ in range(0 if settings.blocks else 2):
            layers += [nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
        self.net = nn.Sequential(*layers, nn.SiLU(), zeroed(nn.Conv2d(width, 4 * channels, 3, padding=1)))

    def encode(self, pictures: Tensor) -> Tensor:
        return F.avg_pool2d(pictures, 2)

    def enlarge(self, small: Tensor) -> Tensor:
        """Apply the learned 2x stage without the final clamp: `[B, C, s, s] -> [B, C, 2s, 2s]`."""
        smooth = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return smooth + F.pixel_shuffle(self.net(small), 2)

    def decode(self, x0: Tensor) -> Tensor:
        return self.enlarge(snapped(x0, self.settings.snap)).clamp(-1.0, 1.0)

    def fit(
        self,
        data: Pictures,
        *,
        seed: int = 0,
        drawn: Tensor | None = None,
        watch: Callable[[int, float], None] | None = None,
    ) -> str:
        """Train the 2x stage on crops of real pictures, with noise so that it also works on generated ones.

        Mean absolute error, and an adversarial loss after a quarter of the steps; Adam with cosine decay. `drawn` x0
        `[N, C, h, w]` have no large picture: what is made of them is averaged again for the error.
        """
        how = self.settings
        betas = (0.5, 0.99) if how.adversarial else (0.9, 0.999)
        optimiser = torch.optim.Adam(self.parameters(), lr=how.rate, betas=betas)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(self.fit_steps, 1))
        adversary = Adversary(data.pictures.shape[1], seed=seed) if how.adversarial else None
        errors: list[float] = []
        with fitting(self):
            for step in range(self.fit_steps):
                generator = training_generator(seed, step, 0, 2)
                large = crops(data, generator, count=how.crops, side=CROP, multiple=2)
                small = self.encode(large)
                spread = how.noise * torch.rand(len(small), 1, 1, 1, generator=generator)
                noisy = small + spread * torch.randn(small.shape, generator=generator)
                made = self.enlarge(noisy.clamp(-1.0, 1.0))
                error = (made - large).abs().mean()
                loss, other = error, large
                if drawn is not None:
                    chosen = torch.randint(0, len(drawn), (how.crops,), generator=generator)
                    side = min(CROP // 2, drawn.shape[-1])
                    some = drawn[(chosen, slice(None), *place(generator, drawn.shape[-1], side))].clamp(-1.0, 1.0)
                    more = self.enlarge(some)
                    loss = error + (self.encode(more) - some).abs().mean()
                    made = torch.cat([made, more])
                    other = torch.cat([large, crops(data, generator, count=len(more), side=CROP, multiple=2)])
                judge = adversary if 4 * step >= self.fit_steps else None
                if judge:
                    loss = loss + how.adversarial * judge.loss(made, other)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                decay.step()
                if judge:
                    judge.step(made.float(), other)
                errors.append(error.item())
                if watch:
                    watch(step, errors[-1])
        last = errors[-20:]
        return f"2x stage: mean absolute error {sum(last) / len(last) / 2:.4f} of the range" if last else ""
