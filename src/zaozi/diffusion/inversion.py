"""From a picture back to the noise that draws it: `ddim` run the other way, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Denoise, Level, OnStep


def invert(
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    *,
    tolerance: float = 1e-3,
    rounds: int = 100,
    on_step: OnStep | None = None,
) -> Tensor:
    """The x_T from which `ddim` (eta = 0) over `levels` reaches x, `[B, C, H, W]`; `levels` run from noisy to nearly clean
    (the last sigma above 0) as in drawing, and are walked backwards.

    The usual inversion (arXiv:2010.02502, sec. 4.3) takes the estimate at the wrong end of each step and drifts. Here each
    step is solved (cf. arXiv:2309.04907): x_t is moved by what `ddim` from it misses x_s by, by half as much wherever that
    made it worse, until no pixel misses by more than `tolerance` (a picture's range is 2).
    Raises `ZaoziError` where that does not settle within `rounds` calls (steps too long, or too strong a guidance).
    """
    for s, t in pairwise(list(levels)[::-1]):
        ratio = float(s.sigma) / float(t.sigma)
        share = float(s.alpha) - ratio * float(t.alpha)
        x_t = (x - share * denoise(x, s).x0) / ratio
        pace = torch.ones(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)  # how much of the miss is taken, a picture
        best, miss, widest = x_t, torch.zeros_like(x), torch.full_like(pace, torch.inf)
        for _ in range(rounds):
            guess = denoise(x_t, t)
            missed = x - (ratio * x_t + share * guess.x0)
            width = missed.abs().amax((1, 2, 3), keepdim=True)
            if float(width.max()) < tolerance:
                break
            better = width < widest
            best, miss = torch.where(better, x_t, best), torch.where(better, missed, miss)
            widest, pace = torch.where(better, width, widest), torch.where(better, pace, pace / 2)
            x_t = best + pace * miss
        else:
            raise ZaoziError(
                f"the inversion does not settle at time {float(t.t):.0f}; use more steps, or a guidance scale nearer to 1"
            )
        if on_step:
            on_step(t, x_t, guess)
        x = x_t
    return x
