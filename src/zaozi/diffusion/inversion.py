"""Exact DDIM inversion: from a picture back to the noise that generates it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Denoise, Level, OnStep

MEMORY = 6
"""Number of past iterates used by Anderson mixing."""


def invert(
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    *,
    tolerance: float = 1e-3,
    rounds: int = 100,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return the x_T from which `ddim` (eta = 0) over `levels` reaches x, `[B, C, H, W]`.

    `levels` run from noisy to nearly clean (last sigma above 0), as in sampling, and are traversed backwards.

    The usual inversion (arXiv:2010.02502, sec. 4.3) evaluates the denoiser at the wrong end of each step and drifts. Here
    each step is solved as a fixed-point problem (cf. arXiv:2309.04907) with Anderson mixing, until every pixel is within
    `tolerance` (the range of a picture is 2): two to four calls per step.
    Raises `ZaoziError` if a step does not converge within `rounds` calls (too few steps, or guidance too strong).
    """
    for s, t in pairwise(list(levels)[::-1]):
        ratio = float(s.sigma) / float(t.sigma)
        share = float(s.alpha) - ratio * float(t.alpha)
        x_t = (x - share * denoise(x, s).x0) / ratio
        tried: list[tuple[Tensor, Tensor]] = []
        for _ in range(rounds):
            guess = denoise(x_t, t)
            missed = x - (ratio * x_t + share * guess.x0)
            far = missed.abs().amax((1, 2, 3), keepdim=True) >= tolerance
            if not far.any():
                break
            tried = [*tried[1 - MEMORY :], (x_t, missed)]
            x_t = torch.where(far, mixed(tried).to(x), x_t)
        else:
            raise ZaoziError(
                f"the inversion does not settle at time {float(t.t):.0f}; use more steps, or a guidance scale nearer to 1"
            )
        if on_step:
            on_step(t, x_t, guess)
        x = x_t
    return x


def mixed(tried: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the next iterate from the last points and their residuals, `[B, ...]` each.

    Anderson mixing (Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011, eq. 2.3): x + f - (dX + dF) g, where g minimizes
    |f - dF g|, per picture; with a single point, x + f.
    """
    points, misses = (torch.stack([pair[k].flatten(1).double() for pair in tried], 2) for k in (0, 1))
    moved, changed = points.diff(dim=2), misses.diff(dim=2)
    gram = changed.mT @ changed
    size = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    ridge = (1e-10 * size + 1e-30) * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    least = torch.linalg.solve(gram + ridge, changed.mT @ misses[..., -1:])
    return ((points + misses)[..., -1:] - (moved + changed) @ least).view_as(tried[-1][0])
