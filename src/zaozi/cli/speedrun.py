"""`zaozi speedrun`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro


def speedrun(
    recipe: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECIPE")] = Path("speedrun"),
    /,
    minutes: float = 20.0,
    rounds: int = 4,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/speedrun"),
) -> None:
    """Timed run from scratch to glyphs with the requested radicals: data, captions, training, then evaluation on the list.

    The goal is an adherence of 0.70 at guidance 5 with 20 guided calls. Prints a line for the table of records.

    Args:
        recipe: A TOML file, or the name of a packaged recipe.
        minutes: Time limit, including preparation but not the evaluation.
        rounds: Glyphs per prompt of the list.
        out: A new folder for all output.
    """
    start = time.monotonic()  # before heavy imports
    from zaozi.evaluate.speedrun import speedrun
    from zaozi.train.recipes import read_recipe

    speedrun(read_recipe(recipe), out, minutes, rounds, start=start)
