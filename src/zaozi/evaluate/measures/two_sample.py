"""Whether a network trained for it can tell generated glyphs from real ones."""

from __future__ import annotations

import numpy as np

from zaozi.evaluate.measure import Figures, Judge, spread
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn
from zaozi.evaluate.two_sample import two_sample as accuracy


@measure(
    "two_sample",
    Row(
        37,
        "told from real glyphs by a classifier",
        "two_sample.drawn.full",
        "two_sample.real.full",
        unit="%",
        better="lower",
    ),
    Row(
        38, "the same at half the resolution", "two_sample.drawn.half", "two_sample.real.half", unit="%", better="lower"
    ),
    version=3,
)
def two_sample(judge: Judge, sets: Drawn) -> dict[str, Figures]:
    """For held-out captions, and for other real glyphs; 50% means that they cannot be told apart."""
    real = sets.real.pictures
    other = judge.train.pictures[spread(np.flatnonzero(judge.spare & ~judge.train_crossed), len(real))]
    return {
        name: {"full": accuracy(some, real), "half": accuracy(some, real, factor=2)}
        for name, some in (("drawn", sets.held_out.pictures), ("real", other))
    }
