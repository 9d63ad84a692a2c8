"""Figures with intervals: every measured value comes with the 95% range that resampling gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000


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
    values: Sequence[float] | NDArray[np.floating],
    groups: Sequence[int] | NDArray[np.integer] | None = None,
    seed: int = 0,
) -> Figure:
    """The mean of per-glyph values `[N]` with its percentile bootstrap (Efron 1979); NaN where there are none.

    With `groups` (say the radical each glyph was asked for) the mean is that of the groups' means, and whole groups are
    drawn anew: glyphs of one group are alike, so drawing single glyphs would give too narrow an interval.
    """
    x = np.asarray(values, np.float64)
    count = len(x)
    if count == 0:
        return Figure(np.nan, np.nan, np.nan, 0)
    if groups is not None:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        x = np.bincount(index, x) / np.bincount(index)
    rng = np.random.Generator(np.random.Philox(seed))
    means = x[rng.integers(0, len(x), (REPEATS, len(x)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Figure(float(x.mean()), float(low), float(high), count)


def statistic_figure(
    statistic: Callable[..., float], *sets: NDArray[np.floating], repeats: int = 200, seed: int = 0
) -> Figure:
    """A statistic of whole sets (one a row a glyph), each set resampled on its own.

    Distances between sets grow when rows repeat, so the bootstrap's own bias is taken out: the interval is
    value + (quantiles of the resampled values - their mean).
    """
    value = statistic(*sets)
    rng = np.random.Generator(np.random.Philox(seed))
    again = np.array([statistic(*(s[rng.integers(0, len(s), len(s))] for s in sets)) for _ in range(repeats)])
    low, high = value + np.quantile(again, (0.025, 0.975)) - again.mean()
    return Figure(float(value), float(low), float(high), min(map(len, sets)))
