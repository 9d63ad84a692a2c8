"""How likely a model finds pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.noise import picture_noise, training_generator
from zaozi.core.progress import progress
from zaozi.core.sampling import Guidance
from zaozi.diffusion.levels import MAX_STEPS
from zaozi.diffusion.likelihood import bits_per_dimension, log_likelihood, path_to_noise
from zaozi.pipeline.drawing import guided
from zaozi.pipeline.pictures import from_picture

if TYPE_CHECKING:
    from zaozi.pipeline.model import TextToImage

LEAST_STEPS = 10
NOISE = 0.05
"""Usual standard deviation of the noise on pictures in [-1, 1]; for cleaner ones, the errors of the network dominate."""
PROBES = 2
"""Random probes per call of the network."""


def likelihood(
    artist: TextToImage,
    pictures: Sequence[Image.Image],
    prompt: str = "",
    *,
    num_steps: int = 30,
    noise: float = NOISE,
    seed: int = 0,
) -> list[float]:
    """Return the information of each picture as the network sees it (glyphs: 64x64) in bits per dimension, for a prompt, or
    without one for ''; lower is more likely.

    This is -log2 p of the picture with a little noise, less that of the noise alone. `noise` is its standard deviation. p is
    computed through the probability-flow ODE in `num_steps` steps of Heun, with two random probes per call
    (arXiv:2011.13456, sec. 4.3); noise and probes are functions of `seed` and the place of the picture.
    Raises `ZaoziError` if the model draws with ONNX Runtime or is a student, or a number is out of range.
    """
    model = artist.model
    if artist.device is None:
        raise ZaoziError("ONNX Runtime computes no gradients; use engine='torch'")
    if model.config.distilled.steps:
        name = model.config.distilled.model
        raise ZaoziError(
            f"{model.config.name} draws in few steps and follows no path; use the undistilled model {name}"
        )
    if not LEAST_STEPS <= num_steps <= MAX_STEPS:
        raise ZaoziError(f"{num_steps} steps are out of range for a likelihood; use {LEAST_STEPS} to {MAX_STEPS}")
    if not 0.001 <= noise <= 1.0:
        raise ZaoziError(f"noise {noise} is out of range; use 0.001 to 1")
    config, device, rows = model.config, artist.device, range(len(pictures))
    with torch.no_grad():
        shown = [from_picture(one, config.size, config.channels).to(device) for one in pictures]
        x0 = torch.cat([model.space.encode(one) for one in shown])
    grain = noise * picture_noise(seed, rows, model.shape, device)(0)
    cond = artist.encode([prompt] * len(x0)).map(torch.clone).to(device)  # a clone may enter a graph of gradients
    # guidance of scale 1 is the conditional model alone, and 0 the unconditional one
    denoise = guided(model, [(cond, 1.0)], Guidance(1.0 if prompt else 0.0, threshold="none"))

    def probes(call: int) -> list[torch.Tensor]:
        size = (PROBES, *model.shape)
        signs = [torch.randint(0, 2, size, generator=training_generator(seed, row, call)) for row in rows]
        return list((2.0 * torch.stack(signs, 1) - 1.0).to(x0))

    steps = partial(progress, desc="likelihood", unit="step")
    path = path_to_noise(model.schedule, num_steps, noise)
    nats = log_likelihood(denoise, x0 + grain, path, probes=probes, steps=steps)
    return bits_per_dimension(nats, grain, noise).tolist()
