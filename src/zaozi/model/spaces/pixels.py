"""Pixel space."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import config
from zaozi.model.space import Space


@spaces.add
@config("space")
class PixelsConfig(SpaceConfig):
    """The pixels of the pictures, unchanged."""

    kind: Literal["pixels"] = "pixels"

    def build(self, channels: int) -> Pixels:
        return Pixels()


class Pixels(Space):
    """The identity; decoding clamps x0 to [-1, 1]."""

    def encode(self, pictures: Tensor) -> Tensor:
        return pictures

    def decode(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1.0, 1.0)
