"""Encode once: token states of every distinct caption, in memory-mapped half precision, keyed by encoder and text.

An encoder's folder holds parts that never change; a dataset with new captions adds one part with those alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.outputs import Output
from zaozi.core.types import Cond
from zaozi.text.encoders import TextEncoder

_NAMES = ("tokens.f16", "offsets.npy", "pooled.npy", "texts.json")


@dataclass(frozen=True)
class _Part:
    """Row r of a part is tokens[offsets[r]:offsets[r + 1]] and pooled[r]."""

    tokens: NDArray[np.float16]  # (sum of lengths, D), memory-mapped
    offsets: NDArray[np.int64]  # (rows + 1,)
    pooled: NDArray[np.float16]  # (rows, D), memory-mapped


@dataclass(frozen=True)
class TextCache:
    """Encoded captions; a text's place is its part and its row in it."""

    parts: list[_Part]
    place_of: dict[str, tuple[int, int]]
    width: int

    def places(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The places `[N, 2]` of some texts, all of which must have been encoded."""
        return np.array([self.place_of[text] for text in texts], dtype=np.int64).reshape(-1, 2)

    def cond(self, places: NDArray[np.int64], *, multiple: int = 1) -> Cond:
        """The condition of a batch, float32, padded to the longest text in it (rounded up to a multiple)."""
        found = [(self.parts[p], int(r)) for p, r in places]
        spans = [part.tokens[part.offsets[r] : part.offsets[r + 1]] for part, r in found]
        lengths = np.array([len(span) for span in spans])
        longest = -(-int(lengths.max()) // multiple) * multiple
        tokens = np.zeros((len(spans), longest, spans[0].shape[1]), dtype=np.float16)
        for i, span in enumerate(spans):
            tokens[i, : len(span)] = span
        mask = np.arange(longest)[None] < lengths[:, None]
        return Cond(torch.from_numpy(tokens).float(), torch.from_numpy(mask), self.pooled(places))

    def pooled(self, places: NDArray[np.int64]) -> Tensor:
        """The pooled vectors alone, float32 `[N, D]`."""
        rows = [self.parts[p].pooled[r] for p, r in places]
        return torch.from_numpy(np.array(rows, np.float16).reshape(-1, self.width)).float()


def cached(encoder: TextEncoder, texts: Sequence[str], folder: Path, *, batch: int = 64) -> TextCache:
    """The texts' cache under `folder`; those not there yet are encoded first (with a progress bar)."""
    home = folder / encoder.fingerprint[:24]
    parts: list[_Part] = []
    place_of: dict[str, tuple[int, int]] = {}

    def add(part: Path) -> None:
        known = json.loads((part / "texts.json").read_text(encoding="utf-8"))
        place_of.update({text: (len(parts), row) for row, text in enumerate(known)})
        offsets = np.load(part / "offsets.npy")
        tokens: Any = np.memmap(part / "tokens.f16", np.float16, "r", shape=(int(offsets[-1]), encoder.width))
        parts.append(_Part(tokens, offsets, np.load(part / "pooled.npy", mmap_mode="r")))

    for part in sorted(home.glob("part-*")):
        add(part)
    missing = sorted(set(texts) - place_of.keys())
    if missing:
        part = home / ("part-" + hashlib.sha256("\0".join(missing).encode()).hexdigest()[:16])
        with Output(part, "text", _NAMES, overwrite=True).write() as work:
            _encode(encoder, missing, work, batch)
        add(part)
    return TextCache(parts, place_of, encoder.width)


def _encode(encoder: TextEncoder, texts: Sequence[str], folder: Path, batch: int) -> None:
    from tqdm import tqdm

    lengths = np.minimum(encoder.token_counts(texts), encoder.max_tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens: Any = np.memmap(folder / "tokens.f16", np.float16, "w+", shape=(int(offsets[-1]), encoder.width))
    pooled = np.zeros((len(texts), encoder.width), dtype=np.float16)
    order = np.argsort(lengths, kind="stable")  # like lengths together, so that little is padding
    with tqdm(total=len(texts), desc="reading captions", unit="caption", leave=False, delay=1) as bar:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            cond = encoder.encode([texts[r] for r in rows])
            states = cond.tokens.half().numpy()
            for i, row in enumerate(rows):
                tokens[offsets[row] : offsets[row + 1]] = states[i, : lengths[row]]
            pooled[rows] = cond.pooled.half().numpy()
            bar.update(len(rows))
    tokens.flush()
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "pooled.npy", pooled)
    (folder / "texts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
