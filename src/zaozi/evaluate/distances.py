"""Distances between sets of generated and real glyphs, in the features of a network (`[N, D]` each)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def frechet(a: Features, b: Features) -> float:
    """Frechet distance between the Gaussians of two sets: |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    Heusel et al. 2017 (arXiv:1706.08500, eq. 6), in these features. tr (S_a S_b)^(1/2) is the sum of the square roots of the
    eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is symmetric. Biased upwards at small N: compare only at equal N.
    """
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def kid(a: Features, b: Features) -> float:
    """Kernel distance, the unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401)."""

    def kernel(x: Features, y: Features) -> Features:
        k = x @ y.T / x.shape[1] + 1.0
        return k * k * k  # ten times faster than a power

    def within(x: Features) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2.0 * float(kernel(a, b).mean())


def distances(a: Features, b: Features) -> Features:
    """Return Euclidean distances `[len(a), len(b)]`."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2.0 * a @ b.T
    return np.sqrt(squares.clip(0))


def prdc(real: Features, drawn: Features, k: int = 5) -> dict[str, NDArray[np.float64]]:
    """Precision, recall, density and coverage (Kynkaanniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797).

    Each is returned as one value per glyph, to be averaged: precision and density per generated glyph, recall and coverage
    per real one. A glyph's ball extends to its k-th nearest neighbor in its own set. (Resampling these values does not
    change the balls, so the intervals only cover the variation of one set.)
    """

    k = min(k, len(real) - 1, len(drawn) - 1)

    def radii(x: Features) -> NDArray[np.float64]:
        return np.partition(distances(x, x), k, axis=1)[:, k]

    between = distances(real, drawn)
    in_real = between < radii(real)[:, None]
    in_drawn = between < radii(drawn)[None]
    return {
        "precision": in_real.any(0).astype(np.float64),
        "recall": in_drawn.any(1).astype(np.float64),
        "density": in_real.sum(0) / k,
        "coverage": in_real.any(1).astype(np.float64),
    }


def diversity(features: Features, groups: NDArray[np.int64]) -> dict[int, float]:
    """Return for each group (glyphs with the same request) of two or more the mean pairwise distance."""
    made = {}
    for group in np.unique(groups):
        own = features[groups == group]
        if len(own) > 1:
            made[int(group)] = float(distances(own, own).sum() / (len(own) * (len(own) - 1)))
    return made
