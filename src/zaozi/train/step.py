"""The loss of a batch, and a check that the recipe can learn."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from zaozi.core.noise import training_generator
from zaozi.core.recipe import ModelConfig
from zaozi.core.types import Cond, Level
from zaozi.diffusion.losses import weight_on_f
from zaozi.diffusion.prediction import target
from zaozi.diffusion.process import add_noise
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.train.batches import Batch, Batches


def loss_of(network: nn.Module, batch: Batch, prediction: str, weight: str) -> Tensor:
    """Return the weighted mean squared error of F over a batch; a scalar."""
    x_t = add_noise(batch.x0, batch.eps, batch.level)
    f = network(x_t, batch.level.noise_share(len(x_t), x_t.device), batch.cond).float()
    error = (f - target(prediction, batch.x0, batch.eps, batch.level)).square().mean((1, 2, 3))  # (B,)
    return (weight_on_f(weight, prediction, batch.level).to(error) * error).mean()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device; on CUDA also its levels, to avoid synchronisation in each step."""
    if device.type == "cpu":
        return batch
    level = batch.level
    if device.type == "cuda":
        level = Level(*(torch.as_tensor(v).to(device) for v in (level.t, level.alpha, level.sigma)))
    return Batch(batch.x0.to(device), batch.eps.to(device), level, batch.cond.to(device))


def some_rows(batch: Batch, rows: slice) -> Batch:
    level = batch.level
    some = Level(*(torch.as_tensor(v)[rows] for v in (level.t, level.alpha, level.sigma)))
    return Batch(batch.x0[rows], batch.eps[rows], some, batch.cond.take(rows))


def self_check(config: ModelConfig, batches: Batches, *, steps: int = 300) -> tuple[bool, float, float]:
    """Overfit eight pairs with a copy of the recipe's network until the loss is below a third of its initial value.

    Returns whether this happened within `steps` steps of Adam, and the loss before and after.
    """
    model: Denoiser = make_denoiser(config).eval()
    rows = batches.pairs.some(8)
    with torch.no_grad():
        x0 = batches.space.encode(batches.pairs.batch(rows)).repeat_interleave(2, 0)
    cond: Cond = replace(batches.cond(rows), properties={}).map(lambda v: v.repeat_interleave(2, 0))
    cond = batches.with_lower(cond.to("cpu"), x0, training_generator(0, 0, 0, 6))
    t = torch.linspace(400.0, 900.0, len(x0), dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=training_generator(0, 0, 0, 3))
    batch = Batch(x0, eps, model.schedule.level(t), cond)
    optimiser = torch.optim.Adam(model.network.parameters(), lr=2e-3, betas=(0.9, 0.95))
    first = last = math.inf
    for step in range(steps):
        loss = loss_of(model.network, batch, config.diffusion.prediction, config.diffusion.weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        last = float(loss.detach())
        first = last if step == 0 else first
        if last < first / 3:
            return True, first, last
    return False, first, last
