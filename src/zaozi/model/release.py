"""Release a training run as a model: half-precision weights, config, log and model card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zaozi.core import schema
from zaozi.core.errors import ZaoziError, printable
from zaozi.core.machine import watt_hours
from zaozi.core.recipe import ModelConfig
from zaozi.model.checkpoint import (
    CONFIG,
    HISTORY,
    STATE,
    WEIGHTS,
    find_model,
    in_half,
    load_model,
    model_output,
    own_encoder,
    read_config,
    save_folder,
)
from zaozi.model.info import describe, gflops, parameters


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the training runs behind a released model or a checkpoint, oldest first. Empty if unknown.

    Each has the name of its `recipe`, `steps`, `samples`, `seconds`, `machine`, the SHA-256 of its `data`, and of the weights
    it `began_with` ('' if random or not recorded). Raises `ZaoziError` if the record is damaged.
    """
    for name in (HISTORY, STATE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return [_run(r) for r in (found if name == HISTORY else [*found.get("history", []), _summary(found)])]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ZaoziError(f"{path} cannot be read ({error}); copy or train the model again") from None
    return []


def _summary(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint's state to an entry of the history."""
    return {
        "recipe": state["recipe"]["name"],
        "steps": state["step"],
        "samples": state["step"] * state["recipe"]["train"]["batch_size"],
        "seconds": round(state["seconds"]),
        "machine": state.get("machine", ""),
        "data": state["data"],
        "began_with": state.get("began_with", ""),
    }


def _run(entry: dict[str, Any]) -> dict[str, Any]:
    """Return one history entry with its values converted to their types."""
    numbers = {name: int(entry[name]) for name in ("steps", "samples", "seconds")}
    return {**entry, **numbers, **{name: str(entry[name]) for name in ("recipe", "machine", "data", "began_with")}}


def release_model(run: Path, out: Path, name: str, *, overwrite: bool = False) -> str:
    """Write the newest checkpoint of `run` to `out` as a model called `name`. Returns a one-line summary.

    Raises `ZaoziError` if there is no complete checkpoint, a file next to it is damaged, or `out` contains files that are
    not from an earlier release (unless `overwrite`).
    """
    from dataclasses import replace

    folder, output = find_model(str(run)), model_output(out, overwrite=overwrite)
    if not (folder / STATE).is_file():
        raise ZaoziError(f"{folder} is not a checkpoint of a training run (no {STATE}); give a run's folder")
    output.check()
    model = load_model(folder)
    config = replace(read_config(folder), name=name)
    encoder, files = own_encoder(folder, config.text.encoder)
    config = replace(config, text=replace(config.text, encoder=encoder))
    state, runs = json.loads((folder / STATE).read_text(encoding="utf-8")), history(folder)
    log = _log(folder.parent / "log.jsonl", state["step"])
    model.config = config
    texts = {
        CONFIG: schema.written(config),
        "recipe.json": without_places(state["recipe"]),
        "training.json": _thin(log),
        HISTORY: runs,
        "card.md": model_card(name, describe(model), runs, log, licence=licence_of(config)),
        **files,
    }
    save_folder(output, {WEIGHTS: in_half(model)}, texts)
    size = (out / WEIGHTS).stat().st_size / 1e6
    return f"{out}: {size:.1f} MB, step {state['step']}, {state['seconds'] / 60:.0f} min of training"


def without_places(values: Any) -> Any:
    """Return a recipe's values with each absolute path, also after a kind as in t5:/models/t5, cut to its last part: a released
    model says nothing of the folders of the machine on which it was trained.
    """
    if isinstance(values, dict):
        return {key: without_places(value) for key, value in values.items()}
    if isinstance(values, list):
        return [without_places(value) for value in values]
    kind, sign, where = values.rpartition(":") if isinstance(values, str) else ("", "", "")
    return f"{kind}{sign}{Path(where).name}" if Path(where).is_absolute() else values


def read_log(lines: Iterable[str], path: Path) -> list[dict[str, Any]]:
    """Parse a run's log. Raises `ZaoziError` if a line is not a JSON object with a numeric `step`."""
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
            entry["step"] = int(entry["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise ZaoziError(f"{path} is not the log of a run (line {line[:40]!r}); move it elsewhere") from None
        entries.append(entry)
    return entries


def _log(path: Path, last: int) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [entry for entry in read_log(lines, path) if entry["step"] <= last]


def _thin(log: list[dict[str, Any]], keep: int = 200) -> list[dict[str, Any]]:
    """Keep all validation entries and evenly spaced training entries."""
    training = [e for e in log if "loss" in e]
    every = max(1, math.ceil(len(training) / keep))
    kept = [*training[every - 1 :: every], *(e for e in log if "validation" in e)]
    return sorted(kept, key=lambda e: (e["step"], "validation" in e))


LICENCE = """\
The weights are licensed under Apache-2.0. The flagship data they may have learned from are Noto Sans CJK TC (SIL Open
Font License 1.1) and Unihan (Unicode License); the text encoder, all-MiniLM-L6-v2 (Apache-2.0), is not included."""
LICENCE_OF_IMPORTED = (
    """The weights are licensed as those of the pipeline that they began with, and its text encoder, allow."""
)


def licence_of(config: ModelConfig) -> str:
    """Return what a card says of the licence of a model's weights."""
    return LICENCE_OF_IMPORTED if config.network.is_imported else LICENCE


def model_card(
    name: str, description: str, runs: list[dict[str, Any]], log: list[dict[str, Any]], *, licence: str = LICENCE
) -> str:
    """Return a model's card in Markdown: what it is, and how it was trained."""
    validations = [e for e in log if "validation" in e]
    held_out = f"{validations[-1]['validation']:.5f}" if validations else "not measured"
    spent = sum(watt_hours(r["machine"], r["seconds"]) for r in runs)
    where = ", then ".join(dict.fromkeys(r["machine"] for r in runs if r["machine"]))
    energy = f" on {where}, some {spent:.0f} Wh by estimate" if where else ""
    lines = "\n".join(
        f"| {in_markdown(r['recipe'])} | {_beginning(r, i)} | {r['seconds'] / 60:.0f} | {r['steps']} | {r['samples']} |"
        for i, r in enumerate(runs)
    )
    return f"""# {in_markdown(name)}

```
{description}
```

Trained for {sum(r["seconds"] for r in runs) / 60:.0f} minutes{energy}, {sum(r["samples"] for r in runs)} samples:

| recipe | began with | minutes | steps | samples |
|---|---|---|---|---|
{lines}

The last run's recipe is in `recipe.json`, its log in `training.json`. Mean x0 error on held-out pairs, text alone, twenty levels:
{held_out}. Data: SHA-256 `{runs[-1]["data"]}`.

{licence}
"""


def facts(folder: Path) -> str:
    """Describe a released model as a Markdown table: pictures, network, weights and training."""
    model, runs = load_model(folder), history(folder)
    config = model.config
    where = ", then ".join(dict.fromkeys(in_markdown(r["machine"]) for r in runs if r["machine"]))
    size = f"{parameters(model.network) / 1e6:.1f} M parameters, {gflops(model):.2f} GFLOP per call"
    rows = {
        "pictures": f"{config.size}x{config.size}, {'grey' if config.channels == 1 else 'RGB'}",
        "network": f"{config.network.kind}, {size}",
        "weights": f"{(folder / WEIGHTS).stat().st_size / 1e6:.0f} MB, in half precision",
        "training": f"{sum(r['seconds'] for r in runs) / 60:.0f} minutes on {where or 'a machine that is not recorded'}, "
        f"{sum(r['samples'] for r in runs):,} samples",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def in_markdown(text: str) -> str:
    """Escape a text for a line of Markdown, so that it cannot contain links, tags, cell or line ends."""
    return re.sub(r"([\\`*_{}\[\]<>|&~$])", r"\\\1", printable(text))


def _beginning(run: dict[str, Any], place: int) -> str:
    if not run["began_with"]:
        return "random weights" if place == 0 else "the run above"
    return f"`{run['began_with'][:12]}`" + (", the run above" if place else ", of which no more is known")
