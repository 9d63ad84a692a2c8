"""Adherence by how often a radical occurs: rare radicals are learned last."""

from __future__ import annotations

import numpy as np

from zaozi.evaluate.measure import Figures, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.prompts import PROMPTS
from zaozi.evaluate.report import Drawn

NAMES = ("most_frequent", "second", "third", "rarest")


@measure(
    "adherence_quarters",
    Row(
        13,
        "the primary one, most frequent quarter of radicals",
        "adherence_quarters.drawn.most_frequent",
        "adherence_quarters.real.most_frequent",
        unit="%",
    ),
    Row(
        14,
        "the primary one, rarest quarter of radicals",
        "adherence_quarters.drawn.rarest",
        "adherence_quarters.real.rarest",
        unit="%",
    ),
)
def adherence_quarters(judge: Judge, sets: Drawn) -> dict[str, Figures]:
    """For the quarters of the list's radicals, by the number of training glyphs with each, and for real held-out glyphs."""
    counts = np.bincount(judge.train.radicals, minlength=max(PROMPTS) + 1)
    parts = np.array_split(sorted(PROMPTS, key=lambda number: -counts[number]), len(NAMES))
    made: dict[str, Figures] = {"drawn": {}, "real": {}}
    for name, numbers in zip(NAMES, parts, strict=True):
        own = sets.listed.take(np.flatnonzero(np.isin(sets.listed.radicals, numbers)))
        made["drawn"][name] = judge.adherence(own)["primary"]
        made["real"][name] = judge.adherence(judge.held_out_with(numbers))["primary"]
    return made
