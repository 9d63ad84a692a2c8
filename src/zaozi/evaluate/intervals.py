"""Measured values with 95% bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000
Groups = Sequence[int] | Sequence[str] | NDArray[np.integer]


@dataclass(frozen=True)
class Figure:
    """A measured value, its 95% bootstrap interval, and the number of glyphs."""

    value: float
    low: float
    high: float
    n: int

    def text(self, percent: bool = False) -> str:
        """Format as '0.153 (0.149 to 0.158)', or in percent '85.3% (83.0 to 87.1)'."""
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
    """Return the mean of per-glyph values `[N]` with its percentile bootstrap interval (Efron 1979); NaN if empty.

    With `groups` (for example the requested radicals), return the mean of the group means and resample whole groups:
    glyphs of one group are correlated, so resampling single glyphs would give too narrow an interval. `by_row` also
    resamples whole groups but weights all glyphs equally.
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
    """Return the mean of the values `[N]` per group, in group order."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    means: NDArray[np.float64] = np.bincount(index, values) / np.bincount(index)
    return means


def share_figure(hits: NDArray[np.bool_] | NDArray[np.float64], groups: Groups, *, by_row: bool = False) -> Figure:
    """Return the share of hits `[N]`, like `mean_figure`. If all or no glyphs are hits, resampling has no spread; the
    other end of the interval is then Clopper-Pearson (1934) for the number of independent groups."""
    found = mean_figure(hits, groups, by_row=by_row)
    beyond = 0.025 ** (1 / max(len(np.unique(np.asarray(groups))), 1))
    if found.value == 0.0:
        return replace(found, high=1.0 - beyond)
    return replace(found, low=beyond) if found.value == 1.0 else found


def resampled(
    statistic: Callable[..., float], *sets: NDArray[np.floating], repeats: int = 200, seed: int = 0
) -> NDArray[np.float64]:
    """Return a statistic of sets (one row per glyph), then of `repeats` independent resamples of each set: `[1 + repeats]`.

    Distances between sets grow when rows repeat, so the bootstrap bias is removed: the resampled values are shifted so
    that their mean equals the first value. The same seed gives the same resamples for sets of equal sizes, so two results
    can be compared pairwise.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    value = statistic(*sets)
    again = np.array([statistic(*(s[rng.integers(0, len(s), len(s))] for s in sets)) for _ in range(repeats)])
    return np.concatenate([[value], again + (value - again.mean())])


def interval(values: NDArray[np.float64], count: int) -> Figure:
    """Build a figure from a value and its resamples, `[1 + repeats]`, for `count` glyphs."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Figure(float(values[0]), float(low), float(high), count)


def statistic_figure(
    statistic: Callable[..., float], *sets: NDArray[np.floating], repeats: int = 200, seed: int = 0
) -> Figure:
    """Return a statistic of sets (one row per glyph) with its interval; see `resampled`."""
    return interval(resampled(statistic, *sets, repeats=repeats, seed=seed), min(map(len, sets)))
