"""Time grids: the levels a sampler visits. Every grid has N + 1 levels, from the noisiest to clean (t = 0)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.types import Level
from zaozi.diffusion.schedules import Schedule, T, logsnr

MAX_STEPS = 1000
NOISIEST, CLEANEST = 80.0, 0.002
"""Ends of the log-SNR grids in sigma / alpha: EDM's sigma_max and sigma_min (arXiv:2206.00364, table 1)."""


def _uniform(schedule: Schedule, n: int) -> list[float]:
    """Equal steps in time: T, T - T/n, ..., T/n."""
    return [T - T * k / n for k in range(n)]


def _trailing(schedule: Schedule, n: int) -> list[float]:
    """Like uniform, rounded to integer times; always starts at pure noise (arXiv:2305.08891, sec. 3.3)."""
    return [float(round(T - T * k / n)) for k in range(n)]


def _ends(schedule: Schedule) -> tuple[float, float]:
    """Return the log-SNR range of the log-SNR grids, -2 log(sigma / alpha): sigma / alpha from 80 down to 0.002, or as far as
    the schedule reaches from t = T to t = 1."""
    noisy, clean = logsnr(schedule.level(float(T))), logsnr(schedule.level(1.0))
    return max(noisy, -2.0 * math.log(NOISIEST)), min(clean, -2.0 * math.log(CLEANEST))


def _logsnr(schedule: Schedule, n: int) -> list[float]:
    """Equal steps in log-SNR (DPM-Solver, arXiv:2206.00927, sec. 3.3) between the ends of EDM, then clean."""
    noisy, clean = _ends(schedule)
    return [schedule.time(float(v)) for v in np.linspace(noisy, clean, n)]


def _karras(schedule: Schedule, n: int, rho: float = 7.0) -> list[float]:
    """EDM grid: equal steps in (sigma / alpha)^(1/rho), rho = 7, between the ends of EDM (arXiv:2206.00364, eq. 5)."""
    noisy, clean = (math.exp(-v / 2) ** (1 / rho) for v in _ends(schedule))
    return [schedule.time(-2 * rho * math.log(float(v))) for v in np.linspace(noisy, clean, n)]


_GRIDS: dict[str, Callable[[Schedule, int], list[float]]] = {
    "uniform": _uniform,
    "trailing": _trailing,
    "logsnr": _logsnr,
    "karras": _karras,
}
GRIDS = tuple(_GRIDS)


def check_levels(num_steps: int, grid: str) -> None:
    """Raises `ZaoziError` if the number of steps is out of range or the grid is unknown."""
    if not 1 <= num_steps <= MAX_STEPS:
        raise ZaoziError(f"{num_steps} steps are out of range; use 1 to {MAX_STEPS}")
    if grid not in _GRIDS:
        raise unknown("grid", grid, _GRIDS)


def levels(schedule: Schedule, num_steps: int, grid: str = "uniform") -> list[Level]:
    """Return `num_steps + 1` levels, strictly from noisy to clean, for 1 to 1000 steps.

    `uniform` and `trailing` start at t = T. `logsnr` and `karras` start at sigma / alpha = 80 and end at 0.002, or as far as
    the schedule reaches from t = T to t = 1; the last level of every grid is t = 0.
    Raises `ZaoziError` if the number of steps is out of range or the grid is unknown.
    """
    check_levels(num_steps, grid)
    return [schedule.level(t) for t in [*_GRIDS[grid](schedule, num_steps), 0.0]]
