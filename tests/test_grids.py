"""The ends of the log-SNR grids, and what they are worth on a mixture with an exact denoiser."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from zaozi.core.components import schedules
from zaozi.core.types import Level
from zaozi.diffusion.levels import CLEANEST, NOISIEST, levels
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.samplers import dpmpp_2m, sampler
from zaozi.diffusion.schedules import Schedule, T, linear_alpha_bar, logsnr, schedule

STEPS = 20
NOISE = torch.randn(1000, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ratio(level: Level) -> float:
    return float(level.sigma) / float(level.alpha)


def over_the_whole_range(name: str, grid: str, steps: int) -> list[Level]:
    """The same spacing from t = T (T - 0.1 on the straight path, where T has no signal) to t = 1, then clean."""
    s = schedule(name)
    ends = [ratio(s.level(T - 0.1 if name == "linear_path" else float(T))), ratio(s.level(1.0))]
    of, back = (np.log, np.exp) if grid == "logsnr" else (lambda r: np.power(r, 1 / 7), lambda v: v**7)
    ratios = back(np.linspace(*of(ends), steps))
    return [s.level(t) for t in [*(s.time(-2 * float(np.log(r))) for r in ratios), 0.0]]


def end_of(sample: object, grid: list[Level]) -> Tensor:
    return sample(TWO.denoise, float(grid[0].sigma) * NOISE, grid, noise=None)  # type: ignore[operator]


@cache
def exact(name: str) -> Tensor:
    """Where the probability-flow ODE takes each noise, from the noisiest level to almost clean, in 2,000 steps of order 3."""
    s = schedule(name)
    noisy = logsnr(s.level(T - 0.01 if name == "linear_path" else float(T)))
    fine = [s.level(s.time(v)) for v in np.linspace(noisy, logsnr(s.level(0.001)), 2001)]
    return end_of(sampler("unipc"), [*fine, s.level(0.0)])


def rms(name: str, grid: list[Level]) -> float:
    return float((end_of(dpmpp_2m, grid) - exact(name)).square().mean().sqrt())


@pytest.mark.parametrize("name", schedules)
@pytest.mark.parametrize("grid", ["logsnr", "karras"])
def test_the_log_snr_grids_end_where_edm_does_or_where_the_schedule_does(name: str, grid: str) -> None:
    """All but scaled_linear are noisier than 80 at t = T; at t = 1 only the straight path is cleaner than 0.002."""
    found = levels(schedule(name), 10, grid)
    own = ratio(schedule(name).level(float(T))) if name == "scaled_linear" else NOISIEST
    assert ratio(found[0]) == pytest.approx(own, rel=1e-9)
    assert (own < NOISIEST) == (name == "scaled_linear")
    assert ratio(found[-2]) == pytest.approx(max(ratio(schedule(name).level(1.0)), CLEANEST), rel=1e-9)
    assert (ratio(found[-2]) < 0.00201) == (name == "linear_path")
    assert found[-1].sigma == 0


@pytest.mark.parametrize("grid", ["logsnr", "karras"])
def test_a_schedule_inside_the_ends_of_edm_keeps_its_own(grid: str) -> None:
    """Only the first 600 of the betas of `linear`, stretched over all times: sigma / alpha runs from 0.01 to 6.1."""
    bar = np.concatenate([[1.0], np.interp(np.linspace(1, 600, T), np.arange(1, T + 1), linear_alpha_bar()[1:])])
    s = Schedule("short", bar)
    found = levels(s, 10, grid)
    assert (found[0].t, found[-2].t) == (pytest.approx(T, abs=1e-6), pytest.approx(1.0, abs=1e-6))


@pytest.mark.parametrize(
    ("name", "grid", "before", "after"),
    [
        ("linear_path", "karras", 0.1198, 0.0215),
        ("linear_path", "logsnr", 0.0364, 0.0159),
        ("cosine", "karras", 0.1124, 0.0180),
        ("cosine", "logsnr", 0.0325, 0.0110),
        ("linear", "karras", 0.0245, 0.0167),
        ("linear", "logsnr", 0.0143, 0.0097),
    ],
)
def test_the_ends_of_edm_bring_samples_nearer_to_the_exact_flow(
    name: str, grid: str, before: float, after: float
) -> None:
    assert rms(name, over_the_whole_range(name, grid, STEPS)) == pytest.approx(before, abs=1e-4)
    assert rms(name, levels(schedule(name), STEPS, grid)) == pytest.approx(after, abs=1e-4)


def test_a_uniform_grid_is_nearer_still_on_the_straight_path() -> None:
    assert rms("linear_path", levels(schedule("linear_path"), STEPS)) == pytest.approx(0.0067, abs=1e-4)
