"""Model folders: `config.json`, `model.safetensors` and a model card, `card.md`. Nothing in them is ever executed."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from zaozi.core import schema
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.files import write_json
from zaozi.core.journal import settle, verified
from zaozi.core.outputs import Output
from zaozi.core.recipe import DistilledConfig, ModelConfig
from zaozi.core.record import Damaged
from zaozi.text.encoders import located

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zaozi.model.denoiser import Denoiser

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
    "space.json",
    "stages/*",
    "recipe.toml",
    "text/*",
)
SHIPPED = Path(__file__).resolve().parent.parent / "weights"


MODEL, CHECKPOINT = "model", "checkpoint"
"""Folder kinds stored in their records: a released model, and a checkpoint of a training run."""


def model_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of a released model."""
    return Output(folder, MODEL, FILES, overwrite=overwrite)


def save_folder(output: Output, files: dict[str, dict[str, Tensor]], texts: dict[str, Any]) -> None:
    """Write tensors, texts, bytes, copies of files (paths) and JSON to a folder atomically, replacing an older one of the same
    kind.
    """
    from safetensors.torch import save_file

    with output.write() as work:
        for name in (*files, *texts):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
        for name, tensors in files.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, work / name)
        for name, value in texts.items():
            if isinstance(value, str):
                (work / name).write_text(value, encoding="utf-8")
            elif isinstance(value, bytes):
                (work / name).write_bytes(value)
            elif isinstance(value, Path):
                shutil.copyfile(value, work / name)
            else:
                write_json(work / name, value)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises `ZaoziError` if it is missing, truncated or damaged."""
    from safetensors.torch import load_file

    with _reading(path):
        return load_file(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise ZaoziError(f"{path} is missing; give the folder of a trained model")
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise ZaoziError(f"{path} is damaged or cut short ({error}); copy or train the model again") from None


def in_half(model: Denoiser) -> dict[str, Tensor]:
    """Return a model's weights in half precision."""
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def save_model(folder: Path, model: Denoiser, *, half: bool = False) -> None:
    """Save only the model, in fp32, or fp16 with `half`."""
    weights = in_half(model) if half else model.state_dict()
    save_folder(model_output(folder), {WEIGHTS: weights}, {CONFIG: schema.written(model.config)})


TEXT = "text"
"""Folder of the text encoder inside a model's folder, if the model has its own."""


def own_encoder(folder: Path, name: str) -> tuple[str, dict[str, Path]]:
    """Return the name of the text encoder for a copy of the model in `folder`, and the encoder's files by their new names.

    An encoder in the folder `text` of a model belongs to that model, and goes with everything made from it; the name is then
    relative. Any other name stays as it is, without files.
    """
    kind, _, where = located(name, folder).partition(":")
    place = Path(where)
    if not where or place.name != TEXT or not place.is_dir() or not (place.parent / CONFIG).is_file():
        return name, {}
    verified(place.parent, [f"{TEXT}/{file.name}" for file in place.iterdir()])
    return f"{kind}:{TEXT}", {f"{TEXT}/{file.name}": file for file in sorted(place.iterdir()) if file.is_file()}


def stages_in(folder: Path) -> list[Path]:
    """Return the super-resolution stages that belong to a model: the folders in its `stages`, verified."""
    found = sorted(path.parent for path in folder.glob(f"stages/*/{CONFIG}"))
    if found:
        verified(folder, [f"stages/{stage.name}/{name}" for stage in found for name in (CONFIG, WEIGHTS)])
    return found


def newest(run: Path) -> Path | None:
    """Return the latest complete checkpoint of a training run, or None."""
    found = checkpoints(run)
    return found[-1] if found else None


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a training run, oldest first: its folders step-00000000."""
    found = sorted(p for p in run.glob("step-*") if p.name[5:].isdigit())
    for folder in found:
        settle(folder)
    return [p for p in found if (p / CONFIG).is_file()]


STUDENT = "-steps"
"""End of the names of the runs in the folder of a distillation: 8-steps, 4-steps, ..."""
CONSISTENT = "-or-fewer"
"""Added to the name of the run of a student that draws with the sampler `consistency`."""


def students(folder: Path) -> list[Path]:
    """Return the training runs in the folder of a distillation: that of a consistency model, then by rising number of steps."""
    named = rf"\d+{STUDENT}({CONSISTENT})?"
    found = [p for p in folder.glob(f"*{STUDENT}*") if re.fullmatch(named, p.name)]
    return sorted(found, key=lambda p: (not p.name.endswith(CONSISTENT), int(p.name.partition("-")[0])))


def newest_sound(run: Path, names: Sequence[str] | None = None) -> Path | None:
    """Return the latest checkpoint of a run whose files (or only `names`) are intact; warns about newer, damaged ones.

    Returns None if the run has no checkpoint. Raises `Damaged` if all are damaged.
    """
    damage: Damaged | None = None
    for folder in reversed(checkpoints(run)):
        try:
            verified(folder, names)
        except Damaged as error:
            damage = damage or error
            continue
        if damage:
            warnings.warn(f"{damage}; going back to {folder.name}", stacklevel=2)
        return folder
    if damage:
        raise damage
    return None


def shipped() -> list[str]:
    """Return the names of the models bundled with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{CONFIG}"))


def local_model(name: str) -> Path | None:
    """Return the model in a local folder: the newest checkpoint of a training run, or of a distillation that of the student
    with the fewest steps; or the folder itself, or None.
    """
    folder = Path(name)
    if not os.path.isdir(folder):  # also False for names that are not valid paths
        return None
    for run in (folder, *students(folder)):
        if (last := newest_sound(run, (CONFIG, WEIGHTS))) is not None:
            return last
    return folder if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file() else None


def find_model(name: str, *, allow_download: bool = False) -> Path:
    """Find the folder of a model, given a folder, the name of a bundled model, or a name on the hub.

    In this order:

    1. the folder of a training run: its newest checkpoint, even if a model was released into the same folder; of a
       distillation, that of the student with the fewest steps;
    2. the folder of a model (`config.json` and `model.safetensors`): itself;
    3. the name of a bundled model;
    4. `user/name` or `user/name@revision`, a branch, tag or commit: a repository of the Hugging Face hub, in the hub's cache.
       It is downloaded only with `allow_download`, or within `downloads_allowed`.

    A folder with the name of a bundled model takes precedence, with a warning. Raises `ZaoziError` with the bundled names
    if nothing is found.
    """
    folder, found = Path(name), local_model(name)
    if found is not None:
        if name in shipped():
            warnings.warn(f"'{name}' is the folder {folder.absolute()} here, not the model that ships", stacklevel=1)
        return found
    if name in shipped():
        return SHIPPED / name
    if os.path.isdir(folder):
        if (folder / CONFIG).is_file():
            return folder  # reading its weights reports what is missing
        raise ZaoziError(
            f"{folder} holds no model (no {CONFIG}); give a model's folder, or one of: {', '.join(shipped())}"
        )
    from zaozi.model.hub import fetch, hub_name  # which imports this module

    if (there := hub_name(name)) is not None:
        return fetch(there, allow_download=allow_download)
    raise unknown("model", name, [*shipped(), "or a folder", "or user/name on the hub"])


def read_config(folder: Path) -> ModelConfig:
    """Read a model's configuration. Raises `ZaoziError` if it is damaged, from another version, or has a value out of range."""
    try:
        config = schema.read(ModelConfig, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except ZaoziError as error:
        raise ZaoziError(f"{folder / CONFIG}: {error}") from None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ZaoziError(f"{folder / CONFIG} cannot be read ({error}); copy or train the model again") from None
    return config


def read_distilled(folder: Path) -> DistilledConfig:
    """Read how a model was distilled, and nothing else: the whole configuration needs PyTorch. Raises `ZaoziError`."""
    verified(folder, (CONFIG,))
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("distilled", {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return read_config(folder).distilled  # which says what is wrong
    return from_dict(DistilledConfig, found, "distilled.")


def load_model(folder: Path) -> Denoiser:
    """Load a model for inference, in float32.

    The file header is checked against the configuration before any memory is allocated. Raises `ZaoziError` if a file is
    damaged, does not match the configuration, or has non-finite values.
    """
    import torch

    from zaozi.model.denoiser import make_denoiser

    verified(folder, (CONFIG, WEIGHTS))
    config, path = read_config(folder), folder / WEIGHTS
    config = replace(config, text=replace(config.text, encoder=located(config.text.encoder, folder)))
    found, least = _header(path), config.network.least_weights
    if least > len(found):  # fail before building the network
        raise ZaoziError(
            f"{path} has {len(found)} weights, this network {least} or more; it belongs to another network"
        )
    with torch.device("meta"):
        planned = make_denoiser(config)
    _check_fit(planned.state_dict(), found, path)
    model = make_denoiser(config)
    fill(model, read_tensors(path), path)
    return model.eval().requires_grad_(False)


def fill(model: torch.nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Copy weights into a model. Raises `ZaoziError` for the first weight that is missing, unknown, non-finite, or has the
    wrong shape or type."""
    own = model.state_dict()
    _check_fit(own, {name: (value.is_floating_point(), tuple(value.shape)) for name, value in weights.items()}, where)
    weights = {name: value.to(own[name].dtype) for name, value in weights.items()}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ZaoziError(f"{where}: weight '{name}' has values that are not finite; use another checkpoint or copy")
    model.load_state_dict(weights)


Header = dict[str, tuple[bool, tuple[int, ...]]]
"""Maps each tensor in a file to whether it is floating-point, and its shape."""


def _header(path: Path) -> Header:
    """Read the header of a safetensors file. Raises `ZaoziError` if it is missing, truncated or damaged."""
    with _reading(path), safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (s.get_dtype().startswith(("F", "BF")), tuple(s.get_shape())) for name, s in slices.items()}


def _check_fit(own: Mapping[str, Tensor], found: Header, where: Path) -> None:
    for name in sorted(own.keys() ^ found.keys()):
        problem = "lacks" if name in own else "has an unknown"
        raise ZaoziError(f"{where} {problem} weight '{name[:80]}'; it belongs to another network")
    for name, value in own.items():
        floating, shape = found[name]
        if shape != value.shape or floating != value.is_floating_point():
            have, want = f"{shape}{'' if floating else ' of integers'}", tuple(value.shape)
            raise ZaoziError(f"{where}: weight '{name}' is {have}, not {want}; it belongs to another network")
