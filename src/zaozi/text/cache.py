"""Text encoding cache: token states of all distinct captions, memory-mapped in half precision, keyed by encoder and text.

An encoder's folder has immutable parts; new captions of a dataset are added as new parts. A part is named after its texts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core import caches, journal, record
from zaozi.core.progress import progress
from zaozi.core.types import Cond
from zaozi.text.encoders import TextEncoder

_TOKENS, _TEXTS = "tokens.f16", "texts.json"
_NAMES = (_TOKENS, "offsets.npy", "pooled.npy", _TEXTS)
_KIND = "text"
_NOT_ITS_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
PART, MOST_PARTS = 16_384, 128
"""Captions per part. Large datasets use larger parts, since each part needs a few open files."""


@dataclass(frozen=True)
class _Part:
    """Row r of a part is tokens[offsets[r]:offsets[r + 1]] and pooled[r]."""

    tokens: NDArray[np.float16]  # (sum of lengths, D), memory-mapped
    offsets: NDArray[np.int64]  # (rows + 1,)
    pooled: NDArray[np.float16]  # (rows, D), memory-mapped


@dataclass(frozen=True)
class TextCache:
    """Encoded captions; the position of a text is its part and its row in it."""

    parts: list[_Part]
    place_of: dict[str, tuple[int, int]]
    width: int

    def places(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the positions `[N, 2]` of some texts, which must all be encoded."""
        return np.array([self.place_of[text] for text in texts], dtype=np.int64).reshape(-1, 2)

    def cond(self, places: NDArray[np.int64], *, multiple: int = 1) -> Cond:
        """Return the condition of a batch, float32, padded to its longest text (rounded up to a multiple)."""
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
        """Return only the pooled vectors, float32 `[N, D]`."""
        rows = [self.parts[p].pooled[r] for p, r in places]
        return torch.from_numpy(np.array(rows, np.float16).reshape(-1, self.width)).float()


def cached(encoder: TextEncoder, texts: Sequence[str], folder: Path, *, batch: int = 64) -> TextCache:
    """Return the cache of the texts under `folder`; encodes missing texts first (with a progress bar).

    Texts are encoded part by part, so the next call continues an interrupted one. Damaged parts are discarded with a
    warning, and their texts are encoded again.
    """
    home = folder / encoder.fingerprint[:24]
    wanted = set(texts)
    parts: list[_Part] = []
    place_of: dict[str, tuple[int, int]] = {}

    def add(part: Path) -> None:
        try:
            known = _texts(part)
            if wanted.isdisjoint(known):
                return
            loaded = _load(part, len(known), encoder.width)
        except Exception as error:  # readers can raise anything on a damaged file
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT):
                raise
            warnings.warn(f"the text cache {part} is damaged ({error}); its texts are encoded again", stacklevel=3)
            _discard(part)
            return
        place_of.update({text: (len(parts), row) for row, text in enumerate(known) if text in wanted})
        parts.append(loaded)

    for part in sorted(path for path in home.glob("part-*") if path.is_dir()):
        if (part / record.PARTIAL).exists():  # being written, or interrupted
            continue
        add(part)
    missing = sorted(wanted - place_of.keys())
    rows = max(PART, -(-len(missing) // MOST_PARTS))
    with progress(total=len(missing), desc="encoding captions", unit="caption") as bar:
        for start in range(0, len(missing), rows):
            add(_encode(encoder, missing[start : start + rows], home, batch, bar))
    return TextCache(parts, place_of, encoder.width)


def _part(home: Path, texts: Sequence[str]) -> Path:
    """Return the folder of a part, named after its texts."""
    return home / ("part-" + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16])


def _texts(part: Path) -> list[str]:
    """Return the texts of a part, by row. Raises `ValueError` or `OSError` if they do not match its name."""
    found = json.loads((part / _TEXTS).read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{_TEXTS} is no list of texts")
    if _part(part.parent, found) != part:
        raise ValueError(f"{_TEXTS} holds other texts than were encoded")
    return found


def _load(part: Path, rows: int, width: int) -> _Part:
    """Load a part with this many rows, memory-mapped. Raises `ZaoziError`, `ValueError`, `EOFError` or `OSError` if a file
    differs from what was written.
    """
    if not journal.verified(part):
        raise ValueError("it has no record")
    offsets = np.load(part / "offsets.npy")
    if offsets.shape != (rows + 1,) or offsets.dtype != np.int64 or offsets[0] or (np.diff(offsets) < 1).any():
        raise ValueError("offsets.npy does not fit")
    pooled = np.load(part / "pooled.npy", mmap_mode="r")
    if pooled.shape != (rows, width) or pooled.dtype != np.float16:
        raise ValueError("pooled.npy does not fit")
    shape = int(offsets[-1]), width
    if (part / _TOKENS).stat().st_size != 2 * shape[0] * width:
        raise ValueError(f"{_TOKENS} is not as long as it should be")
    return _Part(np.memmap(part / _TOKENS, np.float16, "r", shape=shape), offsets, pooled)


def _discard(part: Path) -> None:
    """Remove the files of a part, and its folder if it is then empty."""
    caches.discard(part, _KIND, damaged=True)
    for name in _NAMES:  # for a part without a record
        (part / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.rmdir()


def _encode(encoder: TextEncoder, texts: Sequence[str], home: Path, batch: int, bar: Any) -> Path:
    """Write one part, and return its folder. Rows are sorted by length to reduce padding."""
    order = np.argsort(np.minimum(encoder.token_counts(texts), encoder.max_tokens), kind="stable")
    texts = [texts[i] for i in order]
    lengths = np.zeros(len(texts), dtype=np.int64)
    part = _part(home, texts)
    pooled = np.zeros((len(texts), encoder.width), dtype=np.float16)

    def write(work: Path) -> None:
        with (work / _TOKENS).open("wb") as file:
            for start in range(0, len(texts), batch):
                rows = slice(start, start + batch)
                cond = encoder.encode(texts[rows])
                file.write(cond.tokens[cond.mask].half().numpy().tobytes())
                lengths[rows] = cond.mask.sum(1).numpy()
                pooled[rows] = cond.pooled.half().numpy()
                bar.update(len(cond.pooled))
        np.save(work / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        np.save(work / "pooled.npy", pooled)
        (work / _TEXTS).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")

    return caches.cached(part, _KIND, write)
