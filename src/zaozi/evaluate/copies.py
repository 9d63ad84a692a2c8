"""Copy detection: the distance of each glyph to the nearest training glyph."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIDE = 32
REACH = 2
"""Pictures are compared at 32x32, with shifts of up to 2 pixels in each direction (8 of 128)."""


def thumbnails(pictures: NDArray[np.uint8], batch: int = 2048) -> Tensor:
    """Convert pictures `[N, C, S, S]` uint8 to ink in [0, 1] at 32x32, float32 `[N, 32, 32]`."""
    made = []
    for start in range(0, len(pictures), batch):
        ink = 1.0 - torch.from_numpy(np.array(pictures[start : start + batch])).float().mean(1) / 255.0
        made.append(F.adaptive_avg_pool2d(ink[:, None], SIDE)[:, 0])
    return torch.cat(made) if made else torch.zeros(0, SIDE, SIDE)


def nearest_pixels(queries: Tensor, known: Tensor, batch: int = 512) -> tuple[Tensor, Tensor]:
    """Return for each of `queries` the distance to and index of its nearest neighbor in `known` (both thumbnails).

    The distance is min over shifts of |q shifted - k| / sqrt(|q| |k|): 0 for the same ink, about 1.4 for unrelated glyphs of
    equal ink.
    """
    flat = known.flatten(1)
    norms = flat.square().sum(1)
    values, places = [], []
    for start in range(0, len(queries), batch):
        part = queries[start : start + batch]
        own = part.flatten(1).square().sum(1, keepdim=True)
        padded = F.pad(part, [REACH] * 4)
        best = torch.full((len(part), len(known)), torch.inf)
        for y in range(2 * REACH + 1):
            for x in range(2 * REACH + 1):
                moved = padded[:, y : y + SIDE, x : x + SIDE].flatten(1)
                squares = moved.square().sum(1, keepdim=True) + norms[None] - 2.0 * moved @ flat.T
                best = torch.minimum(best, squares)
        best = best.clamp(min=0).sqrt() / (own * norms[None]).pow(0.25).clamp(min=1e-6)
        value, place = best.min(1)
        values.append(value)
        places.append(place)
    return torch.cat(values), torch.cat(places)


def nearest_features(
    queries: NDArray[np.float64], known: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return for each of `queries` `[N, D]` the Euclidean distance to and index of its nearest neighbor in `known` `[M, D]`."""
    distance = torch.cdist(torch.from_numpy(queries), torch.from_numpy(known))
    value, place = distance.min(1)
    return value.numpy(), place.numpy()
