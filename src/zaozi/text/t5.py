"""The encoder of a T5, mT5 or umT5, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zaozi.core.components import encoders
from zaozi.core.errors import ZaoziError
from zaozi.text.encoders import FrozenEncoder, check_max_tokens
from zaozi.text.pretrained import Family, Loaded

T5_LIMIT = 512
T5 = Family(
    name="T5",
    kinds=("t5", "mt5", "umt5"),
    sizes=("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
    width="d_model",
    layers="num_layers",
    layer="encoder.block.",
    others={
        "relative_attention_num_buckets": (int,),
        "relative_attention_max_distance": (int,),
        "layer_norm_epsilon": (float, int),
        "feed_forward_proj": (str,),
    },
    tied={"encoder.embed_tokens.weight": "shared.weight", "shared.weight": "encoder.embed_tokens.weight"},
)


@encoders.register("t5")
def t5(where: str, max_tokens: int, *, allow_download: bool = False, network: bool = True) -> FrozenEncoder:
    """Load the encoder of a T5, mT5 or umT5 from a folder or the hub. Raises `ZaoziError`."""
    if not where:
        raise ZaoziError("unknown text encoder 't5:'; use 't5:' and a folder or hub name")
    check_max_tokens(max_tokens, T5_LIMIT)
    found = load_t5(T5.folder(where, allow_download=allow_download))
    return FrozenEncoder(
        name=f"t5:{where}",
        width=found.width,
        max_tokens=max_tokens,
        limit=T5_LIMIT,
        english=False,
        unknown=found.tokenizer.token_to_id("<unk>"),
        weights=found.digest,
        tokenizer=found.tokenizer,
        network=found.network,
    )


def load_t5(folder: Path) -> Loaded:
    """Load the encoder half of a T5, mT5 or umT5, in float32. Raises `ZaoziError` (see `Family.load`)."""
    return T5.load(folder, _network)


def _network(kind: str, config: dict[str, Any]) -> Any:
    from transformers.models.mt5 import MT5Config, MT5EncoderModel
    from transformers.models.t5 import T5Config, T5EncoderModel
    from transformers.models.umt5 import UMT5Config, UMT5EncoderModel

    classes = {"t5": (T5Config, T5EncoderModel), "mt5": (MT5Config, MT5EncoderModel)}
    make_config, make_network = (classes | {"umt5": (UMT5Config, UMT5EncoderModel)})[kind]
    return make_network(make_config(**config))
