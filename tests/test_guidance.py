"""Guidance and control: formulas, costs, and what a Gaussian mixture must do under them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from conftest import random_cond
from zaozi.core.components import samplers
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import between, picture_noise
from zaozi.core.types import Cond, Estimate, Level
from zaozi.diffusion.guidance import cfg, clamped, composed, dynamic, inpainted, interval, rising
from zaozi.diffusion.inversion import invert
from zaozi.diffusion.levels import levels
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.prediction import from_x0
from zaozi.diffusion.samplers import ddim
from zaozi.diffusion.schedules import schedule

MIDDLE = schedule("cosine").level(500.0)


class Counting:
    """A conditional denoiser whose x0_hat is the mean of its (masked) tokens; counts rows."""

    def __init__(self, factor: float = 1.0) -> None:
        self.rows: list[int] = []
        self.factor = factor

    def __call__(self, x: Tensor, level: Level, cond: Cond) -> Estimate:
        self.rows.append(len(x))
        value = self.factor * (cond.tokens * cond.mask[..., None]).sum((1, 2)) / 100
        ramp = 1.0 + 0.1 * torch.arange(x.shape[-1])
        return from_x0(value[:, None, None, None] * ramp.expand_as(x), x, level)


def noisy(rows: int = 3) -> Tensor:
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 3), (1.0, 3), (4.0, 6)])
def test_cfg_formula_and_cost(scale: float, rows: int) -> None:
    model, cond, x = Counting(), random_cond(3), noisy()
    guess = cfg(model, cond, scale)(x, MIDDLE)
    assert model.rows == [rows]
    with_text, without = model(x, MIDDLE, cond), model(x, MIDDLE, cond.null())
    assert torch.allclose(guess.x0, without.x0 + scale * (with_text.x0 - without.x0), atol=1e-6)
    assert torch.allclose(guess.eps, without.eps + scale * (with_text.eps - without.eps), atol=1e-5)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_scales_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(ZaoziError, match="guidance scale"):
        cfg(Counting(), random_cond(1), bad)
    with pytest.raises(ZaoziError, match="guidance scale"):
        cfg(Counting(), random_cond(1), lambda _: bad)(noisy(1), MIDDLE)
    with pytest.raises(ZaoziError, match="rescale"):
        composed(Counting(), [(random_cond(1), 1.0)], 2.0, rescale=2.0)
    with pytest.raises(ZaoziError, match="interval"):
        interval(3.0, 0.7, 0.2)


def test_a_negative_prompt_takes_the_base() -> None:
    model, cond, other, x = Counting(), random_cond(3), random_cond(3, seed=1), noisy()
    guess = cfg(model, cond, 3.0, negative=other)(x, MIDDLE)
    wanted, unwanted = model(x, MIDDLE, cond).x0, model(x, MIDDLE, other).x0
    assert torch.allclose(guess.x0, unwanted + 3.0 * (wanted - unwanted), atol=1e-6)


def test_composed_directions_add_and_negative_ones_push_away() -> None:
    model, a, b, x = Counting(), random_cond(3), random_cond(3, seed=1), noisy()
    each = torch.tensor([0.0, 1.0, -2.0])
    guess = composed(model, [(a, 1.0), (b, each)], 2.0)(x, MIDDLE)
    assert model.rows == [9]
    base, first, second = (model(x, MIDDLE, c).x0 for c in (a.null(), a, b))
    expected = base + 2.0 * ((first - base) + each[:, None, None, None] * (second - base))
    assert torch.allclose(guess.x0, expected, atol=1e-6)
    assert torch.allclose(MIDDLE.alpha * guess.x0 + MIDDLE.sigma * guess.eps, x, atol=1e-5)


def test_the_base_is_not_evaluated_where_it_cancels() -> None:
    model, one, other = Counting(), random_cond(3), random_cond(3)
    x = noisy()
    blend = composed(model, [(one, 0.75), (other, 0.25)], interval(4.0, 0.6, 1.0))(x, MIDDLE)
    assert model.rows == [6]
    parts = [model(x, MIDDLE, cond) for cond in (one, other)]
    assert torch.allclose(blend.x0, 0.75 * parts[0].x0 + 0.25 * parts[1].x0)
    assert torch.allclose(blend.eps, 0.75 * parts[0].eps + 0.25 * parts[1].eps)
    model.rows.clear()
    composed(model, [(one, 1.0), (other, 1.0)], 1.0)(x, MIDDLE)
    assert model.rows == [9], "weights of 2 in all need it"
    model.rows.clear()
    plain = composed(model, [(one, 1.0), (other, 0.0)], 3.0)(x, MIDDLE)
    assert model.rows == [6], "a weight of 0 needs no call"
    assert torch.equal(plain.x0, cfg(model, one, 3.0)(x, MIDDLE).x0)


def test_autoguidance_leads_away_from_the_weaker_model() -> None:
    strong, weak, cond, x = Counting(), Counting(0.5), random_cond(3), noisy()
    guess = composed(strong, [(cond, 1.0)], 2.0, weak=weak)(x, MIDDLE)
    assert (strong.rows, weak.rows) == ([3], [3])
    a, b = strong(x, MIDDLE, cond).x0, weak(x, MIDDLE, cond).x0
    assert torch.allclose(guess.x0, b + 2.0 * (a - b), atol=1e-6)


def test_cfg_plus_guides_the_picture_and_not_the_noise() -> None:
    model, cond, x = Counting(), random_cond(3), noisy()
    guess = clamped(composed(model, [(cond, 1.0)], 0.6, plus=True), -1, 1, plus=True)(x, MIDDLE)
    base, text = model(x, MIDDLE, cond.null()), model(x, MIDDLE, cond)
    assert torch.allclose(guess.x0, (base.x0 + 0.6 * (text.x0 - base.x0)).clamp(-1, 1), atol=1e-6)
    assert torch.equal(guess.eps, base.eps)


def test_rescale_brings_the_contrast_back() -> None:
    model, cond, x = Counting(), random_cond(3), noisy()
    plain = model(x, MIDDLE, cond).x0
    full, half = (composed(model, [(cond, 1.0)], 6.0, rescale=r)(x, MIDDLE).x0 for r in (1.0, 0.5))
    guided = cfg(model, cond, 6.0)(x, MIDDLE).x0
    dims = (1, 2, 3)
    assert torch.allclose(full.std(dims), plain.std(dims), rtol=1e-3)
    assert torch.allclose(half.std(dims), (plain.std(dims) + guided.std(dims)) / 2, rtol=1e-3)
    assert torch.allclose(full.mean(dims), guided.mean(dims), atol=1e-5)


def test_an_interval_and_a_curve_over_levels() -> None:
    model, cond = Counting(), random_cond(3)
    s = schedule("linear_path")
    denoise = cfg(model, cond, interval(4.0, 0.2, 0.8))
    for t in (900.0, 500.0, 100.0):
        denoise(noisy(), s.level(t))
    assert model.rows == [3, 6, 3], "outside the interval the unguided call is not made"
    for t, rows in ((200.0, 6), (800.0, 6), (199.0, 3), (801.0, 3)):
        model.rows.clear()
        denoise(noisy(), s.level(t))
        assert model.rows == [rows], "both ends belong to the interval"
    plus = composed(model, [(cond, 1.0)], interval(0.5, 0.2, 0.8), plus=True)
    x = noisy()
    outside = plus(x, s.level(900.0))
    assert torch.equal(outside.eps, model(x, s.level(900.0), cond).eps), "no guidance, so nothing is parted"
    curve = rising(4.0)
    assert callable(curve)
    assert [curve(s.level(t)) for t in (1000.0, 500.0, 0.0)] == pytest.approx([1.0, 4.0, 7.0])
    curve = rising(4.0, 0.2, 0.8)
    assert callable(curve)
    assert [curve(s.level(t)) for t in (800.0, 500.0, 200.0)] == pytest.approx([1.0, 4.0, 7.0])


def test_clamped_estimates_stay_consistent() -> None:
    level = schedule("cosine").level(900.0)
    x = 3 * torch.randn(4, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for limit in (clamped, dynamic):
        guess = limit(TWO.denoise, -0.2, 0.2)(x, level)
        assert guess.x0.abs().max() <= 0.2 + 1e-12
        assert torch.allclose(level.alpha * guess.x0 + level.sigma * guess.eps, x)


def test_dynamic_thresholding_squeezes_and_keeps_what_fits() -> None:
    x = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    level = schedule("cosine").level(500.0)
    inside = dynamic(lambda y, at: from_x0(x, y, at), -1, 1)(x, level).x0
    assert torch.allclose(inside, x)
    outside = dynamic(lambda y, at: from_x0(3 * x, y, at), -1, 1, share=1.0)(x, level).x0
    assert torch.allclose(outside, x, atol=1e-6), "proportions survive where a clamp would saturate"


@pytest.mark.parametrize("which", [name for name in samplers if name != "consistency"])  # for distilled models
def test_what_is_known_stays_and_the_rest_follows(which: str) -> None:
    """Given the first coordinate of the mixture, the second is drawn from the conditional law (of the likelier side)."""
    count = 2000
    known = torch.full((count, 1, 1, 2), 0.6, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 2)

    def noise(draw: int) -> Tensor:
        g = torch.Generator().manual_seed(draw)
        return torch.randn(count, 1, 1, 2, generator=g, dtype=torch.float64)

    grid = levels(schedule("cosine"), 60)
    made = samplers[which](inpainted(TWO.denoise, known, mask), noise(0), grid, noise=noise).flatten(1)
    assert torch.allclose(made[:, 0], known.flatten(1)[:, 0], atol=1e-6)
    assert float(made[:, 1].mean()) == pytest.approx(-0.3, abs=0.05)
    assert float(made[:, 1].std()) == pytest.approx(0.25, abs=0.04)


def test_noise_between_two_seeds_is_normal_and_reaches_both() -> None:
    a, b = (picture_noise(seed, range(200), (1, 8, 8)) for seed in (0, 1))
    for share in (0.0, 0.3, 1.0):
        mixed = between(a, b, share)(0)
        assert float(mixed.std()) == pytest.approx(1.0, abs=0.02)
    assert torch.allclose(between(a, b, 0.0)(3), a(3))
    assert torch.allclose(between(a, b, 1.0)(3), b(3), atol=1e-6)
    assert float((between(a, b, 0.5)(0) * a(0)).mean()) == pytest.approx(math.sqrt(0.5), abs=0.03)
    each = between(a, b, [k / 199 for k in range(200)])(2)
    assert torch.equal(each[100], between(a, b, 100 / 199)(2)[100])
    with pytest.raises(ZaoziError, match="share"):
        between(a, b, 1.5)


@pytest.mark.parametrize("name", ["cosine", "linear_path"])
def test_inversion_and_drawing_undo_each_other(name: str) -> None:
    s = schedule(name)
    grid = [*levels(s, 40)[:-1], s.level(1.0)]
    grid = [level for level in grid if float(level.alpha) > 0.02]
    x = TWO.sample(32, torch.Generator().manual_seed(0))
    noise = invert(TWO.denoise, x, grid, tolerance=1e-9, rounds=200)
    again = ddim(TWO.denoise, noise, grid, noise=lambda _: torch.zeros(()))
    assert torch.allclose(again, x, atol=1e-6)
    assert 0.5 < float(noise.std()) < 1.5
    with pytest.raises(ZaoziError, match="does not settle"):
        invert(TWO.denoise, x, grid, tolerance=1e-12, rounds=1)
