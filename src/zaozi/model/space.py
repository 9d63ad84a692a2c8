"""`Space`: the representation of pictures in which diffusion runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Pictures(Protocol):
    """Pictures of a dataset: uint8 `[N, C, S, S]`, evenly spaced rows, and batches of rows as float tensors in [-1, 1]."""

    @property
    def pictures(self) -> NDArray[np.uint8]: ...

    def some(self, count: int) -> NDArray[np.int64]: ...

    def batch(self, rows: NDArray[np.int64]) -> Tensor: ...


class Space(nn.Module):
    """Maps pictures `[B, C, S, S]` in [-1, 1] to x0 `[B, c, h, w]`, the denoiser's space, and back."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)
    """Range of x0, or None if unknown."""
    averages = False
    """Whether `encode` is no more than the average over squares of pixels, or nothing."""
    cacheable = False
    """Whether encoding is slower than reading from disk; if so, training encodes the dataset once, into a file."""
    learns_from_drawn = False
    """Whether `fit` uses x0 as a model draws it."""
    fit_steps = 0
    """Number of steps of `fit`."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures in [-1, 1] to x0."""
        raise NotImplementedError

    def decode(self, x0: Tensor) -> Tensor:
        """Map x0 to pictures in [-1, 1]."""
        raise NotImplementedError

    def preview(self, x: Tensor) -> Tensor:
        """Return x0 or x_t as pictures to look at: unchanged, or decoded from latents."""
        return x if self.bounds else self.decode(x)

    def fit(
        self,
        data: Pictures,
        *,
        seed: int = 0,
        drawn: Tensor | None = None,
        watch: Callable[[int, float], None] | None = None,
    ) -> str:
        """Fit the space to pictures before the denoiser is trained; `watch(step, error)` is called at each step.

        `drawn` is x0 as a model draws it, `[N, c, h, w]`: the decoder is also trained on these, if the space supports it.
        Returns a one-line summary of the result, or '' if there is nothing to fit.
        """
        return ""


@contextmanager
def fitting(space: Space) -> Iterator[None]:
    """Context in which the weights of a space are trained: with gradients, in the memory format that is fastest on CPUs."""
    space.train().requires_grad_(True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        space.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def place(generator: torch.Generator, whole: int, side: int, multiple: int = 1) -> tuple[slice, slice]:
    """Return the rows and columns of a random square of `side` in a picture of `whole` pixels, at a multiple of `multiple`."""
    y, x = (multiple * int(v) for v in torch.randint(0, (whole - side) // multiple + 1, (2,), generator=generator))
    return slice(y, y + side), slice(x, x + side)


def crops(data: Pictures, generator: torch.Generator, *, count: int, side: int, multiple: int) -> Tensor:
    """Return one random crop of `count` random pictures, `[count, C, s, s]` in [-1, 1], with s at most `side`.

    The side and the position of the crop are multiples of `multiple` pixels; all pictures are cropped at the same position.
    """
    total, _, whole, _ = data.pictures.shape
    side = min(whole, max(side - side % multiple, multiple))
    rows = torch.randint(0, total, (count,), generator=generator).numpy()
    return data.batch(rows)[(..., *place(generator, whole, side, multiple))]


@torch.no_grad()
def statistics(encode: Callable[[Tensor], Tensor], data: Pictures, count: int = 2048) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, `[C, 1, 1]` each, of up to `count` encoded pictures, evenly spaced."""
    rows = data.some(count)
    sums = squares = torch.zeros(())
    places = 0
    for start in range(0, len(rows), 64):
        x0 = encode(data.batch(rows[start : start + 64])).double()
        sums, squares = sums + x0.sum((0, 2, 3)), squares + x0.square().sum((0, 2, 3))
        places += x0[:, 0].numel()
    mean = sums / places
    std = (squares / places - mean.square()).clamp(min=1e-12).sqrt()
    return mean.float().reshape(-1, 1, 1), std.float().reshape(-1, 1, 1)


@torch.no_grad()
def psnr(space: Space, data: Pictures, count: int = 256) -> float:
    """Return the peak signal-to-noise ratio, in dB, of up to `count` pictures decoded from their encoding: 20 log10(2 / RMSE)
    for pictures in [-1, 1].
    """
    rows = data.some(count)
    errors = []
    for start in range(0, len(rows), 64):
        x = data.batch(rows[start : start + 64])
        errors.append((space.decode(space.encode(x)).float() - x).square().mean((1, 2, 3)))
    return float(20 * np.log10(2 / max(float(torch.cat(errors).mean()) ** 0.5, 1e-12)))
