"""What a network predicts: one row of a table, F = a * x0 + b * eps.

| prediction   | a      | b     | determinant b*alpha - a*sigma                   |
|--------------|--------|-------|-------------------------------------------------|
| epsilon      | 0      | 1     | alpha: ill-conditioned near pure noise          |
| sample       | 1      | 0     | -sigma: x0_hat is F itself                      |
| v_prediction | -sigma | alpha | alpha^2 + sigma^2: 1 when variance-preserving   |
| flow         | -1     | 1     | alpha + sigma                                   |

With x_t = alpha * x0 + sigma * eps these are two linear equations for (x0, eps); Cramer's rule solves them.
(epsilon: arXiv:2006.11239; v: arXiv:2202.00512, app. D; flow: arXiv:2210.02747.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from zaozi.core.components import predictions
from zaozi.core.types import Estimate, Level

Row = tuple[Tensor, Tensor]


@predictions.register("epsilon")
def epsilon(alpha: Tensor, sigma: Tensor) -> Row:
    """The noise."""
    return torch.zeros_like(alpha), torch.ones_like(alpha)


@predictions.register("sample")
def sample(alpha: Tensor, sigma: Tensor) -> Row:
    """The clean picture."""
    return torch.ones_like(alpha), torch.zeros_like(alpha)


@predictions.register("v_prediction")
def v_prediction(alpha: Tensor, sigma: Tensor) -> Row:
    """The velocity of the variance-preserving path by its angle."""
    return -sigma, alpha


@predictions.register("flow")
def flow(alpha: Tensor, sigma: Tensor) -> Row:
    """The velocity of the straight path."""
    return -torch.ones_like(alpha), torch.ones_like(alpha)


def coefficients(prediction: str, alpha: Tensor, sigma: Tensor) -> Row:
    """The row (a, b) of the table at a level; tensors of alpha's shape. Raises `ZaoziError` for an unknown prediction."""
    return predictions[prediction](alpha, sigma)


def target(prediction: str, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """F = a * x0 + b * eps, what the network should say. `[B, C, H, W]`."""
    a, b = coefficients(prediction, *level.per_picture(x0))
    return a * x0 + b * eps


def estimate(prediction: str, f: Tensor, x_t: Tensor, level: Level) -> Estimate:
    """Both views of the network's output F at x_t; sigma must be above 0.

    x0_hat = (b * x_t - sigma * F) / (b * alpha - a * sigma) and eps_hat = (alpha * F - a * x_t) / (b * alpha - a * sigma).
    For epsilon the divisor alpha is kept at 1e-12 or more, so that pure noise gives a finite (if meaningless) x0_hat.
    """
    if prediction == "sample":
        return from_x0(f, x_t, level)
    alpha, sigma = level.per_picture(x_t)
    if prediction == "epsilon":
        return Estimate((x_t - sigma * f) / alpha.clamp(min=1e-12), f)
    a, b = coefficients(prediction, alpha, sigma)
    determinant = b * alpha - a * sigma
    return Estimate((b * x_t - sigma * f) / determinant, (alpha * f - a * x_t) / determinant)


def from_x0(x0: Tensor, x_t: Tensor, level: Level) -> Estimate:
    """The estimate whose picture is x0: eps_hat = (x_t - alpha * x0) / sigma. Needs sigma > 0."""
    alpha, sigma = level.per_picture(x_t)
    return Estimate(x0, (x_t - alpha * x0) / sigma)


def score(guess: Estimate, level: Level) -> Tensor:
    """The gradient of log q_t at x_t: -eps_hat / sigma (arXiv:2011.13456, sec. 3). The factor depends on the level."""
    _, sigma = level.per_picture(guess.eps)
    return -guess.eps / sigma
