"""A model with another space, or with super-resolution stages, from parts that were trained separately."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from zaozi.core import schema
from zaozi.core.errors import ZaoziError
from zaozi.model.checkpoint import (
    CONFIG,
    HISTORY,
    SPACE,
    WEIGHTS,
    fill,
    find_model,
    load_model,
    model_output,
    read_config,
    read_space,
    save_folder,
    stages_in,
)
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.info import describe, parameters
from zaozi.model.release import history, model_card

KEPT = ("recipe.json", "training.json")
MEASURED = ("report.json", "misses.png")
"""Files about the pictures of a model, which another space changes."""


def assemble(
    model: str,
    out: Path,
    *,
    space_from: str = "",
    stages: Sequence[str] = (),
    name: str = "",
    overwrite: bool = False,
) -> str:
    """Write a model to `out`, in half precision, with the space of another folder and with super-resolution stages.

    The network is unchanged, and so are the stages if none are given. With another space, the model's evaluation is left out.
    Returns a one-line summary. Raises `ZaoziError` if the space has another shape, or a stage does not enlarge the pictures of
    the model or of the stage before.
    """
    folder = find_model(model)
    others = [find_model(stage) for stage in stages] or stages_in(folder)
    output = model_output(out, overwrite=overwrite)
    output = replace(output, inputs=(folder, *others))
    output.check()
    made = load_model(folder)
    config = replace(read_config(folder), name=name or made.config.name)
    texts: dict[str, Any] = {}
    if space_from:
        config, made = _with_space(config, made, space_from)
        if (Path(space_from) / SPACE).is_file():
            texts[SPACE] = json.loads((Path(space_from) / SPACE).read_text(encoding="utf-8"))
    runs = history(folder)
    kept = KEPT if space_from else (*KEPT, *MEASURED, SPACE, "card.md")
    texts |= {key: (folder / key).read_bytes() for key in kept if (folder / key).is_file()}
    texts |= {CONFIG: schema.written(config), HISTORY: runs}
    weights = {WEIGHTS: _half(made)}
    size, log = config.size, json.loads(texts.get("training.json", b"[]"))
    lines = [_space_line(texts[SPACE])] if isinstance(texts.get(SPACE), dict) else []
    for other in sorted(others, key=lambda path: read_config(path).size):
        stage = load_model(other)
        if stage.config.stage.factor * size != stage.config.size or stage.config.channels != config.channels:
            raise ZaoziError(
                f"{other} draws {stage.config.channels} x {stage.config.size} pixels from "
                f"{stage.config.size // stage.config.stage.factor}, and there are {config.channels} x {size}; use another stage"
            )
        size = stage.config.size
        place = f"stages/{size}"
        weights[f"{place}/{WEIGHTS}"] = _half(stage)
        texts[f"{place}/{CONFIG}"] = schema.written(read_config(other))
        texts[f"{place}/{HISTORY}"] = history(other)
        lines.append(_stage_line(stage, history(other)))
    if "card.md" not in texts and runs:
        texts["card.md"] = model_card(config.name, describe(made), runs, log, lines)
    save_folder(output, weights, texts)
    return f"{out}: {sum(path.stat().st_size for path in out.rglob('*.safetensors')) / 1e6:.1f} MB, up to {size} pixels"


def _space_line(fit: Mapping[str, Any]) -> str:
    steps, kind = fit["space"].get("steps", 0), fit["space"]["kind"]
    return f"The space, `{kind}`, was fitted afterwards: {steps} steps in {fit['seconds'] / 60:.0f} minutes."


def _stage_line(stage: Denoiser, runs: Sequence[Mapping[str, Any]]) -> str:
    seconds, samples = (sum(run[key] for run in runs) for key in ("seconds", "samples"))
    return (
        f"A super-resolution stage draws pictures of {stage.config.size} pixels: {parameters(stage.network) / 1e6:.1f} M "
        f"parameters, {stage.config.stage.steps} steps per picture; trained on {samples} crops in {seconds / 60:.0f} minutes."
    )


def _half(model: Denoiser) -> dict[str, Tensor]:
    return {key: value.half() for key, value in model.state_dict().items()}


def _with_space(config: Any, model: Denoiser, where: str) -> tuple[Any, Denoiser]:
    found, weights = read_space(where)
    changed = replace(config, space=found)
    made = make_denoiser(changed)
    if made.shape != model.shape:
        raise ZaoziError(
            f"the space in {where} has the shape {made.shape}, the model's {model.shape}; use another space"
        )
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("space.")}
    fill(made, kept | {f"space.{key}": value for key, value in weights.items()}, Path(where))
    return changed, made.eval().requires_grad_(False)
