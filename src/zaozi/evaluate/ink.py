"""Stroke quality: statistics of a glyph's ink that need no knowledge of characters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPECK = 1 / 1024
"""A connected patch of ink smaller than this share of the picture is a speck (16 of 128x128 pixels; a dot stroke has over 60)."""


def half_grey(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of inked pixels (darker than 90% white) with 20% to 80% ink. `[N, C, S, S]` -> `[N]`.

    Crisp strokes have such pixels only at their edges; blurred ones everywhere.
    """
    ink = 1.0 - pictures.mean(1) / 255.0
    inked, grey = (ink > 0.1).sum((1, 2)), ((ink > 0.2) & (ink < 0.8)).sum((1, 2))
    return grey / np.maximum(inked, 1)


def specks(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the number of specks per picture, and of all connected parts (8-connectivity)."""
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
