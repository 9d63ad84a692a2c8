"""Noise schedules: map a time to the signal and noise levels.

betas: the variance added by each of T = 1000 single steps; alphas = 1 - betas; alpha_bar = their cumulative product, so that
x_t = sqrt(alpha_bar[t]) * x0 + sqrt(1 - alpha_bar[t]) * eps. The straight path, with alpha = 1 - t / T and sigma = t / T,
has none of these and is defined in closed form by `Schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.components import schedules
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Level

T = 1000


def linear_alpha_bar() -> NDArray[np.float64]:
    """DDPM schedule: betas rise linearly from 1e-4 to 0.02 (arXiv:2006.11239, sec. 4). `[T + 1]`, alpha_bar[0] = 1."""
    betas = np.linspace(1e-4, 0.02, T)
    alphas = 1.0 - betas
    return np.concatenate([[1.0], np.cumprod(alphas)])


def cosine_alpha_bar() -> NDArray[np.float64]:
    """Improved DDPM schedule: alpha_bar is a squared cosine (arXiv:2102.09672, eq. 17), betas capped at 0.999.

    The cap leaves alpha_bar[T] = 2.4e-9, where x0_hat amplifies an epsilon error about 20,000-fold. `[T + 1]`, alpha_bar[0] = 1.
    """
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1.0 - f[1:] / f[:-1], 0.999)
    alphas = 1.0 - betas
    return np.concatenate([[1.0], np.cumprod(alphas)])


@dataclass(frozen=True)
class Schedule:
    """A monotone path from clean (t = 0) to noise (t = T), continuous in t.

    Times count noising steps; some papers count from the other end, and timestep k in diffusers is t - 1 here. A tabulated
    schedule (`linear`, `cosine`) is defined at the integers. Between them the log-SNR, log(alpha^2 / sigma^2), is
    interpolated; in [0, 1], where it is infinite at the clean end, sigma^2 = t * sigma[1]^2. `linear_path` is the closed
    form alpha = 1 - t/T, sigma = t/T of rectified flow (arXiv:2209.03003).
    """

    name: str
    alpha_bar: NDArray[np.float64] | None = None

    @cached_property
    def _logsnr(self) -> NDArray[np.float64]:
        """log(alpha_bar / (1 - alpha_bar)) at t = 1 .. T."""
        assert self.alpha_bar is not None
        return np.log(self.alpha_bar[1:]) - np.log1p(-self.alpha_bar[1:])

    def level(self, t: float | Tensor) -> Level:
        """Return the level at time t in [0, T]: floats for a float, float64 tensors `[B]` for a tensor `[B]`.

        Raises `ZaoziError` if t is outside [0, T].
        """
        times = np.asarray(t, dtype=np.float64)
        if not np.all((times >= 0) & (times <= T)):
            raise ZaoziError(f"time {t} is outside [0, {T}]; 0 is clean, {T} is pure noise")
        if self.alpha_bar is None:
            alpha, sigma = 1.0 - times / T, times / T
        else:
            bar = self.alpha_bar
            logsnr = np.interp(times, np.arange(1, T + 1), self._logsnr)
            variance = np.where(times < 1, times * (1.0 - bar[1]), 1.0 / (1.0 + np.exp(logsnr)))
            kept = np.where(times < 1, 1.0 - variance, 1.0 / (1.0 + np.exp(-logsnr)))
            alpha, sigma = np.sqrt(kept), np.sqrt(variance)
        if isinstance(t, Tensor):
            return Level(t.double(), torch.from_numpy(np.asarray(alpha)), torch.from_numpy(np.asarray(sigma)))
        return Level(float(times), float(alpha), float(sigma))

    def time(self, logsnr: float) -> float:
        """Return the time at which log(alpha^2 / sigma^2) = logsnr; values outside the schedule's range are clamped.

        Inverse of `level`: t(logsnr(t)) = t to 1e-9 of T for a tabulated alpha_bar. Raises `ZaoziError` for NaN.
        """
        if math.isnan(logsnr):
            raise ZaoziError("log-SNR is not a number; give a finite value, or infinity for a clean picture")
        if self.alpha_bar is None:
            return T / (1.0 + math.exp(min(logsnr / 2.0, 700.0)))
        if logsnr > self._logsnr[0]:
            variance = 1.0 / (1.0 + math.exp(min(logsnr, 700.0)))
            return float(variance / (1.0 - self.alpha_bar[1]))
        return float(np.interp(-logsnr, -self._logsnr, np.arange(1, T + 1)))


def logsnr(level: Level) -> float:
    """Return log(alpha^2 / sigma^2) of a level of floats: +inf if clean, -inf at pure noise."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    if sigma == 0:
        return math.inf
    return 2.0 * (math.log(alpha) - math.log(sigma)) if alpha > 0 else -math.inf


@schedules.register("linear")
def linear() -> Schedule:
    """DDPM schedule."""
    return Schedule("linear", linear_alpha_bar())


@schedules.register("cosine")
def cosine() -> Schedule:
    """Improved DDPM schedule."""
    return Schedule("cosine", cosine_alpha_bar())


@schedules.register("linear_path")
def linear_path() -> Schedule:
    """The straight path of rectified flow."""
    return Schedule("linear_path")


def schedule(name: str) -> Schedule:
    """Return the schedule `linear`, `cosine` or `linear_path` by name. Raises `ZaoziError` if it is unknown."""
    return schedules[name]()
