"""Time grids: the levels a sampler visits. Every grid has N + 1 levels, from the noisiest to clean (t = 0)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.types import Level
from zaozi.diffusion.schedules import Schedule, T, logsnr

MAX_STEPS = 1000


def _uniform(schedule: Schedule, n: int) -> list[float]:
    """Equal steps in time: T, T - T/n, ..., T/n."""
    return [T - T * k / n for k in range(n)]


def _trailing(schedule: Schedule, n: int) -> list[float]:
    """Like uniform, rounded to integer times; always starts at pure noise (arXiv:2305.08891, sec. 3.3)."""
    return [float(round(T - T * k / n)) for k in range(n)]


def _ends(schedule: Schedule) -> tuple[float, float]:
    """Return the log-SNR range of the log-SNR grids: t = T and t = 1. `linear_path`, infinite at T, starts at T - 0.1."""
    noisy = logsnr(schedule.level(float(T)))
    return noisy if math.isfinite(noisy) else logsnr(schedule.level(T - 0.1)), logsnr(schedule.level(1.0))


def _logsnr(schedule: Schedule, n: int) -> list[float]:
    """Equal steps in log-SNR between the noisiest level and t = 1, then clean (DPM-Solver, arXiv:2206.00927, sec. 3.3)."""
    noisy, clean = _ends(schedule)
    return [schedule.time(float(v)) for v in np.linspace(noisy, clean, n)]


def _karras(schedule: Schedule, n: int, rho: float = 7.0) -> list[float]:
    """EDM grid: equal steps in (sigma / alpha)^(1/rho), rho = 7, over the same range (arXiv:2206.00364, eq. 5)."""
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

    Raises `ZaoziError` if the number of steps is out of range or the grid is unknown.
    """
    check_levels(num_steps, grid)
    return [schedule.level(t) for t in [*_GRIDS[grid](schedule, num_steps), 0.0]]
