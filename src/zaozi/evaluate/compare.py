"""Compare samplers at equal numbers of network calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.sheet import contact_sheet, png
from zaozi.evaluate.drawing import ParallelSampler, calls
from zaozi.evaluate.measure import Judge
from zaozi.evaluate.report import check_samples, plain
from zaozi.evaluate.sweep import measure_one, rests_on
from zaozi.evaluate.table import figure
from zaozi.pipeline import to_images

BUDGETS = (5, 10, 20)
"""Budgets, in calls, for which a sampler is recommended."""


def compare(
    studio: ParallelSampler,
    judge: Judge,
    output: Output,
    samplers: Sequence[str],
    steps: Sequence[int],
    samples: int,
    how: Sampling,
    prompt: str,
) -> None:
    """Measure every sampler at every number of steps and write compare.json, compare.md and compare.png, a grid of pictures.

    `how` sets guidance, seed, batch size and precision. Raises `ZaoziError` if a number is out of range.
    """
    check_samples(samples)
    samplers, steps = list(dict.fromkeys(samplers)), list(dict.fromkeys(steps))
    if not (samplers and steps):
        raise ZaoziError("nothing to compare; give --samplers and --steps")
    todo = [dataclasses.replace(how, sampler=sampler, steps=count) for sampler in samplers for count in steps]
    spent = [calls(one.sampler, one.steps) for one in todo]
    seconds = studio.seconds_per_glyph(how) * samples * sum(spent) / calls(how.sampler, how.steps)
    if studio.main:
        print(f"{len(todo)} settings of {samples} glyphs: about {seconds / 60:.0f} min to draw")
    rows: list[dict[str, Any]] = []
    pictures: list[list[Image.Image]] = []
    with output.open() if studio.main else nullcontext() as writer:
        for one, cost in zip(progress(todo, desc="compare", unit="setting", shown=studio.main), spent, strict=True):
            found, shown = measure_one(studio, judge, one, samples), studio.draw([prompt], one)
            if found is None or shown is None or writer is None:
                continue
            rows.append({"sampler": one.sampler, "steps": one.steps, "calls": cost, **plain(found)})
            if one.steps == steps[0]:
                pictures.append([])
            pictures[-1] += to_images(shown)
            writer.put("compare.json", as_json(rows))
        if writer:
            words = ", ".join(map(str, steps))
            captions = [f"{sampler}: {words} steps" for sampler in samplers]
            text = as_markdown(rows) + rests_on(judge, rows)
            made = [
                writer.put("compare.png", png(contact_sheet(pictures, captions, tile=96, text_size=13))),
                writer.put("compare.md", text),
                output.folder / "compare.json",
            ]
            print(text)
            print(", ".join(map(str, made)))


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Table of adherence and distance by calls, one line per setting, with recommendations for 5, 10 and 20 calls."""
    lines = [
        "| sampler | steps | calls | asked-for radical is the primary one | Frechet distance |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r["calls"], r["sampler"])):
        found, away = figure(row["adherence"]), figure(row["frechet"])
        cells = [found.text(percent=True) if found else "", away.text() if away else ""]
        lines.append(f"| {row['sampler']} | {row['steps']} | {row['calls']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *best(rows)]) + "\n"


def best(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return one sentence per budget of calls: the cheapest setting whose intervals overlap those of the best adherence
    and of the best distance, and how many such settings there are."""
    said = []
    for budget in BUDGETS:
        within = [
            r for r in rows if r["calls"] <= budget and None not in (r["frechet"]["value"], r["adherence"]["value"])
        ]
        if not within:
            continue
        near = min(r["frechet"]["high"] for r in within)
        true = max(r["adherence"]["low"] for r in within)
        tied = [r for r in within if r["frechet"]["low"] <= near and r["adherence"]["high"] >= true]
        if not tied:
            said.append(f"Within {budget} calls: the truest to the prompt are not the nearest to real glyphs.")
            continue
        cheap = min(tied, key=lambda r: (r["calls"], r["frechet"]["value"]))
        said.append(
            f"Within {budget} calls: {cheap['sampler']} in {cheap['steps']} steps, the cheapest of the {len(tied)} (of "
            f"{len(within)}) settings that tie for the best."
        )
    return said
