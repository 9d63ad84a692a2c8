"""Import of what `zaozi export --to diffusers` wrote: the model again, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from zaozi.core import schema
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import Output
from zaozi.core.recipe import DistilledConfig, ModelConfig
from zaozi.model.borrowed import FAMILIES, read
from zaozi.model.checkpoint import CONFIG, TEXT, WEIGHTS, fill, read_tensors, save_folder
from zaozi.model.denoiser import make_denoiser
from zaozi.model.info import describe, parameters
from zaozi.model.release import in_markdown

PART = Path("denoiser")
STORED = PART / "diffusion_pytorch_model.safetensors"
DRAWING = ("steps", "guidance", "guidance_low")
"""Settings beside those of the diffusion: how the pipeline draws."""


def is_exported(folder: Path) -> bool:
    """Whether a folder is a pipeline of diffusers that zaozi exported."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        return bool(index.get("denoiser") == ["denoiser", "Denoiser"])
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def import_exported(folder: Path, output: Output, name: str) -> str:
    """Write the model that was exported to `folder`, with its stages and its text encoder. Returns a one-line summary.

    The code in the folder is not run. Raises `ZaoziError` if a file is missing or damaged, or does not belong to the model.
    """
    path = folder / PART / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        parts = [values, *values["stage_configs"]]
        distilled = values.get("_distilled", {})
        own = name or str(values["_name"])
        names = [own, *(f"{own}-{part['pictures']['size']}" for part in parts[1:])]
        configs = [_config(part, values["_schema"], one) for part, one in zip(parts, names, strict=True)]
        configs[0] = replace(configs[0], distilled=from_dict(DistilledConfig, distilled, "_distilled."))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ZaoziError(f"{path} cannot be read ({error}); export the model again") from None
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None
    stored = read_tensors(folder / STORED)
    files: dict[str, dict[str, Tensor]] = {}
    texts: dict[str, Any] = {}
    for place, config in zip(["", *(f"stages/{config.size}/" for config in configs[1:])], configs, strict=True):
        weights = _part(stored, len(files) - 1)
        model = make_denoiser(config)
        fill(model, weights, folder / STORED)
        files[f"{place}{WEIGHTS}"], texts[f"{place}{CONFIG}"] = weights, schema.written(config)
        if not place:
            size = f"{parameters(model.network) / 1e6:.1f} M parameters, {config.size}x{config.size}"
            texts["card.md"] = (
                f"# {in_markdown(own)}\n\n```\n{describe(model)}\n```\n\nImported from a pipeline of diffusers.\n"
            )
    kind, _, where = configs[0].text.encoder.partition(":")
    if where:
        if kind not in FAMILIES or where != TEXT:
            raise ZaoziError(f"{path}: the text encoder '{configs[0].text.encoder[:80]}' cannot be imported")
        text = read(kind, folder / "text_encoder", folder / "tokenizer")
        files[f"{TEXT}/{WEIGHTS}"] = text.weights
        texts |= {f"{TEXT}/{CONFIG}": text.config, f"{TEXT}/tokenizer.json": text.tokenizer}
    save_folder(output, files, texts)
    stages = "".join(f", up to {config.size} pixels" for config in configs[-1:] if len(configs) > 1)
    return f"{output.folder}: {size}{stages}"


def _config(part: Mapping[str, Any], version: int, name: str) -> ModelConfig:
    """Return the configuration of a model, given the settings of its network in diffusers."""
    text = {key: value for key, value in part["text"].items() if key != "padded"}
    network = {key: value for key, value in part["network_config"].items() if key != "logsnrs"}
    same = {key: part[key] for key in ("properties", "stage")}
    same["diffusion"] = {key: value for key, value in part["diffusion"].items() if key not in DRAWING}
    same |= {key: part["pictures"][key] for key in ("size", "channels")}
    values = {"schema": version, "name": name, **same, "network": network, "space": part["space_config"], "text": text}
    return schema.read(ModelConfig, values)


def _part(stored: Mapping[str, Tensor], stage: int) -> dict[str, Tensor]:
    """Return the weights of the model (-1) or of a stage, by their names there, as they are stored."""
    if stage < 0:
        return {key: value for key, value in stored.items() if not key.startswith("stages.")}
    start = f"stages.{stage}."
    return {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
