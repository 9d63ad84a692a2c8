"""Sampling settings, shared by Python, the command line, the HTTP API and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zaozi.core.config import Config, config


@config()
class Guidance(Config):
    """Guidance: how strongly the condition steers sampling."""

    scale: float = 5.0
    """0 ignores the condition, 1 disables guidance at half the cost, 5 is typical. Higher follows it more, with less variety."""
    low: float = 0.0
    high: float = 1.0
    """Apply guidance only while the noise share, sigma / (alpha + sigma), is within [low, high]."""
    curve: Literal["constant", "rising"] = "constant"
    """`rising`: from no guidance at pure noise to 2 * scale - 1 at the clean end."""
    rescale: float = 0.0
    """How far to restore the contrast of x0_hat to its value without guidance, 0 to 1."""
    plus: bool = False
    """CFG++: estimate the noise without guidance; the scale must be in [0, 1]."""
    threshold: Literal["clamp", "dynamic", "none"] = "clamp"
    """How to treat x0_hat outside the pictures' range."""


@config()
class Sampling(Config):
    """Sampling settings, shared by Python, the command line, the API and evaluation. All defaults are defined here."""

    steps: int = 20
    """Number of steps, 1 to 1000."""
    sampler: str = "dpmpp-2m"
    guidance: Guidance = Guidance()
    seed: int = 0
    """Random seed; picture i depends only on (seed, i, prompt)."""
    grid: str = "uniform"
    """Spacing of the noise levels: uniform, trailing, logsnr or karras."""
    eta: float = 0.0
    """Amount of fresh noise in ddim, from 0 (none) to 1 (as in ddpm)."""
    toward_seed: tuple[int, float | Sequence[float]] | None = None
    """(other seed, share in [0, 1], or a share per row): interpolate the initial noise towards that of another seed."""
    batch_size: int = 16
    """Pictures per batch; does not affect the results."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of the network; `auto` uses bf16 if it is faster on the device."""
