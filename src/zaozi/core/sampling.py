"""Sampling and editing settings, shared by Python, the command line, the HTTP API, evaluation and run.json."""

from __future__ import annotations

from typing import Literal

from zaozi.core.config import Config, config


@config()
class Guidance(Config):
    """Guidance: how strongly the condition steers sampling."""

    scale: float = 5.0
    """0 ignores the prompt, 1 disables guidance at half the cost, 5 is typical. Higher follows the prompt more closely with
    less variety.
    """
    low: float = 0.5
    """Apply guidance only while the noise share, sigma / (alpha + sigma), is at least this (0: to the clean end). The text
    takes effect early: guidance in the noisier half alone gives the same adherence at three quarters of the cost.
    """
    high: float = 1.0
    """Apply guidance only while the noise share is at most this."""
    curve: Literal["constant", "rising"] = "constant"
    """`rising`: from no guidance at the noisy end of the interval to 2 * scale - 1 at its clean end."""
    rescale: float = 0.0
    """How far to restore the contrast of x0_hat to its value without guidance, 0 to 1."""
    plus: bool = False
    """CFG++: estimate the noise without guidance; the scale must be in [0, 1]."""
    threshold: Literal["clamp", "dynamic", "none"] = "clamp"
    """How to treat x0_hat outside the pictures' range."""


@config()
class Sampling(Config):
    """How to sample. All defaults are defined here."""

    steps: int = 20
    """Number of steps, 1 to 1000."""
    sampler: str = "dpmpp-2m"
    """Sampler name: dpmpp-2m, ddim, ...; an unknown name lists them all."""
    guidance: Guidance = Guidance()
    seed: int = 0
    """Random seed; picture i depends only on (seed, i, prompt)."""
    grid: str = "uniform"
    """Spacing of the noise levels: uniform, trailing, logsnr or karras (the last two from sigma / alpha = 80 to 0.002)."""
    eta: float = 0.0
    """Amount of fresh noise in ddim, from 0 (none) to 1 (as in ddpm)."""
    size: int = 0
    """Side of the pictures in pixels; 0 for the size of the model. Larger ones need super-resolution stages."""
    batch_size: int = 16
    """Pictures per batch; does not affect the results."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of the network; auto selects bf16 if it is faster on this device, which changes the pictures slightly."""


MEASURING = Sampling(batch_size=32, precision="auto")
"""Default sampling settings for evaluation."""


@config()
class Editing(Config):
    """A picture to start from instead of noise."""

    init: str = ""
    """The picture: a file or one character on the command line, base64 of its pixels in the HTTP API; empty for none."""
    strength: float = 1.0
    """How much to change the picture: the share of the steps to run, above 0 to 1; 0.8 to 0.95 gives variations."""
    keep: str = ""
    """The part of the picture to keep unchanged: left, right, top or bottom; on the command line also a mask picture (white
    is kept).
    """
