"""A report as a table: for the terminal, for the model's card and for a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zaozi.evaluate.intervals import Figure
from zaozi.evaluate.measure import COPIES_BELOW
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.report import RELEASED_SAMPLES, guide_options


@dataclass(frozen=True)
class Row:
    """One measure of a report as people read it. The paths say where its figures stand in the report: 'measure.set.name'."""

    label: str
    drawn: str
    real: str = ""
    lookup: str = ""
    """Of the training glyph whose caption is nearest in meaning."""
    percent: bool = True
    headline: bool = False
    """Whether README shows it; the card and the report show all."""


ROWS = (
    Row(
        "radical asked for is the primary one",
        "adherence.primary",
        "adherence_real.primary",
        "adherence_lookup.primary",
        headline=True,
    ),
    Row(
        "radical asked for is anywhere in it",
        "adherence.anywhere",
        "adherence_real.anywhere",
        "adherence_lookup.anywhere",
    ),
    Row("the primary one, relative to real glyphs", "adherence_over_real.primary", headline=True),
    Row("held-out caption found among 100", "retrieval.held_out", "retrieval.real", headline=True),
    Row("Frechet distance to real glyphs", "distance.drawn.frechet", "distance.real.frechet", percent=False),
    Row("Frechet distance, relative to real glyphs", "distance.over_floor.frechet", percent=False, headline=True),
    Row("kernel distance (KID)", "distance.drawn.kid", "distance.real.kid", percent=False),
    Row("precision", "distance.drawn.precision", "distance.real.precision"),
    Row("recall", "distance.drawn.recall", "distance.real.recall", headline=True),
    Row("density", "distance.drawn.density", "distance.real.density", percent=False),
    Row("coverage", "distance.drawn.coverage", "distance.real.coverage"),
    Row("diversity within a radical", "diversity.drawn", "diversity.real", percent=False, headline=True),
    *(
        Row(
            f"copies in {where}: {name}",
            f"copies.{kind}.{where}",
            f"copies.real.{where}",
            headline=(kind == "held_out"),
        )
        for where in ("pixels", "features")
        for kind, name in (("listed", "the list"), ("held_out", "held-out captions"), ("trained", "training captions"))
    ),
    Row("cross-references: caption found among 100", "retrieval.crossed"),
    Row(
        "cross-references: Frechet distance",
        "distance_crossed.drawn.frechet",
        "distance_crossed.real.frechet",
        percent=False,
    ),
    Row("half-grey share of the ink", "legibility.drawn.half_grey", "legibility.real.half_grey"),
    Row("specks per glyph", "legibility.drawn.specks", "legibility.real.specks", percent=False),
    Row("separate parts per glyph", "legibility.drawn.parts", "legibility.real.parts", percent=False),
)
"""Every measure of a report, in the order of its table."""


def figure(plain_figure: Mapping[str, Any] | None) -> Figure | None:
    """Undo `plain`; None where there is nothing or it is not a number."""
    return Figure(**plain_figure) if plain_figure and plain_figure["value"] is not None else None


def find(figures: Mapping[str, Any], path: str) -> Figure | None:
    """The figure at 'measure.set.name' of a report's figures, or None."""
    value: Any = figures
    for key in path.split("."):
        value = value.get(key, {})
    return figure(value)


def table(report: Mapping[str, Any], rows: Sequence[Row] = ROWS) -> list[tuple[str, str, str, str]]:
    """The report's table, headings first: label, drawn, real glyphs, nearest caption's glyph, with 95% intervals."""

    def cell(path: str, percent: bool) -> str:
        found = find(report["figures"], path) if path else None
        return found.text(percent) if found else ""

    cells = [(r.label, cell(r.drawn, r.percent), cell(r.real, r.percent), cell(r.lookup, r.percent)) for r in rows]
    return [("", "drawn", "real glyphs", "nearest caption's glyph"), *cells]


def headlines(report: Mapping[str, Any]) -> str:
    """The few rows that README shows, as Markdown."""
    return _markdown(table(report, [row for row in ROWS if row.headline]))


def foot(report: Mapping[str, Any]) -> str:
    """What the table rests on, in a few sentences."""
    how, r, figures = report["how"], report["reference"], report["figures"]
    glyphs, distance, chance = (
        how["glyphs"],
        find(figures, "distance.drawn.frechet"),
        find(figures, "adherence_chance.anywhere"),
    )
    found = [find(figures, f"retrieval.{name}") for name in ("held_out", "crossed")]
    sought = " and ".join(str(f.n) for f in found if f)
    tested = f" Captions are sought for {sought} glyphs (those of validation chose the towers)." if sought else ""
    small = "" if distance and distance.n >= RELEASED_SAMPLES else " Distances at so few glyphs are for watching only."
    crossed = find(figures, "distance_crossed.drawn.frechet")
    apart = (
        f" Cross-references (captions that only point elsewhere: same as ...) are drawn apart, {glyphs['crossed']} of them, "
        f"and {crossed.n} measured against as many real ones, for watching."
        if crossed
        else ""
    )
    told = find(figures, "adherence_lookup_hints.primary")
    hints = f" With the training's hints looked up too, memory alone finds {told.text(percent=True)}." if told else ""
    options = "".join(f", {name} {value}" for name, value in guide_options(how.get("guide", {})).items())
    dealt = f" Dealt to other prompts, {chance.value:.1%} would still show the radical anywhere." if chance else ""
    return (
        f"{glyphs['listed']} glyphs for {len(flat()[0])} prompts, {glyphs['held_out']} for held-out and {glyphs['trained']} "
        f"for training captions; {how['steps']} steps of {how['sampler']}, guidance {how['guidance']:g}{options}, seed "
        f"{how['seed']}, {how['precision']}; 95% bootstrap intervals (for radicals, captions and copies, glyphs of one radical "
        f"or text are drawn together, and exact ends stand where none or all are found). The reference network (radical "
        f"{r['radical_accuracy']:.1%}, structure {r['structure_accuracy']:.1%} right on {r['held_out']} glyphs it never saw) "
        f"finds radicals, and its features measure distances; a glyph is a copy where it is nearer to a training glyph than "
        f"{1 - COPIES_BELOW:.0%} of held-out real glyphs are.{dealt}{hints}{tested}{apart}{small}"
    )


def as_text(report: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    rows = table(report)
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", foot(report)])


def as_markdown(report: Mapping[str, Any]) -> str:
    """The whole table, and what it rests on, for the card."""
    return f"{_markdown(table(report))}\n\n{foot(report)}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---|---|---|---|", *rest])
