"""AdamW for every weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.optim import AdamW, Optimizer

from zaozi.core.components import OptimConfig, optimisers
from zaozi.core.config import config


@optimisers.add
@config("optim")
class AdamWConfig(OptimConfig):
    """AdamW (arXiv:1711.05101) for every weight."""

    kind: Literal["adamw"] = "adamw"

    def build(self, network: nn.Module) -> dict[str, Optimizer]:
        return {"adamw": adamw(network.parameters(), self)}


def adamw(weights: Iterable[nn.Parameter], config: OptimConfig) -> AdamW:
    """Build AdamW from its config section."""
    return AdamW(
        weights, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
    )
