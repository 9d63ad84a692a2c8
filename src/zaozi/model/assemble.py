"""A model with another space, or with super-resolution stages, from parts that were trained separately."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zaozi.core import schema
from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.journal import verified
from zaozi.core.noise import training_generator
from zaozi.core.recipe import ModelConfig
from zaozi.model.checkpoint import (
    CONFIG,
    HISTORY,
    STATE,
    WEIGHTS,
    fill,
    find_model,
    in_half,
    load_model,
    model_output,
    own_encoder,
    read_config,
    save_folder,
    stages_in,
)
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.fitted import SPACE, read_space, space_folder
from zaozi.model.info import describe, parameters
from zaozi.model.release import history, in_markdown, licence_of, model_card

MEASURED = ("report.json", "misses.png")
"""Files about the pictures of a model, which another space changes."""
PARTS = re.compile(r"<!-- parts -->.*?<!-- /parts -->\n\n", re.DOTALL)
"""What the card says of the parts."""
LICENCE = "The weights are licensed"


def assemble(
    model: str,
    out: Path,
    *,
    space_from: str = "",
    stages: Sequence[str] = (),
    snap: float | None = None,
    name: str = "",
    overwrite: bool = False,
) -> str:
    """Write a model to `out`, in half precision, with the decoder of another space, with super-resolution stages, or with
    another reach of `zaozi.model.snap.snapped`, 0 to 0.5.

    The network is unchanged, and so are the stages if none are given. With another space or reach, the model's evaluation is
    left out. Returns a one-line summary. Raises `ZaoziError` if the model is a checkpoint, if the space encodes pictures in
    another way or does not snap, or if a stage does not enlarge the pictures of the model or of the stage before.
    """
    folder = find_model(model)
    others = [find_model(stage) for stage in stages] or stages_in(folder)
    space = space_folder(space_from) if space_from else None
    read = [folder, *others, *([space] if space else [])]
    files = [file for one in read for file in [*one.iterdir(), *one.glob("text/*")] if file.is_file()]
    output = replace(model_output(out, overwrite=overwrite), inputs=(*read, *files))
    output.check()
    if (folder / STATE).is_file():
        raise ZaoziError(f"{folder} is a checkpoint of a training run; release it first: zaozi model release")
    verified(folder)
    made = load_model(folder)
    config = replace(read_config(folder), name=name or made.config.name)
    texts: dict[str, Any] = {}
    kept = ["recipe.json", "recipe.toml", "training.json", "card.md"]
    if space:
        config, made = _with_space(config, made, space_from)
        if (space / SPACE).is_file():
            texts[SPACE] = (space / SPACE).read_bytes()
    else:
        kept.append(SPACE)
    if snap is not None:
        config = made.config = _with_snap(config, snap)
    measured_still = not space and snap is None
    if measured_still:
        kept += MEASURED
    runs = history(folder)
    texts |= {key: (folder / key).read_bytes() for key in kept if (folder / key).is_file()}
    encoder, encoder_files = own_encoder(folder, config.text.encoder)
    config = replace(config, text=replace(config.text, encoder=encoder))
    texts |= {CONFIG: schema.written(config), HISTORY: runs, **encoder_files}
    weights, size = {WEIGHTS: in_half(made)}, config.size
    lines = [_space_line(texts[SPACE])] if SPACE in texts else []
    for other in sorted(others, key=lambda path: read_config(path).size):
        stage = load_model(other)
        own = stage.config
        if own.stage.factor == 1:
            raise ZaoziError(f"{other} is no super-resolution stage; train one with stage.factor = 2")
        if own.stage.factor * size != own.size or own.channels != config.channels:
            raise ZaoziError(
                f"{other} enlarges {own.size // own.stage.factor} to {own.size} pixels with {own.channels} channels, and there "
                f"are {size} pixels with {config.channels}; use another stage"
            )
        size = own.size
        weights[f"stages/{size}/{WEIGHTS}"] = in_half(stage)
        texts[f"stages/{size}/{CONFIG}"] = schema.written(read_config(other))
        texts[f"stages/{size}/{HISTORY}"] = trained = history(other)
        lines.append(_stage_line(stage, trained))
    if runs:
        old = texts["card.md"].decode() if "card.md" in texts and measured_still else ""
        log = json.loads(texts["training.json"]) if "training.json" in texts else []
        texts["card.md"] = _card(
            old or model_card(config.name, describe(made), runs, log, licence=licence_of(config)), config.name, lines
        )
    save_folder(output, weights, texts)
    return f"{out}: {sum(path.stat().st_size for path in out.rglob('*.safetensors')) / 1e6:.1f} MB, up to {size} pixels"


def _card(text: str, name: str, lines: Sequence[str]) -> str:
    """Return a card with a model's name as its title and these lines about its parts, before its licence."""
    text = re.sub(r"\A# .*", lambda _: f"# {in_markdown(name)}", PARTS.sub("", text))
    before, licence, after = text.partition(LICENCE)
    block = f"<!-- parts -->\n{' '.join(lines)}\n<!-- /parts -->\n\n" if lines else ""
    return before + block + licence + after


def _space_line(found: bytes) -> str:
    try:
        fit = json.loads(found)
        kind, steps, seconds = fit["space"]["kind"], fit["space"].get("steps", 0), float(fit["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZaoziError(f"{SPACE} cannot be read ({error}); fit the space again") from None
    return f"The decoder of the space, `{kind}`, was fitted afterwards: {steps} steps in {seconds / 60:.0f} minutes."


def _stage_line(stage: Denoiser, runs: Sequence[Mapping[str, Any]]) -> str:
    seconds, samples = (sum(run[key] for run in runs) for key in ("seconds", "samples"))
    trained = f"; trained on {samples:,} crops in {seconds / 60:.0f} minutes" if runs else ""
    return (
        f"A super-resolution stage draws pictures of {stage.config.size} pixels: {parameters(stage.network) / 1e6:.1f} M "
        f"parameters, {stage.config.stage.steps} steps per picture{trained}."
    )


def _with_snap(config: ModelConfig, reach: float) -> ModelConfig:
    """Return the configuration with another reach. Raises `ZaoziError` if the space has none, or it is out of range."""
    if not hasattr(config.space, "snap"):
        raise ZaoziError(f"the space '{config.space.kind}' does not snap to black and white; leave out --snap")
    return replace(config, space=from_dict(type(config.space), to_dict(config.space) | {"snap": reach}, "space."))


def _with_space(config: ModelConfig, model: Denoiser, where: str) -> tuple[ModelConfig, Denoiser]:
    """Return the model with another decoder. Raises `ZaoziError` unless the space's encoder is the same."""
    found, weights = read_space(where)
    changed = replace(config, space=found)
    made = make_denoiser(changed)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("space.")}
    fill(made, kept | {f"space.{key}": value for key, value in weights.items()}, Path(where))
    side = config.size
    picture = torch.rand(1, config.channels, side, side, generator=training_generator(0)) * 2 - 1
    with torch.no_grad():
        old, new = model.space.encode(picture), made.space.encode(picture)
    if old.shape != new.shape or not torch.allclose(old, new, atol=1e-3):
        raise ZaoziError(
            f"the space in {where} does not encode pictures as the model's does; the model must be trained again in it"
        )
    return changed, made.eval().requires_grad_(False)
