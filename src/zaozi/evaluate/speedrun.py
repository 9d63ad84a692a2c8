"""Speedrun: the quality reached from scratch within a wall-clock time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json
from zaozi.core.machine import machine, using_environment
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.recipe import Recipe
from zaozi.core.sampling import MEASURING, Sampling
from zaozi.evaluate.drawing import ParallelSampler
from zaozi.evaluate.intervals import Figure
from zaozi.evaluate.measure import Reader
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.report import plain
from zaozi.train.loop import train
from zaozi.train.prepare import prepare

GOAL = 0.70
HOW = MEASURING


def adherence(studio: ParallelSampler, reader: Reader, how: Sampling, rounds: int = 1) -> Figure:
    """Return the share of glyphs for the prompt list with the requested primary radical; `rounds` glyphs per prompt."""
    prompts, radicals = flat()
    with progress(total=len(prompts) * rounds, desc="reading", unit="glyph") as bar:
        pictures = studio.draw(prompts * rounds, how, bar=bar)
    assert pictures is not None, "one process"
    return reader.adherence(reader.look(pictures, prompts * rounds, np.array(radicals * rounds)))["primary"]


def speedrun(
    recipe: Recipe,
    out: Path,
    minutes: float,
    rounds: int = 4,
    say: Callable[[str], None] = print,
    *,
    start: float | None = None,
) -> dict[str, Any]:
    """Build the data, encode the captions and train with `recipe` for `minutes` in total, then evaluate on the prompt list.

    Everything is created from scratch under `out`, including compiled kernels. The clock starts at `start` (a value of
    `time.monotonic`), or now. Returns the record, also written to out/speedrun.json. Raises `ZaoziError` if `out` exists, the
    recipe does not train from scratch, the time does not cover the preparation, or the run is interrupted.
    """
    if rounds < 1:
        raise ZaoziError(f"rounds {rounds} is out of range; use 1 or more")
    if out.exists():
        raise ZaoziError(f"{out} exists; a speedrun starts from nothing: give a new --out")
    if recipe.data.path or recipe.train.init_from:
        raise ZaoziError("a speedrun starts from nothing; leave data.path and train.init_from out of the recipe")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ZaoziError("a speedrun is one process; run it without torchrun")
    start = time.monotonic() if start is None else start
    out.mkdir(parents=True)
    own = {  # kernels are compiled from scratch, too
        "ZAOZI_HOME": out / "home",
        "TORCHINDUCTOR_CACHE_DIR": out / "home" / "compiled",
        "TRITON_CACHE_DIR": out / "home" / "compiled" / "triton",
    }
    with using_environment({name: str(folder.resolve()) for name, folder in own.items()}):
        settings = replace(recipe.train, out=str(out / "run"), max_minutes=minutes)
        run = prepare(replace(recipe, train=settings), say=say)
        run.seconds = time.monotonic() - start  # its clock starts where this command did
        if run.seconds > 60 * minutes:
            raise ZaoziError(f"the preparations alone took {run.seconds / 60:.1f} min; give more --minutes")
        folder = train(run)
        wall = time.monotonic() - start
        if run.stopping:
            raise ZaoziError("stopped; a speedrun counts only whole")
        found = adherence(ParallelSampler(folder), Reader(), HOW, rounds)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "recipe": recipe.name,
        "machine": machine(run.workers.device.type, run.workers.world),
        "minutes": round(wall / 60, 2),
        "samples": run.step * recipe.train.batch_size,
        "adherence": plain(found),
        "goal": GOAL,
        "reached": found.value >= GOAL,
    }
    with Output(out, "speedrun", ("speedrun.json",), whole=False).open() as writer:
        writer.put("speedrun.json", as_json(record))
    say(as_row(record))
    return record


def as_row(record: dict[str, Any]) -> str:
    """Format the record as a row of the table of records; the description of changes is left blank."""
    figure = Figure(**record["adherence"])
    reached = "reached" if record["reached"] else f"short of {record['goal']:.0%}"
    minutes = f"{record['minutes']:.1f}"
    cores, gpu = (minutes, "") if " cores of " in record["machine"] else ("", minutes)
    cells = (record["date"], record["recipe"], "", cores, gpu, f"{record['samples']:,}")
    return f"| {' | '.join(cells)} | {figure.text(percent=True)}: {reached} |"
