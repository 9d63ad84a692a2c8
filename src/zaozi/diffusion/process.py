"""The forward process in closed form: q(x_t | x_0), one step q(x_t | x_s), and the posterior q(x_s | x_t, x_0)."""

from __future__ import annotations

import math

from zaozi.core.arrays import Tensor
from zaozi.core.types import Level


def add_noise(x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """Sample q(x_t | x_0): alpha * x0 + sigma * eps, with eps standard normal, `[B, C, H, W]` (arXiv:2006.11239, eq. 4)."""
    alpha, sigma = level.per_picture(x0)
    return alpha * x0 + sigma * eps


def transition(earlier: Level, later: Level) -> tuple[float, float]:
    """Return (factor, std) of q(x_t | x_s) for s before t, a Gaussian with mean `factor * x_s` and standard deviation `std`.

    factor = alpha_t / alpha_s and std^2 = sigma_t^2 - factor^2 * sigma_s^2. For consecutive integer times of a
    variance-preserving schedule these are sqrt(1 - beta_t) and sqrt(beta_t) (arXiv:2006.11239, eq. 2; Kingma et al.,
    arXiv:2107.00630, app. A.1).
    """
    factor = float(later.alpha) / float(earlier.alpha)
    variance = float(later.sigma) ** 2 - factor**2 * float(earlier.sigma) ** 2
    return factor, math.sqrt(max(variance, 0.0))


def add_noise_step(x_s: Tensor, eps: Tensor, earlier: Level, later: Level) -> Tensor:
    """Sample q(x_t | x_s): factor * x_s + std * eps, with (factor, std) from `transition`."""
    factor, std = transition(earlier, later)
    return factor * x_s + std * eps


def posterior_std(level: Level, previous: Level) -> float:
    """Return the standard deviation of q(x_s | x_t, x_0) for s = `previous`: std * sigma_s / sigma_t.

    This is sqrt(beta-tilde) of DDPM.
    """
    return transition(previous, level)[1] * float(previous.sigma) / float(level.sigma)


def posterior(x0: Tensor, x_t: Tensor, level: Level, previous: Level) -> tuple[Tensor, float]:
    """Return the mean `[B, C, H, W]` and standard deviation of q(x_s | x_t, x_0) for s = `previous`, t = `level`.

    With factor and std of the step s -> t,
    mean = (alpha_s * std^2 * x0 + factor * sigma_s^2 * x_t) / sigma_t^2 and the standard deviation is `posterior_std`
    (arXiv:2006.11239, eqs. 6 and 7). Needs sigma_t > 0. At the clean end the result is (x0, 0).
    """
    factor, std = transition(previous, level)
    sigma_s, sigma_t = float(previous.sigma), float(level.sigma)
    mean = (float(previous.alpha) * std**2 * x0 + factor * sigma_s**2 * x_t) / sigma_t**2
    return mean, posterior_std(level, previous)
