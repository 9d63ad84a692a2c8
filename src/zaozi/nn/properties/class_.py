"""Categorical property: a learned vector per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zaozi.core.components import Property, properties
from zaozi.core.config import Length, config
from zaozi.core.errors import ZaoziError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSES = 1_000_000
"""Maximum number of values of a property."""


@properties.add
@config()
class ClassProperty(Property):
    """One of several classes, for example a structure or a style."""

    kind: Literal["class"] = "class"
    values: Annotated[tuple[str, ...], Length(0, CLASSES)] = ()
    """The classes, set from the training split when training starts; class k of the network is values[k - 1]."""

    def filled(self, values: Sequence[Any]) -> ClassProperty:
        try:
            classes = tuple(str(v) for v in sorted({v for v in values if v is not None and v != ""}))
        except TypeError:
            raise ZaoziError(
                f"column '{self.column}' holds lists or mixes types; make it all text or all numbers"
            ) from None
        return replace(self, values=classes)

    def tensor(self, values: Sequence[Any]) -> Tensor:
        import torch

        number = {v: i for i, v in enumerate(self.values, start=1)}
        return torch.tensor([number.get(str(v), 0) for v in values])

    @property
    def hidden(self) -> int:
        return 0

    def asked(self, value: str | float) -> int:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if text not in self.values:
            raise unknown(self.column, text, self.values)
        return self.values.index(text) + 1

    def knows(self, value: Any) -> bool:
        return not self.values or value in self.values

    def example(self) -> str:
        return self.values[0]

    def summary(self) -> str:
        return str(len(self.values) or self.kind)

    def embedding(self, width: int) -> nn.Embedding:
        from torch import nn

        table = nn.Embedding(len(self.values) + 1, width, padding_idx=0)
        nn.init.zeros_(table.weight)
        return table

    def take_over(self, own: dict[str, Tensor], known: Property, theirs: Mapping[str, Tensor]) -> bool:
        if not isinstance(known, ClassProperty):
            return False
        place = {value: i for i, value in enumerate(known.values, start=1)}
        for i, value in enumerate(self.values, start=1):
            if value in place:
                own["weight"][i] = theirs["weight"][place[value]]
        return True
