"""Encode once: token states of every distinct caption, in memory-mapped half precision, keyed by encoder and text.

An encoder's folder holds parts that never change; a dataset with new captions adds parts with those alone. A part is named
after the texts in it.
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
"""Captions of a part; of very many captions a part holds more, since every part is a few open files."""


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
    """The texts' cache under `folder`; those not there yet are encoded first (with a progress bar).

    They are encoded part by part, so an interrupted call is continued by the next one. A part that is damaged is discarded with
    a warning, and its texts are encoded again.
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
        except Exception as error:  # whatever a damaged file brings about in those who read it
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT):
                raise
            warnings.warn(f"the text cache {part} is damaged ({error}); its texts are encoded again", stacklevel=3)
            _discard(part)
            return
        place_of.update({text: (len(parts), row) for row, text in enumerate(known) if text in wanted})
        parts.append(loaded)

    for part in sorted(path for path in home.glob("part-*") if path.is_dir()):
        if (part / record.PARTIAL).exists():  # being written, or cut off while it was
            continue
        add(part)
    missing = sorted(wanted - place_of.keys())
    rows = max(PART, -(-len(missing) // MOST_PARTS))
    with progress(total=len(missing), desc="encoding captions", unit="caption") as bar:
        for start in range(0, len(missing), rows):
            add(_encode(encoder, missing[start : start + rows], home, batch, bar))
    return TextCache(parts, place_of, encoder.width)


def _part(home: Path, texts: Sequence[str]) -> Path:
    """The folder of a part, which is named after the texts in it."""
    return home / ("part-" + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16])


def _texts(part: Path) -> list[str]:
    """The texts of a part, by row. Raises `ValueError` or `OSError` where they are not those it is named after."""
    found = json.loads((part / _TEXTS).read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{_TEXTS} is no list of texts")
    if _part(part.parent, found) != part:
        raise ValueError(f"{_TEXTS} holds other texts than were encoded")
    return found


def _load(part: Path, rows: int, width: int) -> _Part:
    """A part of so many rows, its files memory-mapped. Raises `ZaoziError`, `ValueError`, `EOFError` or `OSError` where one is
    not what was written."""
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
    """Remove the files of a part, and its folder where nothing else is in it."""
    caches.discard(part, _KIND, damaged=True)
    for name in _NAMES:  # of a part whose record is lost
        (part / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.rmdir()


def _encode(encoder: TextEncoder, texts: Sequence[str], home: Path, batch: int, bar: Any) -> Path:
    """Write one part, and return its folder. Rows are sorted by length, so that little of a batch is padding."""
    counts = np.minimum(encoder.token_counts(texts), encoder.max_tokens)
    order = np.argsort(counts, kind="stable")
    texts, lengths = [texts[i] for i in order], counts[order]
    part = _part(home, texts)
    pooled = np.zeros((len(texts), encoder.width), dtype=np.float16)

    def write(work: Path) -> None:
        with (work / _TOKENS).open("wb") as file:
            for start in range(0, len(texts), batch):
                rows = slice(start, start + batch)
                cond = encoder.encode(texts[rows])
                file.write(cond.tokens[cond.mask].half().numpy().tobytes())
                pooled[rows] = cond.pooled.half().numpy()
                bar.update(len(cond.pooled))
        np.save(work / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        np.save(work / "pooled.npy", pooled)
        (work / _TEXTS).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")

    return caches.cached(part, _KIND, write)
