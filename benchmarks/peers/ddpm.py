"""denoising-diffusion-pytorch (lucidrains), as the example of its README: `Unet` with flash attention, `GaussianDiffusion`.

Its step is that of `Trainer.train`: the loss under `amp`, clipping at 1, Adam, `EMA` every ten steps. `amp` is fp16, which is for
GPUs alone; here it is bf16, where that is fast. It has no text. Its pictures: DDIM with 250 steps.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from ema_pytorch import EMA

from benchmarks.contestant import CALLS, Contestant, How, Setup, cost_of
from zaozi.core.precision import fast_in_half

STEPS = 250


def at_equal_cost(setup: Setup) -> list[Contestant]:
    """Return the example at the cost of zaozi's network."""
    return [_contestant(setup, len(setup.batches[0].x0), "", dim=14, init_dim=12)]


def at_own_width(setup: Setup) -> list[Contestant]:
    """Return the example at the width in its README."""
    return [_contestant(setup, setup.own, " at its own width", dim=64)]


def _contestant(setup: Setup, size: int, suffix: str, **widths: int) -> Contestant:
    half = fast_in_half(setup.device)
    network: Any = Unet(**widths, dim_mults=(1, 2, 4, 8), channels=1, flash_attn=True)
    side = setup.batches[0].x0.shape[-1]
    diffusion: Any = GaussianDiffusion(network, image_size=side, timesteps=1000, sampling_timesteps=STEPS)
    diffusion = diffusion.to(setup.device).train()
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    average: Any = EMA(diffusion, beta=0.995, update_every=10).to(setup.device)
    pictures = [(batch.x0[:size] + 1.0) / 2.0 for batch in setup.batches]

    def update(number: int) -> float:
        with setup.autocast(half):
            loss = diffusion(pictures[number % len(pictures)])
        loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update()
        return len(pictures[0])

    def draw(how: How) -> float:
        steps = STEPS if how == "usual" else CALLS
        diffusion.sampling_timesteps = done = min(steps, setup.cut if how == "usual" else CALLS)  # calls cost the same
        diffusion.sample(batch_size=setup.draws)
        return setup.draws * done / steps

    one = pictures[0][:1]
    return Contestant(
        name="denoising-diffusion-pytorch" + suffix,
        version=f"denoising-diffusion-pytorch {version('denoising-diffusion-pytorch')}",
        precision="bf16" if half else "fp32",
        network=network,
        cost=cost_of(network, side, lambda: network(one, torch.tensor([1], device=one.device))),
        batch=size,
        update=update,
        draw=None if suffix else draw,
        sampler=(f"DDIM, {STEPS} steps ({min(STEPS, setup.cut)} timed), no text", f"DDIM, {CALLS} steps, no text"),
    )
