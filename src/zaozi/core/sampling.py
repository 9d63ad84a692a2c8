"""How pictures are drawn: one object for Python, the command line, the HTTP API and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zaozi.core.config import Config, config


@config()
class Guidance(Config):
    """How the condition steers a drawing."""

    scale: float = 5.0
    """0 ignores the condition, 1 follows it plainly at half the cost, 5 is usual; more is truer and less varied."""
    low: float = 0.0
    high: float = 1.0
    """Guide only where the share of noise, sigma / (alpha + sigma), is within [low, high]."""
    curve: Literal["constant", "rising"] = "constant"
    """`rising`: from none at pure noise to 2 * scale - 1 at the clean end."""
    rescale: float = 0.0
    """How far x0_hat's contrast is brought back to what it is without guidance, 0 to 1."""
    plus: bool = False
    """CFG++: the noise is estimated without guidance; then the scale lies in [0, 1]."""
    threshold: Literal["clamp", "dynamic", "none"] = "clamp"
    """What happens to x0_hat beyond the pictures' range."""


@config()
class Sampling(Config):
    """How pictures are drawn: one object for Python, the command line, the API and evaluation. The defaults stand here alone."""

    steps: int = 20
    """1 to 1000."""
    sampler: str = "dpmpp-2m"
    guidance: Guidance = Guidance()
    seed: int = 0
    """Picture i depends on (seed, i, prompt) alone."""
    grid: str = "uniform"
    """Which levels are visited: uniform, trailing, logsnr or karras."""
    eta: float = 0.0
    """Fresh noise in ddim, 0 (none) to 1 (as ddpm)."""
    toward_seed: tuple[int, float | Sequence[float]] | None = None
    """(other seed, share in [0, 1], or a share per row): start from noise on the way to that of another seed."""
    batch_size: int = 16
    """Pictures drawn at a time; this changes nothing in them."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """In which the network computes; `auto` takes bf16 where the device is faster in it."""
