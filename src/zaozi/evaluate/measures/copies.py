"""Novelty: the share of glyphs closer to a training glyph than almost all real glyphs are."""

from __future__ import annotations

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn

NAMES = {"listed": "the list", "held_out": "held-out captions", "trained": "training captions"}


@measure(
    "copies",
    *(
        Row(
            50 + 3 * i + j,
            f"copies in {where}: {name}",
            f"copies.{kind}.{where}",
            f"copies.real.{where}",
            unit="%",
            better="lower",
            headline=kind == "held_out",
        )
        for i, where in enumerate(("pixels", "features"))
        for j, (kind, name) in enumerate(NAMES.items())
    ),
)
def copies(judge: Judge, sets: Drawn) -> dict[str, Figures]:
    """Share of copies, in pixels and in features."""
    drawn = {"listed": sets.listed, "held_out": sets.held_out, "trained": sets.trained, "real": judge.held_out}
    return {name: judge.copies(glyphs) for name, glyphs in drawn.items()}


@measure("copies_below")
def copies_below(judge: Judge, sets: Drawn) -> Figures:
    """The distances below which a glyph is a copy."""
    return judge.limits
