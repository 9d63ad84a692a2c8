"""Encode once: token states of every distinct caption, in memory-mapped half precision, keyed by encoder and text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.files import whole_folder
from zaozi.core.types import Cond
from zaozi.text.encoders import TextEncoder

_MARKER = "complete"


@dataclass(frozen=True)
class TextCache:
    """Encoded captions: row r of the cache is tokens[offsets[r]:offsets[r + 1]] and pooled[r]."""

    tokens: NDArray[np.float16]  # (sum of lengths, D), memory-mapped
    offsets: NDArray[np.int64]  # (rows + 1,)
    pooled: NDArray[np.float16]  # (rows, D)
    row_of: dict[str, int]

    def rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some texts, all of which must have been encoded."""
        return np.array([self.row_of[text] for text in texts], dtype=np.int64)

    def cond(self, rows: NDArray[np.int64], *, multiple: int = 1) -> Cond:
        """The condition of a batch, float32, padded to the longest text in it (rounded up to a multiple)."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        longest = -(-int(lengths.max()) // multiple) * multiple
        tokens = np.zeros((len(rows), longest, self.tokens.shape[1]), dtype=np.float16)
        for i, row in enumerate(rows):
            tokens[i, : lengths[i]] = self.tokens[self.offsets[row] : self.offsets[row + 1]]
        mask = np.arange(longest)[None] < lengths[:, None]
        return Cond(
            torch.from_numpy(tokens).float(), torch.from_numpy(mask), torch.from_numpy(self.pooled[rows]).float()
        )


def cached(encoder: TextEncoder, texts: Sequence[str], folder: Path, *, batch: int = 64) -> TextCache:
    """The texts' cache under `folder`, made there on first use (with a progress bar) and mapped ever after."""
    distinct = sorted(set(texts))
    key = hashlib.sha256("\x00".join([encoder.fingerprint, *distinct]).encode()).hexdigest()[:24]
    home = folder / key
    if not (home / _MARKER).is_file():
        with whole_folder(home, marker=_MARKER) as work:
            _encode(encoder, distinct, work, batch)
            (work / _MARKER).touch()
    offsets = np.load(home / "offsets.npy")
    shape = (int(offsets[-1]), encoder.width)
    tokens: Any = np.memmap(home / "tokens.f16", dtype=np.float16, mode="r", shape=shape)
    return TextCache(tokens, offsets, np.load(home / "pooled.npy"), {t: i for i, t in enumerate(distinct)})


def _encode(encoder: TextEncoder, texts: Sequence[str], folder: Path, batch: int) -> None:
    from tqdm import tqdm

    lengths = np.minimum(encoder.token_counts(texts), encoder.max_tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens: Any = np.memmap(folder / "tokens.f16", dtype=np.float16, mode="w+", shape=(int(offsets[-1]), encoder.width))
    pooled = np.zeros((len(texts), encoder.width), dtype=np.float16)
    order = np.argsort(lengths, kind="stable")  # like lengths together, so that little is padding
    with tqdm(total=len(texts), desc="reading captions", unit="caption", leave=False) as bar:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            cond = encoder.encode([texts[r] for r in rows])
            states: Tensor = cond.tokens.half()
            for i, row in enumerate(rows):
                tokens[offsets[row] : offsets[row + 1]] = states[i, : lengths[row]].numpy()
            pooled[rows] = cond.pooled.half().numpy()
            bar.update(len(rows))
    tokens.flush()
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "pooled.npy", pooled)
