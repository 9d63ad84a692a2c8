"""How often a glyph matches its own caption among others."""

from __future__ import annotations

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn


@measure(
    "retrieval",
    Row(20, "held-out caption found among 100", "retrieval.held_out", "retrieval.real", unit="%", headline=True),
    Row(70, "cross-references: caption found among 100", "retrieval.crossed", unit="%"),
)
def retrieval(judge: Judge, sets: Drawn) -> Figures:
    """Accuracy among 99 other captions, by the towers."""
    return {
        "held_out": judge.retrieval(judge.tested(sets.held_out)),
        "crossed": judge.retrieval(judge.tested(sets.crossed, crossed=True), crossed=True),
        "trained": judge.retrieval(sets.trained),
        "real": judge.retrieval(judge.tested(sets.real)),
    }
