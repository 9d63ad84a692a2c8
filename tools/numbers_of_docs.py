"""Fill the measured tables of README.md and docs/sampling.md from the reports behind them (`make numbers`).

The reports are in the repository: that of `base` beside its weights, the others in docs/data/. To measure them again:

zaozi compare base --steps 5,10,20 --samples 192 --out out/compare
zaozi compare base --samplers dpmpp-2m --steps 20 --samples 384 OPTIONS --out out/guidance/NAME    # a line of GUIDANCE below
zaozi evaluate control base --samples 192 --out out/control
zaozi evaluate fast --samples 2000 --precision bf16 --out out/fast    # for zaozi evaluate publish
zaozi evaluate fast --steps 1 --samples 384 --precision bf16 --out out/one-step
python tools/numbers_of_docs.py out    # copies them to docs/data/ and fills the tables
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from zaozi.core.sampling import Guidance, Sampling
from zaozi.evaluate.compare import best
from zaozi.evaluate.drawing import rows_per_picture
from zaozi.evaluate.publish import between_marks, read_report, readme_with
from zaozi.evaluate.report import RELEASED_SAMPLES
from zaozi.evaluate.table import figure, find
from zaozi.model.checkpoint import SHIPPED

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data"
GUIDANCE = {
    "plain": "--guidance 1",
    "3": "--guidance 3",
    "5": "--guidance 5",
    "8": "--guidance 8",
    "everywhere": "--guidance.low 0",
    "rising": "--guidance.curve rising",
    "rescale": "--guidance 8 --guidance.rescale 0.7",
    "plus": "--guidance.plus --guidance 0.6",
    "dynamic": "--guidance 8 --guidance.threshold dynamic",
    "weak": "--weak out/early --guidance 2",
}
REPORTS = (
    "compare/compare.json",
    "control/control.md",
    "one-step/report.json",
    *(f"guidance/{name}/compare.json" for name in GUIDANCE),
)


def compared(rows: list[dict[str, Any]]) -> list[str]:
    """A line per sampler: adherence and Frechet distance at each number of steps."""
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
    """A line per guidance."""
    lines = ["| options | primary radical | Frechet distance |", "|---|---|---|"]
    for name, options in GUIDANCE.items():
        row = json.loads((folder / name / "compare.json").read_text(encoding="utf-8"))[0]
        found, away = figure(row["adherence"]), figure(row["frechet"])
        assert found
        assert away
        lines.append(f"| `{options}` | {found.text(percent=True)} | {away.text()} |")
    return lines


def students(reports: list[dict[str, Any]]) -> list[str]:
    """A line per report: `base`, and its student in its usual steps and in one."""
    figures = {
        "radical asked for": ("adherence.primary", True),
        "Frechet distance": ("distance.drawn.frechet", False),
        "half-grey share of the ink": ("legibility.drawn.half_grey", True),
    }
    lines = [
        "| model | steps | calls of the network | " + " | ".join(figures) + " |",
        "|---" * (3 + len(figures)) + "|",
    ]
    for report in reports:
        how = report["how"]
        guidance = Guidance(how["guidance"], **how["guide"])
        calls = rows_per_picture(Sampling(how["steps"], how["sampler"], guidance))
        cells = [report["model"]["name"], str(how["steps"]), str(calls)]
        found = [(find(report["figures"], path), percent) for path, percent in figures.values()]
        enough = how["samples"] >= RELEASED_SAMPLES  # a distance depends on the number of glyphs
        cells += [f.text(percent) if f and (percent or enough) else "" for f, percent in found]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def filled(data: Path = DATA) -> dict[Path, str]:
    """The pages with their tables filled from the reports that there are."""
    readme, page = ROOT / "README.md", ROOT / "docs" / "sampling.md"
    base = SHIPPED / "base"
    pages = {p: p.read_text(encoding="utf-8") for p in (readme, page)}
    pages[readme] = readme_with(pages[readme], read_report(base / "report.json"), base)

    def put(where: Path, mark: str, lines: list[str]) -> None:
        pages[where] = between_marks(pages[where], mark, "\n".join(lines))

    if (data / "compare").is_dir():
        rows = json.loads((data / "compare" / "compare.json").read_text(encoding="utf-8"))
        put(page, "compare", [*compared(rows), "", *best(rows)])
        put(readme, "samplers", best(rows))
    if (data / "guidance").is_dir():
        put(page, "guidance", guided(data / "guidance"))
    if (SHIPPED / "fast").is_dir():
        reports = [SHIPPED / "base", SHIPPED / "fast", data / "one-step"]
        put(page, "students", students([read_report(folder / "report.json") for folder in reports]))
    if (data / "control").is_dir():
        put(page, "control", (data / "control" / "control.md").read_text(encoding="utf-8").strip().splitlines())
    return pages


if __name__ == "__main__":
    for name in REPORTS if len(sys.argv) > 1 else ():
        if (measured := Path(sys.argv[1]) / name).is_file():
            (DATA / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(measured, DATA / name)
    for path, text in filled().items():
        path.write_text(text, encoding="utf-8")
