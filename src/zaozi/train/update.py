"""One update of the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from zaozi.core.noise import lent_generator
from zaozi.train.batches import Batch
from zaozi.train.optim import ema_decay, ema_update, rate
from zaozi.train.run import Run
from zaozi.train.step import some_rows


def optimiser_step(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    """Update the optimisers and the averaged weights with this process's share of a batch.

    Returns the loss of that share and the gradient norm before clipping, as scalars on the device. Does not synchronise
    with the device.
    """
    recipe, training, accelerator = run.recipe, run.training, run.workers.accelerator
    run.rate = rate(recipe.optim, run.step, run.progress)
    for optimiser in training.optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = run.rate * group["initial_lr"]
    parts = recipe.train.accumulate
    size = len(batch.x0) // parts
    total = torch.zeros((), device=run.workers.device)
    with _private_dropout(run):
        for i in range(parts):
            some = some_rows(batch, slice(i * size, (i + 1) * size)) if parts > 1 else batch
            with accelerator.no_sync(training.network) if i + 1 < parts else torch.enable_grad():
                with run.autocast():
                    loss = run.loss(training.network, some)
                (loss / parts).backward()
            total += loss.detach() / parts
    weights = training.weights
    norm = nn.utils.clip_grad_norm_(weights, recipe.optim.clip)
    for optimiser in training.optimisers.values():
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    average = list(training.average.network.parameters())
    ema_update(average, weights, ema_decay(recipe.train.ema, run.step))
    return total, norm


def _private_dropout(run: Run) -> AbstractContextManager[None]:
    """Seed the global generator by step for dropout, which has no generator of its own."""
    if not run.recipe.network.is_random:
        return nullcontext()
    return lent_generator(run.recipe.train.seed, run.step, run.workers.rank, 1)
