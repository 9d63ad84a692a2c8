"""A model as a folder: `config.json`, `model.safetensors`, and for people `card.md`. Nothing in it is ever executed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.files import whole_folder, write_json
from zaozi.model.denoiser import Denoiser, ModelConfig, make_denoiser
from zaozi.text.encoders import located

CONFIG, WEIGHTS, STATE, HISTORY = "config.json", "model.safetensors", "state.json", "history.json"
FILES = (
    CONFIG,
    STATE,
    HISTORY,
    "*.safetensors",
    "recipe.json",
    "training.json",
    "card.md",
    "report.json",
    "misses.png",
)
SHIPPED = Path(__file__).resolve().parent.parent / "weights"


def save_folder(folder: Path, files: dict[str, dict[str, Tensor]], texts: dict[str, Any]) -> None:
    """Tensors, texts and JSON as one folder that appears all at once, replacing an older model of that name."""
    with whole_folder(folder, marker=CONFIG, names=FILES) as work:
        for name, tensors in files.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, work / name)
        for name, value in texts.items():
            if isinstance(value, str):
                (work / name).write_text(value, encoding="utf-8")
            else:
                write_json(work / name, value)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises `ZaoziError` where it is missing, cut short or damaged."""
    if not path.is_file():
        raise ZaoziError(f"{path} is missing; give the folder of a trained model")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ZaoziError(f"{path} is damaged or cut short ({error}); copy or train the model again") from None


def save_model(folder: Path, model: Denoiser, *, half: bool = False) -> None:
    """Write a model alone, in fp32 or (to share it) fp16."""
    weights = {k: v.half() if half and v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_folder(folder, {WEIGHTS: weights}, {CONFIG: to_dict(model.config)})


def newest(run: Path) -> Path | None:
    """The last whole checkpoint of a training run, or None."""
    found = checkpoints(run)
    return found[-1] if found else None


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a training run, oldest first: its folders step-00000000."""
    return sorted(p for p in run.glob("step-*") if p.name[5:].isdigit() and (p / CONFIG).is_file())


def shipped() -> list[str]:
    """The names of the models inside the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{CONFIG}"))


def find_model(name: str) -> Path:
    """The folder of a model: a shipped name, a model's folder, or a training run's (its newest checkpoint).

    Raises `ZaoziError` that lists the shipped names.
    """
    if name in shipped():
        return SHIPPED / name
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return folder
    if folder.is_dir():
        if (last := newest(folder)) is not None:
            return last
        raise ZaoziError(
            f"{folder} holds no model (no {CONFIG}); give a model's folder, or one of: {', '.join(shipped())}"
        )
    raise unknown("model", name, [*shipped(), "or a folder"])


def read_config(folder: Path) -> ModelConfig:
    """A model's configuration. Raises `ZaoziError` where it is damaged or from another version."""
    try:
        return from_dict(ModelConfig, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise ZaoziError(f"{folder / CONFIG} cannot be read ({error}); copy or train the model again") from None


def load_model(folder: Path) -> Denoiser:
    """A model ready to draw, in float32. Raises `ZaoziError` where a file is damaged or does not fit its configuration."""
    config = read_config(folder)
    text = replace(config.text, encoder=located(config.text.encoder, folder))
    model = make_denoiser(replace(config, text=text))
    fill(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval().requires_grad_(False)


def fill(model: torch.nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Copy weights into a model. Raises `ZaoziError` naming the first that is missing, unknown or of another shape."""
    own = model.state_dict()
    for name in own.keys() ^ weights.keys():
        problem = "lacks" if name in own else "has an unknown"
        raise ZaoziError(f"{where} {problem} weight '{name}'; it belongs to another network")
    for name, value in own.items():
        if weights[name].shape != value.shape:
            have, want = tuple(weights[name].shape), tuple(value.shape)
            raise ZaoziError(f"{where}: weight '{name}' is {have}, not {want}; it belongs to another network")
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in weights.items()})
