"""What is measured of zaozi and of each peer, and what one call of its network costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import Side
from zaozi.core.types import Cond
from zaozi.train.batches import Batch

How = Literal["usual", "equal"]
"""How to draw: with the sampler, steps and guidance that the side's own example uses, or unguided with CALLS calls."""
CALLS = 20
"""Calls of the network per picture in the second comparison of sampling: zaozi's usual number of steps."""
WITHIN = 0.05
"""How much the cost of a peer's network may differ from that of zaozi's at equal cost."""


@dataclass(frozen=True)
class Setup:
    """What all sides share: the device, the batches, and how much is done at once."""

    device: torch.device
    batches: Sequence[Batch]
    """Prefetched batches of `base`, on the device: glyphs in its space at 64x64, text states, and properties."""
    pictures: Sequence[Tensor]
    """The same glyphs at 128x128, in [-1, 1]."""
    draws: int
    """Pictures drawn at once."""
    own: int
    """Pictures in a batch of networks at the peer's own width, which are far larger."""
    cut: int
    """Calls after which long samplers are cut off; their time is scaled to all calls."""

    def texts(self, count: int) -> Cond:
        """Return the texts of `count` pictures that have one."""
        cond = self.batches[0].cond
        rows = cond.mask.any(1).nonzero()[:, 0].tolist()
        return cond.take([rows[i % len(rows)] for i in range(count)])

    def autocast(self, on: bool) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on)


@dataclass(frozen=True)
class Cost:
    """What one call of a network for one picture costs."""

    resolution: int
    flops: int
    """Twice the multiplications of matrices and convolutions, counted by PyTorch."""
    parameters: int


@dataclass(frozen=True)
class Contestant:
    """One side: zaozi, or a peer in one precision."""

    name: str
    version: str
    precision: str
    network: nn.Module
    cost: Cost
    batch: int
    update: Callable[[int], float]
    """Train on prefetched batch number i: forward, backward, optimiser, average of the weights. Returns its pictures."""
    draw: Callable[[How], float] | None = None
    """Draw pictures and return how many; a share of them, if the sampler was cut off."""
    ema: bool = True
    compiled: bool = False
    sampler: tuple[str, str] = ("", "")
    """How it draws in the words of the table: usual, and at equal calls."""

    def training(self, device: torch.device, label: str = "training") -> Side:
        numbers = cycle(range(2**30))
        return Side(f"{label}, {self.name}", lambda: self.update(next(numbers)), lambda: settle(device))

    def drawing(self, device: torch.device, how: How) -> Side:
        draw = self.draw
        assert draw is not None
        return Side(f"sampling ({how}), {self.name}", lambda: draw(how), lambda: settle(device))

    def calls(self, how: How) -> float:
        """Return the evaluations of the network per picture, counted while drawing."""
        assert self.draw is not None
        with counted(self.network) as rows:
            pictures = self.draw(how)
        return rows[0] / pictures


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    """Count the rows that a network evaluates, also where its `forward` is called directly."""
    rows, forward = [0], network.forward

    def count(x: Tensor, *given: Any, **options: Any) -> Any:
        rows[0] += len(x)
        return forward(x, *given, **options)

    network.forward = count
    try:
        yield rows
    finally:
        del network.forward


def cost_of(network: nn.Module, resolution: int, call: Callable[[], object]) -> Cost:
    """Return the cost of `call`, which calls the network for one picture."""
    with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        call()
    return Cost(resolution, counter.get_total_flops(), sum(p.numel() for p in network.parameters()))
