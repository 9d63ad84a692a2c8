"""Distances between sets of generated and real glyphs."""

from __future__ import annotations

from typing import Any

from zaozi.evaluate.measure import Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.report import Drawn


@measure(
    "distance",
    Row(30, "Frechet distance to real glyphs", "distance.drawn.frechet", "distance.real.frechet", better="lower"),
    Row(31, "Frechet distance, relative to real glyphs", "distance.over_floor.frechet", better="lower", headline=True),
    Row(32, "kernel distance (KID)", "distance.drawn.kid", "distance.real.kid", better="lower"),
    Row(33, "precision", "distance.drawn.precision", "distance.real.precision", unit="%"),
    Row(34, "recall", "distance.drawn.recall", "distance.real.recall", unit="%", headline=True),
    Row(35, "density", "distance.drawn.density", "distance.real.density", better="as real"),
    Row(36, "coverage", "distance.drawn.coverage", "distance.real.coverage", unit="%"),
)
def distance(judge: Judge, sets: Drawn) -> dict[str, Any]:
    """For held-out captions."""
    return judge.distance(sets.held_out, sets.real)


@measure(
    "distance_crossed",
    Row(
        71,
        "cross-references: Frechet distance",
        "distance_crossed.drawn.frechet",
        "distance_crossed.real.frechet",
        better="lower",
    ),
)
def distance_crossed(judge: Judge, sets: Drawn) -> dict[str, Any]:
    """For held-out captions that refer to another character."""
    return judge.distance(sets.crossed, sets.real_crossed, crossed=True)
