"""Samplers and guidance against an exact denoiser and against diffusers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from zaozi.core.components import schedules
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import picture_noise
from zaozi.core.types import Estimate, Level
from zaozi.diffusion.brownian import Brownian
from zaozi.diffusion.levels import levels
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.prediction import estimate
from zaozi.diffusion.samplers import (
    consistency,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_sde,
    euler,
    heun,
    sampler,
    samplers,
    unipc,
)
from zaozi.diffusion.schedules import T, logsnr, schedule


def no_noise(_: int) -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def walk(name: str, sample: object, start: float, end: float, steps: int, x: Tensor) -> Tensor:
    """From one interior time to another, even in log-SNR."""
    s = schedule(name)
    a, b = logsnr(s.level(start)), logsnr(s.level(end))
    grid = [s.level(s.time(a + (b - a) * k / steps)) for k in range(steps + 1)]
    return sample(TWO.denoise, x, grid, noise=no_noise)  # type: ignore[operator]


@pytest.mark.parametrize(("sample", "order"), [(ddim, 1.0), (euler, 1.0), (heun, 2.0), (dpmpp_2m, 2.0), (unipc, 3.0)])
@pytest.mark.parametrize("name", ["cosine", "linear_path"])
def test_order_of_convergence(sample: object, order: float, name: str) -> None:
    """The error against a fine solution falls with the steps at the sampler's order (fitted slope)."""
    x = torch.linspace(-2, 2, 16, dtype=torch.float64).reshape(8, 1, 1, 2)
    exact = walk(name, unipc, 800.0, 200.0, 4000, x)
    counts = np.array([20, 40, 80, 160])
    errors = [float((walk(name, sample, 800.0, 200.0, int(n), x) - exact).abs().max()) for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("name", schedules)
@pytest.mark.parametrize("which", [name for name in samplers if name != "consistency"])  # for distilled models
def test_samples_have_the_moments_and_weights_of_the_mixture(which: str, name: str) -> None:
    def noise(draw: int) -> Tensor:
        return torch.randn(8000, 1, 1, 2, generator=torch.Generator().manual_seed(draw), dtype=torch.float64)

    grid = levels(schedule(name), 500 if which == "ddpm" else 200, "uniform")
    x = samplers[which](TWO.denoise, noise(0), grid, noise=noise).flatten(1)
    mean = (TWO.weights[:, None] * TWO.means).sum(0)
    assert torch.allclose(x.mean(0), mean, atol=0.04)
    left = (x[:, 0] < 0).double().mean()
    assert float(left) == pytest.approx(0.3, abs=0.03)
    assert float(x[x[:, 0] > 0].std(0).mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", schedules)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_consistency_samples_are_right_after_any_number_of_steps_of_an_exact_student(steps: int, name: str) -> None:
    """For x0 of N(0, c^2), the path of the ODE through x_t ends at c * x_t / sqrt(alpha_t^2 c^2 + sigma_t^2)."""
    c = 0.4

    def end(x: Tensor, level: Level) -> Estimate:
        x0 = c * x / (float(level.alpha) ** 2 * c**2 + float(level.sigma) ** 2) ** 0.5
        return Estimate(x0, (x - float(level.alpha) * x0) / float(level.sigma))

    noise = picture_noise(0, range(20_000), (1,))
    grid = levels(schedule(name), steps)
    x = consistency(end, float(grid[0].sigma) * noise(0).double(), grid, noise=lambda d: noise(d).double())
    assert float(x.mean()) == pytest.approx(0, abs=0.01)
    assert float(x.std()) == pytest.approx(c, rel=0.02)


def test_ddpm_is_ddim_with_eta_one_on_the_full_grid() -> None:
    noise = picture_noise(0, range(4), (1, 1, 2))
    grid = levels(schedule("cosine"), T)
    draws = {"noise": lambda d: noise(d).double()}
    a = ddpm(TWO.denoise, noise(0).double(), grid, **draws)
    b = ddim(TWO.denoise, noise(0).double(), grid, eta=1.0, **draws)
    assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", schedules)
def test_euler_is_ddim_without_fresh_noise(name: str) -> None:
    grid = levels(schedule(name), 20)
    x = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = (f(TWO.denoise, x, grid, noise=no_noise) for f in (euler, ddim))
    assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("which", list(samplers))
@pytest.mark.parametrize("name", schedules)
def test_one_step_returns_x0_hat(which: str, name: str) -> None:
    grid = levels(schedule(name), 1)
    x = torch.randn(3, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = samplers[which](TWO.denoise, x, grid, noise=no_noise)
    assert torch.allclose(made, TWO.denoise(x, grid[0]).x0, atol=1e-6)


@pytest.mark.parametrize("which", list(samplers))
def test_on_step_sees_every_step_and_changes_nothing(which: str) -> None:
    noise = picture_noise(0, [0, 1], (1, 1, 2))
    grid = levels(schedule("linear"), 7)
    seen: list[tuple[Level, Tensor, Estimate]] = []
    run = partial(samplers[which], TWO.denoise, noise(0).double(), grid, noise=lambda d: noise(d).double())
    watched = run(on_step=lambda *step: seen.append(step))
    assert torch.equal(watched, run())
    assert [float(level.t) for level, _, _ in seen] == [float(level.t) for level in grid[:-1]]
    for level, x, guess in seen:
        assert torch.allclose(TWO.denoise(x, level).x0, guess.x0)


# -- one Brownian path ---------------------------------------------------------------------------------------------


def test_a_path_is_a_brownian_motion_over_the_signal_to_noise_ratio() -> None:
    noise = picture_noise(0, range(4000), (1,))
    path = Brownian(lambda d: noise(d).double())
    s = schedule("linear_path")
    a, b, c = (s.level(t) for t in (900.0, 700.0, 350.0))
    first, second, both = path.normal(a, b), path.normal(b, c), path.normal(a, c)
    for one in (first, second, both):
        assert float(one.mean()) == pytest.approx(0, abs=0.05)
        assert float(one.std()) == pytest.approx(1, abs=0.03)
    assert float((first * second).mean()) == pytest.approx(0, abs=0.05), "steps apart are independent"
    va, vb, vc = ((level.alpha / level.sigma) ** 2 for level in (a, b, c))
    joined = ((vb - va) ** 0.5 * first + (vc - vb) ** 0.5 * second) / (vc - va) ** 0.5
    assert torch.allclose(joined, both, atol=1e-6), "two steps add up to the long one"


@pytest.mark.parametrize("which", ["dpmpp-sde", "dpmpp-2m-sde"])
@pytest.mark.parametrize("name", ["cosine", "linear_path"])
def test_the_same_seed_walks_the_same_path_at_any_number_of_steps(which: str, name: str) -> None:
    noise = picture_noise(0, range(16), (1, 1, 2))
    s = schedule(name)
    a, b = logsnr(s.level(900.0)), logsnr(s.level(100.0))

    def end(steps: int) -> Tensor:
        grid = [s.level(s.time(a + (b - a) * k / steps)) for k in range(steps + 1)]
        return samplers[which](TWO.denoise, noise(0).double(), grid, noise=lambda d: noise(d).double())

    fine = end(512)
    errors = [float((end(n) - fine).abs().median()) for n in (8, 32, 128)]  # a few cross to the other mode
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors
    assert errors[2] < 0.02


# -- against diffusers, on the same noise predictions --------------------------------------------------------------


def eps_model(x: Tensor, t: int) -> Tensor:
    """Any smooth function will do as a noise prediction; t is ours (1 to T)."""
    return torch.tanh(0.8 * x + 0.3 * np.sin(t / 150.0)) + 0.1 * x.roll(1, -1)


def from_eps(x: Tensor, level: Level) -> Estimate:
    return estimate("epsilon", eps_model(x, round(float(level.t))), x, level)


def exact(theirs: object, name: str) -> None:
    """Their tables are float32; with the same ones in float64 the rest must agree to rounding."""
    table = torch.from_numpy(schedule(name).alpha_bar[1:].copy())
    assert torch.allclose(theirs.alphas_cumprod.double(), table, rtol=2e-5, atol=1e-7)  # type: ignore[attr-defined]
    theirs.alphas_cumprod = table  # type: ignore[attr-defined]


def walked(theirs: object, y: Tensor) -> Tensor:
    """What their scheduler makes of y, step by step, on our noise predictions."""
    for k in theirs.timesteps:  # type: ignore[attr-defined]
        y = theirs.step(eps_model(y, int(k) + 1), k, y).prev_sample  # type: ignore[attr-defined]
    return y


NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_ddim_equals_diffusers(name: str, steps: int) -> None:
    theirs = diffusers.DDIMScheduler(
        beta_schedule=NAMES[name], clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    exact(theirs, name)
    theirs.set_timesteps(steps)
    x = y = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = y.clone()
    y = walked(theirs, y)
    x = ddim(from_eps, x, levels(schedule(name), steps, "trailing"), noise=no_noise)
    assert relative(x, y) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_ddpm_equals_diffusers(name: str) -> None:
    """Step by step from the same state with the same noise (their noise is drawn inside, so one step at a time)."""
    theirs = diffusers.DDPMScheduler(beta_schedule=NAMES[name], clip_sample=False, variance_type="fixed_small")
    exact(theirs, name)
    s = schedule(name)
    for k in (999, 500, 37, 1):
        x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        eps = eps_model(x, k + 1)
        y = theirs.step(eps, k, x, generator=torch.Generator().manual_seed(5)).prev_sample
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        mine = ddpm(from_eps, x, [s.level(k + 1.0), s.level(float(k))], noise=lambda _, n=noise: n)
        assert relative(mine, y) < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [5, 20, 50])
def test_dpmpp_2m_equals_diffusers(name: str, steps: int) -> None:
    """The same multistep solver: second order inside, first order on the last step, which ends clean."""
    theirs = diffusers.DPMSolverMultistepScheduler(
        beta_schedule=NAMES[name],
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="trailing",
    )
    exact(theirs, name)
    theirs.set_timesteps(steps)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x.clone()
    y = walked(theirs, y)
    mine = dpmpp_2m(from_eps, x, levels(schedule(name), steps, "trailing"), noise=no_noise)
    assert relative(mine, y) < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [5, 20, 50])
def test_unipc_equals_diffusers(name: str, steps: int) -> None:
    theirs = diffusers.UniPCMultistepScheduler(beta_schedule=NAMES[name], timestep_spacing="trailing")
    exact(theirs, name)
    theirs.set_timesteps(steps)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x.clone()
    y = walked(theirs, y)
    assert relative(unipc(from_eps, x, levels(schedule(name), steps, "trailing"), noise=no_noise), y) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_consistency_equals_diffusers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their x0_hat is mixed with x_t in a share of 0.25 / (100 t^2); a large scale of t leaves nothing of that."""
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": NAMES[name]}
    theirs = diffusers.LCMScheduler(**betas, clip_sample=False, timestep_scaling=1e9)
    exact(theirs, name)
    theirs.set_timesteps(timesteps=[999, 749, 499, 249])
    source = picture_noise(0, [0, 1], (1, 4, 4))
    draws = iter(range(1, 4))
    made = "diffusers.schedulers.scheduling_lcm.randn_tensor"
    monkeypatch.setattr(made, lambda *_, **__: source(next(draws)).double())
    x = y = source(0).double()
    y = walked(theirs, y)
    grid = [schedule(name).level(t) for t in (1000.0, 750.0, 500.0, 250.0, 0.0)]
    assert relative(consistency(from_eps, x, grid, noise=lambda d: source(d).double()), y) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_dpmpp_2m_sde_equals_diffusers(name: str) -> None:
    """Given the noise of our path at each step."""
    theirs = diffusers.DPMSolverMultistepScheduler(
        beta_schedule=NAMES[name],
        algorithm_type="sde-dpmsolver++",
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="trailing",
    )
    exact(theirs, name)
    theirs.set_timesteps(12)
    grid = levels(schedule(name), 12, "trailing")
    source = picture_noise(0, [0, 1], (1, 4, 4))
    path = Brownian(lambda d: source(d).double())
    x = y = source(0).double()
    for k, (t, s) in zip(theirs.timesteps, pairwise(grid), strict=True):
        z = path.normal(t, s) if s.sigma > 0 else torch.zeros_like(y)
        y = theirs.step(eps_model(y, int(k) + 1), k, y, variance_noise=z).prev_sample
    assert relative(dpmpp_2m_sde(from_eps, x, grid, noise=lambda d: source(d).double()), y) < 1e-5


def exploding(sigmas: list[float], times: list[float]) -> tuple[list[Level], Callable[[Tensor, Level], Estimate]]:
    """Levels with alpha = 1, in whose coordinates diffusers' sigma-based schedulers step, and the same model on them."""

    def denoise(x: Tensor, level: Level) -> Estimate:
        eps = eps_model(x / (1 + float(level.sigma) ** 2) ** 0.5, float(level.t) + 1)  # type: ignore[arg-type]
        return Estimate(x - float(level.sigma) * eps, eps)

    return [Level(t, 1.0, s) for t, s in zip(times, sigmas, strict=True)], denoise


@pytest.mark.parametrize(
    ("theirs", "sample"), [(diffusers.EulerDiscreteScheduler, euler), (diffusers.HeunDiscreteScheduler, heun)]
)
def test_euler_and_heun_equal_diffusers(theirs: type, sample: Callable[..., Tensor]) -> None:
    """Both step x / alpha over sigma / alpha. Ours step x itself, which for Heun is another (second-order) rule unless alpha
    stands still; so it is compared where alpha = 1."""
    other = theirs(beta_schedule="linear", timestep_spacing="trailing")
    other.set_timesteps(12)
    sigmas = list(dict.fromkeys(float(v) for v in other.sigmas))
    times = [float(t) for t in dict.fromkeys(other.timesteps.tolist())]
    grid, denoise = exploding(sigmas, [*times, 0.0])
    x = y = sigmas[0] * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in other.timesteps:
        y = other.step(eps_model(other.scale_model_input(y, k), float(k) + 1), k, y).prev_sample
    assert relative(sample(denoise, x, grid, noise=no_noise), y) < 1e-5


def test_dpmpp_sde_equals_diffusers() -> None:
    """Given the noise of our path, and grids whose every second level is the geometric middle that theirs puts in."""
    other = diffusers.DPMSolverSDEScheduler(beta_schedule="linear", timestep_spacing="trailing")
    other.set_timesteps(8)
    other.sigmas = other.sigmas.double()
    ends = list(dict.fromkeys(float(v) for v in other.sigmas))
    sigmas = [ends[0]]
    for a, b in pairwise(ends):
        sigmas += [(a * b) ** 0.5, b] if b > 0 else [b]
    grid, denoise = exploding(sigmas, [*other.timesteps.tolist(), 0.0])
    source = picture_noise(0, [0, 1], (1, 4, 4))
    path = Brownian(lambda d: source(d).double())
    x = y = ends[0] * source(0).double()
    other.noise_sampler = lambda a, b: path.normal(Level(0, 1.0, float(a)), Level(0, 1.0, float(b)))
    for k in other.timesteps:
        y = other.step(eps_model(other.scale_model_input(y, k), float(k) + 1), k, y).prev_sample
    assert relative(dpmpp_sde(denoise, x, grid, noise=lambda d: source(d).double()), y) < 1e-5


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference against the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def test_unknown_samplers_name_the_nearest() -> None:
    with pytest.raises(ZaoziError, match="did you mean 'dpmpp-2m'"):
        sampler("dpmpp2m")
