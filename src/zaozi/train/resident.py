"""Training batches in the memory of a GPU: it holds all pictures and texts, and draws the noise, so that the CPU can keep up."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.types import Cond
from zaozi.train.batches import Batches, shifted

SHARE = 1 / 3
"""Largest share of the device's free memory for the dataset."""


class Resident(Batches):
    """The same batches as those of `source`, on a device: the same pictures, texts and levels in the same order. Only the noise
    on pictures differs, because the device draws it; it is a function of (seed, step, rank), too.

    All texts are padded to the longest one, so that every batch has the same shape.
    """

    def __init__(self, source: Batches, device: torch.device) -> None:
        super().__init__(source.recipe, source.pairs, source.texts, source.schedule, source.space, source.latents)
        self.device = device
        self.kept = torch.from_numpy(np.array(_pictures(self))).to(device)
        self.own_space = copy.deepcopy(self.space).to(device)
        self.keys, places = _distinct(_all_places(self))
        cond = self.texts.cond(places, multiple=self.multiple)
        self.tokens, self.pooled = (v.half().to(device) for v in (cond.tokens, cond.pooled))
        self.mask = cond.mask.to(device)

    def cond(self, rows: NDArray[np.int64], places: NDArray[np.int64] | None = None) -> Cond:
        """Return the full condition of some pairs, on the device."""
        wanted = _key(self.places[rows] if places is None else places)
        index = torch.from_numpy(np.searchsorted(self.keys, wanted)).to(self.device)
        own = torch.from_numpy(rows)
        properties = {k: v[own].to(self.device) for k, v in self.columns.items()}
        return Cond(self.tokens[index].float(), self.mask[index], self.pooled[index].float(), properties)

    def _x0(self, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        some = self.kept[torch.from_numpy(rows).to(self.device)]
        if self.latents is not None:
            return some
        with torch.no_grad():
            pictures = some.float().div_(127.5).sub_(1.0)
            return self.own_space.encode(shifted(pictures, self.recipe.train.shift, generator))

    def normal(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**62, (), generator=generator))
        own = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(shape, generator=own, device=self.device)


def on_device(batches: Batches, device: torch.device) -> Batches:
    """Return the batches on a CUDA device if its free memory is large enough; else the batches themselves."""
    if device.type != "cuda":
        return batches
    free, _ = torch.cuda.mem_get_info(device)
    return Resident(batches, device) if size_of(batches) <= SHARE * free else batches


def size_of(batches: Batches) -> int:
    """Return how many bytes of a device's memory the batches need."""
    texts, text = len(_all_places(batches)), batches.recipe.text
    return int(_pictures(batches).nbytes) + 2 * texts * text.max_tokens * text.width


def _pictures(batches: Batches) -> NDArray[Any]:
    """Return the pictures, or what they are encoded to in advance, `[N, C, h, w]`."""
    return batches.pairs.pictures if batches.latents is None else batches.latents


def _all_places(batches: Batches) -> NDArray[np.int64]:
    """Return the positions of all captions and, if they are used, hints, `[M, 2]`."""
    return np.concatenate([batches.places, *(batches.hints if batches.recipe.train.hint_rate > 0 else [])])


def _key(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number per position `[N, 2]` in the text cache."""
    return (places[:, 0] << 32) | places[:, 1]


def _distinct(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys of positions, sorted, and their positions."""
    keys, first = np.unique(_key(places), return_index=True)
    return keys, places[first]
