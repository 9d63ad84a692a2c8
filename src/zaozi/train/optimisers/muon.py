"""Muon for the matrices in transformer blocks and attention, AdamW for all other weights."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import nn
from torch.optim import Muon, Optimizer

from zaozi.core.components import OptimConfig, optimisers
from zaozi.core.config import Range, config
from zaozi.train.optimisers.adamw import adamw


@optimisers.add
@config("optim")
class MuonConfig(OptimConfig):
    """`torch.optim.Muon` for the matrices of the blocks, AdamW for the rest."""

    kind: Literal["muon"] = "muon"
    muon_lr: Annotated[float, Range(1e-12)] = 6e-3
    """Peak learning rate of Muon."""

    def build(self, network: nn.Module) -> dict[str, Optimizer]:
        named = dict(network.named_parameters())
        matrices = block_matrices(network)
        made: dict[str, Optimizer] = {"adamw": adamw((p for n, p in named.items() if n not in set(matrices)), self)}
        if matrices:
            made["muon"] = Muon([named[name] for name in matrices], lr=self.muon_lr, weight_decay=self.weight_decay)
        return made


def block_matrices(network: nn.Module) -> list[str]:
    """Return the names of the weight matrices in transformer blocks and attention."""
    inside = ("blocks.", "attention.", "cross.")
    return [
        name
        for name, p in network.named_parameters()
        if p.ndim == 2 and name.endswith(".weight") and any(part in name for part in inside)
    ]
