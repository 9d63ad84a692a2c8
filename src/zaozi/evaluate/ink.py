"""Is it stroke-like? What can be said of a glyph's ink without knowing any character."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPECK = 1 / 1024
"""Ink joined in a patch smaller than this share of the picture is a speck (16 of 128x128 pixels; a dot stroke has over 60)."""


def half_grey(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of each picture's inked pixels (darker than 90% white), the share between 20% and 80% ink. `[N, C, S, S]` -> `[N]`.

    Crisp strokes have such pixels at their edges alone; smeared ones all over.
    """
    ink = 1.0 - pictures.mean(1) / 255.0
    inked, grey = (ink > 0.1).sum((1, 2)), ((ink > 0.2) & (ink < 0.8)).sum((1, 2))
    return grey / np.maximum(inked, 1)


def specks(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each picture: how many specks of ink it has, and how many parts in all (ink joined by sides or corners)."""
    from scipy.ndimage import label

    dark = pictures.mean(1) < 127.5
    least = SPECK * dark.shape[1] * dark.shape[2]
    joined = np.ones((3, 3), int)
    small, parts = [], []
    for picture in dark:
        marked, count = label(picture, joined)
        areas = np.bincount(marked.ravel(), minlength=count + 1)[1:]
        small.append(float((areas < least).sum()))
        parts.append(float(count))
    return np.array(small), np.array(parts)
