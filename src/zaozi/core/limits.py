"""Numbers of a recipe that have a range, and what to say when one is out of it."""

from __future__ import annotations

import math
from operator import attrgetter

from zaozi.core.config import Recipe
from zaozi.core.errors import ZaoziError

_ANY = math.inf
LIMITS: dict[str, tuple[float, float]] = {
    "text.max_tokens": (2, 512),
    "network.width": (1, _ANY),
    "network.depth": (1, _ANY),
    "network.head_width": (4, _ANY),
    "network.patch": (1, _ANY),
    "network.cross_every": (1, _ANY),
    "network.dropout": (0, 0.99),
    "space.width": (1, _ANY),
    "space.steps": (0, _ANY),
    "diffusion.times_std": (1e-6, _ANY),
    "data.size": (8, 1024),
    "optim.lr": (1e-12, _ANY),
    "optim.muon_lr": (1e-12, _ANY),
    "optim.beta1": (0, 0.9999),
    "optim.beta2": (0, 0.99999),
    "optim.weight_decay": (0, _ANY),
    "optim.warmup": (0, _ANY),
    "optim.flat": (0, 1),
    "optim.final": (0, 1),
    "optim.clip": (1e-12, _ANY),
    "train.steps": (1, _ANY),
    "train.max_minutes": (0, _ANY),
    "train.batch_size": (1, _ANY),
    "train.accumulate": (1, _ANY),
    "train.seed": (0, 2**63),
    "train.text_dropout": (0, 1),
    "train.hint_rate": (0, 1),
    "train.text_noise": (0, _ANY),
    "train.balance_power": (0, 1),
    "train.property_dropout": (0, 1),
    "train.ema": (0, 1),
    "train.shift": (0, _ANY),
    "train.save_minutes": (0, _ANY),
    "train.save_steps": (0, _ANY),
    "train.validate_steps": (0, _ANY),
    "train.sample_steps": (0, _ANY),
}


def check(recipe: Recipe) -> None:
    """Raises `ZaoziError` for the first number of a recipe that is out of its range."""
    for key, (low, high) in LIMITS.items():
        value = attrgetter(key)(recipe)
        if not low <= value <= high:
            wanted = f"{low:g} or more" if high == _ANY else f"{low:g} to {high:g}"
            raise ZaoziError(f"{key} {value} is out of range; use {wanted}")
    for p in recipe.properties:
        if not 0 <= p.dropout <= 1:
            raise ZaoziError(f"the dropout {p.dropout} of property '{p.column}' is out of range; use 0 to 1")
    if len({p.column for p in recipe.properties}) < len(recipe.properties):
        raise ZaoziError("a property stands twice in the recipe; keep one of each column")
    if len({p.column.replace(".", "_") for p in recipe.properties}) < len(recipe.properties):
        raise ZaoziError("two properties' columns differ only in '.' and '_'; rename one")
    if recipe.train.sample_steps and not recipe.train.prompts:
        raise ZaoziError("train.prompts is empty; give some, or train.sample_steps = 0")
