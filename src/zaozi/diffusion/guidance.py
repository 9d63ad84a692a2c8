"""Guidance: a conditional denoiser in, a denoiser out, so that every guidance works with every sampler."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond, Conditional, Denoise, Estimate, Level
from zaozi.diffusion.prediction import from_x0


def cfg(model: Conditional, cond: Cond, scale: float) -> Denoise:
    """Classifier-free guidance: uncond + scale * (cond - uncond), in one batched call (arXiv:2207.12598, eq. 6, scale = 1 + w).

    Scale 0 is unconditional, 1 the plain condition; both cost one row a picture instead of two. The scale may be any
    finite number from 0 up; raises `ZaoziError` otherwise.
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ZaoziError(f"guidance scale {scale} is out of range; use 0 or more (1 is none, 5 is usual)")
    if scale in (0, 1):
        only = cond if scale == 1 else cond.null()
        return lambda x, level: model(x, level, only)
    both = Cond.cat(cond, cond.null())

    def denoise(x: Tensor, level: Level) -> Estimate:
        guess = model(torch.cat([x, x]), level, both)
        (x0, x0_null), (eps, eps_null) = guess.x0.chunk(2), guess.eps.chunk(2)
        return Estimate(x0_null + scale * (x0 - x0_null), eps_null + scale * (eps - eps_null))

    return denoise


def clamped(denoise: Denoise, low: float, high: float) -> Denoise:
    """x0_hat held within [low, high], and eps_hat made to agree with it.

    Guidance beyond 1 pushes x0_hat out of the pictures' range, and an epsilon network near pure noise throws it far out.
    """

    def inside(x: Tensor, level: Level) -> Estimate:
        return from_x0(denoise(x, level).x0.clamp(low, high), x, level)

    return inside
