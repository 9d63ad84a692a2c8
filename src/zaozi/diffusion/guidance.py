"""Guidance: turns conditional denoisers into a denoiser, so every guidance method works with every sampler.

All methods extrapolate from a base estimate towards others: base + scale * sum of weight * (wanted - base). With the
unconditional estimate as base this is classifier-free guidance; a negative prompt or a weaker model can replace it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from zaozi.core.arrays import Tensor, lerp, library, like, single
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Conditional, Denoise, Estimate, Level
from zaozi.diffusion.prediction import from_x0

Scale = float | Callable[[Level], float | None]
"""Guidance strength: a number, or a function of the level (None means no guidance)."""
ROUNDING = 1e-9
Weight = float | Tensor
"""Weight of one guidance direction: a number, or one per picture `[B]`."""


def checked(scale: float, least: float = 0.0, *, plus: bool = False) -> float:
    """Return the scale if it is finite, at least `least` and, for CFG++, at most 1. Raises `ZaoziError` otherwise."""
    if not (math.isfinite(scale) and scale >= least):
        raise ZaoziError(f"guidance scale {scale} is out of range; use {least:g} or more (1 is none, 5 is usual)")
    if plus and scale > 1:
        raise ZaoziError(f"guidance scale {scale} is out of range for CFG++; use 0 to 1, 0.6 say")
    return scale


def interval(scale: Scale, low: float, high: float) -> Scale:
    """Limit guidance to noise shares u = sigma / (alpha + sigma) in [low, high]; outside, none is applied (at half the cost).

    Kynkaanniemi et al. 2024 (arXiv:2404.07724, eq. 6). Raises `ZaoziError` unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise ZaoziError(
            f"guidance interval {low} to {high} is out of range; use two noise shares, 0 <= low < high <= 1"
        )

    def within(level: Level) -> float | None:
        if not is_within(level.share, low, high):
            return None
        return scale(level) if callable(scale) else scale

    return within


def is_within(share: float, low: float, high: float) -> bool:
    """Whether a noise share is in [low, high], with room for rounding in the levels of a grid."""
    return low - ROUNDING <= share <= high + ROUNDING


def rising(scale: float, low: float = 0.0, high: float = 1.0) -> Scale:
    """Return a scale that rises from 1 at the noise share `high` to 2 * scale - 1 at `low`, linearly in the noise share: weak
    while the layout forms, strong for details (cf. arXiv:2404.13040). Raises `ZaoziError` if the scale is below 1."""
    checked(scale, 1.0)
    return lambda level: 1.0 + 2.0 * (scale - 1.0) * (high - level.share) / (high - low)


def composed(
    model: Conditional,
    wanted: Sequence[tuple[Cond, Weight]],
    scale: Scale,
    *,
    negative: Cond | None = None,
    weak: Conditional | None = None,
    rescale: float = 0.0,
    plus: bool = False,
) -> Denoise:
    """base + scale * sum_i weight_i * (wanted_i - base): composable diffusion (Liu et al. 2022, arXiv:2206.01714, conjunction).

    The base is the unconditional estimate, or `negative` (a negative prompt), or the `weak` model's estimate for the first
    condition (autoguidance, Karras et al. 2024, arXiv:2406.02507, eq. 3). Negative weights push away. Scale 0 returns the
    base alone, and scale 1 with one condition of weight 1 returns that condition alone; both cost one row per picture. At scale 1
    with weights whose sum is 1 the base cancels, and is not evaluated; neither are conditions of weight 0.
    Otherwise all conditions are evaluated in one batched call.

    - `rescale` in [0, 1] moves the contrast of x0_hat (its standard deviation) back towards that at scale 1
      (after Lin et al. 2023, arXiv:2305.08891, eqs. 15 and 16, who rescale the network's output including its mean).
    - `plus` guides x0_hat but keeps the base's eps_hat (CFG++, Chung et al. 2024, arXiv:2406.08070, algorithm 2);
      its scale is in [0, 1].

    Raises `ZaoziError` if scale or rescale is out of range, or if both `negative` and `weak` are given.
    """
    if not 0 <= rescale <= 1:
        raise ZaoziError(f"guidance rescale {rescale} is out of range; use 0 (none) to 1")
    if not callable(scale):
        checked(scale, plus=plus)
    if weak is not None and negative is not None:
        raise ZaoziError("a negative prompt and a weak model do not go together; choose one")
    wanted = [(c, w) for c, w in wanted if bool(np.any(np.asarray(w != 0.0)))] or wanted[:1]
    conds, weights = [c for c, _ in wanted], [w for _, w in wanted]
    alone = len(wanted) == 1 and bool(np.all(np.asarray(weights[0] == 1.0)))
    whole = bool(np.allclose(np.asarray(sum(weights)), 1.0))  # then the base cancels at scale 1
    base_cond = conds[0] if weak is not None else (negative if negative is not None else conds[0].null())

    def denoise(x: Tensor, level: Level) -> Estimate:
        strength = scale(level) if callable(scale) else scale
        unguided = strength is None or (strength == 1.0 and not plus)
        if alone and unguided:
            return model(x, level, conds[0])
        if whole and unguided and weak is None:
            parts = _each(model, x, level, conds)
            zero = library(x).zeros_like(x)
            return Estimate(*(_sum(1.0, zero, weights, [p[view] for p in parts]) for view in (0, 1)))
        strength = 1.0 if strength is None else checked(strength)
        if strength == 0.0:
            return (weak or model)(x, level, base_cond)
        if weak is not None:
            base, parts = weak(x, level, base_cond), _each(model, x, level, conds)
        else:
            *parts, base = _each(model, x, level, [*conds, base_cond])
        x0, eps = (_sum(strength, base[view], weights, [p[view] for p in parts]) for view in (0, 1))
        if rescale:
            plain = _sum(1.0, base.x0, weights, [p.x0 for p in parts])
            x0, eps = from_x0(_with_contrast(x0, plain, rescale), x, level)
        return Estimate(x0, base.eps if plus else eps)

    return denoise


def _each(model: Conditional, x: Tensor, level: Level, conds: Sequence[Cond]) -> list[Estimate]:
    """Return one estimate per condition, from a single batched call."""
    together = reduce(Cond.cat, conds)
    guess = model(library(x).concatenate([x] * len(conds)), level.repeated(len(conds)), together)
    rows = [slice(k * len(x), (k + 1) * len(x)) for k in range(len(conds))]
    return [Estimate(guess.x0[own], guess.eps[own]) for own in rows]


def _sum(scale: float, base: Tensor, weights: Sequence[Weight], parts: Sequence[Tensor]) -> Tensor:
    total = library(base).zeros_like(base)
    for weight, part in zip(weights, parts, strict=True):
        share = weight if isinstance(weight, (int, float)) else like(weight, base).reshape(-1, 1, 1, 1)
        total = total + share * (part - base)
    return base + scale * total


def _with_contrast(x0: Tensor, plain: Tensor, share: float) -> Tensor:
    """Move the standard deviation of x0 towards that of `plain` by the fraction `share`, per picture."""
    mean, std, other = x0.mean(axis=(1, 2, 3), keepdims=True), _std(x0), _std(plain)  # type: ignore[call-overload]
    ratio = other / std.clip(min=1e-6)
    return mean + (x0 - mean) * (share * ratio + 1.0 - share)


def _std(x: Tensor) -> Tensor:
    return library(x).std(x, axis=(1, 2, 3), correction=1, keepdims=True)


def cfg(model: Conditional, cond: Cond, scale: Scale, *, negative: Cond | None = None) -> Denoise:
    """Classifier-free guidance: uncond + scale * (cond - uncond), in one batched call (arXiv:2207.12598, eq. 6, scale = 1 + w).

    Scale 0 is unconditional and 1 is purely conditional; both cost one row per picture instead of two.
    Raises `ZaoziError` unless the scale is finite and at least 0.
    """
    return composed(model, [(cond, 1.0)], scale, negative=negative)


def clamped(denoise: Denoise, low: float, high: float, *, plus: bool = False) -> Denoise:
    """Clamp x0_hat to [low, high] and recompute eps_hat to match (with `plus`, CFG++, eps_hat is unchanged).

    Guidance above 1 pushes x0_hat out of the valid range, and epsilon prediction near pure noise pushes it far out.
    """
    return _limited(denoise, lambda x0: x0.clip(low, high), plus)


def dynamic(denoise: Denoise, low: float, high: float, *, share: float = 0.995, plus: bool = False) -> Denoise:
    """Dynamic thresholding (Imagen, arXiv:2205.11487, sec. 2.3): scale each x0_hat about the middle of [low, high] so that
    a fraction `share` of its pixels fits, then clamp. Compresses the range where `clamped` would saturate pixels."""
    middle, reach = (low + high) / 2, (high - low) / 2

    def squeeze(x0: Tensor) -> Tensor:
        off = (x0 - middle) / reach
        found = library(x0).quantile(single(abs(off).reshape(len(off), -1)), share, axis=1)
        widest = like(found.clip(min=1.0), x0)[:, None, None, None]
        return middle + reach * off.clip(-widest, widest) / widest

    return _limited(denoise, squeeze, plus)


def _limited(denoise: Denoise, limit: Callable[[Tensor], Tensor], plus: bool) -> Denoise:
    def inside(x: Tensor, level: Level) -> Estimate:
        guess = denoise(x, level)
        x0 = limit(guess.x0)
        return Estimate(x0, guess.eps) if plus else from_x0(x0, x, level)

    return inside


def inpainted(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Replace x0_hat by `known` `[B, C, H, W]` where `mask` `[B or 1, 1, H, W]` is 1, and eps_hat to match.

    The known part then follows its own noised path, alpha * known + sigma * noise, under every sampler. The network sees it
    at every level as in training, and it is returned unchanged.
    """

    def inside(x: Tensor, level: Level) -> Estimate:
        guess, kept = denoise(x, level), from_x0(library(x).broadcast_to(like(known, x), x.shape), x, level)
        where = like(mask, x)
        return Estimate(lerp(guess.x0, kept.x0, where), lerp(guess.eps, kept.eps, where))

    return inside
