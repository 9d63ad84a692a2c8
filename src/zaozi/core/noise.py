"""Stateless noise: counter-based normals from (seed, picture, draw).

Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) gives 64-bit words; each word gives
two 32-bit uniforms, and Box-Muller turns those into two standard normals. The result does not depend on batch size, device
or earlier draws, and the global generators are not used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zaozi.core.arrays import Device, Tensor, like, on
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Noise

if TYPE_CHECKING:
    import torch


def check_seed(value: int, name: str = "seed") -> None:
    """Raises `ZaoziError` if a seed is outside [0, 2^64)."""
    if not 0 <= value < 2**64:
        raise ZaoziError(f"{name} {value} is out of range; use a whole number from 0 to 2^64 - 1")


def standard_normal(seed: int, picture: int, draw: int, count: int) -> NDArray[np.float32]:
    """Return `count` standard normals, float32, for the draw-th draw of one picture.

    The Philox key is (seed, picture) and its counter starts at (0, draw, 0, 0), advanced before the first block as NumPy
    does. Of each word w, u1 = (high32(w) + 1) / 2^32 lies in (0, 1] and u2 = low32(w) / 2^32 in [0, 1); the pair is
    sqrt(-2 ln u1) * (cos, sin)(2 pi u2), computed in float64. No value exceeds sqrt(64 ln 2) = 6.66.

    Raises `ZaoziError` if a seed, picture or draw is outside [0, 2^64).
    """
    for name, value in (("seed", seed), ("picture", picture), ("draw", draw)):
        check_seed(value, name)
    key = np.array([seed, picture], dtype=np.uint64)
    counter = np.array([0, draw, 0, 0], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw((count + 1) // 2)
    u1 = ((words >> np.uint64(32)).astype(np.float64) + 1.0) / 2.0**32
    u2 = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2.0**32
    radius, angle = np.sqrt(-2.0 * np.log(u1)), 2.0 * np.pi * u2
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:count].astype(np.float32)


def picture_noise(
    seed: int, pictures: Sequence[int], shape: tuple[int, ...], device: Device | str | None = "cpu"
) -> Noise:
    """Return the noise source of a batch: `noise(draw)` is `[len(pictures), *shape]`; each row is a function of
    (seed, picture, draw). Tensors on `device`, or NumPy arrays if it is None.
    """
    count = int(np.prod(shape))

    def noise(draw: int) -> Tensor:
        rows = [standard_normal(seed, i, draw, count).reshape(shape) for i in pictures]
        return on(np.stack(rows), device)

    return noise


def training_generator(*key: int) -> torch.Generator:
    """Return a separate generator for a key such as (seed, step, rank): a resumed run needs no saved state.

    The key and its length are mixed by NumPy's `SeedSequence`, to give neighbouring keys unrelated streams.
    """
    import torch

    state = np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def between(a: Noise, b: Noise, share: float | Sequence[float]) -> Noise:
    """Interpolate noise from a to b: cos(s) a + sin(s) b with s = share * pi / 2, share in [0, 1]; always standard normal.

    The share is one number for all rows or one per row. This is the great circle on which independent high-dimensional
    normals lie (slerp: Shoemake 1985), without its rounding. Raises `ZaoziError` if a share is out of range.
    """
    shares = np.atleast_1d(np.asarray(share, np.float64))
    for value in shares.tolist():
        if not 0 <= value <= 1:
            raise ZaoziError(f"share {value} is out of range; use 0 (the first seed) to 1 (the second)")
    angle = shares * (math.pi / 2)

    def mixed(draw: int) -> Tensor:
        x, y = a(draw), b(draw)
        first, second = (like(v, x)[:, None, None, None] for v in (np.cos(angle), np.sin(angle)))
        return first * x + second * y

    return mixed


@contextmanager
def lent_generator(*key: int) -> Iterator[None]:
    """Seed the global generator by a key, and restore it on exit: for code that needs it, such as dropout or initialisation."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(training_generator(*key).initial_seed())
        yield
