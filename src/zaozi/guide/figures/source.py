"""Data source of the figures: the model, the glyphs and their metadata, loaded lazily."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.noise import check_seed
from zaozi.core.recipe import DataConfig
from zaozi.data.font import default_font, glyph
from zaozi.data.pairs import Pairs, find_dataset, load_pairs
from zaozi.diffusion.schedules import Schedule
from zaozi.pipeline import TextToImage, from_picture

if TYPE_CHECKING:
    from zaozi.evaluate.reference import Reference


class Source:
    """Data source of figures. `model` is a bundled name or a folder, `data` a dataset folder (built if not given)."""

    def __init__(self, model: str = "base", data: Path | None = None, seed: int = 0) -> None:
        check_seed(seed)
        self.model_name, self.data, self.seed = model, data, seed

    @cached_property
    def artist(self) -> TextToImage:
        """The model and its text encoder."""
        artist = TextToImage.from_pretrained(self.model_name, device="cpu")
        if artist.model.config.channels != 1:
            raise ZaoziError(f"the figures need a model of grey pictures; '{self.model_name}' draws in colour")
        return artist

    @cached_property
    def schedule(self) -> Schedule:
        """The model's noise schedule."""
        return self.artist.model.schedule

    @cached_property
    def folder(self) -> Path:
        """The dataset folder."""
        return find_dataset(DataConfig(path=str(self.data) if self.data else "", size=self.artist.model.config.size))

    @cached_property
    def train(self) -> Pairs:
        """Training glyphs."""
        return load_pairs(self.folder, "train")

    @cached_property
    def test(self) -> Pairs:
        """Held-out glyphs."""
        return load_pairs(self.folder, "test")

    @cached_property
    def reference(self) -> Reference:
        """The reference network, which classifies radicals."""
        from zaozi.evaluate.reference import load_reference

        return load_reference()

    def generator(self, *key: int) -> np.random.Generator:
        """Return a deterministic random generator for a figure."""
        return np.random.Generator(np.random.Philox(key=[self.seed, sum(k * 1009**i for i, k in enumerate(key))]))

    def noise(self, shape: Sequence[int], *key: int) -> Tensor:
        """Return standard normal noise of any shape, float32."""
        return torch.from_numpy(self.generator(*key).standard_normal(tuple(shape)).astype(np.float32))

    def glyph(self, character: str, size: int = 128) -> Image.Image:
        """Render a character with the font."""
        return glyph(character, default_font(), size)

    def clean(self, character: str) -> Tensor:
        """Return a character as x0 in the diffusion space, `[1, 1, s, s]` in [-1, 1]."""
        config = self.artist.model.config
        with torch.no_grad():
            return self.artist.model.space.encode(from_picture(self.glyph(character, config.size), config.size, 1))

    def points(self, count: int, character: str = "人", *key: int) -> Tensor:
        """Sample a 2-D toy distribution: `[count, 2]` points on a character's ink, in [-1, 1], y upwards."""
        ink = 1.0 - np.asarray(self.glyph(character, 128), np.float64) / 255.0
        rng = self.generator(7, *key)
        place = rng.choice(ink.size, count, p=ink.ravel() / ink.sum())
        y, x = np.divmod(place, ink.shape[1])
        jitter = rng.random((2, count))
        return torch.from_numpy(np.stack([(x + jitter[0]) / 64.0 - 1.0, 1.0 - (y + jitter[1]) / 64.0], axis=1))

    def memo(self, name: str, make: Any) -> Any:
        """Return a value shared by several figures, computed once."""
        kept: dict[str, Any] = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]
