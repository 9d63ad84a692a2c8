"""Load a text encoder of transformers as data: config.json, weights from safetensors, tokenizer.json.

No file of the folder is executed, and nothing is downloaded unless the caller allows it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_MOST_LAYERS = 256
_MOST_JSON = 64 * 2**20  # bytes; the largest tokenizer of these models has 17 million

Network = Callable[[str, dict[str, Any]], Any]
"""Builds the network of a kind of model with these settings."""


@dataclass(frozen=True)
class Loaded:
    """A frozen encoder network and its tokenizer."""

    network: Any
    tokenizer: Any  # tokenizers.Tokenizer
    width: int
    digest: str
    """Hash of the weights and of the settings that affect their output."""
    config: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """The models that one loader reads, and the settings that affect their output."""

    name: str
    """The name in messages, such as `T5`."""
    kinds: tuple[str, ...]
    """Values of `model_type`."""
    sizes: tuple[str, ...]
    """Settings that must be there, as whole numbers."""
    width: str
    layers: str
    """The settings that are the width of the states, and the number of layers."""
    layer: str
    """What the names of a layer's weights begin with, before its number."""
    others: Mapping[str, tuple[type, ...]]
    """Settings that may be there, with their types."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Other names of weights."""
    prefix: str = ""
    """What the names of weights may begin with, too."""

    def damaged(self, folder: Path | str, why: Exception | str) -> ZaoziError:
        """Return the error for a folder that cannot be loaded."""
        line = (str(why) or type(why).__name__).strip().splitlines()[0]
        return ZaoziError(
            f"cannot load a {self.name} from '{folder}' ({line}); give a folder with its weights and tokenizer"
        )

    def folder(self, where: str, *, allow_download: bool = False) -> Path:
        """Return the folder of a model: an absolute path, or a name on the Hugging Face hub.

        A hub name is looked up in the local cache, and downloaded (without the user's token) only with `allow_download`.
        Raises `ZaoziError` if the folder is missing.
        """
        if (place := Path(where)).is_absolute() and place.is_dir():
            return place
        if not _HUB_NAME.fullmatch(where):
            raise self.damaged(where, "it is not a folder")
        wanted = [CONFIG, TOKENIZER, "model*.safetensors"]
        try:
            return from_hub(where, wanted, allow_download=allow_download)
        except Exception as error:  # from the network, the hub, or the disk
            if not allow_download:
                raise ZaoziError(
                    f"cannot load a {self.name} from '{where}' (it is not a folder); "
                    "give a folder, or --allow-download to fetch it from the hub"
                ) from None
            raise self.damaged(where, error) from None

    def load(self, folder: Path, make: Network) -> Loaded:
        """Load an encoder in float32, built by `make`.

        Raises `ZaoziError` if the folder requires custom code, contains another kind of model, or its files are missing,
        damaged or inconsistent. Nothing is allocated before the sizes in config.json are checked against the headers of the
        weights.
        """
        kind, config = self._config(folder)
        tokenizer = self._tokenizer(folder, int(config["vocab_size"]))
        try:
            network = self._filled(folder, kind, config, make)
        except ZaoziError:
            raise
        except Exception as error:
            raise self.damaged(folder, error) from None
        network.eval().requires_grad_(False)
        digest = hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode())
        for name, weight in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.numpy().tobytes())
        return Loaded(network, tokenizer, int(config[self.width]), digest.hexdigest(), config)

    def read_json(self, path: Path) -> Any:
        """Read a JSON file of a model's folder. Raises `ZaoziError` if it is missing, too large or damaged."""
        if not path.is_file():
            raise self.damaged(path.parent, f"it has no {path.name}")
        if path.stat().st_size > _MOST_JSON:
            raise self.damaged(path.parent, f"{path.name} is too large")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(path.parent, f"{path.name}: {error}") from None

    def _config(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Return the kind of model, and the settings that affect the encoder."""
        found = self.read_json(folder / CONFIG)
        if not isinstance(found, dict):
            raise self.damaged(folder, f"{CONFIG} is not an object")
        if "auto_map" in found:
            raise ZaoziError(
                f"the model in '{folder}' asks to run code of its own, which zaozi never does; use a plain {self.name}"
            )
        kind = found.get("model_type")
        if kind not in self.kinds:
            raise self.damaged(folder, f"its model_type {kind!r} is none of {', '.join(self.kinds)}")
        config: dict[str, Any] = {}
        for name in self.sizes:
            value = found.get(name)
            if type(value) is not int or not 1 <= value < 2**31 or (name == self.layers and value > _MOST_LAYERS):
                raise self.damaged(folder, f"{CONFIG}: {name} is {value!r}")
            config[name] = value
        for name, types in self.others.items():
            if name in found:
                value = found[name]
                if type(value) not in types or (not isinstance(value, str) and not 0 < value < 2**31):
                    raise self.damaged(folder, f"{CONFIG}: {name} is {value!r}")
                config[name] = value
        return kind, config

    def _tokenizer(self, folder: Path, vocabulary: int) -> Any:
        from tokenizers import Tokenizer

        self.read_json(folder / TOKENIZER)
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:
            raise self.damaged(folder, f"{TOKENIZER}: {error}") from None
        last = max(tokenizer.get_vocab().values(), default=0)
        if last >= vocabulary:
            raise self.damaged(folder, f"{TOKENIZER} has token {last}, {CONFIG} a vocab_size of {vocabulary}")
        return tokenizer

    def _filled(self, folder: Path, kind: str, config: dict[str, Any], make: Network) -> Any:
        import torch
        from safetensors import safe_open

        files = sorted(path for path in folder.glob("model*.safetensors") if path.is_file())
        if not files:
            raise self.damaged(folder, "it has no model.safetensors")
        with ExitStack() as opened:
            place_of: dict[str, tuple[Any, str]] = {}
            for path in files:
                file = opened.enter_context(safe_open(path, framework="pt"))
                place_of |= {name.removeprefix(self.prefix): (file, name) for name in file.keys()}  # noqa: SIM118
            layers = {name.removeprefix(self.layer).split(".")[0] for name in place_of if name.startswith(self.layer)}
            if len(layers) != config[self.layers]:  # before any layer is created
                raise self.damaged(folder, f"{CONFIG} has {config[self.layers]} layers, the weights {len(layers)}")
            with torch.device("meta"):
                network = make(kind, config)
            names = {}
            for name, wanted in network.state_dict().items():
                names[name] = name if name in place_of else self.tied.get(name, name)
                if names[name] not in place_of:
                    raise self.damaged(folder, f"the weights lack {name}")
                file, stored_name = place_of[names[name]]
                shape = tuple(file.get_slice(stored_name).get_shape())
                if shape != tuple(wanted.shape):
                    raise self.damaged(folder, f"weight {name} is {shape}, {CONFIG} makes it {tuple(wanted.shape)}")
            stored = {}
            for name in set(names.values()):
                file, stored_name = place_of[name]
                stored[name] = file.get_tensor(stored_name).float().contiguous()
        network.load_state_dict({name: stored[source] for name, source in names.items()}, assign=True)
        return network


def from_hub(name: str, patterns: list[str], *, allow_download: bool = False) -> Path:
    """Return the local copy of files on the hub; they are downloaded, without a token, only with `allow_download`."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=not allow_download, token=False))


def is_hub_name(name: str) -> bool:
    """Whether a text can be a name on the hub."""
    return _HUB_NAME.fullmatch(name) is not None
