"""Guidance: conditional denoisers in, a denoiser out, so that every guidance works with every sampler.

All of them move away from one estimate, the base, towards others: base + scale * sum of weight * (wanted - base). With the
unconditional twin as base that is classifier-free guidance; a negative prompt or a weaker model may stand in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Conditional, Denoise, Estimate, Level
from zaozi.diffusion.prediction import from_x0

Scale = float | Callable[[Level], float | None]
"""How strongly: a number, or a curve over levels (None where there is no guidance at all)."""
Weight = float | Tensor
"""How much of one direction: a number, or one a picture `[B]`."""


def checked(scale: float, least: float = 0.0) -> float:
    """The scale, if it is finite and `least` or more. Raises `ZaoziError` otherwise."""
    if not (math.isfinite(scale) and scale >= least):
        raise ZaoziError(f"guidance scale {scale} is out of range; use {least:g} or more (1 is none, 5 is usual)")
    return scale


def interval(scale: Scale, low: float, high: float) -> Scale:
    """The scale at noise shares u = sigma / (alpha + sigma) within [low, high], and no guidance (at half the cost) outside.

    Kynkaanniemi et al. 2024 (arXiv:2404.07724, eq. 6). Raises `ZaoziError` unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise ZaoziError(
            f"guidance interval {low} to {high} is out of range; use two noise shares, 0 <= low < high <= 1"
        )

    def within(level: Level) -> float | None:
        if not low <= level.share <= high:
            return None
        return scale(level) if callable(scale) else scale

    return within


def rising(scale: float) -> Scale:
    """A curve from 1 at pure noise to 2 * scale - 1 at the clean end, linear in the noise share: mild while the picture is
    laid out, strong while it is finished (cf. arXiv:2404.13040). Raises `ZaoziError` for a scale below 1."""
    checked(scale, 1.0)
    return lambda level: 1.0 + 2.0 * (scale - 1.0) * (1.0 - level.share)


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

    The base is the unconditional twin, or `negative` (a negative prompt), or what a `weak` model says to the first condition
    (autoguidance, Karras et al. 2024, arXiv:2406.02507, eq. 3). Negative weights push away. Scale 0 is the base alone; one
    condition of weight 1 at scale 1 is itself alone, and each costs one row a picture; otherwise all go in one batched call.

    - `rescale` in [0, 1] brings the contrast of x0_hat (its deviation about its mean) back towards that at scale 1
      (after Lin et al. 2023, arXiv:2305.08891, eqs. 15 and 16, who scale the network's output, its mean too).
    - `plus` leaves eps_hat at the base's while x0_hat is guided (CFG++, Chung et al. 2024, arXiv:2406.08070, algorithm 2);
      its scale lies in [0, 1].

    Raises `ZaoziError` for a scale or rescale out of range, or for both a negative prompt and a weak model.
    """
    if not 0 <= rescale <= 1:
        raise ZaoziError(f"guidance rescale {rescale} is out of range; use 0 (none) to 1")
    if not callable(scale):
        checked(scale)
        if plus and scale > 1:
            raise ZaoziError(f"guidance scale {scale} is out of range for CFG++; use 0 to 1, 0.6 say")
    if weak is not None and negative is not None:
        raise ZaoziError("a negative prompt and a weak model do not go together; choose one")
    conds, weights = [c for c, _ in wanted], [w for _, w in wanted]
    alone = len(wanted) == 1 and bool(torch.as_tensor(weights[0] == 1.0).all())
    base_cond = conds[0] if weak is not None else (negative if negative is not None else conds[0].null())

    def denoise(x: Tensor, level: Level) -> Estimate:
        strength = scale(level) if callable(scale) else scale
        if alone and (strength is None or (strength == 1.0 and not plus)):
            return model(x, level, conds[0])
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
    """One estimate a condition, all in one call."""
    together = reduce(Cond.cat, conds)
    guess = model(torch.cat([x] * len(conds)), level, together)
    return [Estimate(x0, eps) for x0, eps in zip(guess.x0.chunk(len(conds)), guess.eps.chunk(len(conds)), strict=True)]


def _sum(scale: float, base: Tensor, weights: Sequence[Weight], parts: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(base)
    for weight, part in zip(weights, parts, strict=True):
        share = weight.to(base).reshape(-1, 1, 1, 1) if isinstance(weight, Tensor) else weight
        total = total + share * (part - base)
    return base + scale * total


def _with_contrast(x0: Tensor, plain: Tensor, share: float) -> Tensor:
    """x0 with its deviation about its mean moved by `share` towards that of `plain`, picture by picture."""
    mean, std = x0.mean((1, 2, 3), keepdim=True), x0.std((1, 2, 3), keepdim=True)
    ratio = plain.std((1, 2, 3), keepdim=True) / std.clamp(min=1e-6)
    return mean + (x0 - mean) * (share * ratio + 1.0 - share)


def cfg(model: Conditional, cond: Cond, scale: Scale, *, negative: Cond | None = None) -> Denoise:
    """Classifier-free guidance: uncond + scale * (cond - uncond), in one batched call (arXiv:2207.12598, eq. 6, scale = 1 + w).

    Scale 0 is unconditional, 1 the plain condition; both cost one row a picture instead of two. The scale may be any
    finite number from 0 up; raises `ZaoziError` otherwise.
    """
    return composed(model, [(cond, 1.0)], scale, negative=negative)


def clamped(denoise: Denoise, low: float, high: float, *, plus: bool = False) -> Denoise:
    """x0_hat held within [low, high], and eps_hat made to agree with it (unless it is CFG++'s, which stays).

    Guidance beyond 1 pushes x0_hat out of the pictures' range, and an epsilon network near pure noise throws it far out.
    """
    return _limited(denoise, lambda x0: x0.clamp(low, high), plus)


def dynamic(denoise: Denoise, low: float, high: float, *, share: float = 0.995, plus: bool = False) -> Denoise:
    """Dynamic thresholding: each x0_hat squeezed about the middle of [low, high] so that `share` of it fits (Imagen,
    arXiv:2205.11487, sec. 2.3), then held within. Pixels are squeezed together where `clamped` would saturate them."""
    middle, reach = (low + high) / 2, (high - low) / 2

    def squeeze(x0: Tensor) -> Tensor:
        off = (x0 - middle) / reach
        widest = off.abs().flatten(1).float().quantile(share, dim=1).clamp(min=1.0).to(x0)[:, None, None, None]
        return middle + reach * off.clamp(-widest, widest) / widest

    return _limited(denoise, squeeze, plus)


def _limited(denoise: Denoise, limit: Callable[[Tensor], Tensor], plus: bool) -> Denoise:
    def inside(x: Tensor, level: Level) -> Estimate:
        guess = denoise(x, level)
        x0 = limit(guess.x0)
        return Estimate(x0, guess.eps) if plus else from_x0(x0, x, level)

    return inside


def inpainted(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """x0_hat with what is known put in: `known` `[B, C, H, W]` where `mask` `[B or 1, 1, H, W]` is 1, and eps_hat to agree.

    Every sampler then walks the known part along its own noised path, alpha * known + sigma * noise, so the network sees it
    at every level as it was trained to, and it comes out as it was given.
    """

    def inside(x: Tensor, level: Level) -> Estimate:
        guess, kept = denoise(x, level), from_x0(known.to(x).expand_as(x), x, level)
        where = mask.to(x)
        return Estimate(torch.lerp(guess.x0, kept.x0, where), torch.lerp(guess.eps, kept.eps, where))

    return inside
