"""Real pictures drawn again by a model, so that a decoder also learns from x0 as it is drawn."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.core.recipe import Recipe
from zaozi.core.sampling import MEASURING, Guidance
from zaozi.data.pairs import Pairs
from zaozi.model.space import Space
from zaozi.pipeline import Edit, TextToImage, draw

COUNT, BATCH, GUIDANCE = 1536, 32, 4.0
STRENGTHS = (0.3, 0.4, 0.5, 0.6)
"""Strengths of image-to-image, in turn by batch: the layout stays, and the strokes are the model's."""


class _Undecoded(Space):
    """A space whose drawings are not decoded."""

    def __init__(self, inner: Space) -> None:
        super().__init__()
        self.inner = inner

    def encode(self, pictures: Tensor) -> Tensor:
        return self.inner.encode(pictures)

    def decode(self, x0: Tensor) -> Tensor:
        return x0


def redrawn(
    name: str, recipe: Recipe, pairs: Pairs, *, device: str = "cpu", count: int = COUNT, shown: bool = True
) -> Tensor:
    """Return x0 `[N, c, h, w]` that a model draws from `count` evenly spaced pictures and their captions, noised to part of the
    way, at guidance 4.

    Raises `ZaoziError` if the model has another space than the recipe, or another size than the pictures.
    """
    artist = TextToImage.from_pretrained(name, device=device)
    model, (channels, side) = artist.model, pairs.pictures.shape[1:3]
    if (found := model.config.space.kind) != recipe.space.kind:
        raise ZaoziError(
            f"{name} draws in the space '{found}', not '{recipe.space.kind}'; use a model of the same space"
        )
    if (model.config.channels, model.config.size) != (channels, side):
        raise ZaoziError(
            f"{name} draws {model.config.channels} x {model.config.size} pixels, not {channels} x {side}; use another model"
        )
    model.space = _Undecoded(model.space)
    how = replace(MEASURING, guidance=Guidance(GUIDANCE), seed=recipe.train.seed)
    rows, made = pairs.some(count), list[Tensor]()
    with progress(total=len(rows), desc="redrawing", unit="picture", shown=shown) as bar:
        for number, start in enumerate(range(0, len(rows), BATCH)):
            some = rows[start : start + BATCH]
            edit = Edit(init=pairs.batch(some), strength=STRENGTHS[number % len(STRENGTHS)])
            conditions = artist.conditions([pairs.texts[row] for row in some])
            made.append(draw(model, conditions, how, pictures=range(start, start + len(some)), edit=edit).float().cpu())
            bar.update(len(some))
    return torch.cat(made).clone()
