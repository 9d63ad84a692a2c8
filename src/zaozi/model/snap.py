"""Values near black and white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zaozi.core.arrays import Tensor, library
from zaozi.core.components import SpaceConfig

if TYPE_CHECKING:
    from zaozi.core.recipe import ModelConfig


def snapped(x0: Tensor, reach: float) -> Tensor:
    """Return x0 clamped to [-1, 1], with values up to `reach` from -1 or 1 set to -1 or 1, and those up to twice as far spread
    linearly over the gap: a distance d becomes max(2 (d - reach), 0). Other values are unchanged.
    """
    x0 = x0.clip(-1.0, 1.0)
    if not reach:
        return x0
    distance = 1.0 - abs(x0)
    return library(x0).sign(x0) * (1.0 - library(x0).minimum(distance, 2.0 * (distance - reach).clip(min=0.0)))


def unsnapped(space: SpaceConfig) -> SpaceConfig:
    """Return the settings of a space without its snap, which changes how x0 is decoded and nothing else."""
    return replace(space, **{"snap": 0.0}) if hasattr(space, "snap") else space  # type: ignore[arg-type]


def differing(one: ModelConfig, other: ModelConfig, names: Sequence[str]) -> list[str]:
    """Return which of these settings of two models differ, apart from the reach of the snap."""
    one, other = (replace(config, space=unsnapped(config.space)) for config in (one, other))
    return [name for name in names if getattr(one, name) != getattr(other, name)]
