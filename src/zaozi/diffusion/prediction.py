"""Prediction types: the network output F = a * x0 + b * eps, one row of a table per type.

| prediction   | a      | b     | determinant b*alpha - a*sigma                   |
|--------------|--------|-------|-------------------------------------------------|
| epsilon      | 0      | 1     | alpha: ill-conditioned near pure noise          |
| sample       | 1      | 0     | -sigma: x0_hat is F itself                      |
| v_prediction | -sigma | alpha | alpha^2 + sigma^2: 1 when variance-preserving   |
| flow         | -1     | 1     | alpha + sigma                                   |

Together with x_t = alpha * x0 + sigma * eps this is a 2x2 linear system in (x0, eps), solved by Cramer's rule.
(epsilon: arXiv:2006.11239; v: arXiv:2202.00512, app. D; flow: arXiv:2210.02747.)
"""

from __future__ import annotations

from zaozi.core.arrays import Tensor, library
from zaozi.core.components import predictions
from zaozi.core.types import Estimate, Level

Row = tuple[Tensor, Tensor]


@predictions.register("epsilon")
def epsilon(alpha: Tensor, sigma: Tensor) -> Row:
    """The noise."""
    return library(alpha).zeros_like(alpha), library(alpha).ones_like(alpha)


@predictions.register("sample")
def sample(alpha: Tensor, sigma: Tensor) -> Row:
    """The clean picture."""
    return library(alpha).ones_like(alpha), library(alpha).zeros_like(alpha)


@predictions.register("v_prediction")
def v_prediction(alpha: Tensor, sigma: Tensor) -> Row:
    """The velocity of the variance-preserving path with respect to its angle."""
    return -sigma, alpha


@predictions.register("flow")
def flow(alpha: Tensor, sigma: Tensor) -> Row:
    """The velocity of the straight path."""
    return -library(alpha).ones_like(alpha), library(alpha).ones_like(alpha)


def coefficients(prediction: str, alpha: Tensor, sigma: Tensor) -> Row:
    """Return the coefficients (a, b) at a level, in alpha's shape. Raises `ZaoziError` if the prediction is unknown."""
    return predictions[prediction](alpha, sigma)


def target(prediction: str, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """Return the training target F = a * x0 + b * eps, `[B, C, H, W]`."""
    a, b = coefficients(prediction, *level.per_picture(x0))
    return a * x0 + b * eps


def estimate(prediction: str, f: Tensor, x_t: Tensor, level: Level) -> Estimate:
    """Convert the network output F at x_t to (x0_hat, eps_hat); sigma must be above 0.

    x0_hat = (b * x_t - sigma * F) / (b * alpha - a * sigma) and eps_hat = (alpha * F - a * x_t) / (b * alpha - a * sigma).
    For epsilon the divisor alpha is at least 1e-12, so pure noise gives a finite (but meaningless) x0_hat.
    """
    if prediction == "sample":
        return from_x0(f, x_t, level)
    alpha, sigma = level.per_picture(x_t)
    if prediction == "epsilon":
        return Estimate((x_t - sigma * f) / alpha.clip(min=1e-12), f)
    a, b = coefficients(prediction, alpha, sigma)
    determinant = b * alpha - a * sigma
    return Estimate((b * x_t - sigma * f) / determinant, (alpha * f - a * x_t) / determinant)


def from_x0(x0: Tensor, x_t: Tensor, level: Level) -> Estimate:
    """Return the estimate with x0_hat = x0 and eps_hat = (x_t - alpha * x0) / sigma. Needs sigma > 0."""
    alpha, sigma = level.per_picture(x_t)
    return Estimate(x0, (x_t - alpha * x0) / sigma)


def score(guess: Estimate, level: Level) -> Tensor:
    """Return the score, the gradient of log q_t at x_t: -eps_hat / sigma (arXiv:2011.13456, sec. 3)."""
    _, sigma = level.per_picture(guess.eps)
    return -guess.eps / sigma
