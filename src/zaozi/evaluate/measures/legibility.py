"""How stroke-like the ink is."""

from __future__ import annotations

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn


@measure(
    "legibility",
    Row(
        80,
        "half-grey share of the ink",
        "legibility.drawn.half_grey",
        "legibility.real.half_grey",
        unit="%",
        better="lower",
    ),
    Row(81, "specks per glyph", "legibility.drawn.specks", "legibility.real.specks", better="lower"),
    Row(82, "separate parts per glyph", "legibility.drawn.parts", "legibility.real.parts", better="as real"),
)
def legibility(judge: Judge, sets: Drawn) -> dict[str, Figures]:
    """For generated glyphs of held-out captions, and for the real ones."""
    return {"drawn": judge.legibility(sets.held_out.pictures), "real": judge.legibility(sets.real.pictures)}
