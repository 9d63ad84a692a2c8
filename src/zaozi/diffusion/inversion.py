"""From a picture back to the noise that draws it: `ddim` run the other way, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Denoise, Level, OnStep


def invert(
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    *,
    tolerance: float = 1e-4,
    rounds: int = 60,
    on_step: OnStep | None = None,
) -> Tensor:
    """The x_T from which `ddim` (eta = 0) over `levels` reaches x, `[B, C, H, W]`; `levels` run from noisy to nearly clean
    (the last sigma above 0) as in drawing, and are walked backwards.

    The usual inversion (arXiv:2010.02502, sec. 4.3) takes the estimate at the wrong end of each step and drifts. Here each
    step is solved (cf. arXiv:2309.04907): x_t is moved by what `ddim` from it misses x_s by, until no pixel misses by more
    than `tolerance` (a picture's range is 2). Raises `ZaoziError` where that does not settle within `rounds` calls (steps too
    long, or too strong a guidance).
    """
    for s, t in pairwise(list(levels)[::-1]):
        ratio = float(s.sigma) / float(t.sigma)
        share = float(s.alpha) - ratio * float(t.alpha)
        x_t = (x - share * denoise(x, s).x0) / ratio
        for _ in range(rounds):
            guess = denoise(x_t, t)
            miss = x - (ratio * x_t + share * guess.x0)
            if float(miss.abs().max()) < tolerance:
                break
            x_t = x_t + miss
        else:
            raise ZaoziError(
                f"the inversion does not settle at time {float(t.t):.0f}; use more steps, or a guidance scale nearer to 1"
            )
        if on_step:
            on_step(t, x_t, guess)
        x = x_t
    return x
