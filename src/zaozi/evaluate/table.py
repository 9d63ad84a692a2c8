"""Format a report as a table for the terminal, the model card and a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zaozi.evaluate.drawing import guide_options
from zaozi.evaluate.intervals import Figure
from zaozi.evaluate.measure import COPIES_BELOW
from zaozi.evaluate.measures import all_rows
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.report import RELEASED_SAMPLES


def figure(plain_figure: Mapping[str, Any] | None) -> Figure | None:
    """Inverse of `plain`; None if the value is missing or not a number."""
    return Figure(**plain_figure) if plain_figure and plain_figure["value"] is not None else None


def find(figures: Mapping[str, Any], path: str) -> Figure | None:
    """Return the figure at 'measure.set.name' in a report's figures, or None."""
    value: Any = figures
    for key in path.split("."):
        value = value.get(key, {})
    return figure(value)


def table(report: Mapping[str, Any], *, headline: bool = False) -> list[tuple[str, str, str, str]]:
    """Return the report's table, header first: label, generated, real glyphs, nearest caption's glyph, with 95% intervals.

    Includes the measures in the report; with `headline`, only the rows for the README.
    """

    def cell(path: str, percent: bool) -> str:
        found = find(report["figures"], path) if path else None
        return found.text(percent) if found else ""

    held = [row for row in all_rows() if row.drawn.partition(".")[0] in report["figures"]]
    cells = [
        (r.label, cell(r.drawn, r.unit == "%"), cell(r.real, r.unit == "%"), cell(r.lookup, r.unit == "%"))
        for r in held
        if r.headline or not headline
    ]
    return [("", "drawn", "real glyphs", "nearest caption's glyph"), *cells]


def headlines(report: Mapping[str, Any]) -> str:
    """Return the rows for the README, as Markdown."""
    return _markdown(table(report, headline=True))


def foot(report: Mapping[str, Any]) -> str:
    """Return a few sentences about the basis of the table."""
    how, r, figures = report["how"], report["reference"], report["figures"]
    glyphs, distance, chance = (
        how["glyphs"],
        find(figures, "distance.drawn.frechet"),
        find(figures, "adherence_chance.anywhere"),
    )
    found = [find(figures, f"retrieval.{name}") for name in ("held_out", "crossed")]
    sought = " and ".join(str(f.n) for f in found if f)
    tested = f" Retrieval uses {sought} glyphs of the test split." if sought else ""
    small = (
        "" if distance and distance.n >= RELEASED_SAMPLES else " Distances of so few glyphs are for monitoring only."
    )
    crossed = find(figures, "distance_crossed.drawn.frechet")
    apart = (
        f" Cross-references (captions that only refer to another character: same as ...) are measured separately, for "
        f"monitoring: {glyphs['crossed']} glyphs, {crossed.n} of them against as many real ones."
        if crossed
        else ""
    )
    told = find(figures, "adherence_lookup_hints.primary")
    hints = f" If the hints of the training are searched, too, lookup finds {told.text(percent=True)}." if told else ""
    options = "".join(f", {name} {value}" for name, value in guide_options(how.get("guide", {})).items())
    dealt = f" With the requested radicals shuffled, {chance.value:.1%} would show theirs anywhere." if chance else ""
    return (
        f"{glyphs['listed']} glyphs for {len(flat()[0])} prompts, {glyphs['held_out']} for held-out and {glyphs['trained']} "
        f"for training captions; {how['steps']} steps of {how['sampler']}, guidance {how['guidance']:g}{options}, seed "
        f"{how['seed']}, {how['precision']}. Intervals are 95% bootstrap intervals; glyphs of one radical, text or caption are "
        f"resampled together, and the interval is exact where none or all are found. Radicals are found, and distances "
        f"measured, by the reference network: of {r['held_out']} glyphs that it never saw, {r['radical_accuracy']:.1%} of the "
        f"radicals and {r['structure_accuracy']:.1%} of the structures are right. A glyph is a copy if it is nearer to a "
        f"training glyph than {1 - COPIES_BELOW:.0%} of held-out real glyphs are.{dealt}{hints}{tested}{apart}{small}"
    )


def as_text(report: Mapping[str, Any]) -> str:
    """Format the table for a terminal."""
    rows = table(report)
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", foot(report)])


def as_markdown(report: Mapping[str, Any]) -> str:
    """Format the whole table and its notes for the model card, as Markdown."""
    return f"{_markdown(table(report))}\n\n{foot(report)}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---|---|---|---|", *rest])
