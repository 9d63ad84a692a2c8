"""Whether glyphs for real captions have the radical of the original character."""

from __future__ import annotations

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import measure
from zaozi.evaluate.report import Drawn


@measure("agreement")
def agreement(judge: Judge, sets: Drawn) -> Figures:
    """Many captions do not reveal their character's radical, so real glyphs are the baseline."""
    return {
        "held_out": judge.agreement(sets.held_out),
        "crossed": judge.agreement(sets.crossed),
        "trained": judge.agreement(sets.trained),
        "real": judge.agreement(sets.real),
    }
