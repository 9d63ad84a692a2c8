"""The glyffuser's network at its own settings: 130.8 M parameters, glyphs at 128x128, the states of a T5-small.

Its notebook trains in fp16 on a GPU, without an average of the weights; here it is bf16 where that is fast. The text states are
random numbers of the right shape, which does not affect the speed. Its pictures: DDPM with 1000 steps, no guidance.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup

from benchmarks.contestant import Contestant, How, Setup, cost_of
from zaozi.core.precision import fast_in_half

STEPS, T5_SMALL, TOKENS = 1000, 512, 32


def unet() -> Any:
    """Return the U-Net of the notebook."""
    return UNet2DConditionModel(
        sample_size=128,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(128, 256, 512, 512),
        addition_embed_type="text",
        cross_attention_dim=T5_SMALL,
        encoder_hid_dim=T5_SMALL,
        encoder_hid_dim_type="text_proj",
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def at_equal_cost(setup: Setup) -> list[Contestant]:
    """Return nothing: this peer is measured at its own settings alone."""
    return []


def at_own_width(setup: Setup) -> list[Contestant]:
    """Return the glyffuser."""
    half = fast_in_half(setup.device)
    network = unet().to(setup.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rates = get_cosine_schedule_with_warmup(optimizer=optimiser, num_warmup_steps=500, num_training_steps=100_000)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    pictures = [(some[: setup.own] + 1.0) / 2.0 for some in setup.pictures]
    done = min(STEPS, max(1, setup.cut // 20))
    states = torch.randn(setup.own, TOKENS, T5_SMALL, device=setup.device)

    def update(number: int) -> float:
        clean = pictures[number % len(pictures)]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device)
        with setup.autocast(half):
            predicted = network(scheduler.add_noise(clean, noise, timesteps), timesteps, states, return_dict=False)[0]
            loss = F.mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        optimiser.zero_grad()
        loss.item()
        return len(clean)

    @torch.no_grad()
    def draw(how: How) -> float:
        scheduler.set_timesteps(STEPS)
        x = torch.randn_like(pictures[0][:1])
        for t in scheduler.timesteps[:done]:
            x = scheduler.step(network(x, t, states[:1], return_dict=False)[0], t, x, return_dict=False)[0]
        return done / STEPS

    one = pictures[0][:1]
    return [
        Contestant(
            name="glyffuser",
            version=f"diffusers {diffusers.__version__}",
            precision="bf16" if half else "fp32",
            network=network,
            cost=cost_of(network, 128, lambda: network(one, torch.tensor([1], device=one.device), states[:1])),
            batch=setup.own,
            update=update,
            draw=draw,
            ema=False,
            sampler=(f"DDPM, {STEPS} steps ({done} timed), one at a time", ""),
        )
    ]
