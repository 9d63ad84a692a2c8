"""Training loss: mean squared error on F, with weightings defined by their weight on the x0 error."""

from __future__ import annotations

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.types import Level
from zaozi.diffusion.prediction import coefficients
from zaozi.diffusion.schedules import T

WEIGHTS = ("unit", "snr", "min_snr_5", "velocity")
TIMES = ("uniform", "logit_normal")


def weight_on_f(weight: str, prediction: str, level: Level) -> Tensor:
    """Return the factor `[B]`, float64, of the squared error on F for a weighting.

    | weight    | factor of the x0 error                                               |
    |-----------|----------------------------------------------------------------------|
    | unit      | ((b*alpha - a*sigma)/sigma)^2: the plain error of F                   |
    | snr       | alpha^2/sigma^2: the plain error of epsilon                          |
    | min_snr_5 | min(alpha^2/sigma^2, 5) (arXiv:2303.09556, eq. 8)                     |
    | velocity  | 1/max(sigma, 0.05)^2: the plain error of the flow on `linear_path`   |

    Factors of F are capped at 1e4. This affects epsilon near pure noise, and `snr` near the clean end for the others.
    """
    alpha, sigma = torch.as_tensor(level.alpha).double(), torch.as_tensor(level.sigma).double()
    if weight == "unit":
        return torch.ones_like(alpha)
    snr = (alpha / sigma) ** 2
    match weight:
        case "snr":
            on_x0 = snr
        case "min_snr_5":
            on_x0 = snr.clamp(max=5.0)
        case "velocity":
            on_x0 = sigma.clamp(min=0.05) ** -2
        case _:
            raise unknown("loss weight", weight, WEIGHTS)
    a, b = coefficients(prediction, alpha, sigma)
    x0_per_f = (sigma / (b * alpha - a * sigma)) ** 2
    return (on_x0 * x0_per_f).nan_to_num(nan=0.0, posinf=1e4).clamp(max=1e4)


def training_times(
    times: str, count: int, generator: torch.Generator, *, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Sample `count` times in (0, T], float64: `uniform`, or `logit_normal` with logit(t/T) ~ N(mean, std^2).

    See arXiv:2403.03206, eq. 19. A larger mean trains more on noisy levels. Times are at least 1e-3 T, since F needs sigma > 0.
    """
    if times == "uniform":
        share = torch.rand(count, generator=generator, dtype=torch.float64)
    elif times == "logit_normal":
        if std <= 0:
            raise ZaoziError(f"logit-normal std {std} is out of range; use a value above 0")
        share = torch.sigmoid(mean + std * torch.randn(count, generator=generator, dtype=torch.float64))
    else:
        raise unknown("time sampling", times, TIMES)
    return (share * T).clamp(min=1e-3 * T)
