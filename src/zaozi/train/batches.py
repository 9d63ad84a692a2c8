"""Training batches as a stateless function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.components import Property
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import training_generator
from zaozi.core.recipe import Recipe
from zaozi.core.types import Cond, Level
from zaozi.data.pairs import Order, Pairs, balance_weights
from zaozi.diffusion.levels import levels
from zaozi.diffusion.losses import training_times
from zaozi.diffusion.schedules import Schedule
from zaozi.model.space import Space
from zaozi.model.stage import augmented, cropped, lowered
from zaozi.text.cache import TextCache


@dataclass(frozen=True)
class Batch:
    """Clean pictures in the model's space, fresh noise of the same shape, one level per picture, and the conditions."""

    x0: Tensor
    eps: Tensor
    level: Level
    cond: Cond


def shifted(pictures: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Shift each picture by up to `reach` pixels in each direction, filling with white. `[B, C, S, S]`."""
    if reach == 0:
        return pictures
    size = pictures.shape[-1]
    padded = F.pad(pictures, [reach] * 4, value=1.0)
    corners = torch.randint(0, 2 * reach + 1, (len(pictures), 2), generator=generator).tolist()
    return torch.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, corners, strict=True)])


def hints(pairs: Pairs) -> list[list[str]]:
    """Return alternative texts for each pair. Raises `ZaoziError` if the dataset has none."""
    found = pairs.columns.get("hints")
    if found is None or not all(isinstance(h, list) for h in found):
        raise ZaoziError(
            "the dataset has no column 'hints' of lists of texts; build it again, or set train.hint_rate = 0"
        )
    return found


def drop(cond: Cond, properties: Sequence[Property], text: float, together: float, generator: torch.Generator) -> Cond:
    """Drop text from the condition at rate `text`, all properties at rate `together`, and each at its own rate."""
    count = len(cond)

    def chance(p: float) -> Tensor:
        return (torch.rand(count, generator=generator) < p).to(cond.mask.device)

    cond = cond.without_text(chance(text))
    hidden = chance(together)
    kept = {}
    for p in properties:
        value, hide = cond.properties[p.column], hidden | chance(p.dropout)
        kept[p.column] = value.masked_fill(hide, p.hidden)
    return replace(cond, properties=kept)


def perturb_text(cond: Cond, amount: float, generator: torch.Generator) -> Cond:
    """Add noise to each text of the condition: `amount` times the root mean square of its own states, one noise vector per
    text, added to its pooled vector and to all of its tokens, to make texts of similar meaning overlap.
    """
    if amount == 0:
        return cond
    noise = amount * torch.randn(cond.pooled.shape, generator=generator).to(cond.pooled)  # (B, D)
    real = cond.mask[..., None]
    power = (cond.tokens.square() * real).sum((1, 2)) / (real.sum((1, 2)).clamp(min=1) * cond.tokens.shape[-1])  # (B,)
    tokens = cond.tokens + power.sqrt()[:, None, None] * noise[:, None]  # (B, L, D)
    return replace(cond, tokens=tokens, pooled=cond.pooled + cond.pooled.square().mean(1, keepdim=True).sqrt() * noise)


class Batches:
    """Batches of a recipe's training data, each a function of (seed, step, rank)."""

    def __init__(
        self,
        recipe: Recipe,
        pairs: Pairs,
        texts: TextCache,
        schedule: Schedule,
        space: Space,
        latents: NDArray[np.float32] | None = None,
    ) -> None:
        self.recipe, self.pairs, self.texts, self.schedule, self.space = recipe, pairs, texts, schedule, space
        self.latents = latents
        """The pictures in the space, `[N, C, h, w]`, if they are encoded in advance."""
        self.places = texts.places(pairs.texts)
        # one text shape per run if compiled, to make kernels independent of the order of lengths
        self.multiple = recipe.text.max_tokens if recipe.train.compile else 16
        self.columns = pairs.property_columns(recipe.properties)
        column = recipe.train.balance
        weights = balance_weights(pairs.column(column), recipe.train.balance_power) if column else None
        self.order = Order(len(pairs), recipe.train.seed, weights)

    @cached_property
    def hints(self) -> list[NDArray[np.int64]]:
        """Positions of each pair's hints in the cache, `[H, 2]` each; used only for training pairs."""
        return [self.texts.places(some) for some in hints(self.pairs)]

    def cond(self, rows: NDArray[np.int64], places: NDArray[np.int64] | None = None) -> Cond:
        """Return the full condition of some pairs; the text is the caption, or the text at `places` in the cache."""
        cond = self.texts.cond(self.places[rows] if places is None else places, multiple=self.multiple)
        index = torch.from_numpy(rows)
        return replace(cond, properties={k: v[index] for k, v in self.columns.items()})

    def _told(self, rows: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        """Return the cache position of each pair's text: its caption or, at `train.hint_rate`, one of its hints."""
        places, rate = self.places[rows], self.recipe.train.hint_rate
        if rate > 0:
            chance, which = torch.rand(2, len(rows), generator=generator).tolist()
            for i, row in enumerate(rows):
                if chance[i] < rate and len(self.hints[row]):
                    places[i] = self.hints[row][int(which[i] * len(self.hints[row]))]
        return places

    def _x0(self, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Return the pictures of some pairs in the model's space, `[B, C, h, w]`."""
        if self.latents is not None:
            return torch.from_numpy(self.latents[rows])
        with torch.no_grad():
            return self.space.encode(shifted(self.pairs.batch(rows), self.recipe.train.shift, generator))

    def normal(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Return standard normal noise."""
        return torch.randn(shape, generator=generator)

    def at(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return this process's share of the step's batch, on the CPU; its levels always are there."""
        train = self.recipe.train
        first = step * train.batch_size
        share = self.order.rows(first, train.batch_size)[rank::world]
        generator = training_generator(train.seed, step, rank)
        x0 = self._x0(share, generator)
        stage = self.recipe.stage
        if stage.factor > 1:
            x0 = cropped(x0, stage.crop, stage.factor, generator)
        cond = drop(
            perturb_text(self.cond(share, self._told(share, generator)), train.text_noise, generator),
            self.recipe.properties,
            train.text_dropout,
            train.property_dropout,
            generator,
        )
        times = self._times(len(share), generator)
        eps = self.normal(x0.shape, generator)
        if stage.factor > 1:
            cond = self.with_lower(cond, x0, generator)
        return Batch(x0, eps, self.schedule.level(times), cond)

    def _times(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the times of `count` pictures: as the recipe says or, in distillation, those at which the student draws."""
        how, steps = self.recipe.diffusion, self.recipe.distilled.steps
        if not steps:
            return training_times(how.times, count, generator, mean=how.times_mean, std=how.times_std)
        grid = torch.tensor([float(level.t) for level in levels(self.schedule, steps)[:-1]], dtype=torch.float64)
        return grid[torch.randint(steps, (count,), generator=generator)]

    def with_lower(self, cond: Cond, x0: Tensor, generator: torch.Generator) -> Cond:
        """Add the smaller pictures of `x0` to a condition, with noise of a random share; unchanged for other models."""
        stage = self.recipe.stage
        if stage.factor == 1:
            return cond
        share = stage.augmentation * torch.rand(len(x0), generator=generator).to(x0)
        noise = self.normal(x0.shape, generator).to(x0)
        return replace(cond, lower=augmented(lowered(x0, stage.factor), share, noise))
