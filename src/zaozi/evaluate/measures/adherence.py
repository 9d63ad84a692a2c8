"""Whether glyphs show the requested radical."""

from __future__ import annotations

import numpy as np

from zaozi.evaluate.intervals import Figure, share_figure
from zaozi.evaluate.measure import Figures, Glyphs, Judge
from zaozi.evaluate.measures import Row, measure
from zaozi.evaluate.prompts import PROMPTS
from zaozi.evaluate.report import Drawn


@measure(
    "adherence",
    Row(
        10,
        "radical asked for is the primary one",
        "adherence.primary",
        "adherence_real.primary",
        "adherence_lookup.primary",
        unit="%",
        headline=True,
    ),
    Row(
        11,
        "radical asked for is anywhere in it",
        "adherence.anywhere",
        "adherence_real.anywhere",
        "adherence_lookup.anywhere",
        unit="%",
    ),
)
def adherence(judge: Judge, sets: Drawn) -> Figures:
    """For the project's prompt list."""
    return judge.adherence(sets.listed)


@measure("adherence_real")
def adherence_real(judge: Judge, sets: Drawn) -> Figures:
    """For real held-out glyphs."""
    return judge.real_adherence()


@measure(
    "adherence_over_real",
    Row(12, "the primary one, relative to real glyphs", "adherence_over_real.primary", unit="%", headline=True),
)
def adherence_over_real(judge: Judge, sets: Drawn) -> Figures:
    """Ratio of generated to real glyphs."""
    return {"primary": judge.relative_adherence(sets.listed)}


@measure("adherence_lookup")
def adherence_lookup(judge: Judge, sets: Drawn) -> Figures:
    """For the training glyphs whose captions are closest in meaning."""
    return judge.lookup_adherence()


@measure("adherence_lookup_hints")
def adherence_lookup_hints(judge: Judge, sets: Drawn) -> Figures:
    """Like `adherence_lookup`, but hints are searched too."""
    return judge.lookup_adherence(hints=True)


@measure("adherence_chance")
def adherence_chance(judge: Judge, sets: Drawn) -> Figures:
    """For glyphs assigned to other prompts at random."""
    return judge.chance_adherence(sets.listed)


@measure("by_radical")
def by_radical(judge: Judge, sets: Drawn) -> dict[str, dict[str, Figure]]:
    """For each radical of the list: the share of its glyphs with it as primary radical, with it anywhere, and in real
    held-out glyphs anywhere. Texts are weighted equally and resampled as groups."""
    listed: Glyphs = sets.listed
    real = judge.has_part(judge.held_out.seen, judge.held_out.radicals)
    made = {}
    for number in PROMPTS:
        own = listed.take(np.flatnonzero(listed.radicals == number))
        own_real = np.flatnonzero(judge.held_out.radicals == number)
        made[str(number)] = {
            "primary": share_figure(own.right, own.texts),
            "anywhere": share_figure(judge.has_part(own.seen, own.radicals) > 0, own.texts),
            "real": share_figure(real[own_real], [judge.held_out.texts[r] for r in own_real]),
        }
    return made
