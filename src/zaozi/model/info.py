"""Model statistics: parameters, and floating-point operations per call."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zaozi.core.components import named_size, spaces
from zaozi.core.config import Config, to_dict
from zaozi.core.errors import printable
from zaozi.core.recipe import DiffusionConfig, ModelConfig, TextConfig
from zaozi.core.types import Cond, Lower
from zaozi.model.denoiser import Denoiser, make_denoiser

TOKENS = 16
"""Text tokens assumed per call; a definition has 12 on average."""


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


@torch.inference_mode()
def gflops(model: Denoiser) -> float:
    """Return the GFLOPs (a multiply-add counts as two) of one network call for one picture with 16 text tokens."""
    width, device = model.config.text.width, next(model.parameters()).device
    cond = Cond(torch.zeros(1, TOKENS, width), torch.ones(1, TOKENS, dtype=torch.bool), torch.zeros(1, width))
    if model.config.stage.factor > 1:
        cond = replace(cond, lower=Lower(torch.zeros(1, *model.shape), torch.zeros(1)))
    counter = FlopCounterMode(display=False)
    with counter:
        model.network(
            torch.zeros(1, *model.shape, device=device), torch.full((1,), 0.5, device=device), cond.to(device)
        )
    return counter.get_total_flops() / 1e9


def summary(config: Config) -> str:
    """Return a component's kind and its integer fields: 'dit, width 256, depth 8'."""
    values = to_dict(config)
    numbers = (f"{k.replace('_', ' ')} {v}" for k, v in values.items() if type(v) is int)
    return ", ".join([values["kind"], *numbers])


def describe(model: Denoiser) -> str:
    """Describe a model in a few lines of text."""
    c = model.config
    _, height, width = model.shape
    d = c.distilled
    fewer = " or fewer" if d.is_consistent else ""
    how = [f"distilled   {d.steps} steps{fewer}, with guidance {d.guidance:g} of {d.model}"] if d.steps else []
    properties = ", ".join(f"{p.column} ({p.summary()})" for p in c.properties) or "none"
    return "\n".join(
        printable(line)
        for line in [
            f"name        {c.name}",
            f"pictures    {c.size}x{c.size}, {'grey' if c.channels == 1 else 'RGB'}; the network sees {width}x{height}",
            f"network     {summary(c.network)}",
            f"diffusion   {c.diffusion.schedule} schedule, {c.diffusion.prediction} prediction, {c.diffusion.weight} weight",
            *how,
            f"text        {c.text.encoder}, {c.text.max_tokens} tokens",
            f"properties  {properties}",
            f"parameters  {parameters(model.network) / 1e6:.2f} M, and {parameters(model.space) / 1e6:.2f} M to decode",
            f"cost        {gflops(model):.2f} GFLOP a call of the network",
        ]
    )


def sized(name: str, *, size: int = 128, channels: int = 1) -> Denoiser:
    """Create a model of a named size for pictures of `size` pixels, in half-resolution space.

    Raises `ZaoziError` if the name is unknown or the size does not fit.
    """
    network, space = named_size(name), spaces["halved"]()
    return make_denoiser(ModelConfig(name, size, channels, network, space, DiffusionConfig(), TextConfig()))  # type: ignore[arg-type]
