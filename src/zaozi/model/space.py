"""`Space`: the representation of pictures in which diffusion runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Pictures(Protocol):
    """Pictures of a dataset: uint8 `[N, C, S, S]`, and batches of rows as float tensors in [-1, 1]."""

    @property
    def pictures(self) -> NDArray[np.uint8]: ...

    def batch(self, rows: NDArray[np.int64]) -> Tensor: ...


class Space(nn.Module):
    """Maps pictures `[B, C, S, S]` in [-1, 1] to x0 `[B, c, h, w]`, the denoiser's space, and back."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)
    """Range of x0, or None if unknown."""
    cacheable = False
    """Whether encoding is slower than reading from disk; if so, training encodes the dataset once, into a file."""
    fit_steps = 0
    """Number of steps of `fit`."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures in [-1, 1] to x0."""
        raise NotImplementedError

    def decode(self, x0: Tensor) -> Tensor:
        """Map x0 to pictures in [-1, 1]."""
        raise NotImplementedError

    def fit(self, data: Pictures, *, seed: int = 0, watch: Callable[[int, float], None] | None = None) -> str:
        """Fit the space to pictures before the denoiser is trained; `watch(step, error)` is called at each step.

        Returns a one-line summary of the result, or '' if there is nothing to fit.
        """
        return ""
