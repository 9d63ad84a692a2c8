"""Samplers: each is one function that walks a list of levels, from noise to a picture, and reads like its paper.

`denoise(x, level)` returns the pair (x0_hat, eps_hat); `levels` run from the noisiest to the last, usually clean;
`noise(draw)` gives the fresh noise of its draw-th draw (draw 0 made the x that comes in); `on_step` watches.
All return the picture at the last level, `[B, C, H, W]`. In the comments s is the next level, less noisy than t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from zaozi.core.errors import unknown
from zaozi.core.types import Denoise, Level, Noise, OnStep
from zaozi.diffusion.process import posterior, posterior_std
from zaozi.diffusion.schedules import logsnr


def ddpm(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Ancestral sampling: draw x_s from the posterior q(x_s | x_t, x0_hat) (arXiv:2006.11239, algorithm 2 and eq. 7)."""
    for n, (t, s) in enumerate(pairwise(levels), start=1):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        mean, std = posterior(guess.x0, x, t, s)
        x = mean + std * noise(n) if std > 0 else mean
    return x


def ddim(
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    *,
    noise: Noise,
    on_step: OnStep | None = None,
    eta: float = 0.0,
) -> Tensor:
    """x_s = alpha_s * x0_hat + sqrt(sigma_s^2 - std^2) * eps_hat + std * noise (arXiv:2010.02502, eqs. 12 and 16).

    `eta` in [0, 1] scales std from none (deterministic) to the posterior's, where the step is DDPM's.
    """
    for n, (t, s) in enumerate(pairwise(levels), start=1):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        alpha_s, sigma_s = float(s.alpha), float(s.sigma)
        std = eta * posterior_std(t, s)
        x = alpha_s * guess.x0 + math.sqrt(max(sigma_s**2 - std**2, 0.0)) * guess.eps
        if std > 0:
            x = x + std * noise(n)
    return x


def dpmpp_2m(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2M): a two-step multistep solver in x0_hat over half the log-SNR (arXiv:2211.01095, algorithm 2).

    One call a step, second order; first order on the first step, and on the last where it ends clean (h is infinite there).
    """
    last: tuple[Tensor, float] | None = None
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        h = (logsnr(s) - logsnr(t)) / 2  # lambda_s - lambda_t
        d = guess.x0
        if last is not None and math.isfinite(h) and math.isfinite(last[1]):
            r = last[1] / h
            d = d + (d - last[0]) / (2 * r)
        x = float(s.sigma) / float(t.sigma) * x - float(s.alpha) * math.expm1(-h) * d
        last = (guess.x0, h)
    return x


Sampler = Callable[..., Tensor]
SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp-2m": dpmpp_2m}


def sampler(name: str) -> Sampler:
    """The sampler of that name, as on the command line. Raises `ZaoziError` for an unknown one."""
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    return SAMPLERS[name]
