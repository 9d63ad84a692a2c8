"""Pixel space."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import Range, config
from zaozi.model.snap import snapped
from zaozi.model.space import Space


@spaces.add
@config("space")
class PixelsConfig(SpaceConfig):
    """The pixels of the pictures, unchanged."""

    kind: Literal["pixels"] = "pixels"
    snap: Annotated[float, Range(0, 0.5)] = 0.0
    """How close to -1 or 1 a drawn value becomes -1 or 1: drawings have faint grey in their black and white."""

    def build(self, channels: int) -> Pixels:
        return Pixels(self.snap)


class Pixels(Space):
    """The identity; decoding clamps x0 to [-1, 1] and snaps values near the ends to them."""

    averages = True

    def __init__(self, snap: float = 0.0) -> None:
        super().__init__()
        self.snap = snap

    def encode(self, pictures: Tensor) -> Tensor:
        return pictures

    def decode(self, x0: Tensor) -> Tensor:
        return snapped(x0, self.snap)
