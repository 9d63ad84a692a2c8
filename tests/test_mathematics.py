"""Schedules, the forward process, predictions, levels and losses against closed forms."""

from __future__ import annotations

import math
import typing
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zaozi.core.components import predictions, schedules
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DiffusionConfig, Recipe
from zaozi.core.types import Level
from zaozi.diffusion.levels import GRIDS, levels
from zaozi.diffusion.losses import TIMES, WEIGHTS, training_times, weight_on_f
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.prediction import coefficients, estimate, score, target
from zaozi.diffusion.process import add_noise, add_noise_step, posterior, transition
from zaozi.diffusion.schedules import T, cosine_alpha_bar, linear_alpha_bar, logsnr, schedule

TABLED = ("linear", "cosine")


def test_alpha_bar_at_the_ends() -> None:
    """The published figures: clean at 0; 4.0e-5 (linear) and 2.4e-9 (cosine, capped) at T."""
    assert linear_alpha_bar()[0] == cosine_alpha_bar()[0] == 1.0
    assert linear_alpha_bar()[T] == pytest.approx(4.0358e-5, rel=1e-4)
    assert cosine_alpha_bar()[T] == pytest.approx(2.4288e-9, rel=1e-4)
    betas = 1 - linear_alpha_bar()[1:] / linear_alpha_bar()[:-1]
    assert betas[0] == pytest.approx(1e-4, rel=1e-9)
    assert betas[-1] == pytest.approx(0.02, rel=1e-9)


@pytest.mark.parametrize("name", schedules)
def test_levels_are_tables_at_integers_and_monotone_between(name: str) -> None:
    s = schedule(name)
    times = torch.linspace(0, T, 4001, dtype=torch.float64)
    level = s.level(times)
    assert torch.all(torch.diff(level.alpha) < 0)
    assert torch.all(torch.diff(level.sigma) > 0)
    if s.alpha_bar is not None:
        at = s.level(torch.arange(T + 1, dtype=torch.float64))
        assert torch.allclose(at.alpha**2, torch.from_numpy(s.alpha_bar), rtol=1e-12, atol=0)
        assert torch.allclose(level.alpha**2 + level.sigma**2, torch.ones(4001, dtype=torch.float64), atol=1e-15)
    one = s.level(417.25)
    many = s.level(torch.tensor([417.25]))
    assert (one.alpha, one.sigma) == (float(many.alpha), float(many.sigma))


@pytest.mark.parametrize("name", schedules)
@given(t=st.floats(1e-3, T))
def test_time_inverts_logsnr(name: str, t: float) -> None:
    s = schedule(name)
    assert s.time(logsnr(s.level(t))) == pytest.approx(t, abs=1e-6)


@pytest.mark.parametrize("name", schedules)
def test_times_outside_are_refused(name: str) -> None:
    for bad in (-0.1, T + 1.0, math.nan):
        with pytest.raises(ZaoziError, match="outside"):
            schedule(name).level(bad)


@pytest.mark.parametrize("name", TABLED)
def test_a_chain_of_single_steps_arrives_where_the_closed_form_does(name: str) -> None:
    s = schedule(name)
    mean, variance = 1.0, 0.0
    for t in range(1, 401):
        factor, std = transition(s.level(float(t - 1)), s.level(float(t)))
        beta = 1 - s.alpha_bar[t] / s.alpha_bar[t - 1]
        assert factor == pytest.approx(math.sqrt(1 - beta), rel=1e-12)
        assert std == pytest.approx(math.sqrt(beta), rel=1e-9)
        mean, variance = factor * mean, factor**2 * variance + std**2
    assert mean == pytest.approx(s.level(400.0).alpha, rel=1e-9)
    assert variance == pytest.approx(s.level(400.0).sigma ** 2, rel=1e-9)


@pytest.mark.parametrize("name", schedules)
def test_posterior_is_bayes_rule(name: str) -> None:
    """q(x_s | x_t, x_0) from the two Gaussians whose product it is, by precision weighting."""
    s = schedule(name)
    earlier, later = s.level(300.0), s.level(450.0)
    x0, x_t = torch.full((1, 1, 1, 1), 0.4, dtype=torch.float64), torch.full((1, 1, 1, 1), -0.9, dtype=torch.float64)
    factor, std = transition(earlier, later)
    precision = 1 / earlier.sigma**2 + factor**2 / std**2
    wanted = (earlier.alpha * 0.4 / earlier.sigma**2 + factor * -0.9 / std**2) / precision
    mean, deviation = posterior(x0, x_t, later, earlier)
    assert float(mean) == pytest.approx(wanted, rel=1e-12)
    assert deviation == pytest.approx(precision**-0.5, rel=1e-12)
    mean, deviation = posterior(x0, x_t, later, s.level(0.0))
    assert (float(mean), deviation) == (pytest.approx(0.4, abs=1e-15), 0.0)


def test_posterior_deviation_is_ddpms_beta_tilde() -> None:
    s = schedule("linear")
    bar, t = s.alpha_bar, 250
    beta_tilde = (1 - bar[t - 1]) / (1 - bar[t]) * (1 - bar[t] / bar[t - 1])
    _, deviation = posterior(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), s.level(250.0), s.level(249.0))
    assert deviation**2 == pytest.approx(beta_tilde, rel=1e-9)


def test_add_noise_step_uses_the_transition() -> None:
    s = schedule("cosine")
    x, eps = torch.tensor([[[[0.3]]]]), torch.tensor([[[[1.0]]]])
    factor, std = transition(s.level(10.0), s.level(11.0))
    assert float(add_noise_step(x, eps, s.level(10.0), s.level(11.0))) == pytest.approx(factor * 0.3 + std, rel=1e-6)


@pytest.mark.parametrize("prediction", predictions)
@pytest.mark.parametrize("name", schedules)
@given(t=st.floats(1.0, 999.0), x=st.floats(-1, 1), e=st.floats(-4, 4))
def test_predictions_round_trip(prediction: str, name: str, t: float, x: float, e: float) -> None:
    """From (x0, eps) to F and back, in float64."""
    level = schedule(name).level(t)
    x0, eps = torch.full((1, 1, 1, 1), x, dtype=torch.float64), torch.full((1, 1, 1, 1), e, dtype=torch.float64)
    x_t = add_noise(x0, eps, level)
    guess = estimate(prediction, target(prediction, x0, eps, level), x_t, level)
    assert float(guess.x0) == pytest.approx(x, abs=1e-8)
    assert float(guess.eps) == pytest.approx(e, abs=1e-8)
    assert float(score(guess, level)) == pytest.approx(-e / level.sigma, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("prediction", predictions)
def test_pure_noise_gives_finite_estimates(prediction: str) -> None:
    """At t = T of the straight path no picture is left; eps_hat is then x_t for all but what epsilon itself says."""
    level, x_t = schedule("linear_path").level(float(T)), torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    guess = estimate(prediction, torch.full_like(x_t, 0.2), x_t, level)
    assert torch.isfinite(guess.x0).all()
    assert float(guess.eps) == pytest.approx(0.2 if prediction == "epsilon" else 0.7)


def test_the_score_is_the_gradient_of_the_log_density() -> None:
    level = schedule("cosine").level(500.0)
    x = torch.tensor([[[[0.3, -0.5]]], [[[2.0, 1.0]]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(TWO.log_density(x, level).sum(), x)
    assert torch.allclose(score(TWO.denoise(x, level), level), gradient, atol=1e-12)


@pytest.mark.parametrize("name", schedules)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("count", [1, 2, 5, 20, 120, 1000])
def test_grids_fall_strictly_from_noise_to_clean(name: str, grid: str, count: int) -> None:
    found = levels(schedule(name), count, grid)
    times = [float(level.t) for level in found]
    assert len(times) == count + 1
    assert all(a > b for a, b in pairwise(times))
    if grid in ("uniform", "trailing"):
        assert times[0] >= 999.0
    assert (times[-1], found[-1].sigma) == (0.0, 0.0)


def test_logsnr_and_karras_grids_are_even_where_they_say() -> None:
    s = schedule("linear")
    even = [logsnr(level) for level in levels(s, 9, "logsnr")[:-1]]
    assert np.allclose(np.diff(even), np.diff(even)[0], rtol=1e-6)
    ratio = [(level.sigma / level.alpha) ** (1 / 7) for level in levels(s, 9, "karras")[:-1]]
    assert np.allclose(np.diff(ratio), np.diff(ratio)[0], rtol=1e-6)


@pytest.mark.parametrize("bad", [0, -1, 1001])
def test_steps_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(ZaoziError, match="1 to 1000"):
        levels(schedule("linear"), bad)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_means_the_same_for_every_prediction(weight: str) -> None:
    """The weighted error on F is one and the same weighted error on x0, whatever F is."""
    if weight == "unit":
        return
    level = schedule("cosine").level(torch.tensor([100.0, 400.0, 800.0]))
    x_t = torch.randn(3, 1, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0, wrong = 0.3 * x_t, 0.1 * x_t + 0.2
    alpha, sigma = level.per_picture(x_t)
    results = []
    for prediction in predictions:
        f = target(prediction, x0, (x_t - alpha * x0) / sigma, level)
        f_wrong = target(prediction, wrong, (x_t - alpha * wrong) / sigma, level)
        error = (f - f_wrong).square().mean((1, 2, 3))
        results.append(weight_on_f(weight, prediction, level) * error)
    for other in results[1:]:
        assert torch.allclose(results[0], other, rtol=1e-9)


def test_named_weights_are_what_they_say() -> None:
    level = schedule("linear").level(torch.tensor([10.0, 300.0, 900.0]))
    snr = (level.alpha / level.sigma) ** 2
    assert torch.allclose(weight_on_f("snr", "epsilon", level), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(weight_on_f("min_snr_5", "sample", level), snr.clamp(max=5))
    assert torch.allclose(weight_on_f("min_snr_5", "epsilon", level), snr.clamp(max=5) / snr)
    flow = schedule("linear_path").level(torch.tensor([100.0, 600.0]))
    assert torch.allclose(weight_on_f("velocity", "flow", flow), torch.ones(2, dtype=torch.float64))
    assert weight_on_f("velocity", "sample", Level(0, 1.0, 0.001)).item() == pytest.approx(400.0)


@pytest.mark.parametrize("prediction", predictions)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_are_finite_at_pure_noise(prediction: str, weight: str) -> None:
    for name in schedules:
        found = weight_on_f(weight, prediction, schedule(name).level(torch.tensor([float(T)])))
        assert torch.isfinite(found).all()


def test_recipes_know_the_same_names() -> None:
    names = {key: typing.get_args(hint) for key, hint in typing.get_type_hints(DiffusionConfig).items()}
    assert (names["weight"], names["times"]) == (WEIGHTS, TIMES)
    for key in ("schedule", "prediction"):
        with pytest.raises(ZaoziError, match=rf"'diffusion.{key}' is 'flaw'.* \(known: "):
            from_dict(Recipe, {"diffusion": {key: "flaw"}})


def test_the_coefficients_reject_unknown_predictions() -> None:
    with pytest.raises(ZaoziError, match="did you mean 'epsilon'"):
        coefficients("epsilom", torch.ones(1), torch.ones(1))


def test_training_times_follow_their_law() -> None:
    g = torch.Generator().manual_seed(0)
    uniform = training_times("uniform", 20_000, g) / T
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    shares = training_times("logit_normal", 20_000, g, mean=0.8, std=0.8) / T
    logits = torch.logit(shares)
    assert float(logits.mean()) == pytest.approx(0.8, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.02)
    assert uniform.min() >= 1e-3
