"""A dataset in memory: pictures as bytes, captions as text, properties as columns, and the training order."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.caches import cached
from zaozi.core.components import Property
from zaozi.core.disk import allocate, need_space
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.files import home
from zaozi.core.journal import verified
from zaozi.core.machine import usable_cores
from zaozi.core.recipe import DataConfig
from zaozi.core.record import Damaged
from zaozi.data.shards import MANIFEST, SPLITS, check_shards, read_manifest


@dataclass(frozen=True)
class Pairs:
    """One split: `pictures` uint8 `[N, C, S, S]` (255 is white), `texts`, `keys`, and the other columns by name."""

    pictures: NDArray[np.uint8]
    texts: list[str]
    keys: list[str]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.texts)

    def some(self, count: int) -> NDArray[np.int64]:
        """Return up to `count` evenly spread rows (rows are sorted, so the first ones would be similar)."""
        count = min(count, len(self))
        return np.arange(count) * len(self) // max(count, 1)

    def batch(self, rows: NDArray[np.int64] | Sequence[int]) -> Tensor:
        """Return pictures as float32 `[B, C, S, S]` in [-1, 1], white +1."""
        return torch.from_numpy(self.pictures[np.asarray(rows)]).float().div_(127.5).sub_(1.0)

    def property_columns(self, properties: Sequence[Property]) -> dict[str, Tensor]:
        """Return each property's column as a tensor `[N]` for the network."""
        return {p.column: p.tensor(self.column(p.column)) for p in properties}

    def column(self, name: str) -> list[Any]:
        """Return a column by name. Raises `ZaoziError` if it is missing."""
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        return self.columns[name]


def find_dataset(config: DataConfig) -> Path:
    """Return the dataset's folder; without a path this is the glyph dataset, built if missing."""
    if config.path:
        folder = Path(config.path)
        read_manifest(folder)
        return folder
    from zaozi.data.glyphs import EDITION, build_glyphs, default_folder

    folder = default_folder(config.size, undefined=config.undefined)
    try:
        verified(folder)
        current = (folder / MANIFEST).is_file() and read_manifest(folder).get("edition") == EDITION
    except Damaged as damage:
        warnings.warn(f"{damage}; the glyphs are built again", stacklevel=2)
        current = False
    if not current:
        build_glyphs(folder, size=config.size, undefined=config.undefined, overwrite=True)
    return folder


def load_pairs(folder: Path, split: str) -> Pairs:
    """Load one split of a built dataset (`train`, `validation` or `test`), with decoded pictures.

    Raises `ZaoziError` if a shard is damaged or changed since the build, or its pictures do not match the manifest.
    """
    import pyarrow.parquet as pq

    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    manifest = read_manifest(folder)
    files = check_shards(folder, split)
    size, channels = manifest["size"], manifest["channels"]
    if not files:
        return Pairs(np.zeros((0, channels, size, size), np.uint8), [], [], {})
    columns: dict[str, list[Any]] = {}
    try:
        for name in files:
            rest = [column for column in manifest["columns"] if column != "image"]
            for column, values in pq.read_table(folder / name, columns=rest).to_pydict().items():
                columns.setdefault(column, []).extend(values)
        texts, keys = columns.pop("text"), columns.pop("key")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a caption is missing")
        pictures = _pictures(folder, files, len(texts), (channels, size, size))
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        if (
            isinstance(error, OSError) and error.errno
        ):  # from the file system, such as a full disk; decoder errors have no errno
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ZaoziError(f"{folder} has a damaged shard ({why}); build the dataset again") from None
    return Pairs(pictures, texts, keys, columns)


def _pictures(folder: Path, files: Mapping[str, str], count: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the shards' pictures, decoded once into a memory-mapped file shared by all processes: uint8 `[N, C, S, S]`.

    `files` maps the shards' names to their SHA-256, which form the cache key.
    """
    import pyarrow.parquet as pq

    key = f"{''.join(files.values())} {count} {shape}"
    cache = home() / "pictures" / hashlib.sha256(key.encode()).hexdigest()[:24]

    def decode_all(work: Path) -> None:
        path = work / "pictures.npy"
        size = count * math.prod(shape)
        need_space(home(), size, "the cache of the dataset's pictures")
        allocate(path, size)  # a sparse memory-mapped file would crash on a full disk
        made = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *shape))

        def decode(row: int, image: dict[str, Any]) -> None:
            with Image.open(io.BytesIO(image["bytes"]), formats=["PNG"]) as picture:
                if (picture.height, picture.width) != shape[1:] or picture.mode != ("L" if shape[0] == 1 else "RGB"):
                    found = f"{picture.width}x{picture.height} {picture.mode}"
                    raise ValueError(f"row {row} has a picture of another size or kind than the dataset: {found}")
                pixels = np.asarray(picture)
            made[row] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

        row = 0
        with ThreadPoolExecutor(usable_cores()) as pool:
            for name in files:
                shard = pq.ParquetFile(folder / name)
                for group in range(shard.num_row_groups):
                    images = shard.read_row_group(group, columns=["image"]).column("image").to_pylist()
                    list(pool.map(decode, range(row, row + len(images)), images))
                    row += len(images)
        if row != count:
            raise ValueError(f"{row} pictures for {count} captions")
        made.flush()

    cached(cache, "pictures", decode_all)
    return np.load(cache / "pictures.npy", mmap_mode="r")


def balance_weights(values: Sequence[Any], power: float) -> NDArray[np.float64]:
    """Return how often each row appears per epoch, 1 on average: in proportion to (rows of its class)^-power. `[N]`.

    0 gives all rows equal weight; 1 gives every class of the column equal weight.
    """
    _, index, counts = np.unique(np.array([str(v) for v in values]), return_inverse=True, return_counts=True)
    weights = counts[index].astype(np.float64) ** -power
    return weights / weights.mean()


ORDER = 2
"""Version of the row order; version 1 permuted splits of any size as a whole."""
SHUFFLED_WHOLE = 2**15
"""Up to this many rows, an epoch's permutation is computed as a whole, as in version 1; above it, only the requested rows."""
_ROUNDS = 8


class Order:
    """An endless shuffled stream of `count` rows: each epoch is a new permutation of them.

    With `weights` `[count]` (1 on average) row i appears floor or ceil of weights[i] times per epoch, weights[i] on average
    (systematic resampling, Kitagawa 1996). A function of its arguments only: a resumed run needs no state other than its
    step. The cost of reading rows depends on their number, not on `count`.
    """

    def __init__(self, count: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.count, self.seed, self.weights = count, seed, weights
        self._ends = None if weights is None else np.cumsum(weights)
        self._last: tuple[int, NDArray[np.int64], float] | None = None

    def rows(self, start: int, number: int) -> NDArray[np.int64]:
        """Return rows start .. start + number of the stream."""
        parts = [np.zeros(0, np.int64)]
        while number > 0:
            epoch, offset = divmod(start, self.count)
            length = min(number, self.count - offset)
            parts.append(self._some(epoch, offset, length))
            start, number = start + length, number - length
        return np.concatenate(parts)

    def _some(self, epoch: int, offset: int, length: int) -> NDArray[np.int64]:
        """Return `length` rows of one epoch."""
        if self.count <= SHUFFLED_WHOLE:
            if self._last is None or self._last[0] != epoch:
                rng = self._generator(epoch)
                self._last = epoch, rng.permutation(self.count), rng.random()
            _, whole, shift = self._last
            places = whole[offset : offset + length]
        else:
            rng = self._generator(epoch)
            keys, shift = rng.integers(2**64, size=_ROUNDS, dtype=np.uint64), rng.random()
            places = _permuted(np.arange(offset, offset + length, dtype=np.uint64), self.count, keys)
        if self._ends is None:
            return places
        return np.minimum(np.searchsorted(self._ends, places + shift, side="right"), self.count - 1)

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))


def same_order(version: int, count: int) -> bool:
    """Whether `count` rows have the same order as in another version."""
    return version == ORDER or (version == 1 and count <= SHUFFLED_WHOLE)


def _permuted(places: NDArray[np.uint64], count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Apply a keyed permutation of [0, count) to some positions, each independently and without memory of size `count`.

    A Feistel network on pairs (x, y) of numbers below the side s of the smallest square that holds `count`, number x s + y:
    each round maps (x, y) to (y, (x + hash(y + key)) mod s), which is invertible. Results beyond `count` are mapped again
    until they are below it (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002); the hash is SplitMix64's
    (Steele, Lea & Flood, OOPSLA 2014).
    """
    side = np.uint64(math.isqrt(count - 1) + 1)
    made, todo = places.copy(), np.arange(len(places))
    while len(todo):
        x, y = np.divmod(made[todo], side)
        for key in keys:
            z = y + key
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x, y = y, (x + (z ^ (z >> np.uint64(31))) % side) % side
        made[todo] = x * side + y
        todo = todo[made[todo] >= count]
    return made.astype(np.int64)


_recent: list[Order] = []


def training_rows(
    count: int, start: int, number: int, seed: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Return `Order(count, seed, weights).rows(start, number)`; the last order is cached for repeated calls.

    (The cache compares the array of weights by identity, so it must not be changed in place.)
    """
    kept = next((o for o in _recent if (o.count, o.seed) == (count, seed) and o.weights is weights), None)
    order = kept or Order(count, seed, weights)
    _recent[:] = [order]
    return order.rows(start, number)
