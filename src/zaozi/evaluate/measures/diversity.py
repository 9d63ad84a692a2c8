"""Diversity of glyphs for the same radical."""

from __future__ import annotations

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn


@measure(
    "diversity",
    Row(40, "diversity within a radical", "diversity.drawn", "diversity.real", better="as real", headline=True),
)
def diversity(judge: Judge, sets: Drawn) -> Figures:
    """Mean feature distance between two glyphs for the same requested radical."""
    return judge.diversity(sets.listed)
