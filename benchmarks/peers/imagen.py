"""imagen-pytorch (lucidrains), as the example of its README: `Unet`, `Imagen`, and the step of `ImagenTrainer` itself.

It is in fp32, as there. Its pictures: DDPM with 1000 steps at guidance 3. At equal cost it attends at its lowest level alone.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from imagen_pytorch import Imagen, ImagenTrainer, Unet

from benchmarks.contestant import CALLS, Contestant, How, Setup, cost_of

STEPS, GUIDANCE = 1000, 3.0
LOWEST, LOWER = (False, False, False, True), (False, True, True, True)


def at_equal_cost(setup: Setup) -> list[Contestant]:
    """Return the example at the cost of zaozi's network."""
    how = {"dim": 14, "cond_dim": 128, "num_resnet_blocks": 1, "layer_attns": LOWEST, "layer_cross_attns": LOWEST}
    return [_contestant(setup, len(setup.batches[0].x0), "", how)]


def at_own_width(setup: Setup) -> list[Contestant]:
    """Return the example at the width of the first U-Net in its README."""
    how = {"dim": 32, "cond_dim": 512, "num_resnet_blocks": 3, "layer_attns": LOWER, "layer_cross_attns": LOWER}
    return [_contestant(setup, setup.own, " at its own width", how)]


def _contestant(setup: Setup, size: int, suffix: str, how: dict[str, Any]) -> Contestant:
    first = setup.batches[0]
    side, width = first.x0.shape[-1], first.cond.tokens.shape[-1]
    unet: Any = Unet(**how, dim_mults=(1, 2, 4, 8), channels=1, text_embed_dim=width)
    imagen: Any = Imagen(
        unets=(unet,), image_sizes=(side,), timesteps=STEPS, cond_drop_prob=0.1, text_embed_dim=width, channels=1
    )
    trainer: Any = ImagenTrainer(imagen, accelerate_cpu=setup.device.type == "cpu", verbose=False)
    network, schedule = imagen.unets[0], imagen.noise_schedulers[0]
    pictures = [(batch.x0[:size] + 1.0) / 2.0 for batch in setup.batches]

    def update(number: int) -> float:
        which = number % len(pictures)
        cond = setup.batches[which].cond
        trainer(pictures[which], text_embeds=cond.tokens[:size], text_masks=cond.mask[:size], unet_number=1)
        trainer.update(unet_number=1)
        return len(pictures[which])

    def draw(how: How) -> float:
        steps = STEPS if how == "usual" else CALLS
        done = min(steps, setup.cut if how == "usual" else CALLS)
        cond, schedule.num_timesteps = setup.texts(setup.draws), steps
        imagen.sample(
            text_embeds=cond.tokens,
            text_masks=cond.mask,
            cond_scale=GUIDANCE if how == "usual" else 1.0,
            skip_steps=steps - done,
            use_tqdm=False,
        )
        return setup.draws * done / steps

    cond, one = first.cond, first.x0[:1]
    share = torch.zeros(1, device=one.device)
    return Contestant(
        name="imagen-pytorch" + suffix,
        version=f"imagen-pytorch {version('imagen-pytorch')}",
        precision="fp32",
        network=network,
        cost=cost_of(network, side, lambda: network(one, share, text_embeds=cond.tokens[:1], text_mask=cond.mask[:1])),
        batch=size,
        update=update,
        draw=None if suffix else draw,
        sampler=(f"DDPM, {STEPS} steps ({min(STEPS, setup.cut)} timed), guidance {GUIDANCE:g}", f"DDPM, {CALLS} steps"),
    )
