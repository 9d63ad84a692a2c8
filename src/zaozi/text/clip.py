"""The text encoder of a CLIP, from a folder or the hub, as latent diffusion reads it.

Every text is padded to `max_tokens`, and all its states count, those of the padding included (arXiv:2112.10752, published code).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from zaozi.core.components import encoders
from zaozi.core.errors import ZaoziError
from zaozi.text.encoders import FrozenEncoder, check_max_tokens
from zaozi.text.pretrained import Family, Loaded

END = "<|endoftext|>"
CLIP = Family(
    name="CLIP",
    kinds=("clip_text_model",),
    sizes=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ),
    width="hidden_size",
    layers="num_hidden_layers",
    layer="encoder.layers.",
    others={"hidden_act": (str,), "layer_norm_eps": (float, int)},
    prefix="text_model.",
)


@encoders.register("clip")
def clip(where: str, max_tokens: int, *, allow_download: bool = False, network: bool = True) -> FrozenEncoder:
    """Load the text encoder of a CLIP from a folder or the hub; its states are those after the last layer norm.

    The padding token is that in tokenizer.json, or the end of the text. Raises `ZaoziError`.
    """
    if not where:
        raise ZaoziError("unknown text encoder 'clip:'; use 'clip:' and a folder or hub name")
    found = load_clip(folder := CLIP.folder(where, allow_download=allow_download))
    limit = int(found.config["max_position_embeddings"])
    check_max_tokens(max_tokens, limit)
    set_by_file = found.tokenizer.padding
    padding = set_by_file["pad_id"] if set_by_file else found.tokenizer.token_to_id(END)
    if padding is None or not 0 <= padding < found.config["vocab_size"]:
        raise CLIP.damaged(folder, "its tokenizer has no padding token")
    return FrozenEncoder(
        name=f"clip:{where}",
        width=found.width,
        max_tokens=max_tokens,
        limit=limit,
        english=False,
        unknown=None,  # the vocabulary has every byte
        weights=hashlib.sha256(f"{found.digest} {padding}".encode()).hexdigest(),
        tokenizer=found.tokenizer,
        network=found.network,
        padding=padding,
    )


def load_clip(folder: Path) -> Loaded:
    """Load the text encoder of a CLIP, in float32. Raises `ZaoziError` (see `Family.load`)."""
    return CLIP.load(folder, _network)


def _network(kind: str, config: dict[str, Any]) -> Any:
    import torch
    from transformers.models.clip import CLIPTextConfig, CLIPTextModel

    special = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": None}  # for a pooled vector, which is not used
    network = CLIPTextModel(CLIPTextConfig(**config, **special))
    places = torch.arange(config["max_position_embeddings"], device="cpu")[None]
    network.embeddings.position_ids = places  # not a weight
    return network
