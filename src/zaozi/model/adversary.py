"""Adversarial training: a loss that prefers sharp pictures to averages of possible ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zaozi.core.noise import lent_generator
from zaozi.nn.convolutional import patch_discriminator

PENALTY, EVERY = 1.0, 4
"""Weight of the gradient penalty, and the number of steps between two penalties."""


class Adversary:
    """A discriminator of patches, trained beside a generator: a decoder, or the student of a distillation.

    Each picture that is made is compared with its own original, if there is one: this exposes small differences early, and
    comparison with unrelated pictures often does not.

    Relativistic pairing loss with zero-centred gradient penalties on real and made pictures: softplus(D(fake) - D(real))
    for the discriminator and softplus(D(real) - D(fake)) for the generator (Huang et al. 2024, arXiv:2501.05441, eqs. 2 to 4).
    """

    def __init__(self, channels: int, *, seed: int = 0, lr: float = 5e-4, device: torch.device | str = "cpu") -> None:
        with lent_generator(seed, 5):
            self.network = patch_discriminator(channels)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=lr, betas=(0.5, 0.99))

    @property
    def steps(self) -> int:
        """The number of steps of its training."""
        first = next(iter(self.optimiser.state.values()), None)
        return int(first["step"]) if first else 0

    def loss(self, made: Tensor, real: Tensor) -> Tensor:
        """Return the generator's loss, a scalar, for made and real pictures `[B, C, S, S]`."""
        self.network.requires_grad_(False)
        value = F.softplus(self.network(real) - self.network(made)).float().mean()
        self.network.requires_grad_(True)
        return value

    def step(self, made: Tensor, real: Tensor) -> None:
        """Train the discriminator on made and real pictures `[B, C, S, S]`."""
        made, real = made.detach(), real.detach()
        if self.steps % EVERY == 0:
            with torch.autocast(made.device.type, enabled=False):
                made.requires_grad_(True)
                real.requires_grad_(True)
                fake, true = self.network(made), self.network(real)
                slopes = [
                    torch.autograd.grad(said.sum(), x, create_graph=True)[0].square().sum((1, 2, 3)).mean()
                    for said, x in ((fake, made), (true, real))
                ]
                penalty = EVERY * PENALTY / 2 * (slopes[0] + slopes[1]) / fake[0].numel()
                loss = F.softplus(fake - true).mean() + penalty
        else:
            loss = F.softplus(self.network(made) - self.network(real)).float().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
