"""Frozen text encoders that convert a prompt to vectors: the packaged MiniLM, or a T5 or CLIP from a folder or the hub."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zaozi.core.arrays import Tensor, library, on
from zaozi.core.components import encoders
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond


@dataclass(frozen=True)
class Reading:
    """How much of a text an encoder reads."""

    tokens: int
    """Tokens before truncation, including special tokens."""
    words: int
    """Words, numbers and symbols; a text without any token counts as one word."""
    unknown: int
    """Words that are unknown to the encoder."""


class TextEncoder(Protocol):
    """A frozen text encoder, identified by `name` and `fingerprint`; `width` is D."""

    name: str
    width: int
    max_tokens: int
    limit: int
    """Maximum `max_tokens`."""
    english: bool
    """Whether it was trained only on English."""
    tokenizer: Any
    """A tokenizers.Tokenizer."""
    network: Any
    """The frozen torch module."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that affects the output of `encode`, including the token limit."""
        ...

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation."""
        ...

    def readings(self, texts: Sequence[str]) -> list[Reading]:
        """Return how much of each text the encoder reads."""
        ...

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text as the encoder sees them, including special tokens, truncated."""
        ...

    def encode(self, texts: Sequence[str]) -> Cond:
        """Return token states `[B, L, D]`, mask `[B, L]` and pooled vector `[B, D]`, float32; L is the longest text's."""
        ...

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and mask `[B, L]` of texts, truncated, and padded to the longest."""
        ...

    def states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return `encode`'s output for token ids `[B, L]`: states `[B, L, D]`, zero if `mask` is False, and pooled `[B, D]`."""
        ...


def pool(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the real tokens' states, normalised to unit length: `[B, L, D] -> [B, D]`."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return library(mean).nn.functional.normalize(mean, dim=-1)


def is_latin(word: str) -> bool:
    """Whether a word's letters are Latin (including accents and ligatures), allowing one Greek letter, as in 5 µm or α."""
    if word.isascii():
        return True
    letters = (unicodedata.name(c, "") for c in unicodedata.normalize("NFKD", word) if c.isalpha())
    others = [name for name in letters if not name.startswith(("LATIN", "MODIFIER LETTER"))]
    return not others or (len(others) == 1 and others[0].startswith("GREEK"))


@dataclass
class FrozenEncoder:
    """A text encoder made of a fast tokenizer and a frozen network."""

    name: str
    width: int
    max_tokens: int
    limit: int
    english: bool
    unknown: int | None  # the unknown token of the tokenizer
    weights: str  # hash of the weights
    tokenizer: Any  # tokenizers.Tokenizer
    network: Any
    padding: int | None = None  # the token that fills every text up to max_tokens, and is read like text

    @property
    def fingerprint(self) -> str:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        kind = self.name.partition(":")[0]  # independent of its folder
        parts = (kind, self.weights, str(self.max_tokens), self.tokenizer.to_str())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        return [len(e.ids) for e in self.tokenizer.encode_batch(list(texts))]

    def readings(self, texts: Sequence[str]) -> list[Reading]:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        pairs = zip(texts, self.tokenizer.encode_batch(list(texts)), strict=True)
        return [self._reading(text, encoding) for text, encoding in pairs]

    def _reading(self, text: str, encoding: Any) -> Reading:
        ids, spans = encoding.ids, encoding.offsets
        tokens_of: dict[int, list[int]] = {}
        for i, word in enumerate(encoding.word_ids):
            if word is not None:
                tokens_of.setdefault(word, []).append(i)
        if not tokens_of and text.strip():  # only invisible characters, for example
            return Reading(len(ids), words=1, unknown=1)
        unknown = known = 0
        for places in tokens_of.values():
            word = text[spans[places[0]][0] : spans[places[-1]][1]]
            if any(ids[i] == self.unknown for i in places) or (self.english and not is_latin(word)):
                unknown += 1
            elif any(unicodedata.category(c)[0] in "LNS" for c in word):  # punctuation is not a word
                known += 1
        return Reading(len(ids), unknown + known, unknown)

    def tokens(self, text: str) -> list[str]:
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        return list(self.tokenizer.encode(text).tokens)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, mask = self.rows(texts)
        return on(ids, "cpu"), on(mask, "cpu")

    def rows(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return token ids and mask `[B, L]`, as NumPy arrays."""
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        rows = [e.ids for e in self.tokenizer.encode_batch(list(texts))]
        length = max(len(row) for row in rows) if self.padding is None else self.max_tokens
        ids = np.array([row + [self.padding or 0] * (length - len(row)) for row in rows], np.int64)
        count = np.array([len(row) if self.padding is None else length for row in rows])
        return ids, np.arange(length) < count[:, None]

    def encode(self, texts: Sequence[str]) -> Cond:
        import torch

        ids, mask = self.ids(texts)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            states, pooled = self.states(ids.to(device), mask.to(device))
        return Cond(states.cpu(), mask, pooled.cpu())

    def states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states and the pooled vector of token ids `[B, L]`, padded where `mask` is False."""
        output = self.network(input_ids=ids, attention_mask=mask.long())
        states = output.last_hidden_state.float() * mask[..., None]
        return states, pool(states, mask)


@contextmanager
def downloads_allowed() -> Iterator[None]:
    """Allow downloads of models and encoders named on the hub, as with `allow_download`, within the block."""
    global _downloads  # noqa: PLW0603
    before, _downloads = _downloads, {}
    try:
        yield
    finally:
        _downloads = before


_downloads: dict[str, Path] | None = None


def may_download() -> bool:
    """Whether downloads from the hub are allowed here."""
    return _downloads is not None


def fetched() -> dict[str, Path]:
    """Return the models fetched within `downloads_allowed`, by name: each is looked up once. Outside, a new dictionary."""
    return {} if _downloads is None else _downloads


def located(name: str, base: Path | None = None) -> str:
    """Return the name of an encoder with its folder, if any, made absolute.

    A relative folder is resolved in `base`, the folder of the model whose config.json names it; without `base`, in the
    current folder. Raises `ZaoziError` if it is outside `base`.
    """
    kind, _, where = name.partition(":")
    if not where:
        return name
    place = Path(where)
    if base is not None and not place.is_absolute():
        place = base / place
        if not place.resolve().is_relative_to(base.resolve()):
            raise ZaoziError(f"the text encoder '{name}' leads out of the model's folder {base}; give an absolute path")
    return f"{kind}:{place.resolve()}" if place.is_dir() else name


def load_encoder(
    name: str = "minilm",
    max_tokens: int = 64,
    *,
    base: Path | None = None,
    allow_download: bool = False,
    network: bool = True,
) -> TextEncoder:
    """Return an encoder by name: `minilm`, or `t5:` or `clip:` and a folder or hub name, keeping `max_tokens` of each text.

    Each is a function `(where, max_tokens, *, allow_download, network)` in a file of this package; `where` is the part after
    the colon. A T5 or CLIP is a folder with config.json, model.safetensors and tokenizer.json; no code in it is executed. `base`
    is the folder of the model whose config.json contains the name: a relative folder must be inside it. A hub name is
    downloaded only with `allow_download`, without the user's token; otherwise the network is not used. Without `network` MiniLM
    can only count and show tokens, which is fast.

    Raises `ZaoziError` if a name is unknown, a limit is out of range, or weights are missing or do not match.
    """
    kind, _, _ = name.partition(":")
    if kind not in encoders:
        raise ZaoziError(f"unknown text encoder '{name}'; use 'minilm', or 't5:' or 'clip:' and a folder or hub name")
    where = located(name, base).partition(":")[2]
    return encoders[kind](where, max_tokens, allow_download=allow_download or may_download(), network=network)


def check_max_tokens(max_tokens: int, limit: int) -> None:
    """Raises `ZaoziError` if an encoder does not support this many tokens."""
    if not 2 <= max_tokens <= limit:
        raise ZaoziError(f"max_tokens {max_tokens} is out of range; use 2 to {limit}")
