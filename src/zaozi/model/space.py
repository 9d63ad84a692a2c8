"""Where diffusion happens: the seam between pictures and what the denoiser sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Pictures(Protocol):
    """A data set's pictures: uint8 `[N, C, S, S]`, and some rows of them as float tensors in [-1, 1]."""

    @property
    def pictures(self) -> NDArray[np.uint8]: ...

    def batch(self, rows: NDArray[np.int64]) -> Tensor: ...


class Space(nn.Module):
    """Pictures `[B, C, S, S]` in [-1, 1] <-> x0 `[B, c, h, w]`, in which the denoiser works."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)
    """Within which x0 lies, where that is known."""
    cacheable = False
    """Whether encoding costs more than reading: training then encodes the data set once, into a file."""
    fit_steps = 0
    """How many steps `fit` takes."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] -> x0."""
        raise NotImplementedError

    def decode(self, x0: Tensor) -> Tensor:
        """x0 -> pictures in [-1, 1]."""
        raise NotImplementedError

    def fit(self, data: Pictures, *, seed: int = 0, watch: Callable[[int, float], None] | None = None) -> str:
        """Learn what the space needs from pictures, before the denoiser is trained; `watch(step, error)` sees each step.

        Returns a line that says how well it went; '' where there was nothing to learn.
        """
        return ""
