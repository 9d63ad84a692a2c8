"""Cached latents for spaces with expensive encoding: a memory-mapped file shared by all processes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.caches import cached
from zaozi.core.disk import allocate, need_space
from zaozi.core.files import home
from zaozi.core.progress import progress
from zaozi.data.pairs import Pairs

BATCH = 64


class Encoder(Protocol):
    """The required subset of the space interface."""

    def encode(self, pictures: Tensor) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...


@torch.no_grad()
def encoded(pairs: Pairs, space: Encoder, data: str) -> NDArray[np.float32]:
    """Return the encoded pictures of pairs, float32 `[N, C, h, w]`, memory-mapped.

    The encoding order and batch size are always the same. Results are cached under a key of the `data` (SHA-256), the number
    of pairs, and the space's class and weights.
    """
    key = hashlib.sha256(f"{data} {len(pairs)} {type(space).__module__}.{type(space).__qualname__}".encode())
    for name, value in sorted(space.state_dict().items()):
        key.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    folder = home() / "latents" / key.hexdigest()[:24]

    def encode_all(work: Path) -> None:
        shape = (len(pairs), *space.encode(pairs.batch([0])).shape[1:])
        size = 4 * int(np.prod(shape))
        need_space(home(), size, "the cache of the data set's latents")
        allocate(work / "latents.npy", size)  # a sparse memory-mapped file would crash on a full disk
        made = np.lib.format.open_memmap(work / "latents.npy", "w+", np.float32, shape)
        for start in progress(range(0, len(pairs), BATCH), desc="encoding", unit="batch"):
            rows = range(start, min(start + BATCH, len(pairs)))
            made[start : start + BATCH] = space.encode(pairs.batch(rows)).float().numpy()
        made.flush()

    cached(folder, "latents", encode_all)
    return np.load(folder / "latents.npy", mmap_mode="r")
