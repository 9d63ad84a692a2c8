"""A built dataset in memory: pictures as bytes, captions as text, properties as columns, and the order of training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.config import DataConfig, Property
from zaozi.core.errors import ZaoziError, unknown
from zaozi.data.shards import MANIFEST, SPLITS, read_manifest


@dataclass(frozen=True)
class Pairs:
    """One split: `pictures` uint8 `[N, C, S, S]` (255 is white), `texts`, `keys`, and the other columns by name."""

    pictures: NDArray[np.uint8]
    texts: list[str]
    keys: list[str]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: NDArray[np.int64] | Sequence[int]) -> Tensor:
        """Some pictures as float32 `[B, C, S, S]` in [-1, 1], white +1."""
        return torch.from_numpy(self.pictures[np.asarray(rows)]).float().div_(127.5).sub_(1.0)

    def property_columns(self, properties: Sequence[Property]) -> dict[str, Tensor]:
        """Each property's column as a tensor `[N]`: class numbers from 1 (0 unknown), or floats (NaN unknown)."""
        made = {}
        for p in properties:
            values = self._column(p.column)
            if p.kind == "class":
                number = {v: i for i, v in enumerate(p.values, start=1)}
                made[p.column] = torch.tensor([number.get(str(v), 0) for v in values])
            else:
                made[p.column] = torch.tensor([float(v) if v is not None else torch.nan for v in values])
        return made

    def _column(self, name: str) -> list[Any]:
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        return self.columns[name]

    def fill(self, p: Property) -> Property:
        """The property with its classes, or its mean and deviation, read off this split (the training one)."""
        values = self._column(p.column)
        if p.kind == "class":
            seen = {v for v in values if v not in (None, "", 0)}
            try:
                classes = tuple(str(v) for v in sorted(seen))
            except TypeError:
                raise ZaoziError(f"column '{p.column}' mixes types; make it all text or all numbers") from None
            return replace(p, values=classes)
        if not all(isinstance(v, (int, float)) or v is None for v in values):
            raise ZaoziError(f"column '{p.column}' holds text; give the property kind = 'class'")
        numbers = np.array([float(v) for v in values if v is not None])
        return replace(p, mean=float(numbers.mean()), std=float(max(numbers.std(), 1e-6)))


def find_dataset(config: DataConfig) -> Path:
    """The dataset's folder; the flagship glyphs are built when none is named and they are not there yet."""
    if config.path:
        folder = Path(config.path)
        read_manifest(folder)
        return folder
    from zaozi.data.glyphs import build_glyphs, default_folder

    folder = default_folder(config.size)
    if not (folder / MANIFEST).is_file():
        build_glyphs(folder, size=config.size)
    return folder


def load_pairs(folder: Path, split: str) -> Pairs:
    """One split of a built dataset (`train`, `validation` or `test`), its pictures decoded."""
    import pyarrow.parquet as pq

    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    manifest = read_manifest(folder)
    names = [name for name in manifest["sha256"] if name.startswith(split + "-")]
    size, channels = manifest["size"], manifest["channels"]
    if not names:
        return Pairs(np.zeros((0, channels, size, size), np.uint8), [], [], {})
    columns: dict[str, list[Any]] = {}
    for name in names:
        for column, values in pq.read_table(folder / name).to_pydict().items():
            columns.setdefault(column, []).extend(values)

    def decode(image: dict[str, Any]) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(image["bytes"])) as picture:
            pixels = np.asarray(picture)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        pictures = np.stack(list(pool.map(decode, columns.pop("image"))))
    return Pairs(pictures, columns.pop("text"), columns.pop("key"), columns)


def training_rows(count: int, start: int, number: int, seed: int) -> NDArray[np.int64]:
    """Rows start .. start + number of the endless shuffled stream: epoch after epoch, each its own permutation.

    A function of its arguments alone, so that a resumed run needs to remember no more than its step.
    """
    rows = []
    while number > 0:
        epoch, offset = divmod(start, count)
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
        take = order[offset : offset + number]
        rows.append(take)
        start, number = start + len(take), number - len(take)
    return np.concatenate(rows)
