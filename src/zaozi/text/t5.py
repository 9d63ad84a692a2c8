"""Load a T5 as data: sizes from config.json, weights from safetensors, the tokenizer from tokenizer.json.

No file of the folder is executed, and nothing is downloaded unless the caller allows it.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zaozi.core.components import encoders
from zaozi.core.errors import ZaoziError
from zaozi.text.encoders import FrozenEncoder, check_max_tokens

T5_LIMIT = 512
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
KINDS = ("t5", "mt5", "umt5")
_SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
_OTHERS: dict[str, tuple[type, ...]] = {
    "relative_attention_num_buckets": (int,),
    "relative_attention_max_distance": (int,),
    "layer_norm_epsilon": (float, int),
    "feed_forward_proj": (str,),
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_MOST_LAYERS = 256
_MOST_JSON = 64 * 2**20  # bytes; the largest tokenizer of these models has 17 million
_TIED = {"encoder.embed_tokens.weight": "shared.weight", "shared.weight": "encoder.embed_tokens.weight"}


@dataclass(frozen=True)
class T5:
    """A frozen encoder network and its tokenizer."""

    network: Any
    tokenizer: Any  # tokenizers.Tokenizer
    width: int
    digest: str
    """Hash of the weights and of the settings that affect their output."""


@encoders.register("t5")
def t5(where: str, max_tokens: int, *, allow_download: bool = False, network: bool = True) -> FrozenEncoder:
    """Load the encoder of a T5, mT5 or umT5 from a folder or the hub. Raises `ZaoziError`."""
    if not where:
        raise ZaoziError("unknown text encoder 't5:'; use 't5:' and a folder or hub name")
    check_max_tokens(max_tokens, T5_LIMIT)
    found = load_t5(t5_folder(where, allow_download=allow_download))
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


def t5_folder(where: str, *, allow_download: bool = False) -> Path:
    """Return the folder of a T5: an absolute path, or a name on the Hugging Face hub.

    A hub name is looked up in the local cache, and downloaded (without the user's token) only with `allow_download`.
    Raises `ZaoziError` if the folder is missing.
    """
    if (place := Path(where)).is_absolute() and place.is_dir():
        return place
    if not _HUB_NAME.fullmatch(where):
        raise _damaged(where, "it is not a folder")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            where,
            allow_patterns=[CONFIG, TOKENIZER, "model*.safetensors"],
            local_files_only=not allow_download,
            token=False,
        )
    except Exception as error:  # from the network, the hub, or the disk
        if not allow_download:
            raise ZaoziError(
                f"cannot load a T5 from '{where}' (it is not a folder); "
                "give a folder, or --allow-download to fetch it from the hub"
            ) from None
        raise _damaged(where, error) from None
    return Path(found)


def load_t5(folder: Path) -> T5:
    """Load the encoder half of a T5, mT5 or umT5, in float32.

    Raises `ZaoziError` if the folder requires custom code, contains another kind of model, or its files are missing, damaged
    or inconsistent. Nothing is allocated before the sizes in config.json are checked against the headers of the weights.
    """
    kind, config = _config(folder)
    tokenizer = _tokenizer(folder, int(config["vocab_size"]))
    try:
        network = _network(folder, kind, config)
    except ZaoziError:
        raise
    except Exception as error:
        raise _damaged(folder, error) from None
    network.eval().requires_grad_(False)
    digest = hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode())
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.numpy().tobytes())
    return T5(network, tokenizer, int(config["d_model"]), digest.hexdigest())


def _damaged(folder: Path | str, why: Exception | str) -> ZaoziError:
    line = (str(why) or type(why).__name__).strip().splitlines()[0]
    return ZaoziError(f"cannot load a T5 from '{folder}' ({line}); give a folder with its weights and tokenizer")


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise _damaged(path.parent, f"it has no {path.name}")
    if path.stat().st_size > _MOST_JSON:
        raise _damaged(path.parent, f"{path.name} is too large")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path.parent, f"{path.name}: {error}") from None


def _config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind of model, and the settings that affect the encoder."""
    found = _read_json(folder / CONFIG)
    if not isinstance(found, dict):
        raise _damaged(folder, f"{CONFIG} is not an object")
    if "auto_map" in found:
        raise ZaoziError(f"the model in '{folder}' asks to run code of its own, which zaozi never does; use a plain T5")
    kind = found.get("model_type")
    if kind not in KINDS:
        raise _damaged(folder, f"its model_type {kind!r} is none of {', '.join(KINDS)}")
    config: dict[str, Any] = {}
    for name in _SIZES:
        value = found.get(name)
        if type(value) is not int or not 1 <= value < 2**31 or (name == "num_layers" and value > _MOST_LAYERS):
            raise _damaged(folder, f"{CONFIG}: {name} is {value!r}")
        config[name] = value
    for name, types in _OTHERS.items():
        if name in found:
            value = found[name]
            if type(value) not in types or (not isinstance(value, str) and not 0 < value < 2**31):
                raise _damaged(folder, f"{CONFIG}: {name} is {value!r}")
            config[name] = value
    return kind, config


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    from tokenizers import Tokenizer

    _read_json(folder / TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:
        raise _damaged(folder, f"{TOKENIZER}: {error}") from None
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= vocabulary:
        raise _damaged(folder, f"{TOKENIZER} has token {last}, {CONFIG} a vocab_size of {vocabulary}")
    return tokenizer


def _network(folder: Path, kind: str, config: dict[str, Any]) -> Any:
    from safetensors import safe_open
    from transformers.models.mt5 import MT5Config, MT5EncoderModel
    from transformers.models.t5 import T5Config, T5EncoderModel
    from transformers.models.umt5 import UMT5Config, UMT5EncoderModel

    classes = {"t5": (T5Config, T5EncoderModel), "mt5": (MT5Config, MT5EncoderModel)}
    make_config, make_network = (classes | {"umt5": (UMT5Config, UMT5EncoderModel)})[kind]
    files = sorted(path for path in folder.glob("model*.safetensors") if path.is_file())
    if not files:
        raise _damaged(folder, "it has no model.safetensors")
    with ExitStack() as opened:
        file_of: dict[str, Any] = {}
        for path in files:
            file = opened.enter_context(safe_open(path, framework="pt"))
            file_of |= dict.fromkeys(file.keys(), file)
        blocks = {name.split(".")[2] for name in file_of if name.startswith("encoder.block.")}
        if len(blocks) != config["num_layers"]:  # before any layer is created
            raise _damaged(folder, f"{CONFIG} has {config['num_layers']} layers, the weights {len(blocks)}")
        with torch.device("meta"):
            network = make_network(make_config(**config))
        names = {}
        for name, wanted in network.state_dict().items():
            names[name] = name if name in file_of else _TIED.get(name, name)
            if names[name] not in file_of:
                raise _damaged(folder, f"the weights lack {name}")
            shape = tuple(file_of[names[name]].get_slice(names[name]).get_shape())
            if shape != tuple(wanted.shape):
                raise _damaged(folder, f"weight {name} is {shape}, {CONFIG} makes it {tuple(wanted.shape)}")
        stored = {name: file_of[name].get_tensor(name).float().contiguous() for name in set(names.values())}
    network.load_state_dict({name: stored[source] for name, source in names.items()}, assign=True)
    return network
