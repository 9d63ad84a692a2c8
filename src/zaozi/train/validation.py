"""Validation of a denoiser: its x0 error on held-out pairs at fixed levels with fixed noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.noise import picture_noise
from zaozi.core.recipe import DataConfig
from zaozi.core.types import Cond
from zaozi.data.pairs import find_dataset, load_pairs
from zaozi.diffusion.process import add_noise
from zaozi.model.denoiser import Denoiser
from zaozi.text.encoders import load_encoder

LOGSNRS = tuple(float(v) for v in np.linspace(-9.0, 6.0, 20))
"""Twenty log-SNRs from nearly pure noise to nearly clean, the same for every schedule."""


@torch.inference_mode()
def x0_error(
    model: Denoiser, x0: Tensor, cond: Cond, *, logsnrs: Sequence[float] = LOGSNRS, seed: int = 0, batch: int = 64
) -> list[float]:
    """Return the mean squared error of x0_hat, clamped to the pictures' range, at each log-SNR.

    `x0` `[N, C, s, s]` is in the model's space. The noise of pair n depends on (seed, n), so two models with the same space are
    compared on the same noisy pictures. Levels outside the schedule's range are clamped to it.
    """
    device = next(model.parameters()).device
    eps = picture_noise(seed, range(len(x0)), tuple(x0.shape[1:]))(0)
    errors = []
    for wanted in logsnrs:
        level = model.schedule.level(model.schedule.time(wanted))
        total = 0.0
        for start in range(0, len(x0), batch):
            rows = slice(start, start + batch)
            clean = x0[rows].to(device)
            guess = model(add_noise(clean, eps[rows].to(device), level), level, cond.take(rows).to(device)).x0
            if model.space.bounds is not None:
                guess = guess.clamp(*model.space.bounds)
            total += float((guess - clean).square().mean((1, 2, 3)).sum())
        errors.append(total / len(x0))
    return errors


def held_out_error(model: Denoiser, data: Path | None = None, pairs: int = 256, seed: int = 0) -> list[float]:
    """Return `x0_error` on `pairs` evenly spread validation pairs of a dataset (default: the glyphs), conditioned on text only.

    Raises `ZaoziError` if the dataset is missing, has no validation pair, or its pictures do not match the model.
    """
    if pairs < 1:
        raise ZaoziError(f"{pairs} pairs are out of range; use 1 or more")
    folder = find_dataset(DataConfig(path=str(data) if data else "", size=model.config.size))
    found, wanted = load_pairs(folder, "validation"), (model.config.channels, model.config.size, model.config.size)
    if found.pictures.shape[1:] != wanted:
        raise ZaoziError(
            f"{folder} has pictures of {found.pictures.shape[1:]} (channels, height, width), the model draws {wanted}; "
            "name its own dataset with --data"
        )
    rows = found.some(pairs)
    if not len(rows):
        raise ZaoziError("the dataset has no validation pair; build it from more pictures")
    text = model.config.text
    cond = load_encoder(text.encoder, text.max_tokens).encode([found.texts[r] for r in rows])
    return x0_error(model, model.space.encode(found.batch(rows)), cond, seed=seed)
