"""Put measured tables into docs/sampling.md and README.md, between their marks.

zaozi compare base --steps 5,10,20 --samples 192 --out out/compare
zaozi compare base --samplers dpmpp-2m --steps 20 --samples 384 OPTIONS --out out/guidance/NAME    # a line of OPTIONS below
zaozi evaluate control base --samples 192 --out out/control
python tools/sampling_tables.py out
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from zaozi.evaluate.compare import best
from zaozi.evaluate.publish import between_marks
from zaozi.evaluate.table import figure

ROOT = Path(__file__).parents[1]
GUIDANCE = {
    "plain": "--guidance 1",
    "3": "--guidance 3",
    "5": "--guidance 5",
    "8": "--guidance 8",
    "interval": "--guide.low 0.5",
    "rising": "--guide.curve rising",
    "rescale": "--guidance 8 --guide.rescale 0.7",
    "plus": "--guide.plus --guidance 0.6",
    "dynamic": "--guidance 8 --guide.threshold dynamic",
    "weak": "--weak out/early --guidance 2",
}


def put(page: Path, mark: str, lines: list[str]) -> None:
    """Replace what stands between <!-- mark --> and <!-- /mark -->."""
    page.write_text(between_marks(page.read_text(encoding="utf-8"), mark, "\n".join(lines)), encoding="utf-8")


def compared(rows: list[dict[str, Any]]) -> list[str]:
    """A line a sampler: adherence and Frechet distance at each number of steps."""
    steps = list(dict.fromkeys(row["steps"] for row in rows))
    lines = [
        "| sampler | " + " | ".join(f"{n} step{'s' if n > 1 else ''}" for n in steps) + " |",
        "|---" * (len(steps) + 1) + "|",
    ]
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        cells = []
        for n in steps:
            row = next(r for r in rows if (r["sampler"], r["steps"]) == (sampler, n))
            extra = f", {row['calls']} calls" if row["calls"] != n else ""
            cells.append(f"{row['adherence']['value']:.0%}, {row['frechet']['value']:.0f}{extra}")
        lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
    return lines


def guided(folder: Path) -> list[str]:
    """A line a guidance."""
    lines = ["| options | primary radical | Frechet distance |", "|---|---|---|"]
    for name, options in GUIDANCE.items():
        row = json.loads((folder / name / "compare.json").read_text())[0]
        found, away = figure(row["adherence"]), figure(row["frechet"])
        assert found
        assert away
        lines.append(f"| `{options}` | {found.text(percent=True)} | {away.text()} |")
    return lines


def fill(out: Path) -> None:
    page = ROOT / "docs" / "sampling.md"
    rows = json.loads((out / "compare" / "compare.json").read_text())
    put(page, "compare", [*compared(rows), "", *best(rows)])
    put(ROOT / "README.md", "samplers", best(rows))
    put(page, "guidance", guided(out / "guidance"))
    put(page, "control", (out / "control" / "control.md").read_text().strip().splitlines())


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
