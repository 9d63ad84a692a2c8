"""Folders of fitted spaces without a denoiser: `space.json`, `space.safetensors` and a sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import TypeAdapter

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.journal import verified
from zaozi.core.outputs import Output
from zaozi.data.sheet import png
from zaozi.model.checkpoint import CONFIG, SHIPPED, WEIGHTS, find_model, read_config, read_tensors, save_folder

if TYPE_CHECKING:
    from torch import Tensor

    from zaozi.model.space import Space

SPACE, SPACE_WEIGHTS = "space.json", "space.safetensors"
"""Files of a fitted space without a denoiser."""


def space_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of a fitted space."""
    return Output(folder, "space", (SPACE, SPACE_WEIGHTS, "space.png"), overwrite=overwrite)


def save_space(
    output: Output, space: Space, config: SpaceConfig, figures: Mapping[str, Any], sheet: Image.Image
) -> None:
    """Write a fitted space, its settings and figures, and a sheet of real and decoded pictures."""
    texts = {SPACE: {"space": to_dict(config), **figures}, "space.png": png(sheet)}
    save_folder(output, {SPACE_WEIGHTS: space.state_dict()}, texts)


def space_folder(name: str) -> Path:
    """Return the folder of `zaozi space fit`, of a space that ships with zaozi (`glyphs-2x`), or of a model of that name."""
    found = [folder for folder in (Path(name), SHIPPED / name) if (folder / SPACE_WEIGHTS).is_file()]
    return found[0] if found else find_model(name)


def read_space(name: str, wanted: SpaceConfig | None = None) -> tuple[SpaceConfig, dict[str, Tensor]]:
    """Return the settings and weights of the space in the folder of a model, of a training run or of `zaozi space fit`.

    Raises `ZaoziError` if its settings are not the `wanted` ones, or a file is missing or damaged.
    """
    folder = space_folder(name)
    if (folder / SPACE_WEIGHTS).is_file():
        verified(folder, (SPACE, SPACE_WEIGHTS))
        try:
            values = json.loads((folder / SPACE).read_text(encoding="utf-8"))["space"]
            found = TypeAdapter(Annotated[SpaceConfig, spaces]).validate_python(values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ZaoziError(f"{folder / SPACE} cannot be read ({error}); fit the space again") from None
        weights = read_tensors(folder / SPACE_WEIGHTS)
    else:
        verified(folder, (CONFIG, WEIGHTS))
        found = read_config(folder).space
        held = read_tensors(folder / WEIGHTS)
        weights = {k.removeprefix("space."): v for k, v in held.items() if k.startswith("space.")}
    if wanted is not None and found != wanted:
        raise ZaoziError(
            f"the space in {folder} has other settings ({to_dict(found)}); use the same ones in the recipe"
        )
    return found, weights
