"""Numbers of a recipe or a model that have a range, and what to say when one is out of it."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

from zaozi.core.config import NetworkConfig, Property, Recipe
from zaozi.core.errors import ZaoziError

_ANY = math.inf
LIMITS: dict[str, tuple[float, float]] = {
    "text.max_tokens": (2, 512),
    "network.channels": (1, 3),
    "network.width": (1, 16_384),
    "network.depth": (1, 512),
    "network.head_width": (4, 16_384),
    "network.patch": (1, 1024),
    "network.text_width": (1, 16_384),
    "network.cross_every": (1, 512),
    "network.dropout": (0, 0.99),
    "space.width": (1, 4096),
    "space.steps": (0, _ANY),
    "diffusion.times_mean": (-100, 100),
    "diffusion.times_std": (1e-6, 100),
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
    "train.save_every": (0, _ANY),
    "train.validate_every": (0, _ANY),
    "train.sample_every": (0, _ANY),
}


PROPERTY_LIMITS: dict[str, tuple[float, float]] = {
    "dropout": (0, 1),
    "mean": (-1e30, 1e30),
    "std": (1e-6, 1e30),
}
PROPERTIES, CLASSES = 1000, 1_000_000
"""How many properties a model may have, and how many values one of them."""
LEVELS, MULTIPLIER = 8, 64
"""How many levels a U-Net may have, and how many times the width one of them."""
SIZE = (8, 1024)
"""The side of pictures in pixels."""


def check(recipe: Recipe) -> None:
    """Raises `ZaoziError` for the first number of a recipe that is out of its range."""
    for key, limits in LIMITS.items():
        _within(key, attrgetter(key)(recipe), limits)
    _check_network(recipe.network)
    _check_properties(recipe.properties)
    if recipe.train.sample_every and not recipe.train.prompts:
        raise ZaoziError("train.prompts is empty; give some, or train.sample_every = 0")


def check_model(config: Any) -> None:
    """Raises `ZaoziError` for the first number of a model's configuration (`zaozi.model.denoiser.ModelConfig`) that is out of
    its range."""
    _within("size", config.size, SIZE)
    if config.channels not in (1, 3):
        raise ZaoziError(f"channels {str(config.channels)[:40]} is out of range; use 1 (grey) or 3 (RGB)")
    for key, limits in LIMITS.items():
        if hasattr(config, key.partition(".")[0]):
            _within(key, attrgetter(key)(config), limits)
    if config.network.channels != config.channels:
        raise ZaoziError(f"channels {config.channels} and network.channels {config.network.channels} must be the same")
    _check_network(config.network)
    _check_properties(config.properties)


def _within(name: str, value: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= value <= high:
        wanted = f"{low:g} or more" if high == _ANY else f"{low:g} to {high:.10g}"
        raise ZaoziError(f"{name} {str(value)[:40]} is out of range; use {wanted}")


def _check_network(network: NetworkConfig) -> None:
    if network.kind == "unet":
        _within("the number of network.multipliers", len(network.multipliers), (1, LEVELS))
        for i, multiplier in enumerate(network.multipliers):
            _within(f"network.multipliers[{i}]", multiplier, (1, MULTIPLIER))
        for i, level in enumerate(network.attention_levels):
            _within(f"network.attention_levels[{i}]", level, (0, LEVELS - 1))


def _check_properties(properties: tuple[Property, ...]) -> None:
    _within("the number of properties", len(properties), (0, PROPERTIES))
    for p in properties:
        for name, limits in PROPERTY_LIMITS.items():
            _within(f"property '{p.column[:40]}': {name}", getattr(p, name), limits)
        _within(f"property '{p.column[:40]}': the number of values", len(p.values), (0, CLASSES))
    if len({p.column for p in properties}) < len(properties):
        raise ZaoziError("a property is listed twice; keep one of each column")
    if len({p.column.replace(".", "_") for p in properties}) < len(properties):
        raise ZaoziError("two properties' columns differ only in '.' and '_'; rename one")
