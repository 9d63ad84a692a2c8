"""Likelihood of a picture under a model, through the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zaozi.core.types import Denoise, Level
from zaozi.diffusion.levels import NOISIEST
from zaozi.diffusion.schedules import Schedule

Probes = Callable[[int], Sequence[Tensor]]
"""Random signs with the shape of the pictures: `probes(k)` for the k-th evaluation of the trace."""


def path_to_noise(schedule: Schedule, steps: int, noise: float) -> list[Level]:
    """Return `steps + 1` levels from sigma / alpha = `noise` to 80, equally spaced in its logarithm."""
    ends = (-2.0 * math.log(noise), -2.0 * math.log(NOISIEST))
    return [schedule.level(schedule.time(ends[0] + (ends[1] - ends[0]) * k / steps)) for k in range(steps + 1)]


def log_likelihood(
    denoise: Denoise,
    y: Tensor,
    levels: Sequence[Level],
    *,
    probes: Probes,
    steps: Callable[[Sequence[tuple[Level, Level]]], Iterable[tuple[Level, Level]]] = iter,
) -> Tensor:
    """Return log p(y) in nats, `[B]`, of pictures y = x_t / alpha at the first level, `[B, C, h, w]`.

    With s = sigma / alpha, the probability-flow ODE is dy/ds = (y - x0_hat) / s, and along it
    d log p / d log s = tr(d x0_hat / d y) - D with D = C * h * w (Song et al. 2021, arXiv:2011.13456, eqs. 38 and 39). Each step
    from one level to the next is one of Heun for y and a trapezium in log s for p. At the noisiest level, p is a normal
    distribution around x0_hat with variance s^2.

    `levels` run from clean to noisy; sigma and alpha are above 0. `probes` estimate the trace as the mean of v . J v
    (Hutchinson; arXiv:1810.01367, eq. 6): random signs, drawn anew for each evaluation; D unit vectors times sqrt(D), each
    `[B, C, h, w]`, give it exactly. `denoise` must be differentiable, so not clamped. `steps` may wrap the pairs of levels, as a
    progress bar does.
    """
    size = y[0].numel()
    calls = iter(range(2 * len(levels)))

    def slope(y: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return dy/ds `[B, C, h, w]`, D less the trace `[B]`, and x0_hat."""
        alpha, s = float(level.alpha), float(level.sigma) / float(level.alpha)
        own = probes(next(calls))
        with torch.enable_grad():
            inside = y.detach().requires_grad_(True)
            guess = denoise(alpha * inside, level).x0
            traces = [
                (torch.autograd.grad(guess, inside, v, retain_graph=k + 1 < len(own))[0] * v).flatten(1).sum(1)
                for k, v in enumerate(own)
            ]
        trace = torch.stack(traces).mean(0)
        x0 = guess.detach()
        return (y - x0) / s, size - trace, x0

    changed = torch.zeros(len(y), dtype=torch.float64)
    for level, after in steps(list(pairwise(levels))):
        s, r = (float(one.sigma) / float(one.alpha) for one in (level, after))
        way, spread, _ = slope(y, level)
        end_way, end_spread, center = slope(y + (r - s) * way, after)
        y = y + (r - s) / 2 * (way + end_way)
        changed += math.log(r / s) / 2 * (spread + end_spread).double().cpu()
    last = levels[-1]
    variance = (float(last.sigma) / float(last.alpha)) ** 2
    power = (y - center).double().cpu().square().flatten(1).sum(1)
    return changed - power / (2 * variance) - size / 2 * math.log(2 * math.pi * variance)


def bits_per_dimension(nats: Tensor, noise: Tensor, std: float) -> Tensor:
    """Return the information in pictures in bits per dimension, `[B]`, given log p in nats of the pictures with normal noise
    `[B, C, h, w]` of standard deviation `std`: log2(p(noise) / p(picture + noise)) / D. Its mean over the noise is the mutual
    information of the picture and its noisy version.
    """
    size = noise[0].numel()
    power = noise.double().cpu().square().flatten(1).sum(1)
    alone = -power / (2 * std**2) - size * math.log(std * math.sqrt(2 * math.pi))
    return (alone - nats) / (size * math.log(2))
