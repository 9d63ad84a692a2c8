"""The text encoder of a pipeline, made part of a model's folder: config.json, model.safetensors and tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.text.clip import CLIP
from zaozi.text.encoders import load_encoder, located, may_download
from zaozi.text.pretrained import CONFIG, TOKENIZER, Family, from_hub, is_hub_name
from zaozi.text.t5 import T5, T5_LIMIT

FAMILIES: dict[str, Family] = {"t5": T5, "clip": CLIP}
WEIGHTS = "model.safetensors"
PATTERNS = ["*.json", "*.txt", "*.model", "model*.safetensors"]
"""Files of a text encoder on the hub: settings, tokenizer and weights."""


@dataclass(frozen=True)
class Borrowed:
    """A text encoder to be written into a model's folder."""

    kind: str
    """`t5` or `clip`."""
    max_tokens: int
    width: int
    empty: Tensor
    """States of the empty text, `[E, D]`."""
    config: bytes
    tokenizer: str
    weights: dict[str, Tensor]
    """As they are stored, each once."""


def borrow(name: str) -> Borrowed:
    """Read the text encoder `t5:` or `clip:` and a folder, or a name on the hub. Raises `ZaoziError`."""
    kind, _, where = name.partition(":")
    if kind not in FAMILIES or not where:
        raise ZaoziError(f"the text encoder '{name}' cannot be imported; use 't5:' or 'clip:' and a folder or hub name")
    where = located(name).partition(":")[2]
    if Path(where).is_dir():
        return read(kind, Path(where), Path(where))
    if not is_hub_name(where):
        raise FAMILIES[kind].damaged(where, "it is not a folder")
    try:
        found = from_hub(where, PATTERNS, allow_download=may_download())
    except Exception as error:  # from the network, the hub, or the disk
        if not may_download():
            raise ZaoziError(
                f"the text encoder '{name}' is not a folder; give a folder, or --allow-download to fetch it from the hub"
            ) from None
        raise FAMILIES[kind].damaged(where, error) from None
    return read(kind, found, found)


def kind_of(folder: Path) -> str:
    """Return `t5` or `clip`, whichever the config.json of a text encoder says. Raises `ZaoziError` if it is neither."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ZaoziError(
            f"{folder / CONFIG} cannot be read ({error}); name a text encoder with --text-encoder"
        ) from None
    for kind, family in FAMILIES.items():
        if found in family.kinds:
            return kind
    raise ZaoziError(f"the text encoder in {folder} is a {str(found)[:40]}, not a T5 or a CLIP; use --text-encoder")


def read(kind: str, folder: Path, words: Path) -> Borrowed:
    """Read a text encoder from its folder and that of its tokenizer. Raises `ZaoziError` if anything is missing or damaged."""
    settings = _settings(words)
    with _staged(kind, folder, words, settings) as stage:
        limit = T5_LIMIT
        if kind == "clip":
            limit = int(CLIP.read_json(stage / CONFIG).get("max_position_embeddings") or 77)
        wanted = settings.get("model_max_length")
        max_tokens = min(wanted, limit) if isinstance(wanted, int) and wanted >= 2 else limit
        encoder = load_encoder(f"{kind}:{stage}", max_tokens)
        empty = encoder.encode([""]).tokens[0] if encoder.token_counts([""])[0] else torch.zeros(1, encoder.width)
        return Borrowed(
            kind=kind,
            max_tokens=max_tokens,
            width=encoder.width,
            empty=empty,
            config=(stage / CONFIG).read_bytes(),
            tokenizer=(stage / TOKENIZER).read_text(encoding="utf-8"),
            weights=_stored(encoder.network, folder),
        )


def _settings(words: Path) -> dict[str, Any]:
    """Return the settings of a tokenizer that are not in tokenizer.json; those that cannot be read are left out."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            found |= json.loads((words / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, RecursionError):
            continue
    return found


@contextmanager
def _staged(kind: str, folder: Path, words: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder with a text encoder as zaozi reads it."""
    family = FAMILIES[kind]
    family.read_json(folder / CONFIG)
    with TemporaryDirectory() as made:
        stage = Path(made)
        for path in [folder / CONFIG, *folder.glob("model*.safetensors")]:
            (stage / path.name).symlink_to(path.resolve())
        tokenizer = _tokenizer(kind, words)
        if kind == "clip":
            pad = settings.get("pad_token")
            pad = pad.get("content") if isinstance(pad, dict) else pad
            number = tokenizer.token_to_id(pad) if isinstance(pad, str) else None
            if number is not None:
                tokenizer.enable_padding(pad_id=number, pad_token=pad)
        tokenizer.save(str(stage / TOKENIZER), pretty=False)
        yield stage


def _tokenizer(kind: str, words: Path) -> Any:
    """Read tokenizer.json, or make it from the files of a slow tokenizer. Raises `ZaoziError`."""
    from tokenizers import Tokenizer

    family = FAMILIES[kind]
    parts = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}[kind]
    try:
        if (words / TOKENIZER).is_file():
            family.read_json(words / TOKENIZER)
            return Tokenizer.from_file(str(words / TOKENIZER))
        if all((words / part).is_file() for part in parts):
            return {"t5": _from_pieces, "clip": _from_merges}[kind](words)
    except ZaoziError:
        raise
    except Exception as error:  # from the libraries' readers, or a package that they need
        raise family.damaged(words, error) from None
    raise family.damaged(words, f"it has no {TOKENIZER}, and no {' and '.join(parts)}")


def _from_pieces(words: Path) -> Any:
    """Make a fast tokenizer of spiece.model, a SentencePiece model in protobuf's format."""
    from transformers import T5TokenizerFast
    from transformers.utils import sentencepiece_model_pb2_new

    proto = sentencepiece_model_pb2_new.ModelProto.FromString((words / "spiece.model").read_bytes())
    pieces = [(part.piece, part.score) for part in proto.pieces]
    normal = proto.normalizer_spec.precompiled_charsmap or None
    return T5TokenizerFast(vocab=pieces, _spm_precompiled_charsmap=normal, extra_ids=0).backend_tokenizer


def _from_merges(words: Path) -> Any:
    """Make a fast tokenizer of vocab.json and merges.txt."""
    from transformers import CLIPTokenizerFast

    return CLIPTokenizerFast.from_pretrained(str(words), local_files_only=True).backend_tokenizer


def _stored(network: Any, folder: Path) -> dict[str, Tensor]:
    """Return the weights of an encoder in the type in which its folder has them, without those stored twice."""
    from safetensors import safe_open

    with safe_open(sorted(folder.glob("model*.safetensors"))[0], "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    dtype = torch.float16 if "F16" in kinds else torch.bfloat16 if "BF16" in kinds else torch.float32
    seen: set[int] = set()
    made = {}
    for name, weight in network.state_dict().items():
        if weight.data_ptr() not in seen:
            seen.add(weight.data_ptr())
            made[name] = weight.to(dtype)
    return made
