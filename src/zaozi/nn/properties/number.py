"""Real-valued property: projected sinusoids of the standardized value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from zaozi.core.components import Property, properties
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError

if TYPE_CHECKING:
    from torch import Tensor

    from zaozi.nn.layers import NumberEmbedding

FARTHEST = 10.0
"""Maximum requested value, in standard deviations from the mean."""


@properties.add
@config()
class NumberProperty(Property):
    """A standardized real value, for example a stroke count."""

    kind: Literal["number"] = "number"
    mean: Annotated[float, Range(-1e30, 1e30)] = 0.0
    """Mean of the training split; set when training starts."""
    std: Annotated[float, Range(1e-6, 1e30)] = 1.0
    """Standard deviation of the training split; set when training starts."""

    def filled(self, values: Sequence[Any]) -> NumberProperty:
        if not all(isinstance(v, (int, float)) or v is None for v in values):
            raise ZaoziError(f"column '{self.column}' holds text; give the property kind = 'class'")
        numbers = np.array([float(v) for v in values if v is not None and np.isfinite(v)])
        if not len(numbers):
            raise ZaoziError(f"column '{self.column}' holds no number; leave this property out")
        return replace(self, mean=float(numbers.mean()), std=float(max(numbers.std(), 1e-6)))

    def on_the_scale_of(self, known: Property) -> NumberProperty:
        return replace(self, mean=known.mean, std=known.std) if isinstance(known, NumberProperty) else self

    def tensor(self, values: Sequence[Any]) -> Tensor:
        import torch

        return torch.tensor([torch.nan if v is None else float(v) for v in values])

    @property
    def hidden(self) -> float:
        return math.nan

    def asked(self, value: str | float) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ZaoziError(f"{self.column} '{value}' is not a number; give one, for instance {self.mean:.0f}")
        return number

    @property
    def span(self) -> tuple[float, float]:
        return self.mean - FARTHEST * self.std, self.mean + FARTHEST * self.std

    def example(self) -> float:
        return self.mean

    def embedding(self, width: int) -> NumberEmbedding:
        from zaozi.nn.layers import NumberEmbedding

        return NumberEmbedding(self.mean, self.std, width)

    def take_over(self, own: dict[str, Tensor], known: Property, theirs: Mapping[str, Tensor]) -> bool:
        if not isinstance(known, NumberProperty) or (self.mean, self.std) != (known.mean, known.std):
            return False
        own.update(theirs)
        return True
