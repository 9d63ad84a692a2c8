"""From a training run to a model that others can use: half-precision weights, config, log and card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from zaozi.core.config import to_dict
from zaozi.core.machine import watt_hours
from zaozi.model.checkpoint import CONFIG, WEIGHTS, find_model, load_model, read_config, save_folder
from zaozi.model.info import describe


def release_model(run: Path, out: Path, name: str) -> str:
    """Write `run`'s newest model to `out` as `name`; returns a line that says what was written.

    Raises `ZaoziError` where there is no whole checkpoint.
    """
    from dataclasses import replace

    folder = find_model(str(run))
    model = load_model(folder)
    config = replace(read_config(folder), name=name)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    log = _log(folder.parent / "log.jsonl", state["step"])
    weights = {k: v.half() for k, v in model.state_dict().items()}
    model.config = config
    texts = {
        CONFIG: to_dict(config),
        "recipe.json": state["recipe"],
        "training.json": _thin(log),
        "card.md": _card(name, describe(model), state, log),
    }
    save_folder(out, {WEIGHTS: weights}, texts)
    size = (out / WEIGHTS).stat().st_size / 1e6
    return f"{out}: {size:.1f} MB, step {state['step']}, {state['seconds'] / 60:.0f} min of training"


def _log(path: Path, last: int) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [e for e in map(json.loads, lines) if e["step"] <= last]


def _thin(log: list[dict[str, Any]], keep: int = 200) -> list[dict[str, Any]]:
    """Every validation, and evenly spaced training entries."""
    training = [e for e in log if "loss" in e]
    every = max(1, math.ceil(len(training) / keep))
    kept = [*training[every - 1 :: every], *(e for e in log if "validation" in e)]
    return sorted(kept, key=lambda e: (e["step"], "validation" in e))


def _card(name: str, description: str, state: dict[str, Any], log: list[dict[str, Any]]) -> str:
    recipe = state["recipe"]
    validations = [e for e in log if "validation" in e]
    held_out = f"{validations[-1]['validation']:.5f}" if validations else "not measured"
    samples = state["step"] * recipe["train"]["batch_size"]
    started = f" It started from {recipe['train']['init_from']}." if recipe["train"]["init_from"] else ""
    words = state.get("machine", "")
    energy = f" on {words}, some {watt_hours(words, state['seconds']):.0f} Wh by estimate" if words else ""
    return f"""# {name}

```
{description}
```

Trained for {state["seconds"] / 60:.0f} minutes{energy}: {state["step"]} steps, {samples} samples, by the recipe in `recipe.json`
(the log is in `training.json`).{started} Mean x0 error on held-out pairs, text alone, twenty levels: {held_out}.
Data: SHA-256 `{state["data"]}`.

The weights are licensed under Apache-2.0. The flagship data they may have learned from are Noto Sans CJK TC (SIL Open
Font License 1.1) and Unihan (Unicode License); the text encoder, all-MiniLM-L6-v2 (Apache-2.0), is not included.
"""
