"""Sweep guidance, steps and samplers: adherence versus distance, diversity and copies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.sampling import MEASURING, Guidance, Sampling
from zaozi.evaluate.distances import frechet
from zaozi.evaluate.drawing import ParallelSampler, described, rows_per_picture
from zaozi.evaluate.intervals import Figure, statistic_figure
from zaozi.evaluate.measure import Judge
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.reference import in_words
from zaozi.evaluate.report import check_samples, plain
from zaozi.evaluate.table import figure

MEASURES = {
    "adherence": "asked-for radical is the primary one",
    "frechet": "Frechet distance",
    "diversity": "diversity in a radical",
    "copies": "copies, in pixels",
}


def settings(guidance: Sequence[float], steps: Sequence[int], samplers: Sequence[str]) -> list[Sampling]:
    """Return distinct settings: the scales at 20 steps of the first sampler, and each sampler's steps at guidance 5."""
    first = samplers[0] if samplers else Sampling.sampler
    made = [replace(MEASURING, steps=20, sampler=first, guidance=Guidance(scale)) for scale in guidance]
    made += [replace(MEASURING, steps=count, sampler=sampler) for sampler in samplers for count in steps]
    return list(dict.fromkeys(made))


def measure_one(studio: ParallelSampler, judge: Judge, how: Sampling, samples: int) -> dict[str, Figure] | None:
    """Generate glyphs for the prompt list and held-out captions, half of `samples` each. Returns the four figures and the
    `floor` of the Frechet distance, from real glyphs (in the main process)."""
    prompts, radicals = flat()
    half = samples // 2
    texts = [prompts[i % len(prompts)] for i in range(half)]
    numbers = np.array([radicals[i % len(prompts)] for i in range(half)])
    real = judge.held_out.take(judge.held_out_rows(half, crossed=False))
    listed, held_out = studio.draw(texts, how), studio.draw(real.texts, how, first=half)
    if listed is None or held_out is None:
        return None
    drawn, others = judge.look(listed, texts, numbers), judge.look(held_out, real.texts, real.radicals)
    return {
        "adherence": judge.adherence(drawn)["primary"],
        "frechet": statistic_figure(frechet, others.seen.features, real.seen.features, repeats=100),
        "diversity": judge.diversity(others)["drawn"],
        "copies": judge.copies(others)["pixels"],
        "floor": judge.floor(half),
    }


def sweep(
    studio: ParallelSampler,
    judge: Judge,
    output: Output,
    samples: int,
    guidance: Sequence[float],
    steps: Sequence[int],
    samplers: Sequence[str],
) -> None:
    """Measure every setting, write sweep.json after each, then sweep.png and sweep.md. Raises `ZaoziError` if there is none."""
    check_samples(samples)
    todo = settings(guidance, steps, samplers)
    if not todo:
        raise ZaoziError("nothing to sweep; give --guidance, or --steps with --samplers")
    rows_in_all = sum(map(rows_per_picture, todo)) / rows_per_picture(MEASURING)
    seconds = studio.seconds_per_glyph(MEASURING) * samples * rows_in_all
    if studio.main:
        print(f"{len(todo)} settings of {samples} glyphs: about {seconds / 60:.0f} min to draw")
    rows: list[dict[str, Any]] = []
    with output.open() if studio.main else nullcontext() as writer:
        for how in progress(todo, desc="sweep", unit="setting", shown=studio.main):
            found = measure_one(studio, judge, how, samples)
            if found is not None and writer:
                rows.append({**described(how), **plain(found)})
                writer.put("sweep.json", as_json(rows))
        if writer:
            text = as_markdown(rows) + rests_on(judge, rows)
            picture = io.BytesIO()
            plot(rows, samplers).savefig(picture, dpi=110, format="png")
            made = [
                writer.put("sweep.png", picture.getvalue()),
                writer.put("sweep.md", text),
                output.folder / "sweep.json",
            ]
            print(text)
            print(", ".join(map(str, made)))


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Format a Markdown table of all settings."""
    lines = [
        "| sampler | steps | guidance | " + " | ".join(MEASURES.values()) + " |",
        "|" + "---|" * (3 + len(MEASURES)),
    ]
    for row in rows:
        found = {name: figure(row[name]) for name in MEASURES}
        cells = [f.text(percent=name in ("adherence", "copies")) if f else "" for name, f in found.items()]
        lines.append(f"| {row['sampler']} | {row['steps']} | {row['guidance']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rests_on(judge: Judge, rows: Sequence[dict[str, Any]]) -> str:
    """Return notes for the table: the floor of its distances, and the accuracy of the reference network."""
    floor = figure(rows[0]["floor"]) if rows else None
    real = f"Frechet distance of as many real glyphs: {floor.text()}. " if floor else ""
    return f"\n{real}The {in_words(judge.network)}; 95% bootstrap intervals.\n"


def plot(rows: Sequence[dict[str, Any]], samplers: Sequence[str]) -> Any:
    """Return a matplotlib figure: the measures in four rows, by guidance (left) and steps (right), with intervals."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 11), layout="constrained")
    grid = canvas.subplots(len(MEASURES), 2, sharey="row")
    first = samplers[0] if samplers else Sampling.sampler

    def line(axes: Any, chosen: list[dict[str, Any]], x: str, name: str, label: str) -> None:
        known = [(float(r[x]), f) for r in chosen if (f := figure(r[name]))]
        known.sort(key=lambda point: point[0])
        at = [x for x, _ in known]
        axes.plot(at, [f.value for _, f in known], marker="o", ms=4, label=label)
        axes.fill_between(at, [f.low for _, f in known], [f.high for _, f in known], alpha=0.15)

    for (left, right), (name, title) in zip(grid, MEASURES.items(), strict=True):
        line(left, [r for r in rows if r["sampler"] == first and r["steps"] == 20], "guidance", name, first)
        for sampler in samplers:
            chosen = [r for r in rows if r["sampler"] == sampler and r["guidance"] == Guidance.scale]
            line(right, chosen, "steps", name, sampler)
        if name == "frechet" and rows and (floor := figure(rows[0]["floor"])):
            for axes in (left, right):
                axes.axhline(floor.value, color="black", ls="--", lw=1, label="real glyphs")
        right.set_xscale("log")
        left.set_ylabel(title)
        for axes in (left, right):
            axes.grid(alpha=0.3)
    grid[0][1].legend()
    grid[list(MEASURES).index("frechet")][0].legend()
    grid[-1][0].set_xlabel(f"guidance scale (20 steps of {first})")
    grid[-1][1].set_xlabel("steps (guidance 5)")
    return canvas
