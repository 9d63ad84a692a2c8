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
from zaozi.model.space import Pictures, Space
from zaozi.nn.layers import zeroed

CROP = 64
"""Size of the crops on which the 2x stage is trained, and their number per step."""


@spaces.add
@config("space")
class HalvedConfig(SpaceConfig):
    """Half the resolution, decoded by a small learned 2x stage."""

    kind: Literal["halved"] = "halved"
    width: Annotated[int, Range(1, 4096)] = 32
    """Channels of the 2x stage."""
    steps: Annotated[int, Range(0)] = 600
    """Training steps of the 2x stage, before the denoiser is trained."""

    def shape(self, size: int, channels: int) -> Shape:
        if size % 2:
            raise ZaoziError(f"pictures of {size} pixels cannot be halved; use an even side, or space.kind = 'pixels'")
        return channels, size // 2, size // 2

    def build(self, channels: int) -> Halved:
        return Halved(channels, self.width, self.steps)


class Halved(Space):
    """Downsamples by averaging 2x2 pixels; upsamples by bilinear interpolation and a learned residual.

    The residual is four 3x3 convolutions at low resolution and a pixel shuffle (arXiv:1609.05158).
    """

    def __init__(self, channels: int, width: int, steps: int = 0) -> None:
        super().__init__()
        self.fit_steps = steps
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
        """Apply the learned 2x stage without the final clamp: `[B, C, s, s] -> [B, C, 2s, 2s]`."""
        smooth = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return smooth + F.pixel_shuffle(self.net(small), 2)

    def decode(self, x0: Tensor) -> Tensor:
        return self.enlarge(x0.clamp(-1.0, 1.0)).clamp(-1.0, 1.0)

    def fit(self, data: Pictures, *, seed: int = 0, watch: Callable[[int, float], None] | None = None) -> str:
        """Train the 2x stage on crops of real pictures, with slight noise so that it also works on generated ones.

        Mean absolute error, Adam with cosine decay.
        """
        optimiser = torch.optim.Adam(self.parameters(), lr=2e-3)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(self.fit_steps, 1))
        errors: list[float] = []
        self.train().requires_grad_(True)
        for step in range(self.fit_steps):
            generator = training_generator(seed, step, 0, 2)
            large = _pieces(data, generator)
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
        last = errors[-20:]
        return f"2x stage: mean absolute error {sum(last) / len(last) / 2:.4f} of the range" if last else ""


def _pieces(data: Pictures, generator: torch.Generator) -> Tensor:
    """Return random crops of random pictures, `[CROP, C, s, s]` with s at most `CROP`."""
    count, _, whole, _ = data.pictures.shape
    side = min(whole, CROP)
    rows = torch.randint(0, count, (CROP,), generator=generator).numpy()
    y, x = (2 * int(v) for v in torch.randint(0, (whole - side) // 2 + 1, (2,), generator=generator))
    return data.batch(rows)[:, :, y : y + side, x : x + side]
