"""Samplers: each is one function that steps through a list of levels, from noise to a picture, and follows its paper.

`denoise(x, level)` returns the pair (x0_hat, eps_hat); `levels` run from the noisiest to the last, usually clean;
`noise(draw)` returns fresh noise for that draw index (draw 0 is the initial x); `on_step` is a callback.
All samplers return the picture at the last level, `[B, C, H, W]`. In formulas, s is the next level, less noisy than t.
Each step starts from `rejoined(guess, t)`, which equals x unless guidance made x0_hat and eps_hat inconsistent (CFG++).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from zaozi.core.arrays import Tensor
from zaozi.core.components import samplers
from zaozi.core.types import Denoise, Estimate, Level, Noise, OnStep
from zaozi.diffusion.brownian import Brownian
from zaozi.diffusion.process import posterior, posterior_std
from zaozi.diffusion.schedules import logsnr


@samplers.register("ddpm")
def ddpm(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Ancestral sampling: sample x_s from the posterior q(x_s | x_t, x0_hat) (arXiv:2006.11239, algorithm 2 and eq. 7)."""
    for n, (t, s) in enumerate(pairwise(levels), start=1):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        mean, std = posterior(guess.x0, rejoined(guess, t), t, s)
        x = mean + std * noise(n) if std > 0 else mean
    return x


@samplers.register("ddim")
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

    `eta` in [0, 1] scales std from 0 (deterministic) to the posterior's standard deviation (DDPM).
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


@samplers.register("dpmpp-2m")
def dpmpp_2m(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2M): a two-step multistep solver in x0_hat over half the log-SNR (arXiv:2211.01095, algorithm 2).

    One call per step, second order. First order on the first step, on the second if the first started at pure noise (as with
    `linear_path`), and on the last if it ends clean, where h is infinite.
    """
    last: tuple[Tensor, float] | None = None
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        h = _half(t, s)
        d = _halfway_ahead(guess.x0, h, last)
        x = float(s.sigma) / float(t.sigma) * rejoined(guess, t) - float(s.alpha) * math.expm1(-h) * d
        last = (guess.x0, h)
    return x


@samplers.register("euler")
def euler(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Euler's method on the probability-flow ODE dx = x0_hat d(alpha) + eps_hat d(sigma) (arXiv:2206.00364, algorithm 1).

    Since x = alpha * x0_hat + sigma * eps_hat, the result equals `ddim` with eta = 0.
    """
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        x = rejoined(guess, t) + _change(t, s, guess)
    return x


@samplers.register("heun")
def heun(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Heun's method on the same ODE: the mean of the slopes at both ends of a step (arXiv:2206.00364, algorithm 1).

    Two calls per step, second order; one call on the last step if it ends clean, so 2N - 1 in total. This steps x in
    (alpha, sigma), EDM's algorithm x / alpha in sigma / alpha. The two agree where alpha = 1 and in the limit of small steps.
    """
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        x, change = rejoined(guess, t), _change(t, s, guess)
        if float(s.sigma) > 0:
            change = (change + _change(t, s, denoise(x + change, s))) / 2
        x = x + change
    return x


@samplers.register("dpmpp-2m-sde")
def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2M) for the reverse SDE: `ddpm` with x0_hat extrapolated from two steps, on one Brownian path.

    SDE-DPM-Solver++(2M) of arXiv:2211.01095, in its midpoint form. One call per step.
    """
    path = Brownian(noise)
    last: tuple[Tensor, float] | None = None
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        h = _half(t, s)
        d = _halfway_ahead(guess.x0, h, last)
        x = _ancestral(d, rejoined(guess, t), t, s, path)
        last = (guess.x0, h)
    return x


@samplers.register("dpmpp-sde")
def dpmpp_sde(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2S) for the reverse SDE: each step first evaluates an intermediate level, on one Brownian path.

    arXiv:2211.01095, algorithm 1 with free r, made stochastic as in its app. B. A step takes two calls and spans two
    intervals of `levels`, with the middle level as the intermediate one, so N steps cost N calls here too. First order if
    the step ends clean or starts from pure noise.
    """
    path = Brownian(noise)
    for i in range(0, len(levels) - 1, 2):
        t, m = levels[i : i + 2]
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        x = rejoined(guess, t)
        x_m = _ancestral(guess.x0, x, t, m, path)
        if i + 2 == len(levels):
            return x_m
        s = levels[i + 2]
        later = denoise(x_m, m)
        if on_step:
            on_step(m, x_m, later)
        r = (logsnr(m) - logsnr(t)) / (logsnr(s) - logsnr(t))
        if 0 < r < 1:  # false if either end is infinite
            x = _ancestral(guess.x0 + (later.x0 - guess.x0) / (2 * r), x, t, s, path)
        else:
            x = _ancestral(later.x0, rejoined(later, m), m, s, path)
    return x


@samplers.register("unipc")
def unipc(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """UniPC-2 with B(h) = e^h - 1 (arXiv:2302.04867): predict at order 2, correct to order 3 with the next call.

    One call per step: the call that corrects x_t also predicts x_s. First order on the first step, on the second if the first
    started at pure noise, and where the log-SNR at a step's end is infinite; such steps are not corrected.
    """
    steps: list[tuple[Level, Tensor, Tensor]] = []  # level, corrected x, x0_hat
    for t, s in pairwise(levels):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        x = rejoined(guess, t)
        if steps and math.isfinite(h := _half(steps[-1][0], t)):
            x = _unipc_corrected(steps, guess.x0, t, h)
        h = _half(t, s)
        d = _halfway_ahead(guess.x0, h, (steps[-1][2], _half(steps[-1][0], t)) if steps else None)
        steps = [*steps[-1:], (t, x, guess.x0)]
        x = float(s.sigma) / float(t.sigma) * x - float(s.alpha) * math.expm1(-h) * d
    return x


@samplers.register("consistency")
def consistency(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Multistep consistency sampling: x_s = alpha_s * x0_hat + sigma_s * noise (arXiv:2303.01469, algorithm 1).

    For distilled models, whose x0_hat is the end of the path through x_t: then samples are right after any number of steps. The
    x0_hat of other models is a mean over many pictures, so with them pictures become plainer. One call per step.
    """
    for n, (t, s) in enumerate(pairwise(levels), start=1):
        guess = denoise(x, t)
        if on_step:
            on_step(t, x, guess)
        x = float(s.alpha) * guess.x0
        if float(s.sigma) > 0:
            x = x + float(s.sigma) * noise(n)
    return x


def _unipc_corrected(steps: list[tuple[Level, Tensor, Tensor]], now: Tensor, s: Level, h: float) -> Tensor:
    """Correct x at s from the previous step and x0_hat at s (`now`), by UniC with one earlier step if available."""
    t, x, x0 = steps[-1]
    phi1 = math.expm1(-h)  # the paper's varphi functions, in -h
    b1 = (phi1 / -h - 1) / phi1
    b2 = 2 * ((phi1 / -h - 1) / -h - 0.5) / phi1
    correction = 0.5 * (now - x0)
    if len(steps) > 1 and math.isfinite(before := _half(steps[-2][0], t)):
        r = -before / h
        rho = (b1 - b2) / (1 - r)
        correction = rho * (steps[-2][2] - x0) / r + (b1 - rho) * (now - x0)
    return float(s.sigma) / float(t.sigma) * x - float(s.alpha) * phi1 * (x0 + correction)


def rejoined(guess: Estimate, t: Level) -> Tensor:
    """Return alpha * x0_hat + sigma * eps_hat, `[B, C, H, W]`: the x_t consistent with the estimate."""
    return float(t.alpha) * guess.x0 + float(t.sigma) * guess.eps


def _half(t: Level, s: Level) -> float:
    """Return lambda_s - lambda_t, half the change in log-SNR."""
    return (logsnr(s) - logsnr(t)) / 2


def _halfway_ahead(x0: Tensor, h: float, last: tuple[Tensor, float] | None) -> Tensor:
    """Extrapolate x0_hat to the middle of a step of length h, using the last step's (x0_hat, length). Unchanged if there is
    no last step or a length is infinite. This makes a multistep method second order."""
    if last is None or not (math.isfinite(h) and math.isfinite(last[1])):
        return x0
    return x0 + (x0 - last[0]) * h / (2 * last[1])


def _change(t: Level, s: Level, guess: Estimate) -> Tensor:
    """Return the change of x from t to s for fixed x0_hat and eps_hat."""
    return (float(s.alpha) - float(t.alpha)) * guess.x0 + (float(s.sigma) - float(t.sigma)) * guess.eps


def _ancestral(x0: Tensor, x: Tensor, t: Level, s: Level, path: Brownian) -> Tensor:
    """Sample q(x_s | x_t, x0) with noise from a Brownian path."""
    mean, std = posterior(x0, x, t, s)
    return mean + std * path.normal(t, s) if std > 0 else mean


Sampler = Callable[..., Tensor]


def sampler(name: str) -> Sampler:
    """Return the sampler with this name, as on the command line. Raises `ZaoziError` if it is unknown."""
    return samplers[name]
