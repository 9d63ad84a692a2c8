"""A built dataset in memory: pictures as bytes, captions as text, properties as columns, and the order of training."""

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
        """Up to `count` rows, evenly spread (rows are sorted, so the first ones would be all of a kind)."""
        count = min(count, len(self))
        return np.arange(count) * len(self) // max(count, 1)

    def batch(self, rows: NDArray[np.int64] | Sequence[int]) -> Tensor:
        """Some pictures as float32 `[B, C, S, S]` in [-1, 1], white +1."""
        return torch.from_numpy(self.pictures[np.asarray(rows)]).float().div_(127.5).sub_(1.0)

    def property_columns(self, properties: Sequence[Property]) -> dict[str, Tensor]:
        """Each property's column as a tensor `[N]`, as the network takes it."""
        return {p.column: p.tensor(self.column(p.column)) for p in properties}

    def column(self, name: str) -> list[Any]:
        """A column by name. Raises `ZaoziError` for one that is not there."""
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        return self.columns[name]


def find_dataset(config: DataConfig) -> Path:
    """The dataset's folder; the flagship glyphs are built when none is named and they are not there yet."""
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
    """One split of a built dataset (`train`, `validation` or `test`), its pictures decoded.

    Raises `ZaoziError` where a shard is damaged, is not the one that was built, or holds other pictures than its manifest says.
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
        ):  # of the file system, such as a full disk; a decoder's has no number
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ZaoziError(f"{folder} has a damaged shard ({why}); build the dataset again") from None
    return Pairs(pictures, texts, keys, columns)


def _pictures(folder: Path, files: Mapping[str, str], count: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The shards' pictures, decoded once into a memory-mapped file that every process shares: uint8 `[N, C, S, S]`.

    `files` are the shards' names and SHA-256, which name the cache.
    """
    import pyarrow.parquet as pq

    key = f"{''.join(files.values())} {count} {shape}"
    cache = home() / "pictures" / hashlib.sha256(key.encode()).hexdigest()[:24]

    def decode_all(work: Path) -> None:
        path = work / "pictures.npy"
        size = count * math.prod(shape)
        need_space(home(), size, "the cache of the dataset's pictures")
        allocate(path, size)  # a memory-mapped file with holes would crash on a full disk
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
    """How often each row should come an epoch, 1 on average: in proportion to (rows of its class)^-power. `[N]`.

    0 leaves all rows alike; at 1 every class of the column is seen equally often.
    """
    _, index, counts = np.unique(np.array([str(v) for v in values]), return_inverse=True, return_counts=True)
    weights = counts[index].astype(np.float64) ** -power
    return weights / weights.mean()


ORDER = 2
"""The version of the order in which rows come; 1 shuffled splits of any size whole."""
SHUFFLED_WHOLE = 2**15
"""Up to so many rows an epoch's permutation is made as a whole, as version 1 did; of more, only what is asked for."""
_ROUNDS = 8


class Order:
    """The endless shuffled stream of `count` rows: epoch after epoch, each its own permutation of them.

    With `weights` `[count]` (1 on average) row i comes floor or ceil of weights[i] times an epoch, weights[i] on average
    (systematic resampling, Kitagawa 1996). A function of its arguments alone, so that a resumed run needs to remember no more
    than its step. Some rows take time in proportion to their number, not to `count`.
    """

    def __init__(self, count: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.count, self.seed, self.weights = count, seed, weights
        self._ends = None if weights is None else np.cumsum(weights)
        self._last: tuple[int, NDArray[np.int64], float] | None = None

    def rows(self, start: int, number: int) -> NDArray[np.int64]:
        """Rows start .. start + number of the stream."""
        parts = [np.zeros(0, np.int64)]
        while number > 0:
            epoch, offset = divmod(start, self.count)
            length = min(number, self.count - offset)
            parts.append(self._some(epoch, offset, length))
            start, number = start + length, number - length
        return np.concatenate(parts)

    def _some(self, epoch: int, offset: int, length: int) -> NDArray[np.int64]:
        """`length` rows of one epoch."""
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
    """Whether `count` rows come as they did in a version of the order."""
    return version == ORDER or (version == 1 and count <= SHUFFLED_WHOLE)


def _permuted(places: NDArray[np.uint64], count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a keyed permutation of [0, count) takes some places; each by itself, with nothing of size `count` made.

    A Feistel network on pairs (x, y) of numbers below the side s of the smallest square that holds `count`, number x s + y:
    each round takes (x, y) to (y, (x + hash(y + key)) mod s), which can be undone. What lands beyond `count` is taken further
    until it does not (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002); the hash is SplitMix64's (Steele,
    Lea & Flood, OOPSLA 2014).
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
    """`Order(count, seed, weights).rows(start, number)`; the last order is kept, so that asking again costs no more.

    (It is known again by its array of weights, which must not be changed in place.)
    """
    kept = next((o for o in _recent if (o.count, o.seed) == (count, seed) and o.weights is weights), None)
    order = kept or Order(count, seed, weights)
    _recent[:] = [order]
    return order.rows(start, number)
