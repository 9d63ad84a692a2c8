"""Learning rate schedule, weight averaging (EMA), and optimiser states as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zaozi.core.components import OptimConfig


def rate(config: OptimConfig, step: int, progress: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up by steps, flat, then linear to `final` at progress 1."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    if progress <= config.flat:
        return warm
    fall = min(1.0, (progress - config.flat) / max(1.0 - config.flat, 1e-9))
    return warm * (1.0 + (config.final - 1.0) * fall)


def ema_decay(target: float, step: int) -> float:
    """Return the EMA decay after `step` steps: min(target, (1 + step) / (10 + step))."""
    return min(target, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """average = decay * average + (1 - decay) * weights, in place."""
    torch._foreach_lerp_(list(average), list(weights), 1.0 - decay)


def flat_state(optimisers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the states of all optimisers as named tensors, such as 'muon.3.momentum_buffer'."""
    return {
        f"{name}.{index}.{key}": torch.as_tensor(value)
        for name, optimiser in optimisers.items()
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_flat_state(optimisers: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Load the tensors from `flat_state`."""
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            owner, index, field = key.split(".", 2)
            if owner == name:
                state.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        for weight, found in optimiser.state.items():
            for key, value in found.items():  # fused steps need the memory layout of the weight (such as channels last)
                if torch.is_tensor(value) and value.shape == weight.shape:
                    found[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
