"""Figures with intervals: every measured value comes with the 95% range that resampling gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000
Groups = Sequence[int] | Sequence[str] | NDArray[np.integer]


@dataclass(frozen=True)
class Figure:
    """A measured value, its 95% bootstrap interval, and the number of glyphs it rests on."""

    value: float
    low: float
    high: float
    n: int

    def text(self, percent: bool = False) -> str:
        """'0.153 (0.149 to 0.158)', or in percent '85.3% (83.0 to 87.1)'."""
        if percent:
            return f"{100 * self.value:.1f}% ({100 * self.low:.1f} to {100 * self.high:.1f})"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def mean_figure(
    values: Sequence[float] | NDArray[np.floating] | NDArray[np.bool_],
    groups: Groups | None = None,
    seed: int = 0,
    *,
    by_row: bool = False,
) -> Figure:
    """The mean of per-glyph values `[N]` with its percentile bootstrap (Efron 1979); NaN where there are none.

    With `groups` (say the radical each glyph was asked for) the mean is that of the groups' means, and whole groups are
    drawn anew: glyphs of one group are alike, so drawing single glyphs would give too narrow an interval. `by_row` draws
    whole groups too but lets every glyph count alike, however large its group.
    """
    x = np.asarray(values, np.float64)
    count = len(x)
    if count == 0:
        return Figure(np.nan, np.nan, np.nan, 0)
    _, index = np.unique(np.arange(count) if groups is None else np.asarray(groups), return_inverse=True)
    total: NDArray[np.float64] = np.bincount(index, x).astype(np.float64)
    weight: NDArray[np.float64] = np.bincount(index).astype(np.float64)
    if not by_row:
        total, weight = total / weight, np.ones(len(total))
    rng = np.random.Generator(np.random.Philox(seed))
    again = rng.integers(0, len(total), (REPEATS, len(total)))
    low, high = np.quantile(total[again].sum(1) / weight[again].sum(1), (0.025, 0.975))
    return Figure(float(total.sum() / weight.sum()), float(low), float(high), count)


def group_means(values: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """The mean of the values `[N]` of each group, in the groups' order."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    means: NDArray[np.float64] = np.bincount(index, values) / np.bincount(index)
    return means


def share_figure(hits: NDArray[np.bool_] | NDArray[np.float64], groups: Groups, *, by_row: bool = False) -> Figure:
    """The share of hits `[N]`, as `mean_figure`. Where no glyph is a hit, or every one, resampling shows no spread, and the
    other end of the interval is that of Clopper and Pearson (1934) for so many independent groups."""
    found = mean_figure(hits, groups, by_row=by_row)
    beyond = 0.025 ** (1 / max(len(np.unique(np.asarray(groups))), 1))
    if found.value == 0.0:
        return replace(found, high=1.0 - beyond)
    return replace(found, low=beyond) if found.value == 1.0 else found


def resampled(
    statistic: Callable[..., float], *sets: NDArray[np.floating], repeats: int = 200, seed: int = 0
) -> NDArray[np.float64]:
    """A statistic of whole sets (one a row a glyph), then of `repeats` resamples of each set on its own: `[1 + repeats]`.

    Distances between sets grow when rows repeat, so the bootstrap's own bias is taken out: the resampled values are
    moved to have the first as their mean. One seed resamples sets of the same sizes alike, so that two such results
    can be set against each other value by value.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    value = statistic(*sets)
    again = np.array([statistic(*(s[rng.integers(0, len(s), len(s))] for s in sets)) for _ in range(repeats)])
    return np.concatenate([[value], again + (value - again.mean())])


def interval(values: NDArray[np.float64], count: int) -> Figure:
    """The figure of a value and its resamples, `[1 + repeats]`, that rests on `count` glyphs."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Figure(float(values[0]), float(low), float(high), count)


def statistic_figure(
    statistic: Callable[..., float], *sets: NDArray[np.floating], repeats: int = 200, seed: int = 0
) -> Figure:
    """A statistic of whole sets (one a row a glyph) with its interval; see `resampled`."""
    return interval(resampled(statistic, *sets, repeats=repeats, seed=seed), min(map(len, sets)))
