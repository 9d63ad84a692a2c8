"""One change to a recipe at a time, equal wall-clock, several seeds: which choices carry the result, and which are ties.

python tools/ablate.py --minutes 8 --seeds 0 1

Every run trains alone on the machine, from random weights; finished runs are kept, so the command can be stopped and given again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from zaozi.core.files import write_json
from zaozi.evaluate.drawing import ParallelSampler
from zaozi.evaluate.intervals import Figure
from zaozi.evaluate.measure import Reader
from zaozi.evaluate.report import plain
from zaozi.evaluate.speedrun import HOW, adherence
from zaozi.model.checkpoint import find_model, load_model
from zaozi.train.validation import held_out_error

SHORT = ["--train.no-self-check", "--optim.warmup", "100"]
"""What suits a run of minutes, whatever it tries."""

CHANGES: dict[str, list[str]] = {
    "the recipe": [],
    "levels logit-normal (0.8, 0.8)": ["--diffusion.times-mean", "0.8", "--diffusion.times-std", "0.8"],
    "no hints": ["--train.hint-rate", "0"],
    "no noise on the texts": ["--train.text-noise", "0"],
    "rarer radicals more often": ["--train.balance", "radical"],
    "batches of 64": ["--train.batch-size", "64"],
    "batches of 64, no noise on the texts": ["--train.batch-size", "64", "--train.text-noise", "0"],
}


def measured(recipe: Path, change: str, seed: int, minutes: float, out: Path) -> dict[str, Any]:
    """Train (unless that is done) and measure one run."""
    found = out / "ablate.json"
    if not found.is_file():
        options = ["--max-minutes", str(minutes), "--out", str(out), "--train.seed", str(seed), *SHORT]
        command = [sys.executable, "-m", "zaozi", "train", str(recipe), *options, *CHANGES[change]]
        subprocess.run([*command, *(["--resume"] if out.exists() else [])], check=True)
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        error = held_out_error(load_model(find_model(str(out))))
        record = {
            "change": change,
            "seed": seed,
            "samples": max(entry.get("samples", 0) for entry in log),
            "error": sum(error) / len(error),
            "adherence": plain(adherence(ParallelSampler(out), Reader(), HOW, rounds=2)),
        }
        write_json(found, record)
    made: dict[str, Any] = json.loads(found.read_text())
    return made


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A line a change, its seeds beside each other."""
    lines = ["| change | samples | adherence | held-out x0 error |", "|---|---|---|---|"]
    for change in dict.fromkeys(row["change"] for row in rows):
        some = [row for row in rows if row["change"] == change]
        cells = (
            ", ".join(f"{row['samples']:,}" for row in some),
            ", ".join(Figure(**row["adherence"]).text(percent=True) for row in some),
            ", ".join(f"{row['error']:.4f}" for row in some),
        )
        lines.append(f"| {change} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=Path("recipes/glyphs-1h.toml"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, compiling included")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("runs/ablate"))
    given = parser.parse_args()
    done = []
    for seed in given.seeds:
        for number, change in enumerate(CHANGES):
            folder = given.out / f"{given.minutes:g}-minutes" / f"{number}-seed-{seed}"
            done.append(measured(given.recipe, change, seed, given.minutes, folder))
            print(as_markdown(done), flush=True)
