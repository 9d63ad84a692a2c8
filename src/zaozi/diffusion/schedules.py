"""Noise schedules: map a time to the signal and noise levels.

betas: the variance added by each of N single steps; alphas = 1 - betas; alpha_bar = their cumulative product, so that
x_t = sqrt(alpha_bar[k]) * x0 + sqrt(1 - alpha_bar[k]) * eps after k steps, at t = k * T / N. The straight path, with
alpha = 1 - t / T and sigma = t / T, has none of these and is defined in closed form by `Schedule`.

A name selects a schedule, with other numbers after colons: NAME[:START:END[:STEPS]] for betas between two ends, as in
`scaled_linear:0.00085:0.012` or `linear:0.0001:0.02:500`, and `cosine[:STEPS]`. N is 1000 unless STEPS says otherwise.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zaozi.core.arrays import Tensor
from zaozi.core.components import schedules
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Level

T = 1000
MOST_STEPS = 100_000
"""Largest number of steps of a tabulated schedule."""

LEAST_KEPT = 1e-30
"""Smallest alpha_bar of a schedule between two ends."""


def linear_alpha_bar() -> NDArray[np.float64]:
    """DDPM schedule: betas rise linearly from 1e-4 to 0.02 (arXiv:2006.11239, sec. 4). `[T + 1]`, alpha_bar[0] = 1."""
    return kept_of(np.linspace(1e-4, 0.02, T))


def cosine_alpha_bar(steps: int = T) -> NDArray[np.float64]:
    """Improved DDPM schedule: alpha_bar is a squared cosine (arXiv:2102.09672, eq. 17), betas capped at 0.999.

    With 1000 steps the cap leaves alpha_bar[N] = 2.4e-9, where x0_hat amplifies an epsilon error about 20,000-fold.
    `[N + 1]`, alpha_bar[0] = 1.
    """
    f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return kept_of(np.minimum(1.0 - f[1:] / f[:-1], 0.999))


def kept_of(betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return alpha_bar of betas `[N]`: the cumulative product of 1 - beta, after 1. `[N + 1]`."""
    alphas = 1.0 - betas
    return np.concatenate([[1.0], np.cumprod(alphas)])


@dataclass(frozen=True)
class Schedule:
    """A monotone path from clean (t = 0) to noise (t = T), continuous in t.

    Times count noising steps; some papers count from the other end, and timestep k in diffusers is t - 1 here. A tabulated
    schedule of N steps (`linear`, `cosine`, ...) is defined at the multiples of T / N, for 1000 steps at the integers.
    Between them the log-SNR, log(alpha^2 / sigma^2), is interpolated; below the first, since it is infinite at the clean
    end, sigma^2 rises linearly from 0. `linear_path` is the closed form alpha = 1 - t/T, sigma = t/T of rectified flow
    (arXiv:2209.03003).
    """

    name: str
    """The shortest name, without numbers that are the usual ones."""
    alpha_bar: NDArray[np.float64] | None = None

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """The times of a tabulated schedule but 0, `[N]`: T / N, 2 T / N, ..., T."""
        assert self.alpha_bar is not None
        steps = len(self.alpha_bar) - 1
        return np.arange(1, steps + 1, dtype=np.float64) * (T / steps)

    @cached_property
    def logsnrs(self) -> NDArray[np.float64]:
        """log(alpha_bar / (1 - alpha_bar)) at `times`, `[N]`, decreasing."""
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
            bar, first = self.alpha_bar, self.times[0]
            logsnr = np.interp(times, self.times, self.logsnrs)
            variance = np.where(times < first, times / first * (1.0 - bar[1]), 1.0 / (1.0 + np.exp(logsnr)))
            kept = np.where(times < first, 1.0 - variance, 1.0 / (1.0 + np.exp(-logsnr)))
            alpha, sigma = np.sqrt(kept), np.sqrt(variance)
        if not isinstance(t, (int, float, np.generic, np.ndarray)):
            import torch

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
        if logsnr > self.logsnrs[0]:
            variance = 1.0 / (1.0 + math.exp(min(logsnr, 700.0)))
            return float(variance / (1.0 - self.alpha_bar[1]) * self.times[0])
        return float(np.interp(-logsnr, -self.logsnrs, self.times))


def logsnr(level: Level) -> float:
    """Return log(alpha^2 / sigma^2) of a level of floats: +inf if clean, -inf at pure noise."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    if sigma == 0:
        return math.inf
    return 2.0 * (math.log(alpha) - math.log(sigma)) if alpha > 0 else -math.inf


@schedules.register("linear")
def linear(start: float = 1e-4, end: float = 0.02, steps: float = T) -> Schedule:
    """DDPM schedule: betas rise linearly."""
    return _between("linear", (start, end, steps), np.linspace(start, end, _checked("linear", steps)))


@schedules.register("cosine")
def cosine(steps: float = T) -> Schedule:
    """Improved DDPM schedule."""
    return Schedule(named("cosine", steps), cosine_alpha_bar(_checked("cosine", steps)))


@schedules.register("linear_path")
def linear_path() -> Schedule:
    """The straight path of rectified flow."""
    return Schedule("linear_path")


@schedules.register("scaled_linear")
def scaled_linear(start: float = 0.00085, end: float = 0.012, steps: float = T) -> Schedule:
    """Latent diffusion's schedule: the square roots of betas rise linearly (arXiv:2112.10752, published code)."""
    count = _checked("scaled_linear", steps)
    betas = np.linspace(max(start, 0.0) ** 0.5, max(end, 0.0) ** 0.5, count) ** 2
    return _between("scaled_linear", (start, end, steps), betas)


@schedules.register("sigmoid")
def sigmoid(start: float = 1e-4, end: float = 0.02, steps: float = T) -> Schedule:
    """Betas rise as a sigmoid over -6 to 6 (GeoDiff, arXiv:2203.02923, published code)."""
    rising = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, _checked("sigmoid", steps))))
    return _between("sigmoid", (start, end, steps), rising * (end - start) + start)


def _checked(name: str, steps: float) -> int:
    """Return a number of steps. Raises `ZaoziError` unless it is a whole number in range."""
    if not (2 <= steps <= MOST_STEPS and steps == int(steps)):
        raise ZaoziError(f"schedule '{name}' of {steps:g} steps is out of range; use a whole number, 2 to {MOST_STEPS}")
    return int(steps)


def _between(name: str, numbers: tuple[float, float, float], betas: NDArray[np.float64]) -> Schedule:
    """Return the schedule of betas between two ends. Raises `ZaoziError` unless both are in (0, 1)."""
    start, end, _ = numbers
    if not (0 < start < 1 and 0 < end < 1):
        raise ZaoziError(f"schedule '{name}' from {start:g} to {end:g} is out of range; use ends above 0 and below 1")
    kept = kept_of(betas)
    if kept[-1] < LEAST_KEPT:
        raise ZaoziError(f"schedule '{name}' from {start:g} to {end:g} leaves nothing of the picture; use smaller ends")
    return Schedule(named(name, *numbers), kept)


def named(kind: str, *numbers: float) -> str:
    """Return the shortest name of a schedule with these numbers, in the order in which its function takes them.

    >>> named("linear", 1e-4, 0.02, 1000), named("linear", 1e-4, 0.03), named("scaled_linear", 0.00085, 0.012, 500)
    ('linear', 'linear:0.0001:0.03', 'scaled_linear:0.00085:0.012:500')
    """
    usual = [p.default for p in inspect.signature(schedules.family(kind)).parameters.values()]
    given = list(numbers)
    if len(given) == 3 and given[2] == usual[2]:
        given.pop()
    if given == usual[: len(given)]:
        return kind
    return ":".join([kind, *(str(int(n)) if n == int(n) else repr(float(n)) for n in given)])


def schedule(name: str) -> Schedule:
    """Return a schedule by name, such as `linear`, `linear_path` or `scaled_linear:0.00085:0.012`.

    Raises `ZaoziError` if its name or a number is wrong.
    """
    found: Schedule = schedules[name]()
    return found
