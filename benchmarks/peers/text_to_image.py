"""The training example of diffusers, examples/text_to_image/train_text_to_image.py, without its autoencoder.

Its step: noise and timesteps, `add_noise`, the U-Net, mean squared error of the noise, clipping at 1, AdamW, `EMAModel`. Its
pictures: PNDM with 20 steps at guidance 7.5, as its validation draws. The U-Net has as many levels and blocks as that of Stable
Diffusion, and multiples of 16 channels; it attends at two levels, since attention at 64x64 alone would cost more than allowed.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from benchmarks.contestant import CALLS, Contestant, How, Setup, cost_of
from zaozi.core.precision import fast_in_half

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS, GUIDANCE = 20, 7.5
WIDTHS = (16, 16, 32, 32)


def unet(text_width: int) -> Any:
    """Return the U-Net at the cost of zaozi's network."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=1,
        out_channels=1,
        block_out_channels=WIDTHS,
        norm_num_groups=8,
        cross_attention_dim=text_width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def at_equal_cost(setup: Setup) -> list[Contestant]:
    """Return the example in fp32 and, where it is fast, in bf16 (`--mixed_precision bf16`)."""
    return [_contestant(setup, half) for half in ((False, True) if fast_in_half(setup.device) else (False,))]


def at_own_width(setup: Setup) -> list[Contestant]:
    """Return nothing: the U-Net of Stable Diffusion, 860 M parameters, is not trained on two cores."""
    return []


def _contestant(setup: Setup, half: bool) -> Contestant:
    network = unet(setup.batches[0].cond.tokens.shape[-1]).to(setup.device).train()
    average = EMAModel(network.parameters(), model_cls=UNet2DConditionModel, model_config=network.config)
    average.to(setup.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    rates = get_scheduler("constant", optimizer=optimiser, num_warmup_steps=500, num_training_steps=10_000)
    scheduler = DDPMScheduler(num_train_timesteps=1000, **SCHEDULE)

    def update(number: int) -> float:
        batch = setup.batches[number % len(setup.batches)]
        noise = torch.randn_like(batch.x0)
        timesteps = torch.randint(0, 1000, (len(noise),), device=noise.device)
        noisy = scheduler.add_noise(batch.x0, noise, timesteps)
        with setup.autocast(half):
            predicted = network(noisy, timesteps, batch.cond.tokens, return_dict=False)[0]
            loss = F.mse_loss(predicted.float(), noise.float())
        loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        optimiser.zero_grad()
        average.step(network.parameters())
        return len(noise)

    @torch.no_grad()
    def draw(how: How) -> float:
        pndm = PNDMScheduler(num_train_timesteps=1000, skip_prk_steps=True, steps_offset=1, **SCHEDULE)
        pndm.set_timesteps(STEPS if how == "usual" else CALLS - 1, device=setup.device)  # it repeats the second call
        texts: Tensor = setup.texts(setup.draws).tokens
        x = torch.randn((setup.draws, *setup.batches[0].x0.shape[1:]), device=setup.device)
        states = torch.cat([torch.zeros_like(texts), texts]) if how == "usual" else texts
        for t in pndm.timesteps:
            if how == "equal":
                predicted = network(x, t, states, return_dict=False)[0]
            else:
                nothing, told = network(torch.cat([x, x]), t, states, return_dict=False)[0].chunk(2)
                predicted = nothing + GUIDANCE * (told - nothing)
            x = pndm.step(predicted, t, x, return_dict=False)[0]
        return setup.draws

    one = setup.batches[0]
    return Contestant(
        name=f"diffusers, {'bf16' if half else 'fp32'}",
        version=f"diffusers {diffusers.__version__}",
        precision="bf16" if half else "fp32",
        network=network,
        cost=cost_of(
            network,
            one.x0.shape[-1],
            lambda: network(one.x0[:1], torch.tensor([1]).to(one.x0.device), one.cond.tokens[:1]),
        ),
        batch=len(one.x0),
        update=update,
        draw=None if half else draw,
        sampler=(f"PNDM, {STEPS} steps, guidance {GUIDANCE:g}", f"PNDM, {CALLS - 1} steps"),
    )
