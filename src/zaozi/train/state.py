"""Files of a run: checkpoints, always complete or absent, and a log that matches the last one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn

from zaozi.core import schema
from zaozi.core.caches import discard
from zaozi.core.components import Property
from zaozi.core.config import to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.machine import processor, usable_cores
from zaozi.core.outputs import Output, Writer
from zaozi.core.recipe import Recipe
from zaozi.core.record import read_record
from zaozi.model.adversary import Adversary
from zaozi.model.checkpoint import (
    CHECKPOINT,
    CONFIG,
    MODEL,
    STATE,
    WEIGHTS,
    checkpoints,
    fill,
    read_tensors,
    save_folder,
)
from zaozi.model.denoiser import Denoiser
from zaozi.model.snap import unsnapped
from zaozi.nn.layers import part_name
from zaozi.train.optim import flat_state, load_flat_state

RAW, OPTIMISER, ADVERSARY = "training.safetensors", "optimiser.safetensors", "adversary.safetensors"
KEEP = 2
RECIPE, LOG = "recipe.json", "log.jsonl"
_FREE = {  # keys that may differ when a run is resumed; data is compared by hash
    "data": ("path", "size", "undefined"),
    "train": ("out", "steps", "max_minutes", "save_minutes", "save_every", "validate_every", "sample_every", "prompts",
              "trackers", "self_check", "init_from", "student_from", "compile", "device"),
}  # fmt: skip


@dataclass
class Training:
    """Everything that training changes."""

    model: Denoiser
    average: Denoiser
    """Model with the averaged weights, used for drawing."""
    network: nn.Module
    """The model's network, wrapped for distributed training."""
    optimisers: dict[str, torch.optim.Optimizer]
    adversary: Adversary | None = None
    """The discriminator of a distillation with an adversarial loss."""

    @property
    def weights(self) -> list[nn.Parameter]:
        return list(self.model.network.parameters())

    @property
    def all_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """All optimisers whose states a checkpoint keeps."""
        return self.optimisers | ({"adversary": self.adversary.optimiser} if self.adversary else {})


def save_state(folder: Path, training: Training, recipe: Recipe, **state: Any) -> None:
    """Write a complete checkpoint to a run's folder, then remove all but the newest `KEEP` (files of other origin are kept)."""
    save_folder(
        Output(folder, CHECKPOINT, overwrite=True),
        {
            WEIGHTS: training.average.state_dict(),
            RAW: training.model.network.state_dict(),
            OPTIMISER: flat_state(training.all_optimisers),
            **({ADVERSARY: training.adversary.network.state_dict()} if training.adversary else {}),
        },
        {
            CONFIG: schema.written(training.average.config),
            STATE: {**state, "recipe": schema.written(recipe), "torch": torch.__version__},
        },
    )
    for old in checkpoints(folder.parent)[:-KEEP]:
        discard(old, CHECKPOINT)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the run state from `save_state`: `step`, `seconds`, `recipe`, and the SHA-256 of its `data`; and, unless an
    older version wrote it, `threads`, `processor` and `torch`, which affect the last bits of the weights.

    Raises `ZaoziError` if the checkpoint is damaged.
    """
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        state["step"], state["seconds"] = int(state["step"]), float(state["seconds"])
        state["recipe"] = schema.read(Recipe, state["recipe"])
        state["data"] = str(state["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZaoziError) as error:
        raise ZaoziError(
            f"{folder / STATE} cannot be read ({error}); remove {folder} to go on from the one before"
        ) from None
    return state


def threads_of(state: Mapping[str, Any], own: int) -> tuple[int, str]:
    """Return the number of threads for a resumed CPU run, and how threads and machine differ from the checkpoint's.

    The difference is '' if the results are bit-identical. `own` is the number of threads for a new run. Uses the
    checkpoint's number if this process may use that many; uses `own` on another processor or version of PyTorch, where the
    bits differ anyway.
    """
    now = {"processor": processor(), "torch": torch.__version__}
    other = [
        f"with {name} {state[name]}, now {value}" for name, value in now.items() if state.get(name, value) != value
    ]
    wanted = state.get("threads", own)
    threads = own if other else min(wanted, usable_cores())
    if threads != wanted:
        other.append(f"with threads {wanted}, now {threads}")
    return threads, " and ".join(other)


def load_state(folder: Path, state: Mapping[str, Any], training: Training, recipe: Recipe, data: str) -> None:
    """Restore a checkpoint in place, given the result of `read_state` for its folder.

    Raises `ZaoziError` if the checkpoint is damaged, or was trained on other data or with another recipe (naming the key).
    """
    if state["data"] != data:
        raise ZaoziError(
            f"{folder} was trained on other data; use the same data, or start again with --init-from {folder}"
        )
    if (key := difference(state["recipe"], recipe)) is not None:
        raise ZaoziError(
            f"{folder} was trained with another {key}; resume with its own recipe, or use --init-from {folder}"
        )
    fill(training.average, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    fill(training.model.network, read_tensors(folder / RAW), folder / RAW)
    training.model.space.load_state_dict(training.average.space.state_dict())
    if training.adversary:
        fill(training.adversary.network, read_tensors(folder / ADVERSARY), folder / ADVERSARY)
    load_flat_state(training.all_optimisers, read_tensors(folder / OPTIMISER))


def difference(before: Recipe, now: Recipe) -> str | None:
    """Return the first key in which two recipes differ in a way that affects training, or None."""
    for section, values in to_dict(before).items():
        others = to_dict(now)[section]
        if not isinstance(values, Mapping):
            if section != "name" and values != others:
                return section
            continue
        for key, value in values.items():
            if key not in _FREE.get(section, ()) and value != others[key]:
                return f"{section}.{key}"
    return None


def run_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output for a run's folder. Raises `ZaoziError` if a folder with a checkpoint's name was not written by zaozi."""
    for other in sorted(folder.glob("step-*")):
        if other.name[5:].isdigit() and not (other / CONFIG).is_file():
            Output(other, CHECKPOINT, overwrite=overwrite).check()
    names: tuple[str, ...] = (LOG, "samples-*.png")
    released = read_record(folder).get(RECIPE)
    if released is None or released.kind != MODEL:  # a model released into this folder keeps its card
        names = (RECIPE, *names)
    return Output(folder, "run", names, whole=False, overwrite=overwrite, keep=True)


def open_log(writer: Writer, step: int) -> TextIO:
    """Open log.jsonl for appending. Drops entries past the start step and truncated lines; lines that are not log entries
    are kept.
    """
    path = writer.output.folder / LOG
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and not _past(line, step)]
        if kept != lines:
            writer.put(LOG, "".join(kept).encode("utf-8", "surrogateescape"))
    return writer.grow(LOG)


def _past(line: str, step: int) -> bool:
    """Whether a log line is an entry past a step."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] > step


def start_from(model: Denoiser, other: Denoiser, where: Path, say: Callable[[str], None]) -> bool:
    """Copy the weights of another model with the same network; properties are matched by name and value.

    Returns whether its space was copied too: it is if both have the same settings. Raises `ZaoziError` if the networks differ.
    """
    own, theirs = model.config, other.config
    same_space = unsnapped(own.space) == unsnapped(theirs.space)
    if own.diffusion.prediction != theirs.diffusion.prediction:
        say(f"{where} predicts {theirs.diffusion.prediction}, not {own.diffusion.prediction}; it must learn that again")
    weights = {k: v for k, v in other.state_dict().items() if ".properties.parts." not in k}
    for name, value in model.state_dict().items():
        if ".properties.parts." in name:
            weights[name] = value.clone()
    for p in own.properties:
        twin = next((q for q in theirs.properties if q.column == p.column), None)
        prefix = f"network.properties.parts.{part_name(p.column)}."
        part = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        known = {k.removeprefix(prefix): v for k, v in other.state_dict().items() if k.startswith(prefix)}
        if twin is None or not p.take_over(part, twin, known):
            say(f"the property '{p.column}' starts from nothing; {where} has none like it")
        weights.update({prefix + k: v for k, v in part.items()})
    if not same_space:
        weights = {k: v for k, v in weights.items() if not k.startswith("space.")}
        weights |= {f"space.{k}": v.clone() for k, v in model.space.state_dict().items()}
        say(f"{where} has another space; the denoiser starts from its weights, the space is fitted anew")
    fill(model, weights, where)
    return same_space


def with_scales_of(recipe: Recipe, known: Sequence[Property]) -> Recipe:
    """Return the recipe with the property scales of an existing model, to keep its weights valid."""
    by_column = {p.column: p for p in known}
    properties = tuple(
        p.on_the_scale_of(by_column[p.column]) if p.column in by_column else p for p in recipe.properties
    )
    return replace(recipe, properties=properties)


def filled(recipe: Recipe, column: Callable[[str], Sequence[Any]], text_width: int) -> Recipe:
    """Return the recipe with values derived from the training split: the properties' values, and the text width."""
    properties = tuple(p.filled(column(p.column)) for p in recipe.properties)
    return replace(recipe, properties=properties, text=replace(recipe.text, width=text_width))
