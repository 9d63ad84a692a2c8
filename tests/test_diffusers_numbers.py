"""The numbers that diffusers asserts in its scheduler tests, from zaozi's samplers on the same model and sample.

Source: tests/schedulers of huggingface/diffusers at 58eb52c. A row names the file (after `test_scheduler_`) and its test (after
`test_`); tests that assert the same number share a row. Sums and means are of |x| over the result.

zaozi computes in float64 and diffusers in float32, which matters in two places:

- Its float32 tables move sums above 50,000 by up to 0.07, and a mean of 19.9 by 0.002. Rows on `single` use such tables.
- Its float32 steps near t = 0 move three sums by 0.02 to 0.17, since 1 - alpha_bar has few digits there. These rows also give
  the sum that diffusers has with tables in float64, and are held to it.

The one step of `lcm` has boundary factors of 1 and 0 to 3e-9, and `tcd` without fresh noise is DDIM that ends at t = 1.

The rows repeat two quirks. Loops over sigma (euler, euler_ancestral, heun) hand the scaled sample x / sqrt(sigma^2 + 1) to the
step, so that it replaces x at each call. In the inverse schedulers, steps go from clean to noise; that of DDIM calls the model
at the time of the next level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.types import Denoise, Estimate, Level
from zaozi.diffusion.guidance import clamped
from zaozi.diffusion.prediction import estimate, from_x0
from zaozi.diffusion.process import add_noise, posterior_std
from zaozi.diffusion.samplers import sampler
from zaozi.diffusion.schedules import Schedule, T, schedule

STEPS = 10


def ramp(*shape: int) -> Tensor:
    """The deterministic sample, `[4, 3, ...]`: 0 to 1 with the pictures innermost."""
    count = math.prod(shape)
    return (
        (torch.arange(count, dtype=torch.float64) / count)
        .reshape(*shape[1:], shape[0])
        .permute(-1, *range(len(shape) - 1))
    )


SAMPLE, LINE = ramp(4, 3, 8, 8), ramp(4, 3, 1, 8)
NOISE = (767 / 768) - SAMPLE
"""The deterministic noise: the sample from its other end."""


def dummy(x: Tensor, k: float) -> Tensor:
    """The dummy model, at diffusers' timestep k = t - 1."""
    return x * k / (k + 1)


# -- levels ----------------------------------------------------------------------------------------------------------


def bars(first: float, last: float, power: float = 1.0) -> NDArray[np.float64]:
    """alpha_bar of betas that rise linearly (power 1) or with linear square roots (2). `[T + 1]`, alpha_bar[0] = 1."""
    rising = np.linspace(first ** (1 / power), last ** (1 / power), T) ** power
    return np.concatenate([[1.0], np.cumprod(1.0 - rising)])


def single(first: float, last: float, count: int = T) -> NDArray[np.float64]:
    """The same, linear, in float32. `[count + 1]`."""
    kept = (1.0 - torch.linspace(first, last, count)).cumprod(0)
    return np.concatenate([[1.0], kept.double().numpy()])


LINEAR, COSINE = schedule("linear"), schedule("cosine")
SINGLE = Schedule("linear in float32", single(1e-4, 0.02))
HIGHER = Schedule("linear from 0.01", bars(0.01, 0.02))
SCALED = Schedule("scaled linear", bars(0.00085, 0.012, power=2))


def at(s: Schedule, *times: float) -> list[Level]:
    return [s.level(float(t)) for t in times]


def ratios(bar: NDArray[np.float64]) -> NDArray[np.float64]:
    """sigma / alpha of every training timestep."""
    return np.sqrt((1.0 - bar[1:]) / bar[1:])


def evenly(high: float, low: float, rho: float = 7.0) -> NDArray[np.float64]:
    """EDM's spacing, logarithmic if rho is infinite. `[STEPS]`."""
    if np.isinf(rho):
        return np.geomspace(high, low, STEPS)
    return np.linspace(high ** (1 / rho), low ** (1 / rho), STEPS) ** rho


def timestep(sigma: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The timestep of a sigma, linear in its logarithm."""
    return np.interp(np.log(sigma), np.log(table), np.arange(len(table)))


def preserving(rho: float = 7.0) -> list[Level]:
    """Levels of `linear` evenly spaced in (sigma / alpha)^(1/rho), from t = T to t = 1, which comes twice."""
    table = ratios(LINEAR.alpha_bar)  # type: ignore[arg-type]
    sigma = evenly(table[-1], table[0], rho)
    k = np.rint(timestep(sigma, table))
    cos = 1.0 / np.sqrt(1.0 + sigma**2)
    found = [Level(float(t) + 1.0, float(a), float(s * a)) for t, a, s in zip(k, cos, sigma, strict=True)]
    return [*found, found[-1]]


def exploding(karras: bool = False) -> list[Level]:
    """Levels with alpha = 1 of 1100 training timesteps, evenly spaced in time or in sigma^(1/7), then clean."""
    table = ratios(single(1e-4, 0.02, count=1100))
    k = np.linspace(0, 1099, STEPS)[::-1]
    sigma = np.interp(k, np.arange(1100), table)
    if karras:
        sigma = evenly(table[-1], table[0])
        k = timestep(sigma, table)
    return [*(Level(float(t) + 1.0, 1.0, float(s)) for t, s in zip(k, sigma, strict=True)), Level(0.0, 1.0, 0.0)]


def edm(last: float) -> list[Level]:
    """Levels with alpha = 1 from sigma = 80 to 0.002, rho = 7; the model sees log(sigma) / 4 as its timestep."""
    found = [Level(0.25 * float(np.log(s)) + 1.0, 1.0, float(s)) for s in evenly(80.0, 0.002)]
    return [*found, Level(0.0, 1.0, last)]


def early(found: Sequence[Level]) -> list[Level]:
    """From clean to noise; as in diffusers' inversion, the model sees the time of the next level."""
    return [*(Level(b.t, a.alpha, a.sigma) for a, b in pairwise(found)), found[-1]]


# -- denoisers -------------------------------------------------------------------------------------------------------


def straight(prediction: str) -> Denoise:
    return lambda x, level: estimate(prediction, dummy(x, float(level.t) - 1.0), x, level)


def scaled(prediction: str) -> Denoise:
    """The estimate at the scaled sample, which it rejoins to instead of x. alpha = 1."""

    def denoise(x: Tensor, level: Level) -> Estimate:
        sigma = float(level.sigma)
        norm = (sigma**2 + 1.0) ** 0.5
        x = x / norm
        f = dummy(x, float(level.t) - 1.0)
        return from_x0(x - sigma * f if prediction == "epsilon" else x / norm**2 - sigma / norm * f, x, level)

    return denoise


def preconditioned(sign: float = 1.0, *, inside: bool = False) -> Denoise:
    """EDM's preconditioning with sigma_data = 0.5 (arXiv:2206.00364, table 1), alpha = 1.

    `sign` is that of c_out, negative for v-prediction. The model sees c_in * x if `inside`, otherwise x.
    """

    def denoise(x: Tensor, level: Level) -> Estimate:
        sigma, data = float(level.sigma), 0.5
        norm = (sigma**2 + data**2) ** 0.5
        f = dummy(x / norm if inside else x, float(level.t) - 1.0)
        return from_x0((data / norm) ** 2 * x + sign * sigma * data / norm * f, x, level)

    return denoise


def limited(denoise: Denoise) -> Denoise:
    """Dynamic thresholding with a largest value of 0.5, below 1: x0_hat is clamped to +-0.5 and doubled."""
    return lambda x, level: from_x0(2.0 * denoise(x, level).x0.clamp(-0.5, 0.5), x, level)


EPS, V = straight("epsilon"), straight("v_prediction")
CLIPPED_EPS, CLIPPED_V = (clamped(d, -1.0, 1.0) for d in (EPS, V))
KEPT_EPS, KEPT_V = (clamped(d, -1.0, 1.0, plus=True) for d in (EPS, V))
"""x0_hat clipped with eps_hat as it was, as in diffusers' DDIM."""
SCALED_EPS, SCALED_V = scaled("epsilon"), scaled("v_prediction")
EDM_EPS, EDM_V, EDM_INSIDE = preconditioned(), preconditioned(-1.0), preconditioned(inside=True)


# -- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A test of diffusers: the sum and the mean that it asserts, and what is run here."""

    test: str
    total: float | None
    mean: float
    sampler: str
    levels: Sequence[Level]
    denoise: Denoise
    start: Tensor = SAMPLE
    within: tuple[float, float] = (1e-2, 1e-3)
    """The tolerances of that test."""
    float64: float | None = None
    """The sum that diffusers has with its tables in float64, where float32 moves it by more than the tolerance."""


def noised(found: Sequence[Level], scale: float = 1.0) -> Tensor:
    """The start of the tests `full_loop_with_noise`."""
    return add_noise(scale * SAMPLE, NOISE, found[0])


LEADING = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
FULL, FULL_COSINE = (at(s, *range(1000, -1, -1)) for s in (LINEAR, COSINE))
SKIPPED = at(COSINE, *np.rint(np.linspace(999, 0, 25)) + 1, 0)
DDIM, DDIM_HIGHER = (at(s, *LEADING, 0) for s in (LINEAR, HIGHER))
UP, UP_HIGHER = (early(found[::-1]) for found in (DDIM, DDIM_HIGHER))
UP_FROM_1 = early(at(HIGHER, 1, *LEADING[::-1]))
TRAILING = at(SCALED, 1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 1)
DPM, DPM_SINGLE = (at(s, 1000, 900, 800, 700, 600, 501, 401, 301, 201, 101, 1) for s in (LINEAR, SINGLE))
KARRAS, LU = preserving(), preserving(np.inf)
VE, VE_KARRAS = exploding(), exploding(karras=True)
TOP = float(VE[0].sigma)
HIGH = TOP * SAMPLE
EDM, EDM_DPM = edm(0.0), edm(0.002)

ROWS = [
    Row("ddpm, ddpm_parallel: full_loop_no_noise", 258.9606, 0.3372, "ddpm", FULL, CLIPPED_EPS),
    Row("ddpm, ddpm_parallel: full_loop_with_v_prediction", 202.0296, 0.2631, "ddpm", FULL, CLIPPED_V),
    Row(
        "ddpm, ddpm_parallel: full_loop_with_noise",
        387.9466,
        0.5051,
        "ddpm",
        FULL[-3:],
        CLIPPED_EPS,
        noised(FULL[-3:]),
        float64=387.96725,
    ),
    Row("unclip: full_loop", 252.2682495, 0.3284743, "ddpm", FULL_COSINE, CLIPPED_EPS, float64=252.43900),
    Row("unclip: full_loop_skip_timesteps", 258.2044983, 0.3362038, "ddpm", SKIPPED, CLIPPED_EPS, float64=258.34107),
    Row("ddim, ddim_parallel: full_loop_no_noise", 172.0067, 0.223967, "ddim", DDIM, KEPT_EPS),
    Row("ddim, ddim_parallel: full_loop_with_v_prediction", 52.5302, 0.0684, "ddim", DDIM, KEPT_V),
    Row("ddim, ddim_parallel: full_loop_with_set_alpha_to_one", 149.8295, 0.1951, "ddim", DDIM_HIGHER, KEPT_EPS),
    Row(
        "ddim, ddim_parallel: full_loop_with_no_set_alpha_to_one",
        149.0784,
        0.1941,
        "ddim",
        at(HIGHER, *LEADING, 1),
        KEPT_EPS,
    ),
    Row("ddim, ddim_parallel: full_loop_with_noise", 354.5418, 0.4616, "ddim", DDIM[8:], KEPT_EPS, noised(DDIM[8:])),
    Row("ddim_inverse: full_loop_no_noise", 671.6816, 0.8746, "euler", UP, KEPT_EPS),
    Row("ddim_inverse: full_loop_with_v_prediction", 1394.2185, 1.8154, "euler", UP, KEPT_V),
    Row("ddim_inverse: full_loop_with_set_alpha_to_one", 539.9622, 0.7031, "euler", UP_HIGHER, KEPT_EPS),
    Row("ddim_inverse: full_loop_with_no_set_alpha_to_one", 542.6722, 0.7066, "euler", UP_FROM_1, KEPT_EPS),
    Row("lcm: full_loop_onestep", 18.7097, 0.0244, "ddim", at(SCALED, 1000, 0), EPS, within=(1e-3, 1e-3)),
    Row("tcd: full_loop_onestep_deter", 29.8715, 0.0389, "ddim", at(SCALED, 1000, 1), EPS, within=(1e-3, 1e-3)),
    Row("tcd: full_loop_multistep_deter", 181.2040, 0.2359, "ddim", TRAILING, EPS, within=(1e-3, 1e-3)),
    Row("euler: full_loop_no_noise, full_loop_device", 10.0807, 0.0131, "euler", VE, SCALED_EPS, HIGH),
    Row("euler: full_loop_with_v_prediction", 0.0002, 2.2676e-06, "euler", VE, SCALED_V, HIGH),
    Row(
        "euler: full_loop_device_karras_sigmas",
        124.52299499511719,
        0.16213932633399963,
        "euler",
        VE_KARRAS,
        SCALED_EPS,
        HIGH,
    ),
    Row("euler: full_loop_with_noise", 57062.9297, 74.3007, "euler", VE[8:], SCALED_EPS, noised(VE[8:], TOP)),
    Row("euler_ancestral: full_loop_no_noise, full_loop_device", 152.3192, 0.1983, "ddpm", VE, SCALED_EPS, HIGH),
    Row("euler_ancestral: full_loop_with_v_prediction", 108.4439, 0.1412, "ddpm", VE, SCALED_V, HIGH),
    Row("euler_ancestral: full_loop_with_noise", 56163.0508, 73.1290, "ddpm", VE[8:], SCALED_EPS, noised(VE[8:], TOP)),
    Row("heun: full_loop_no_noise, full_loop_device", 0.1233, 0.0002, "heun", VE, SCALED_EPS, HIGH),
    Row("heun: full_loop_with_v_prediction", 4.6934e-07, 6.1112e-10, "heun", VE, SCALED_V, HIGH),
    Row(
        "heun: full_loop_device_karras_sigmas",
        0.00015,
        1.9869554535034695e-07,
        "heun",
        VE_KARRAS,
        SCALED_EPS,
        HIGH,
        within=(1e-2, 1e-2),
    ),
    Row("heun: full_loop_with_noise", 75074.8906, 97.7538, "heun", VE[8:], SCALED_EPS, noised(VE[8:], TOP)),
    Row("dpm_multi: full_loop_no_noise, switch", None, 0.3301, "dpmpp-2m", DPM, EPS),
    Row("dpm_multi: full_loop_no_noise_thres", None, 1.1364, "dpmpp-2m", DPM, limited(EPS)),
    Row("dpm_multi: full_loop_with_v_prediction", None, 0.2251, "dpmpp-2m", DPM, V),
    Row("dpm_multi: full_loop_with_karras_and_v_prediction", None, 0.2096, "dpmpp-2m", KARRAS, V),
    Row("dpm_multi: full_loop_with_lu_and_v_prediction", None, 0.1554, "dpmpp-2m", LU, V),
    Row("dpm_multi: full_loop_with_noise", 318.4111, 0.4146, "dpmpp-2m", DPM[5:], EPS, noised(DPM[5:])),
    Row("dpm_multi_inverse: full_loop_no_noise, switch", None, 0.7047, "dpmpp-2m", DPM[::-1], EPS),
    Row("dpm_multi_inverse: full_loop_no_noise_thres", None, 19.8933, "dpmpp-2m", DPM_SINGLE[::-1], limited(EPS)),
    Row("dpm_multi_inverse: full_loop_with_v_prediction", None, 1.5194, "dpmpp-2m", DPM[::-1], V),
    Row(
        "dpm_multi_inverse: full_loop_with_karras_and_v_prediction",
        None,
        1.7833,
        "dpmpp-2m",
        [*KARRAS[-2::-1], KARRAS[0]],
        V,
        within=(1e-2, 2e-3),
    ),
    Row("unipc: full_loop_with_karras", None, 0.2925, "unipc", KARRAS, EPS),
    Row("unipc: full_loop_with_karras_and_v_prediction", None, 0.1966, "unipc", KARRAS, V),
    Row("unipc (1D): full_loop_with_karras", None, 0.2898, "unipc", KARRAS, EPS, LINE),
    Row("unipc (1D): full_loop_with_karras_and_v_prediction", None, 0.1944, "unipc", KARRAS, V, LINE),
    Row(
        "edm_euler: full_loop_no_noise, full_loop_device",
        34.1855,
        0.044,
        "euler",
        EDM,
        EDM_INSIDE,
        (80.0**2 + 1) ** 0.5 * SAMPLE,
        within=(1e-3, 1e-3),
    ),
    Row("edm_dpmsolver_multistep: full_loop_no_noise", None, 0.0001, "dpmpp-2m", EDM_DPM, EDM_EPS),
    Row(
        "edm_dpmsolver_multistep: full_loop_with_noise",
        8.1661,
        0.0106,
        "dpmpp-2m",
        EDM_DPM[5:],
        EDM_EPS,
        noised(EDM_DPM[5:]),
    ),
    Row("edm_dpmsolver_multistep: full_loop_no_noise_thres", None, 0.0080, "dpmpp-2m", EDM_DPM, limited(EDM_EPS)),
    Row("edm_dpmsolver_multistep: full_loop_with_v_prediction", None, 0.0092, "dpmpp-2m", EDM_DPM, EDM_V),
]


def made(row: Row) -> Tensor:
    """|x| at the end; fresh noise is that of torch.manual_seed(0), in float32, and only ancestral sampling draws any."""
    generator = torch.Generator().manual_seed(0)

    def noise(_: int) -> Tensor:
        assert row.sampler == "ddpm"
        return torch.randn(row.start.shape, generator=generator).double()

    return sampler(row.sampler)(row.denoise, row.start, row.levels, noise=noise).abs()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.test)
def test_samplers_give_the_numbers_that_diffusers_asserts(row: Row) -> None:
    x = made(row)
    if row.total is not None:
        assert float(x.sum()) == pytest.approx(row.total if row.float64 is None else row.float64, abs=row.within[0])
    assert float(x.mean()) == pytest.approx(row.mean, abs=row.within[1])


@pytest.mark.parametrize(
    ("test", "total", "mean", "which"),
    [
        ("ddim_parallel: batch_step_no_noise", 1147.7904, 0.4982, "ddim"),
        ("ddpm_parallel: batch_step_no_noise", 1153.1833, 0.5005, "ddpm"),
    ],
)
def test_single_steps_give_the_numbers_that_diffusers_asserts(test: str, total: float, mean: float, which: str) -> None:
    """One step each from timesteps 0, 1 and 2, of three samples; DDIM's are of 100 and end clean, DDPM's are of 1."""
    found = []
    for k, shift in enumerate((0.0, 0.1, -0.1)):
        path = at(LINEAR, k + 1, 0 if which == "ddim" else k)
        denoise = KEPT_EPS if which == "ddim" else CLIPPED_EPS
        found.append(sampler(which)(denoise, SAMPLE + shift, path, noise=lambda _: torch.zeros_like(SAMPLE)).abs())
    x = torch.cat(found)
    assert float(x.sum()) == pytest.approx(total, abs=1e-2)
    assert float(x.mean()) == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize(
    ("test", "s", "k", "previous", "power", "value"),
    [
        ("ddpm: variance", LINEAR, 487, 486, 2, 0.00979),
        ("ddpm: variance", LINEAR, 999, 998, 2, 0.02),
        ("ddim: variance", LINEAR, 420, 400, 2, 0.14771),
        ("ddim: variance", LINEAR, 980, 960, 2, 0.32460),
        ("ddim: variance", LINEAR, 487, 486, 2, 0.00979),
        ("ddim: variance", LINEAR, 999, 998, 2, 0.02),
        ("unclip: variance_fixed_small_log", COSINE, 487, 486, 1, 0.0549625),
        ("unclip: variance_fixed_small_log", COSINE, 999, 998, 1, 0.9994987),
    ],
)
def test_posteriors_have_the_variances_that_diffusers_asserts(
    test: str, s: Schedule, k: int, previous: int, power: int, value: float
) -> None:
    assert posterior_std(s.level(k + 1.0), s.level(previous + 1.0)) ** power == pytest.approx(value, abs=1e-5)
